"""A batch is compressed once, whoever stores and sends it; whoever reads gzip takes all of it or refuses."""

from __future__ import annotations

import gzip
import threading
from typing import TYPE_CHECKING

import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.delivery.dead_letters import DeadLetters
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.otlp import gzip_members
from drain.otlp import request as request_module
from drain.otlp.gzip_members import gunzip
from drain.otlp.request import Request
from drain.otlp.transcode import in_encoding
from drain.settings.otlp_environment import OtlpSettings
from drain.spool.spool import Spool, SpoolLimits
from tests.otlp_server import OtlpHttpServer, refusal, success
from tests.service.exporters import batches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.otlp.request import Encoding

SECONDS = 120.0


class Counts:
    """How often a body was compressed and decompressed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gzip = self.gunzip = 0
        real = {"gzip": gzip_members.gzip, "gunzip": gzip_members.gunzip}

        def counted(name: str) -> None:
            def call(data: bytes) -> bytes:
                setattr(self, name, getattr(self, name) + 1)
                return real[name](data)

            monkeypatch.setattr(request_module, name, call)

        counted("gzip")
        counted("gunzip")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", SpoolLimits(64 << 20), log=structlog.get_logger())
    yield spool
    assert spool.close(SECONDS)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_batch_that_is_sent_spooled_sent_again_and_kept_is_compressed_once(
    spool: Spool, tmp_path: Path, counts: Counts, encoding: Encoding
) -> None:
    letters = DeadLetters(tmp_path / "letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
    kind = "otlp-http" if encoding == "protobuf" else "otlp-http-json"
    with OtlpHttpServer() as server:
        server.play(refusal(503, "away"), refusal(503, "away"), refusal(503, "away"), success())
        exporter = make_exporter(kind, endpoint=server.url, otlp=OtlpSettings(timeout_seconds=SECONDS))
        request = batches.request(50, encoding)
        assert exporter.export(request).verdict is Verdict.RETRY
        assert exporter.export(request).verdict is Verdict.RETRY
        spool.back(spool.put(request).result(SECONDS))
        (entry,) = spool.take()
        assert exporter.export(entry.request).verdict is Verdict.RETRY
        assert exporter.export(entry.request).verdict is Verdict.DELIVERED
        assert letters.keep(entry.request, "no", server.url)
        spool.done(entry, Outcome(delivered=50))
        exporter.close()
        assert len({sent.wire for sent in server.requests}) == 1
        assert gzip.decompress(server.requests[-1].wire) == request.body
    # Once out of the spool, where a disk may have changed it.
    assert (counts.gzip, counts.gunzip) == (1, 1)


def test_of_threads_that_ask_at_the_same_time_one_compresses(counts: Counts) -> None:
    request = Request(bytes(1 << 20), 1, "protobuf")
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        request.gzip()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.gzip == 1


def test_a_request_is_equal_to_another_whose_body_is_the_same_however_it_is_compressed() -> None:
    request = Request(b"body", 3, "protobuf")
    assert request == Request.of_gzip(gzip.compress(b"body", 9), 3, "protobuf")
    assert hash(request) == hash(Request.of_gzip(gzip.compress(b"body", 9), 3, "protobuf"))
    assert request != Request(b"body", 3, "json")
    assert request != Request(b"body", 2, "protobuf")
    assert request != Request(b"body", 3, "protobuf", "7")
    assert request != "body"
    assert repr(request) == "Request(<4 bytes>, 3, 'protobuf')"
    assert repr(Request(b"body", 3, "protobuf", "7")) == "Request(<4 bytes>, 3, 'protobuf', '7')"


def test_a_request_keeps_its_destination_and_services_in_another_encoding() -> None:
    request = Request(batches.request(3).body, 3, "protobuf", "7", {"shop": 1, "bank": 2})
    translated = in_encoding(request, "json")
    assert (translated.encoding, translated.destination, translated.services) == ("json", "7", request.services)
    assert Request(b"", 3, "json").services == {"": 3}, "nobody knows whose they are"


def test_a_request_whose_services_do_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="services have 2 spans, the request 3"):
        Request(b"body", 3, "protobuf", services={"shop": 2})


def test_all_members_of_gzip_are_read() -> None:
    members = [gzip.compress(b"one"), gzip.compress(b""), gzip.compress(bytes(1 << 20)), gzip.compress(b"three")]
    assert gunzip(b"".join(members)) == b"one" + bytes(1 << 20) + b"three"


SOUND = gzip.compress(b"sound")
DAMAGED = SOUND[:-6] + b"123456"


@pytest.mark.parametrize(
    "data",
    [b"", SOUND[:-1], SOUND[:10], SOUND + SOUND[:5], SOUND + b"rest", SOUND + bytes(8), b"rest", DAMAGED],
    ids=["nothing", "short by a byte", "header alone", "second cut", "text behind", "zeros behind", "text", "damaged"],
)
def test_what_is_not_gzip_to_its_end_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        gunzip(data)
    with pytest.raises(ValueError, match="gzip"):
        Request.of_gzip(data, 1, "json").body  # noqa: B018 - reading it is what raises
