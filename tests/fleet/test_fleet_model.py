"""The sizing model: its arithmetic, and that it finds the costs from which loads were made."""

from __future__ import annotations

import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # last: ringbuf and drain are those that are installed

from bench.fleet.model import Cost, Costs, Fleet, Load, bounds, predict, row_bytes
from bench.fleet.page import Page
from drain.otlp.batch_number import BatchNumber
from drain.otlp.copied_batch import CopiedBatch
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.encoder import Encoder
from drain.otlp.request import Request
from drain.spool.database import SpoolDatabase
from drain.spool.spool_time import this_moment
from ringbuf.layout.layout import Attribute, SpanLayout

COSTS = Costs(
    emit=Cost(span=1e-7, request=2e-5),
    drain=Cost(span=1e-6, request=1e-3, batch=1e-2),
    drain_idle=0.01,
    gateway=Cost(span=2e-6, request=1e-4),
    gateway_idle=0.02,
    wire=Cost(span=40, request=400),
    encoded=250.0,
    pause=0.0,
)
SLOW = Fleet(hosts=10, rate=1000, destinations=4, delay=1.0)


def test_requests_a_second_are_hosts_times_destinations_over_the_delay() -> None:
    found = predict(COSTS, SLOW)
    assert found.requests == 10 * 4 / 1.0
    assert found.spans_in_request == 250
    assert predict(replace(COSTS, pause=1.0), SLOW).requests == 10 * 4 / 2.0


def test_full_batches_go_before_the_delay_is_over() -> None:
    found = predict(COSTS, replace(SLOW, rate=81_920))
    assert found.requests == 10 * 4 * 10
    assert found.spans_in_request == 8192 / 4


def test_so_does_a_batch_that_has_its_bytes() -> None:
    found = predict(COSTS, replace(SLOW, rate=10_000, batch_bytes=1_000_000))
    assert found.requests == 10 * 4 * 10_000 * 250 / 1_000_000
    assert found.spans_in_request == 1000


def test_each_side_takes_its_part() -> None:
    found = predict(COSTS, SLOW)
    assert found.producer_cores == pytest.approx(1e-4 + 50 * 2e-5)
    assert predict(COSTS, replace(SLOW, rate=10)).producer_cores == pytest.approx(10 * 2.01e-5)  # each is a burst
    assert found.drain_cores == pytest.approx(0.01 + 1000e-6 + 4e-3 + 1e-2)
    assert found.gateway_cores == pytest.approx(4 * 0.02 + 10_000 * 2e-6 + 40e-4)
    assert found.host_bytes == pytest.approx(40_000 + 4 * 400)
    assert found.fleet_bytes == pytest.approx(10 * found.host_bytes)


@pytest.mark.parametrize("body_bytes", [1, 400, 700, 1400, 2100, 3000, 3900, 4500, 8200, 16_000, 300_000])
def test_what_a_request_takes_in_the_spool_is_known_for_small_ones_and_large(body_bytes: int, tmp_path: Path) -> None:
    rows = 60
    database = SpoolDatabase(tmp_path / "spool.db", 1 << 20, 1 << 20)
    empty_bytes = database.used_bytes
    database.begin()
    for number in range(rows):
        of = BatchNumber("00f1e2d3c4b5a697", number + 1, 0, 19)
        database.add(this_moment(), "protobuf", {"shop": 19}, bytes(body_bytes), "http://10.0.0.1:4318/v1/traces", of)
    database.commit()
    assert (database.used_bytes - empty_bytes) / rows == pytest.approx(row_bytes(body_bytes), rel=0.15)
    database.close()


def test_nearly_all_of_what_is_stored_are_the_rows() -> None:
    found = predict(COSTS, replace(SLOW, rate=100_000, delay=0.05, destinations=1))
    assert found.stored_bytes == pytest.approx(found.host_bytes, rel=0.02)
    # Spans are spread over requests by chance: there is no step where two rows of the mean size go into a page.
    before, after = (predict(COSTS, replace(SLOW, rate=4 * spans)).stored_bytes for spans in (36.0, 38.0))
    assert before < after < 1.2 * before


