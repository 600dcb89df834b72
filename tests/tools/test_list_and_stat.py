from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.otlp.direct_gzip import DirectGzip
from drain.rings.directory import RingDirectory
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.consumer import Consumer, rings_in
from tests.records import fresh_records
from tests.service.draining import ProducerProcess
from tests.tools.running import invoke, output_of

if TYPE_CHECKING:
    from pathlib import Path


def listed(ring_dir: Path, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output_of("list", "--ring-dir", ring_dir, "--json", *arguments).splitlines()]


def test_a_ring_and_who_writes_it(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    (entry,) = listed(ring_dir)
    assert entry["ring"] == rings_in(ring_dir)[0].stem
    assert (entry["service"], entry["pid"], entry["state"]) == ("shop", os.getpid(), "alive")
    assert (entry["published"], entry["pending"], entry["fill"]) == (12, 12, round(12 / 64, 4))
    assert (entry["layout"], entry["drain"]) == ("grafos.dataplane 219", "none")


def test_the_table_for_people(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    head, row = output_of("list", "--ring-dir", ring_dir).splitlines()
    assert head.split()[:3] == ["service", "pid", "process"]
    assert {"shop", str(os.getpid()), "alive", "18%", "none"} <= set(row.split())


def test_drops_by_their_reason(ring_dir: Path) -> None:
    with ringbuf.Emitter("full", ring_dir=ring_dir, capacity=4, lanes=1) as emitter:
        record = emitter.layout.empty(1)
        record["flags"] = 1
        for _ in range(6):
            emitter.fill_ids(record)
            emitter.emit(record[0])
            record["span_id"] = 0
        (entry,) = listed(ring_dir)
        assert entry["dropped"] == {"full": 2, "contended": 0, "unsampled": 0}
        assert "full:2" in output_of("list", "--ring-dir", ring_dir)


def test_the_dead_and_the_closed(ring_dir: Path) -> None:
    with ProducerProcess(ring_dir, 3, "killed") as killed, ProducerProcess(ring_dir, 3, "closed") as closed:
        closed.tell("close")
        closed.expect("closed")
        killed.kill()
        states = {entry["service"]: entry["state"] for entry in listed(ring_dir)}
        assert states == {"closed": "closed", "killed": "dead"}


def test_a_drain_is_seen_by_its_lock_and_a_killed_one_as_gone(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        consumer.set_state(lib.RB_CONSUMER_ATTACHED)
    assert listed(ring_dir)[0]["drain"] == "gone"
    directory = RingDirectory(ring_dir)
    try:
        assert listed(ring_dir)[0]["drain"] == "attached"
    finally:
        directory.close()


@pytest.mark.parametrize("word", ["name", "beginning", "pid", "path"])
def test_a_ring_is_found_by(shop: ringbuf.Emitter, ring_dir: Path, word: str) -> None:
    path = rings_in(ring_dir)[0]
    with ringbuf.Emitter("other", ring_dir=ring_dir, capacity=4) as other:
        assert other.stats().published == 0
        wanted = {"name": path.stem, "beginning": "sho", "pid": str(os.getpid()), "path": str(path)}[word]
        found = {entry["service"] for entry in listed(ring_dir, wanted)}
        assert found == ({"shop", "other"} if word == "pid" else {"shop"})
        assert {entry["service"] for entry in listed(ring_dir, "--service", "o*")} == {"other"}


def test_a_ring_that_is_not_there_and_one_that_is_two(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    absent = invoke("stat", "--ring-dir", ring_dir, "nothing")
    assert (absent.exit_code, "no ring 'nothing'" in absent.stderr) == (1, True)
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4):
        double = invoke("stat", "--ring-dir", ring_dir, "shop")
        assert (double.exit_code, "may mean 2 rings" in double.stderr) == (1, True)


def test_a_file_that_is_no_ring_is_told_and_the_others_are_listed(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    (ring_dir / "bad\x1b[31m.ring").write_text("hello")
    result = invoke("list", "--ring-dir", ring_dir)
    assert result.exit_code == 1
    assert "shop" in result.stdout
    assert "bad\N{REPLACEMENT CHARACTER}[31m.ring: the file ends after" in result.stderr


def test_an_empty_directory_and_none(ring_dir: Path) -> None:
    assert output_of("list", "--ring-dir", ring_dir) == f"no rings in {ring_dir}; no drain\n"
    result = invoke("list", "--ring-dir", ring_dir / "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"ringbuf: {ring_dir / 'nowhere'}: No such file or directory: the first producer")


def test_the_directory_of_the_environment(
    shop: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    assert "shop" in output_of("list")


def test_all_of_one_ring(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    found = json.loads(output_of("stat", "--ring-dir", ring_dir, "shop", "--json"))
    path = rings_in(ring_dir)[0]
    assert (found["path"], found["file_bytes"]) == (str(path), path.stat().st_size)
    assert (found["slot_bytes"], found["capacity_slots"], found["lanes"]) == (128, 64, 1)
    assert found["resource"]["service.name"] == "shop"
    assert found["layout_json"] == json.loads(shop.layout.to_json())
    assert found["gzip"] == "straight from records" or not DirectGzip.is_supported()
    (lane,) = found["lane_counters"]
    assert (lane["tail"], lane["head"], lane["pending"], lane["closed"], lane["delivered"]) == (12, 0, 12, False, 0)
    with Consumer(path) as consumer:
        consumer.copy()
        consumer.release(5, invalid=1)
    found = json.loads(output_of("stat", "--ring-dir", ring_dir, "shop", "--json"))
    assert found["outcomes"] == {
        "delivered": 5,
        "spooled": 0,
        "rejected": 0,
        "dead_lettered": 0,
        "invalid": 1,
        "sampled_out": 0,
    }
    assert found["lane_counters"][0]["head"] == 6
    text = output_of("stat", "--ring-dir", ring_dir, "shop")
    for words in ("grafos.lease.id", "service.instance.id", "published      12", "pending        6", "fbmu_read"):
        assert words in text


@pytest.mark.skipif(not DirectGzip.is_supported(), reason="this processor has no carry-less product")
def test_why_records_are_encoded_before_they_become_gzip(ring_dir: Path) -> None:
    layout = SpanLayout(span_names=["page"], attributes=[Attribute("hit", "bool"), Attribute("path", "str", 20)])
    with ringbuf.Emitter("pages", ring_dir=ring_dir, layout=layout):
        assert "gzip    after encoding: attribute 1 " in output_of("stat", "--ring-dir", ring_dir, "pages")


@pytest.mark.parametrize(
    "word", ["memory-node", "memory-n", "memory%2Dnode", "the name that list shows", "the file's name"]
)
def test_a_ring_is_found_by_what_list_shows(ring_dir: Path, word: str) -> None:
    with (
        ringbuf.Emitter("memory-node", ring_dir=ring_dir, capacity=4),
        ringbuf.Emitter("memory", ring_dir=ring_dir, capacity=4),
    ):
        path = next(path for path in rings_in(ring_dir) if "node" in path.name)
        assert path.name.startswith("memory%2Dnode-")
        shown = output_of("list", "--ring-dir", ring_dir, "--service", "memory-node").splitlines()[1].split()[-1]
        assert shown == path.stem.replace("%2D", "-")
        wanted = {"the name that list shows": shown, "the file's name": path.name}.get(word, word)
        assert json.loads(output_of("stat", "--ring-dir", ring_dir, wanted, "--json"))["service"] == "memory-node"


def test_a_services_whole_name_is_not_the_beginning_of_anothers(ring_dir: Path) -> None:
    with (
        ringbuf.Emitter("memory-node", ring_dir=ring_dir, capacity=4),
        ringbuf.Emitter("memory", ring_dir=ring_dir, capacity=4),
    ):
        assert json.loads(output_of("stat", "--ring-dir", ring_dir, "memory", "--json"))["service"] == "memory"
        double = invoke("stat", "--ring-dir", ring_dir, "mem")
        assert (double.exit_code, "memory-node-" in double.stderr, "%2D" in double.stderr) == (1, True, False)


def test_the_rings_that_lost_most_come_first(ring_dir: Path) -> None:
    emitters = [ringbuf.Emitter(name, ring_dir=ring_dir, capacity=4, lanes=1) for name in ("none", "most", "some")]
    for emitter, count in zip(emitters, (2, 9, 6), strict=True):
        emitter.emit_batch(fresh_records(emitter, count))
    assert [entry["service"] for entry in listed(ring_dir, "--sort", "drops")] == ["most", "some", "none"]
    assert [entry["service"] for entry in listed(ring_dir, "--sort", "service")] == ["most", "none", "some"]
    assert [entry["service"] for entry in listed(ring_dir, "--sort", "age")] == ["none", "most", "some"]
    assert [entry["service"] for entry in listed(ring_dir, "--sort", "fill")][-1] == "none"
    assert [entry["service"] for entry in listed(ring_dir, "--sort", "published")][-1] == "none"
    for emitter in emitters:
        emitter.close()


def test_only_the_rings_of_a_state(ring_dir: Path) -> None:
    with ProducerProcess(ring_dir, 3, "killed") as killed, ProducerProcess(ring_dir, 3, "alive"):
        killed.kill()
        assert [entry["service"] for entry in listed(ring_dir, "--state", "dead")] == ["killed"]
        both = {entry["service"] for entry in listed(ring_dir, "--state", "dead", "--state", "alive")}
        assert both == {"killed", "alive"}
        wrong = invoke("list", "--ring-dir", ring_dir, "--state", "ded")
        assert (wrong.exit_code, "dead" in wrong.stderr) == (2, True)
        nobody = output_of("list", "--ring-dir", ring_dir, "--state", "closed")
        assert nobody == f"no rings that are closed in {ring_dir}; no drain\n"


def test_when_a_ring_was_made_is_told_with_its_zone(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    made = json.loads(output_of("stat", "--ring-dir", ring_dir, "shop", "--json"))["created_unix_nano"]
    expected = f"{datetime.fromtimestamp(made // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{made % 10**9 // 1000:06}Z ("
    assert expected in output_of("stat", "--ring-dir", ring_dir, "shop")
