"""docs/layout-migration.md: a vocabulary changes between versions of a program while one drain serves both."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from drain.otlp.json_lines import from_json_line
from ringbuf import Attribute, Emitter, SpanLayout
from ringbuf.dataplane import LeaseId, OpType, Outcome, ResourceKind, site
from tests.python import run
from tests.service.c_producer import CProducer
from tests.service.draining import MemoryBackend, SteppedDrain, quarantined, ring_files, run_once

RINGS_OF_BEFORE = Path(__file__).parent / "rings_of_before"
# Everything that may change at once: an attribute comes, one goes, one gets another type, labels change their order,
# a span name goes and comes, and so offsets, bits, indices and the slot's size are all others.
BEFORE = SpanLayout(
    span_names=["kv.get", "kv.put"],
    attributes=[
        Attribute("kv.bytes", "u32"),
        Attribute("kv.shard", "u16"),
        Attribute("kv.outcome", "label", labels=("ok", "missing", "error")),
    ],
    scope_name="kv",
    scope_version="1",
)
AFTER = SpanLayout(
    span_names=["kv.scan", "kv.get"],
    attributes=[
        Attribute("kv.outcome", "label", labels=("error", "ok", "missing", "stale")),
        Attribute("kv.node", "str", 100),
        Attribute("kv.bytes", "u64"),
    ],
    scope_name="kv",
    scope_version="2",
)
KILLED_BEFORE = f"""
import os, signal, ringbuf
layout = ringbuf.SpanLayout.from_json({BEFORE.to_json()!r})
emitter = ringbuf.Emitter("kv", ring_dir=sys.argv[1], layout=layout)
assert emitter.site("kv.get", varying=["kv.bytes", "kv.shard", "kv.outcome"]).emit(3, 4, 7, 9, "error")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def delivered(output: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return scope version, span name and attributes of each span, by its start."""
    found = []
    for line in output.read_bytes().splitlines():
        for resource_spans in from_json_line(line).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    values = {
                        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes
                    }
                    found.append((span.start_time_unix_nano, scope_spans.scope.version, span.name, values))
    return [entry[1:] for entry in sorted(found, key=lambda entry: entry[0])]


def test_rings_of_two_versions_are_drained_side_by_side_each_by_its_own_layout(ring_dir: Path, tmp_path: Path) -> None:
    with (
        Emitter("kv", ring_dir=ring_dir, layout=BEFORE) as old,
        Emitter("kv", ring_dir=ring_dir, layout=AFTER) as new,
    ):
        old_get = old.site("kv.get", varying=["kv.bytes", "kv.shard", "kv.outcome"])
        new_get = new.site("kv.get", varying=["kv.outcome", "kv.node", "kv.bytes"])
        assert old_get.emit(1, 2, 512, 3, "missing")
        assert new_get.emit(2, 3, "missing", "node-7", 1 << 40)
        assert old_get.emit(3, 4, 513, 4, "ok")
        assert new_get.emit(4, 5, "stale", None, 1)
        output = tmp_path / "spans.jsonl"
        assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    assert delivered(output) == [
        ("1", "kv.get", {"kv.bytes": 512, "kv.shard": 3, "kv.outcome": "missing"}),
        ("2", "kv.get", {"kv.outcome": "missing", "kv.node": "node-7", "kv.bytes": 1 << 40}),
        ("1", "kv.get", {"kv.bytes": 513, "kv.shard": 4, "kv.outcome": "ok"}),
        ("2", "kv.get", {"kv.outcome": "stale", "kv.bytes": 1}),
    ]


def test_what_a_killed_old_version_left_is_read_by_its_own_layout_after_the_update(
    ring_dir: Path, tmp_path: Path
) -> None:
    done = run(KILLED_BEFORE, ring_dir)
    assert (done.returncode, done.stdout) == (-9, "ready\n"), done.stderr
    with Emitter("kv", ring_dir=ring_dir, layout=AFTER) as new:
        assert new.site("kv.scan").emit(5, 6)
    output = tmp_path / "spans.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    assert delivered(output) == [
        ("1", "kv.get", {"kv.bytes": 7, "kv.shard": 9, "kv.outcome": "error"}),
        ("2", "kv.scan", {}),
    ]


def test_a_type_that_this_drain_does_not_know_sets_the_ring_aside_whole_for_a_later_one(ring_dir: Path) -> None:
    layout = json.loads(BEFORE.to_json())
    layout["attributes"][1]["type"] = "u16 of the year 2030"
    backend = MemoryBackend()
    with (
        CProducer(ring_dir, layout=json.dumps(layout).encode(), slot_bytes=BEFORE.slot_bytes) as producer,
        SteppedDrain(ring_dir, backend) as drain,
    ):
        assert producer.emit([]) == 0
        (path,) = ring_files(ring_dir)
        before = path.read_bytes()
        drain.step()
        assert quarantined(ring_dir)[path.name]["reason"].endswith("no such type as 'u16 of the year 2030'")
        (kept,) = (ring_dir / "quarantine").glob("*.ring")
        # The header with its layout; the drain has only said in the lanes that it set the ring aside.
        assert kept.read_bytes()[:4096] == before[:4096]


def test_a_ring_of_version_0_1_0_says_what_its_producer_said_beside_one_of_today(
    ring_dir: Path, tmp_path: Path
) -> None:
    """The words of the data plane have changed since: `memory` is `mem`, and number 2 was `gpu`, which is `net` now."""
    before = gzip.decompress((RINGS_OF_BEFORE / "dataplane-0.1.0.ring.gz").read_bytes())
    (ring_dir / "released-1-00000001.ring").write_bytes(before)
    with Emitter("today", ring_dir=ring_dir) as today:
        for kind in ResourceKind:
            fenced = Outcome.FENCED
            assert site(OpType.GPU_SYNC, resource_kind=kind, emitter=today).emit(LeaseId(7), 1, 2, None, fenced)
        output = tmp_path / "spans.jsonl"
        assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    found = [values for _scope, _name, values in delivered(output)]
    new, old = found[:7], found[7:]
    assert [values["grafos.resource.kind"] for values in new] == [str(kind) for kind in ResourceKind]
    assert {(values["grafos.operation"], values["grafos.outcome"]) for values in new} == {("gpu_sync", "fenced")}
    assert [values["grafos.resource.kind"] for values in old] == (
        ["memory"] * 2 + ["block"] * 3 + ["gpu"] * 3 + ["capability"] * 3
    )
    assert [values["grafos.operation"] for values in old] == [str(op) for op in OpType if op < OpType.TASKLET_SUBMIT]
    assert [values["grafos.outcome"] for values in old] == [str(outcome) for outcome in [*Outcome][:8] * 2][:11]
    assert [path.name for path in ring_files(ring_dir) if path.name.startswith("released")] == []