def test_the_bytes_of_requests_are_on_one_line_from_one_span_up() -> None:
    random = np.random.default_rng(219)
    layout = SpanLayout(span_names=["read", "write"], attributes=[Attribute("bytes", "u64"), Attribute("lease", "u64")])
    encoder = Encoder(layout, {"service.name": "shop", "host.name": "a.example.org", "process.pid": 4711})

    def sent_bytes(spans: int) -> int:
        records = layout.empty(spans)
        records["trace_id"] = random.integers(1, 256, (spans, 16))
        records["span_id"] = random.integers(1, 256, (spans, 8))
        records["start_unix_nano"] = 1_764_000_000_000_000_000 + random.integers(0, 10_000_000, spans)
        records["end_unix_nano"] = records["start_unix_nano"] + random.integers(1, 10_000_000, spans).astype("u8")
        records["bytes"], records["lease"], records["present"] = 4096, 7, 3
        return len(Request.of_records(CopiedBatch([CopiedRecords(encoder, records)]), spans).gzip())

    measured = (8, 400, 8000)  # what `python -m bench.fleet` looks at
    line = Cost.from_measurements([Load(spans, 1, 1) for spans in measured], [*map(sent_bytes, measured)])
    assert line.request > 100
    for spans in (1, 2, 4, 16, 60, 130, 310, 499, 500, 1000, 2000, 4000):
        assert line.of(Load(spans, 1, 1)) == pytest.approx(sent_bytes(spans), rel=0.15), spans


def test_no_request_has_less_than_a_span_and_small_ones_are_told() -> None:
    found = predict(COSTS, replace(SLOW, rate=10, destinations=64))
    assert found.spans_in_request == 1
    assert found.is_cut_too_fine
    assert not predict(COSTS, SLOW).is_cut_too_fine


def test_costs_are_found_from_what_they_add_up_to() -> None:
    cost = Cost(3e-7, 2e-4, 5e-3, 0.07)
    loads = [Load(20_000, 1, 1), Load(20_000, 50, 50), Load(20_000, 50, 12.5), Load(10_000, 7, 2), Load(100, 4, 4)]
    found = Cost.from_measurements(loads, [cost.of(load) for load in loads], of_drain=True)
    assert astuple(found) == pytest.approx(astuple(cost))
    flat = replace(cost, batch=0.0, second=0.0)
    found = Cost.from_measurements(loads, [flat.of(load) for load in loads])
    assert astuple(found) == pytest.approx(astuple(flat))


def test_noise_makes_nothing_cost_less_than_nothing() -> None:
    cost = Cost(3e-7, 2e-3, 0.0, 0.07)
    loads = [Load(30_000, 4, 4), Load(10_000, 25, 25), Load(30_000, 16, 4), Load(10_000, 25, 6), Load(500, 4, 4)]
    off = (1.05, 0.95, 1.0, 1.05, 1.0)
    found = Cost.from_measurements(
        loads, [share * cost.of(load) for share, load in zip(off, loads, strict=True)], of_drain=True
    )
    assert found.batch == 0.0
    assert min(astuple(found)) >= 0.0
    assert found.request == pytest.approx(cost.request, rel=0.3)


def test_the_first_bound_is_that_of_whatever_there_is_least_of() -> None:
    few = bounds(COSTS, replace(SLOW, hosts=1000, destinations=2), link=1.25e10)
    assert min(few, key=few.__getitem__) == "cores of the gateways"
    none = bounds(replace(COSTS, gateway=Cost()), replace(SLOW, hosts=1000, destinations=2))
    assert min(none, key=none.__getitem__) == "network of the gateways"
    many = bounds(COSTS, replace(SLOW, hosts=1, destinations=64))
    assert min(many, key=many.__getitem__) == "cores of a host, producers and drain"


def test_a_page_gets_the_tables_of_a_run_in_their_places(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Page\n\n<!-- measured: costs -->\nold\n<!-- end of costs -->\n\nProse.\n")
    for figure in ("1", "2"):
        page = Page()
        page.table("costs", "Costs", [("", "a span"), ("drain", figure)])
        page.note("costs", r"Between two batches: \1 ms.")
        page.write_into(path)
    table = "**Costs**\n\n|  | a span |\n|---|---:|\n| drain | 2 |\n\nBetween two batches: \\1 ms.\n\n"
    assert path.read_text() == f"# Page\n\n<!-- measured: costs -->\n\n{table}<!-- end of costs -->\n\nProse.\n"
    lost = Page()
    lost.note("fleets", "nowhere to go")
    with pytest.raises(ValueError, match="no place, or several, for fleets"):
        lost.write_into(path)


def test_the_page_of_the_fleet_has_a_place_for_each_part() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    for part in ("costs", "fleets", "extrapolated"):
        assert text.count(f"<!-- measured: {part} -->") == text.count(f"<!-- end of {part} -->") == 1
