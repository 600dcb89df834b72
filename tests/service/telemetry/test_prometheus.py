"""A real Prometheus scrapes a running drain, and answers what the operator's page asks it."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import urllib.parse
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
from tests.ports import free_ports
from tests.service.draining import SECONDS, DrainProcess, port_of, spans_in_file, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]


def asked(port: int, query: str) -> list[dict[str, Any]] | None:
    """Return the vector that a query gives, None while Prometheus does not answer."""
    data = answer_of(port, "query", query=query)
    return None if data is None else data["result"]


def answer_of(port: int, path: str, **parameters: str) -> Any:
    """Return the data of an answer of Prometheus, None while it gives none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", f"/api/v1/{path}?" + urllib.parse.urlencode(parameters))
        answer: Any = json.loads(connection.getresponse().read())
    except (OSError, ValueError):
        return None
    finally:
        connection.close()
    return answer["data"] if answer["status"] == "success" else None


def waited_for(port: int, query: str) -> list[dict[str, Any]]:
    """Return the vector that a query gives, once it gives one: the last scrape may have failed."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found.extend(asked(port, query) or [])
        return bool(found)

    until(is_there, why=lambda: f"nothing to show: {query}")
    return found


@contextmanager
def prometheus(program: str, folder: Path, target: int) -> Iterator[int]:
    scrape = {"job_name": "ringbuf-drain", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield port
        finally:
            process.terminate()


def test_prometheus_scrapes_a_drain(ring_dir: Path, tmp_path: Path, debian_program: Callable[[str], str]) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[sampling]\ndefault = "keep"\n')  # its panels have something to show, too
    arguments = ("--listen", "127.0.0.1:0", "--output", tmp_path / "spans.jsonl", "--sampling", rules)
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir) as emitter,
        DrainProcess(tmp_path / "drain.log", ring_dir, *arguments) as drain,
        prometheus(debian_program("prometheus"), tmp_path, port_of(drain.wait_for_event("serving"))) as port,
    ):
        read = site(OpType.FBMU_READ, emitter=emitter)
        for _ in range(100):
            assert read.emit(LeaseId(1), 1_000_000_000, 1_002_000_000)
        until(lambda: asked(port, 'ringbuf_drain_hold_spans_left_total{service="shop",outcome="delivered"} == 100'))
        assert waited_for(port, 'up{job="ringbuf-drain"} == 1')
        # Half of the spans took less than the middle of the bucket from 1 to 3 ms.
        quantile = "histogram_quantile(0.5, sum by (le, grafos_operation) (ringbuf_span_duration_seconds_bucket))"
        [answer] = waited_for(port, quantile)
        assert answer["metric"] == {"grafos_operation": "fbmu_read"}
        assert float(answer["value"][1]) == 0.002
        times = {"start": "0", "end": "10"}  # of the spans
        shown = "ringbuf_span_duration_seconds_bucket"
        until(lambda: answer_of(port, "query_exemplars", query=shown, **times))
        [of_bucket] = answer_of(port, "query_exemplars", query=shown, **times)
        assert (of_bucket["seriesLabels"]["le"], of_bucket["seriesLabels"]["service"]) == ("0.003", "shop")
        ids = {(span.trace_id.hex(), span.span_id.hex()) for span in spans_in_file(tmp_path / "spans.jsonl")}
        for exemplar in of_bucket["exemplars"]:
            assert (exemplar["labels"]["trace_id"], exemplar["labels"]["span_id"]) in ids
            assert (float(exemplar["value"]), exemplar["timestamp"]) == (0.002, 1.002)
        assert len(waited_for(port, "count by (__name__) ({__name__=~'ringbuf_.*'})")) > 30
        # Not there: a spool and dead letters without a state directory, Kafka, several endpoints, exports of metrics.
        kinds = ("spool", "dead_letter", "kafka", "endpoint", "metric")
        absent = tuple(f"ringbuf_drain_{kind}_" for kind in kinds)
        for query in (query for query in dashboard_queries() if not any(name in query for name in absent)):
            until(lambda query=query: asked(port, query), why=lambda query=query: f"nothing to show: {query}")  # type: ignore[misc]  # a default cannot have a type


def dashboard_queries() -> list[str]:
    """Return the queries of the dashboard as Grafana would ask them, all drains and services chosen."""
    page = json.loads((importlib.resources.files("drain") / "deploy/grafana-dashboard.json").read_text("utf-8"))
    values = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*", "$service": ".*"}
    queries = [target["expr"] for panel in page["panels"] for target in panel.get("targets", [])]
    for name, value in values.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def test_prometheus_understands_every_query_of_the_dashboard(
    tmp_path: Path, debian_program: Callable[[str], str]
) -> None:
    """Those of the spool, too, of which the drain above has nothing to show."""
    with prometheus(debian_program("prometheus"), tmp_path, 1) as port:
        until(lambda: asked(port, "vector(1)"))
        assert [query for query in dashboard_queries() if asked(port, query) is None] == []


def test_prometheus_understands_every_query_of_the_operators_page(
    tmp_path: Path, debian_program: Callable[[str], str]
) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    queries = [query for query in re.findall(r"`([^`\n]+)` \|$", page, re.MULTILINE) if "ringbuf_" in query]
    assert len(queries) >= 8
    rules = [{"record": f"docs:query{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}))
    check = [debian_program("promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    checked = subprocess.run(check, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert checked.returncode == 0, checked.stdout + checked.stderr
