from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from drain.rings.directory import RingDirectory
from tests.consumer import Consumer, rings_in
from tests.nursery import shared
from tests.service.draining import ProducerProcess, spans_in_file
from tests.tools.running import OnTerminal, invoke, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def dead_and_alive(ring_dir: Path) -> Iterator[dict[str, Path]]:
    """Return rings by service: `empty` and `full` are dead, the second with 7 spans; `closed` is empty too."""
    found: dict[str, Path] = {}
    with ProducerProcess(ring_dir, 7, "alive"):
        for service, count in (("empty", 0), ("full", 7), ("closed", 1)):
            with ProducerProcess(ring_dir, count, service) as producer:
                if service == "closed":
                    take_all(next(path for path in rings_in(ring_dir) if path.name.startswith("closed")))
                    producer.tell("close")
                    producer.expect("closed")
                producer.kill()
        found = {path.stem.split("-")[0]: path for path in rings_in(ring_dir)}
        yield found


def take_all(path: Path) -> None:
    with Consumer(path) as consumer:
        consumer.take_all()


def services_in(ring_dir: Path) -> set[str]:
    return {path.stem.split("-")[0] for path in rings_in(ring_dir)}


@pytest.mark.usefixtures("dead_and_alive")
def test_dead_rings_that_are_empty_go(ring_dir: Path) -> None:
    text = output_of("clean", "--ring-dir", ring_dir, "--yes")
    assert services_in(ring_dir) == {"alive", "full"}
    assert "removed 2 rings" in text
    assert "1 ring of producers that are gone, with 7 spans: deliver them" in text
    assert "nothing to remove" in output_of("clean", "--ring-dir", ring_dir)


@pytest.mark.usefixtures("dead_and_alive")
def test_the_command_that_is_named_delivers_what_is_kept(
    ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = output_of("clean", "--ring-dir", ring_dir, "--yes")
    program, *arguments = shlex.split(text.partition("`")[2].partition("`")[0])
    assert program == "ringbuf-drain"
    monkeypatch.chdir(tmp_path)
    assert shared().run("drain", *arguments).returncode == 0
    assert len(spans_in_file(tmp_path / "spans.jsonl")) == 7 + 7
    assert services_in(ring_dir) == {"alive"}


@pytest.mark.usefixtures("dead_and_alive")
def test_with_force_the_others_go_too_and_the_loss_is_told(ring_dir: Path) -> None:
    text = output_of("clean", "--ring-dir", ring_dir, "--force", "--yes")
    assert services_in(ring_dir) == {"alive"}
    assert "removed 3 rings, lost 7 spans" in text


def test_a_living_ring_is_not_touched_though_it_is_empty(dead_and_alive: dict[str, Path], ring_dir: Path) -> None:
    with Consumer(dead_and_alive["alive"]) as consumer:
        consumer.take()
    output_of("clean", "--ring-dir", ring_dir, "--force", "--yes")
    assert services_in(ring_dir) == {"alive"}


@pytest.mark.usefixtures("dead_and_alive")
def test_nobody_to_ask(ring_dir: Path) -> None:
    result = invoke("clean", "--ring-dir", ring_dir)
    assert (result.exit_code, "say --yes" in result.stderr) == (2, True)
    assert len(rings_in(ring_dir)) == 4


@pytest.mark.usefixtures("dead_and_alive")
def test_beside_a_drain_nothing_is_done(ring_dir: Path) -> None:
    directory = RingDirectory(ring_dir)
    try:
        result = invoke("clean", "--ring-dir", ring_dir, "--force", "--yes")
    finally:
        directory.close()
    assert (result.exit_code, "another drain" in result.stderr) == (75, True)
    assert len(rings_in(ring_dir)) == 4


def test_what_is_no_ring_is_left_alone_and_told(ring_dir: Path) -> None:
    (ring_dir / "text.ring").write_text("hello")
    result = invoke("clean", "--ring-dir", ring_dir, "--force", "--yes")
    assert "left alone: text.ring" in result.stderr
    assert (ring_dir / "text.ring").exists()


def test_a_directory_that_is_not_there_is_not_made(ring_dir: Path) -> None:
    assert invoke("clean", "--ring-dir", ring_dir / "nowhere", "--yes").exit_code == 1
    assert not (ring_dir / "nowhere").exists()


@pytest.mark.usefixtures("dead_and_alive")
def test_it_asks_first(ring_dir: Path) -> None:
    with OnTerminal("clean", "--ring-dir", ring_dir, "--force", columns=80, is_forked=False) as terminal:
        terminal.read_until(b"remove 3 rings and LOSE 7 spans? [y/N]")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert len(rings_in(ring_dir)) == 4
    with OnTerminal("clean", "--ring-dir", ring_dir, columns=80) as terminal:
        terminal.read_until(b"[y/N]")
        assert terminal.interrupt(signal.SIGINT) == 130
        assert b"Traceback" not in terminal.output
    assert len(rings_in(ring_dir)) == 4
    with OnTerminal("clean", "--ring-dir", ring_dir, columns=80) as terminal:
        terminal.read_until(b"remove 2 rings? [y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert services_in(ring_dir) == {"alive", "full"}
