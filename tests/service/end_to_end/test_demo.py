"""`make demo`, with little work: what it prints adds up, and it notices when something does not."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.otlp_server import OtlpHttpServer
from tests.service.end_to_end.emitter_stats import emitter_stats
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
LAW = re.compile(r"emitted ([\d,]+) = delivered ([\d,]+) \+ dropped ([\d,]+) \+ pending ([\d,]+)")
SAMPLED_LAW = r"seen [\d,]+ = kept [\d,]+ \+ sampled out [\d,]+ \+ dropped 0 \+ pending 0\n"
SECONDS = 400


@pytest.fixture
def environment(ring_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "RINGBUF_DIR": str(ring_dir), "TMPDIR": str(tmp_path)}


def demo(*options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "demo.py"), *options]


def run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(demo(*options), env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


def law(output: str) -> tuple[int, int, int, int]:
    found = LAW.search(output)
    assert found is not None, output
    emitted, delivered, dropped, pending = (int(number.replace(",", "")) for number in found.groups())
    return emitted, delivered, dropped, pending


def test_every_span_of_every_family_is_in_the_file(environment: dict[str, str], ring_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "spans.jsonl"
    result = run(environment, "--operations", "150", "--processes", "1", "--seconds", "60", "--output", str(output))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    emitted, delivered, dropped, pending = law(result.stdout)
    assert (dropped, pending) == (0, 0)
    assert emitted == delivered

    spans = list(spans_of(output))
    assert len(spans) == delivered == len({span["spanId"] for _service, span in spans})
    services = {service for service, _span in spans}
    assert services == {"demo-memory", "demo-front", "demo-storage", "demo-gpu"}
    assert {span["name"].rpartition(".")[2] for _service, span in spans} == {
        "fbmu",
        "fbbu",
        "gpu_session",
        "capability_cache",
    }
    operations = {label(span, "grafos.operation") for _service, span in spans}
    assert operations >= {"fbmu_read", "fbmu_write", "fbbu_read", "fbbu_write", "gpu_session_open"}
    assert operations >= {"capability_lookup", "capability_refresh"}
    lookups = {label(s, "grafos.outcome") for _, s in spans if label(s, "grafos.operation") == "capability_lookup"}
    assert lookups >= {"hit", "miss"}
    assert not list(ring_dir.iterdir()), "rings were left behind"
    assert [path.name for path in tmp_path.iterdir()] == ["spans.jsonl"]

    _, _, end = result.stdout.partition("What was kept, by rule\n")
    names = [line.partition("  ")[0] for line in end.splitlines()]
    assert names[:4] == ["rule", "failures", "slow flushes", "the rest"]
    assert re.fullmatch(SAMPLED_LAW + "checked against the file: it adds up\n", end[end.index("\nseen ") + 1 :])


def test_what_is_kept_and_not_counted_is_a_problem(late_sampling: ModuleType, tmp_path: Path) -> None:
    def law(kept_spans: int, out: int, **file: int) -> tuple[str, tuple[str, ...]]:
        books = SimpleNamespace(
            services={"demo": {"published": 10, "sampled_out": 4}},
            hold={"demo": {"held": 6, "sampled_out": out}},
            rules={"rest": {"traces": 9, "kept_traces": 1, "spans": 10, "kept_spans": kept_spans}},
        )
        kept = SimpleNamespace(by_rule=Counter({"rest": 2}) | Counter(file), repeated=0)
        found: tuple[str, tuple[str, ...]] = late_sampling.law_of([emitter_stats(10)], books, kept)
        return found

    sums = "seen 10 = kept 2 + sampled out 8 + dropped 0 + pending 0"
    assert law(2, 4) == (sums, ())
    assert law(2, 3)[1] == ("off by 1", "the rules sampled 8 spans out, the drain 7")
    assert law(3, 4)[1] == (
        "the rules kept {'rest': 3}, the file has {'rest': 2}",
        "the rules sampled 7 spans out, the drain 8",
    )
    assert law(2, 4, other=1)[1][0] == "off by -1"


@pytest.mark.prove
def test_traces_go_on_in_the_storage_worker(environment: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "spans.jsonl"
    result = run(environment, "--operations", "300", "--processes", "1", "--seconds", "60", "--output", str(output))
    assert result.returncode == 0, result.stdout + result.stderr
    by_id = {span["spanId"]: (service, span) for service, span in spans_of(output)}
    crossings = flushes = 0
    for service, span in by_id.values():
        if service != "demo-storage":
            continue
        parent_service, parent = by_id[span["parentSpanId"]]
        assert parent["traceId"] == span["traceId"]
        if label(span, "grafos.operation") == "fbbu_flush":
            assert (parent_service, label(parent, "grafos.operation")) == ("demo-storage", "fbbu_write")
            assert span["flags"] == 0x103
            flushes += 1
        else:
            assert parent_service == "demo-front"
            assert label(parent, "grafos.operation") == label(span, "grafos.operation")
            assert span["flags"] == 0x303  # the parent is remote
            crossings += 1
    assert crossings > 200
    assert flushes > 0
    assert "demo-storage" in result.stdout.partition("One trace across processes")[2].partition("\n\n")[0]


@pytest.mark.prove
def test_an_endpoint_in_the_environment_gets_the_spans(environment: dict[str, str]) -> None:
    with OtlpHttpServer() as server:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url
        result = run(environment, "--operations", "300", "--processes", "1", "--seconds", "60")
    assert result.returncode == 0, result.stdout + result.stderr
    emitted, delivered, dropped, pending = law(result.stdout)
    assert (dropped, pending) == (0, 0)
    assert emitted == delivered
    assert {request.path for request in server.requests} == {"/v1/traces"}
    ids = [span.span_id for request in server.requests for span in request.spans]
    assert len(ids) == len(set(ids)) == delivered


@pytest.mark.prove
def test_interrupted_work_still_adds_up(environment: dict[str, str], ring_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "spans.jsonl"
    with subprocess.Popen(
        demo("--operations", "100000000", "--processes", "1", "--seconds", "100", "--output", str(output)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            # Once spans arrive, Ctrl-C's signal goes to the whole group, as a terminal sends it.
            until(lambda: process.poll() is not None or (output.exists() and output.stat().st_size))
            os.killpg(process.pid, signal.SIGINT)
            stdout, stderr = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130, stdout + stderr
    assert stderr == ""
    emitted, delivered, dropped, pending = law(stdout)
    assert emitted == delivered + dropped + pending > 0
    assert "it adds up" in stdout
    assert not list(ring_dir.iterdir())


@pytest.mark.prove
def test_a_drain_that_cannot_start_is_told(environment: dict[str, str], tmp_path: Path, ring_dir: Path) -> None:
    result = run(environment, "--operations", "10", "--output", str(tmp_path / "missing" / "spans.jsonl"))
    assert result.returncode == 1
    assert "the drain did not start" in result.stderr
    assert not list(ring_dir.iterdir())


def test_a_missing_span_is_a_problem(report: ModuleType, tmp_path: Path) -> None:
    found = report.read_back(file_of(tmp_path, ["01", "02"]))
    sums = report.sums_of([emitter_stats(3)], {"published": 3, "delivered": 3}, len(found.span_ids))
    assert report.problems(sums, [emitter_stats(3)], {"published": 3, "delivered": 3}, found) == (
        "spans that are unaccounted for: 1",
        "the drain delivered 3 spans, the file has 2",
    )


def test_a_span_that_is_there_twice_is_a_problem(report: ModuleType, tmp_path: Path) -> None:
    found = report.read_back(file_of(tmp_path, ["01", "02", "01"]))
    sums = report.sums_of([emitter_stats(3)], {"published": 3, "delivered": 3}, len(found.span_ids))
    assert str(sums) == "emitted 3 = delivered 3 + dropped 0 + pending 0"
    assert report.problems(sums, [emitter_stats(3)], {"published": 3, "delivered": 3}, found) == (
        "spans that are in the file twice: 1",
    )


def test_drops_are_part_of_the_sum(report: ModuleType, tmp_path: Path) -> None:
    found = report.read_back(file_of(tmp_path, ["01"]))
    audit = {"published": 3, "delivered": 1, "rejected": 1, "pending": 1}
    sums = report.sums_of([emitter_stats(3, full=2)], audit, len(found.span_ids))
    assert str(sums) == "emitted 5 = delivered 1 + dropped 3 + pending 1"
    assert report.problems(sums, [emitter_stats(3, full=2)], audit, found) == ()


@pytest.fixture
def report() -> ModuleType:
    return loaded("report", "demo_report")


@pytest.fixture
def late_sampling(report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "report", report)
    return loaded("late_sampling", "demo_late_sampling")


def loaded(file: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def file_of(folder: Path, span_ids: list[str]) -> Path:
    """Return a file of OTLP JSON lines with these spans."""
    attributes = [
        {"key": "grafos.operation", "value": {"stringValue": "fbmu_read"}},
        {"key": "grafos.outcome", "value": {"stringValue": "ok"}},
    ]
    spans = [
        {
            "traceId": 32 * "1",
            "spanId": span_id.zfill(16),
            "name": "grafos.dataplane.fbmu",
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
            "attributes": attributes,
        }
        for span_id in span_ids
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "demo"}}]}
    path = folder / "spans.jsonl"
    path.write_text(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}) + "\n")
    return path


def spans_of(path: Path) -> Iterator[tuple[str, Any]]:
    for line in path.read_text().splitlines():
        for resource_spans in json.loads(line)["resourceSpans"]:
            service = label(resource_spans["resource"], "service.name")
            for scope_spans in resource_spans["scopeSpans"]:
                for span in scope_spans["spans"]:
                    yield service, span


def label(holder: Any, key: str) -> str:
    values = {item["key"]: item["value"] for item in holder["attributes"]}
    text: str = values[key]["stringValue"]
    return text
