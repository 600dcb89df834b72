"""A backend that is away, slow or refuses costs the producers nothing, and no span: they are on disk."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from drain.accounting.letter_sums import LetterSums
from drain.accounting.spool_sums import SpoolSums
from drain.delivery import settlement
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.letter_file import DeadLetter, read_letters
from drain.delivery.stores import Stores
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.service.limits import Limits
from drain.spool import spool as spool_module
from drain.spool.spool import Spool, SpoolLimits, SpoolRefusedError
from tests.otlp_server import OtlpHttpServer, refusal, silent
from tests.ports import free_ports
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    emit,
    number_of,
    run_once,
    spans_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drain.spool.spool import Entry

CAPACITY = 64
NEVER = 3600.0
ROOMY = SpoolLimits(64 << 20)
ONE_AT_A_TIME = Limits(batch_spans=10, batch_bytes=4_000_000, batch_delay=0.0, concurrency=1, shutdown_timeout=SECONDS)
RETRY_SOON = ("--retry-initial", 0.01, "--retry-maximum", 0.05)


class Backend(MemoryBackend):
    """May be down, altogether or for some requests."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.fails: Callable[[list[int]], bool] = lambda _numbers: False
        self.attempts = 0

    def answer(self, request: Request) -> Result:
        self.attempts += 1
        if self.is_down or self.fails(numbers_of(request)):
            return Result(Verdict.RETRY, message="down")
        return super().answer(request)

    @property
    def batches(self) -> list[list[int]]:
        return [numbers_of(request) for request in self.requests]


def numbers_of(request: Request) -> list[int]:
    return [number_of(span) for span in spans_of(TracesData.FromString(request.body))]


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        yield emitter


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.let_go()


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "dead-letters", max_files=100, max_bytes=1 << 20, log=structlog.get_logger())


@pytest.fixture
def start(
    ring_dir: Path, tmp_path: Path, backend: Backend, letters: DeadLetters
) -> Iterator[Callable[..., SteppedDrain]]:
    """Return a function that starts a drain with a spool."""
    drains: list[SteppedDrain] = []

    def start(spool_after: float = 0.0, limits: Limits = ONE_AT_A_TIME, spool: SpoolLimits = ROOMY) -> SteppedDrain:
        stores = Stores(Spool(tmp_path / "spool", spool, log=structlog.get_logger()), letters, spool_after)
        drains.append(SteppedDrain(ring_dir, backend, limits, stores=stores))
        return drains[-1]

    yield start
    for drain in drains:
        drain.close()


def spool_sums(drain: SteppedDrain) -> SpoolSums:
    return drain.service.accounts.spool_sums().get("shop", SpoolSums())


