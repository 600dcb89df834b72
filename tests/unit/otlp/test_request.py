"""A batch is compressed once, whoever stores and sends it; whoever reads gzip takes all of it or refuses."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from typing import TYPE_CHECKING, Literal

import pytest
import structlog
import zstandard

from drain.accounting.outcome import Outcome
from drain.delivery.dead_letters import DeadLetters
from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.otlp import gzip_members, zstd_frame
from drain.otlp import request as request_module
from drain.otlp.batch_number import BatchNumber
from drain.otlp.gzip_members import gunzip
from drain.otlp.request import Request
from drain.otlp.transcode import in_encoding
from drain.settings.otlp_environment import OtlpSettings
from drain.spool.spool import Spool, SpoolLimits
from tests.otlp_server import OtlpHttpServer, refusal, success
from tests.service.exporters import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drain.otlp.request import Encoding

SECONDS = 120.0


class Counts:
    """How often a body was compressed and decompressed, which takes `seconds` longer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gzip = self.gunzip = self.zstd = 0
        self.seconds = 0.0
        real: dict[str, Callable[[bytes], bytes | list[bytes]]]
        real = {"gzip": gzip_members.gzip, "members": gzip_members.members, "zstd": zstd_frame.zstd}

        def counted(function: str, name: str) -> None:
            def call(data: bytes) -> bytes | list[bytes]:
                setattr(self, name, getattr(self, name) + 1)
                time.sleep(self.seconds)
                return real[function](data)

            monkeypatch.setattr(request_module, function, call)

        counted("gzip", "gzip")
        counted("members", "gunzip")
        counted("zstd", "zstd")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr("drain.spool.spool._TAKE_SECONDS", SECONDS)  # a busy machine is no disk that hangs
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


def test_a_batch_that_is_sent_again_is_zstd_once(counts: Counts) -> None:
    with OtlpHttpServer() as server:
        server.play(refusal(503, "away"), refusal(503, "away"), success())
        settings = OtlpSettings(compression="zstd", timeout_seconds=SECONDS)
        exporter = make_exporter("otlp-http", endpoint=server.url, otlp=settings)
        request = batches.request(50, "protobuf")
        for verdict in (Verdict.RETRY, Verdict.RETRY, Verdict.DELIVERED):
            assert exporter.export(request).verdict is verdict
            request = request.numbered(BatchNumber("0" * 16, 7, 0, 50))
        exporter.close()
        [frame] = {sent.wire for sent in server.requests}
    assert zstandard.decompress(frame) == request.body
    assert (counts.zstd, counts.gzip) == (1, 0)
    assert request.memory_bytes == len(request.body) + len(frame)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_of_threads_that_ask_at_the_same_time_one_compresses(
    counts: Counts, compression: Literal["gzip", "zstd"]
) -> None:
    request = Request(bytes(1 << 20), 1, "protobuf")
    start = threading.Barrier(8)
    counts.seconds = 0.1  # meanwhile the others ask

    def ask() -> None:
        start.wait()
        getattr(request, compression)()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert getattr(counts, compression) == 1


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


class FakeRecords:
    """Counts what it was asked for.

    Args:
        straight: what it becomes as gzip; None: it has to be encoded.
    """

    body_bytes = 4
    size = 100

    def __init__(self, straight: bytes | None) -> None:
        self._straight = straight
        self.encoded = self.written = 0

    def encode(self) -> bytes:
        self.encoded += 1
        return b"body"

    def gzip(self) -> bytes | None:
        self.written += 1
        return self._straight


def test_records_become_gzip_once_and_are_let_go(counts: Counts) -> None:
    records = FakeRecords(gzip.compress(b"body"))
    request = Request.of_records(records, 3, "7", {"shop": 3})
    assert (request.body_bytes, request.memory_bytes, request.gzip_from) == (4, 100, "")
    member = request.gzip()
    assert request.gzip() is member
    assert (request.body_bytes, request.memory_bytes, request.gzip_from) == (4, len(member), "records")
    assert (records.written, records.encoded, counts.gzip, counts.gunzip) == (1, 0, 0, 0)
    assert request.body == b"body"
    assert request.body == b"body"
    assert request.memory_bytes == len(member) + 4
    assert (records.encoded, counts.gunzip) == (0, 1), "what it is made of is gone"
    assert request == Request(b"body", 3, "protobuf", "7")


def test_records_that_cannot_be_written_straight_are_encoded_and_compressed_once(counts: Counts) -> None:
    records = FakeRecords(None)
    request = Request.of_records(records, 3)
    assert gzip.decompress(request.gzip()) == gzip.decompress(request.gzip()) == request.body == b"body"
    assert (records.written, records.encoded, counts.gzip, counts.gunzip) == (1, 1, 1, 0)
    assert request.gzip_from == "body"


def test_of_records_whose_body_is_there_that_is_compressed(counts: Counts) -> None:
    records = FakeRecords(gzip.compress(b"body"))
    request = Request.of_records(records, 3)
    assert request.body == b"body"
    assert request.memory_bytes == 104
    assert gzip.decompress(request.gzip()) == b"body"
    assert (records.written, records.encoded, counts.gzip) == (0, 1, 1)
    assert request.memory_bytes == len(request.gzip()) + 4


def test_a_request_of_records_keeps_them_when_it_is_numbered_or_goes_by_another_encoding() -> None:
    request = Request.of_records(FakeRecords(gzip.compress(b"body")), 3, "7", {"shop": 3})
    numbered = request.numbered(BatchNumber("0" * 16, 7, 0, 3))
    assert (numbered.body_bytes, numbered.memory_bytes, numbered.body) == (4, 100, b"body")
    assert numbered.batch is not None
    assert request.without_body().memory_bytes == 0
    assert request.recoded(b"other", "json").body == b"other"
    assert repr(request) == "Request(<4 bytes>, 3, 'protobuf', '7')"


def test_the_memory_of_a_request_is_that_of_its_forms() -> None:
    request = Request(b"body", 3, "protobuf")
    assert request.memory_bytes == 4
    member = request.gzip()
    assert request.memory_bytes == 4 + len(member)
    stored = Request.of_gzip(member, 3, "protobuf")
    assert stored.memory_bytes == len(member)
    assert stored.body_bytes == 4
    assert stored.memory_bytes == 4 + len(member)


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


def test_what_came_in_several_members_goes_out_in_one() -> None:
    # Some receivers take the first of several for the whole, and say nothing.
    request = Request.of_gzip(gzip.compress(b"one") + gzip.compress(b"two"), 2, "protobuf")
    assert request.body == b"onetwo", "as all do who take one out of a store: a damage is to be found there"
    for same in (request.numbered(BatchNumber("00f1e2d3c4b5a697", 7, 0, 2)), request):
        first = zlib.decompressobj(31)
        assert first.decompress(same.gzip()) == b"onetwo"
        assert (first.eof, first.unused_data) == (True, b"")
        assert same.gzip() is same.gzip()
        assert same.gzip_from == "body"
    stored = gzip.compress(b"one")
    alone = Request.of_gzip(stored, 1, "protobuf")
    assert (alone.body, alone.gzip(), alone.gzip_from) == (b"one", stored, ""), "what is one member stays it"


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