def test_while_the_backend_is_away_the_rings_are_read_and_later_every_span_arrives(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start()
    backend.is_down = True
    for sent in range(0, 1000, 10):
        assert emit(emitter, range(sent, sent + 10)) == 10, "the producer must not notice"
        drain.until(lambda: emitter.stats().pending == 0)
    assert drain.sums().spooled == 1000
    assert spool_sums(drain) == SpoolSums(spooled=1000, waiting=1000)
    assert backend.requests == []
    backend.is_down = False
    drain.until(lambda: spool_sums(drain).waiting == 0)
    assert sorted(backend.numbers) == list(range(1000))
    assert spool_sums(drain) == SpoolSums(spooled=1000, delivered=1000)
    assert drain.sums().unaccounted == 0


def test_a_slow_attempt_goes_on_while_its_batch_is_in_the_spool(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start(spool_after=NEVER)
    backend.holds = lambda _request: True
    emit(emitter, range(10))
    drain.until(lambda: backend.waiting)
    drain.service._delivery.spool_after = 0.0
    drain.until(lambda: emitter.stats().pending == 0)
    assert drain.sums().spooled == 10
    assert backend.waiting == 1
    backend.let_go()
    drain.until(lambda: spool_sums(drain).delivered == 10)
    assert backend.numbers == list(range(10)), "sent once"


def test_a_prompt_backend_needs_no_spool(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start(spool_after=NEVER)
    emit(emitter, range(10))
    drain.until(lambda: emitter.stats().pending == 0)
    assert drain.sums().delivered == 10
    assert drain.service.accounts.spool_sums() == {}


def test_a_lane_that_is_half_full_does_not_wait_for_its_time(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start(spool_after=NEVER, limits=Limits(100, 4_000_000, 0.0, 1, SECONDS))
    backend.holds = lambda _request: True
    emit(emitter, range(CAPACITY // 2 - 1))
    drain.until(lambda: backend.waiting)
    for _ in range(20):
        drain.step()
    assert emitter.stats().pending == CAPACITY // 2 - 1
    emit(emitter, [999])
    drain.until(lambda: emitter.stats().pending == 1)
    assert drain.sums().spooled == CAPACITY // 2 - 1


def test_spooled_batches_go_oldest_first_in_turn_with_new_ones(
    emitter: ringbuf.Emitter,
    backend: Backend,
    start: Callable[..., SteppedDrain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_module, "_TAKE_SECONDS", SECONDS)  # a spool that is late loses its turn
    drain = start()
    backend.is_down = True
    for sent in range(0, 200, 10):
        emit(emitter, range(sent, sent + 10))
        drain.until(lambda: emitter.stats().pending == 0)
    drain.close()
    backend.is_down = False
    backend._gate.clear()
    backend.holds = lambda _request: True
    drain = start(spool_after=NEVER)
    drain.until(lambda: backend.waiting)
    emit(emitter, range(1000, 1030))
    drain.until(lambda: drain.service._delivery.in_flight == 3)
    backend.let_go()
    drain.until(lambda: spool_sums(drain).waiting == 0 and emitter.stats().pending == 0)
    firsts = [numbers[0] for numbers in backend.batches]
    assert [first for first in firsts if first < 1000] == list(range(0, 200, 10))
    assert firsts[:7] == [0, 1000, 10, 1010, 20, 1020, 30]


def test_one_batch_that_always_fails_does_not_hold_up_the_others(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start()
    backend.fails = lambda numbers: 0 in numbers
    for sent in range(0, 200, 10):
        emit(emitter, range(sent, sent + 10))
        drain.until(lambda: emitter.stats().pending == 0)
    drain.until(lambda: len(backend.numbers) == 190)
    backend.fails = lambda _numbers: False
    drain.until(lambda: len(backend.numbers) == 200)
    drain.until(lambda: spool_sums(drain).waiting == 0)
    assert drain.sums().unaccounted == 0


def test_when_the_spool_is_full_too_the_producer_counts_and_nothing_that_was_written_is_lost(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start(spool=SpoolLimits(1 << 20))
    backend.is_down = True
    written = 0
    spool = drain.service.stores.spool
    assert spool is not None
    # What has no room beside this has little left: each row costs the disk a commit, and one more to go.
    filling = TracesData()
    filling.resource_spans.add(schema_url=random.Random(1).randbytes(20_000).hex())  # noqa: S311 - not to guard
    while not spool.status().refused_full:
        spool.put(Request(filling.SerializeToString(), 0, "protobuf")).exception(SECONDS)
    refused = spool.status().refused_full
    before = 0
    while not (spool.status().refused_full > refused and emitter.stats().full > before):
        before = before if spool.status().refused_full > refused else emitter.stats().full
        written += emit(emitter, range(written, written + 40))
        drain.step()
    assert written == drain.sums().published
    assert drain.sums().spooled
    backend.is_down = False
    drain.until(lambda: emitter.stats().pending == 0 and spool_sums(drain).waiting == 0)
    assert set(backend.numbers) == set(range(written))
    sums = drain.sums()
    assert (sums.unaccounted, sums.published) == (0, written)


def test_a_batch_that_found_no_room_is_spooled_when_there_is_some(
    emitter: ringbuf.Emitter,
    backend: Backend,
    start: Callable[..., SteppedDrain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settlement, "STORE_AGAIN_SECONDS", 0.01)
    stepped = start()
    spool = stepped.service.stores.spool
    assert spool is not None
    backend.holds = lambda _request: True
    refused: Future[Entry] = Future()
    refused.set_exception(SpoolRefusedError("full"))
    with monkeypatch.context() as patch:
        patch.setattr(spool, "put", lambda *_arguments: refused)
        emit(emitter, range(10))
        stepped.until(lambda: backend.waiting)
        for _ in range(20):
            stepped.step()
        assert emitter.stats().pending == 10
    stepped.until(lambda: emitter.stats().pending == 0)
    assert stepped.sums().spooled == 10


def test_a_disk_that_hangs_holds_up_no_span_that_needs_none(
    emitter: ringbuf.Emitter,
    backend: Backend,
    start: Callable[..., SteppedDrain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_module, "_TAKE_SECONDS", 0.05)
    drain = start()
    backend.is_down = True
    emit(emitter, range(20))
    drain.until(lambda: emitter.stats().pending == 0)
    spool = drain.service.stores.spool
    assert spool is not None
    write, answers = spool._store.write, threading.Event()

    def write_when_it_answers(*arguments: Any) -> Any:
        assert answers.wait(SECONDS)
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(spool._store, "write", write_when_it_answers)
        backend.is_down = False
        for sent in range(20, 120, 10):
            emit(emitter, range(sent, sent + 10))
            drain.until(lambda: emitter.stats().pending == 0)
        assert sorted(set(backend.numbers) - set(range(20))) == list(range(20, 120))
        assert (drain.sums().delivered, drain.sums().spooled) == (100, 20)
        answers.set()
    drain.until(lambda: spool_sums(drain) == SpoolSums(spooled=20, delivered=20))
    assert len(backend.numbers) == 120, "none was sent again that had been delivered"


def test_what_the_backend_refuses_becomes_a_dead_letter(
    emitter: ringbuf.Emitter, backend: Backend, letters: DeadLetters, start: Callable[..., SteppedDrain], tmp_path: Path
) -> None:
    drain = start(spool_after=NEVER)
    backend.verdicts = [Result(Verdict.REFUSED, message="HTTP 400: no")]
    emit(emitter, range(10))
    drain.until(lambda: emitter.stats().pending == 0)
    assert (drain.sums().dead_lettered, drain.sums().rejected) == (10, 0)
    (path,) = (tmp_path / "dead-letters").iterdir()
    (letter,) = letters_in(path)
    assert numbers_of(letter.request) == list(range(10))
    assert (letter.reason, letter.endpoint) == ("HTTP 400: no", "memory")
    assert letters.status().services == drain.service.accounts.letter_sums()
    assert letters.status().services == {"shop": LetterSums(kept=10, waiting=10)}


def test_what_is_refused_out_of_the_spool_is_counted_there(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start()
    backend.holds = lambda _request: True
    backend.verdicts = [Result(Verdict.REFUSED, message="HTTP 400: no"), Result(Verdict.DELIVERED, rejected=3)]
    emit(emitter, range(20))
    drain.until(lambda: emitter.stats().pending == 0)
    backend.let_go()
    drain.until(lambda: spool_sums(drain).waiting == 0)
    assert drain.sums().spooled == 20
    assert spool_sums(drain) == SpoolSums(spooled=20, delivered=7, rejected=3, dead_lettered=10)


def letters_in(path: Path) -> list[DeadLetter]:
    with path.open("rb") as file:
        return list(read_letters(file))


def test_a_dead_letter_that_cannot_be_kept_waits(
    emitter: ringbuf.Emitter,
    backend: Backend,
    letters: DeadLetters,
    start: Callable[..., SteppedDrain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drain = start(spool_after=NEVER)
    kept: list[Request] = []
    with monkeypatch.context() as patch:
        patch.setattr(letters, "keep", lambda request, *_reason: kept.append(request))
        backend.verdicts = [Result(Verdict.REFUSED)]
        emit(emitter, range(10))
        # It has failed, and waits there.
        drain.until(lambda: len(kept) > 4 and spool_sums(drain) == SpoolSums(spooled=10, waiting=10))
    drain.until(lambda: spool_sums(drain).waiting == 0)
    assert spool_sums(drain) == SpoolSums(spooled=10, dead_lettered=10)
    assert len(backend.requests) == 1, "what was refused is not sent again"


def test_while_the_backend_is_down_it_is_not_hammered(
    emitter: ringbuf.Emitter, backend: Backend, start: Callable[..., SteppedDrain]
) -> None:
    drain = start(limits=Limits(10, 4_000_000, 0.0, 8, SECONDS))
    drain.service._delivery._route_of("").breaker._policy = drain.service._delivery._policy.__class__(
        initial=NEVER, maximum=NEVER
    )
    backend.is_down = True
    for sent in range(0, 1000, 10):
        emit(emitter, range(sent, sent + 10))
        drain.until(lambda: emitter.stats().pending == 0)
    drain.until(lambda: drain.service._delivery.is_backend_down)
    assert 5 <= backend.attempts <= 5 + 8, "as many as show it, and those that had begun"


# ---- the process ----


def arguments(server: OtlpHttpServer, tmp_path: Path, *more: object) -> list[object]:
    state = ("--state-dir", tmp_path / "state", "--spool-after", 0.01)
    return ["--exporter", "otlp-http", "--endpoint", server.url, *state, *RETRY_SOON, *more]


def received(server: OtlpHttpServer) -> list[int]:
    return [number_of(span) for request in server.requests for span in request.spans]


def test_what_cannot_be_delivered_at_a_stop_is_spooled_and_sent_by_the_next_drain(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with OtlpHttpServer() as server:
        server.play(*[silent] * 10)
        with DrainProcess(
            log, ring_dir, *arguments(server, tmp_path, "--timeout", 20, "--spool-after", 100, "--shutdown-timeout", 6)
        ) as drain:
            emit(emitter, range(30))
            until(lambda: server.requests)
            drain.signal(15)
            until(lambda: emitter.stats().pending == 0)
            server.stopping.set()  # lets go of the attempts
            assert drain.wait() == 0
            assert drain.audit()["shop"]["spooled"] == 30
    assert emitter.stats().pending == 0
    with OtlpHttpServer() as server:
        assert run_once(log, ring_dir, *arguments(server, tmp_path)) == 0
        assert sorted(received(server)) == list(range(30))


def test_killed_while_the_backend_is_away_it_loses_nothing(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with OtlpHttpServer(free_ports(1)[0]) as server:
        port = server.port
    # Nobody listens now.
    sent = 0
    for _ in range(5):
        with DrainProcess(log, ring_dir, *arguments(server, tmp_path)) as drain:
            for _ in range(10):
                count = emit(emitter, range(sent, sent + 20))
                sent += count
                until(lambda: emitter.stats().pending < CAPACITY // 2)
            drain.kill()
    with OtlpHttpServer(port) as server:
        assert run_once(log, ring_dir, *arguments(server, tmp_path)) == 0
        assert set(received(server)) == set(range(sent))
    assert sent == 1000


def test_with_default_settings_a_kill_and_an_outage_lose_nothing(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the README has it of a span: more of them than the ring holds, and no setting but where they go."""
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    with OtlpHttpServer(free_ports(1)[0]) as server:
        flags = ("--endpoint", server.url)
        port = server.port
    # Nobody listens now.
    with DrainProcess(log, ring_dir, *flags) as drain:
        for sent in range(0, 4 * CAPACITY, CAPACITY // 2):
            assert emit(emitter, range(sent, sent + CAPACITY // 2)) == CAPACITY // 2
            until(lambda: emitter.stats().pending == 0)
        drain.kill()
    with OtlpHttpServer(port) as server:
        assert run_once(log, ring_dir, *flags) == 0
        assert set(received(server)) == set(range(4 * CAPACITY))


def test_once_says_that_what_waits_in_the_spool_is_not_delivered(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    with OtlpHttpServer(free_ports(1)[0]) as server:
        pass
    # Nobody listens now.
    emit(emitter, range(30))
    with DrainProcess(log, ring_dir, "--once", *arguments(server, tmp_path, "--shutdown-timeout", 6)) as drain:
        assert drain.wait() == 1
        assert drain.events("audit")[-1]["spool"] == {"shop": {"spooled": 30, "waiting": 30}}
        assert drain.audit()["shop"]["spooled"] == 30
    (folder,) = [path for path in (tmp_path / "state").iterdir() if path.name == "spool"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_refused_batch_is_a_file_and_exit_code_1(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    emit(emitter, range(5))
    with OtlpHttpServer() as server:
        server.play(refusal(405, "bad spans"))
        assert run_once(log, ring_dir, *arguments(server, tmp_path, "--no-hold")) == 1
    (path,) = (tmp_path / "state" / "dead-letters").iterdir()
    assert [letter.reason for letter in letters_in(path)] == ["HTTP 405: bad spans"]


def test_a_second_drain_with_the_same_state_cannot_start(
    ring_dir: Path, tmp_path: Path, log: Path, emitter: ringbuf.Emitter
) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    with OtlpHttpServer() as server, DrainProcess(log, ring_dir, *arguments(server, tmp_path)) as drain:
        drain.wait_for_event("spool opened")
        emit(emitter, range(5))
        until(lambda: server.requests)  # it is past its start
        unfinished = tmp_path / "state" / "dead-letters" / "1.dead-letter.part"
        unfinished.write_bytes(b"the first drain writes it this moment")
        assert run_once(tmp_path / "second.log", tmp_path / "other", *arguments(server, tmp_path)) == 75
        assert "another process has this spool" in (tmp_path / "second.log").read_text()
        assert unfinished.exists()
        assert drain.stop() == 0
