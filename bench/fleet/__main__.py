"""`python -m bench.fleet`: measure what a span and a request take here, predict small fleets, run them, print both.

Then the same arithmetic says what 1,000 hosts of 64 cores with 10 Gbit/s would take: an extrapolation, since no such
fleet was at hand. All of it takes some eight minutes. `--into docs/fleet.md` puts the tables into that page.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.fleet.experiment import Brokers, Gateways, run, store
from bench.fleet.model import Cost, Costs, Fleet, Load, bounds, predict
from bench.fleet.page import Page
from bench.results import describe_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.fleet.experiment import Taken
    from bench.fleet.page import Rows

    Make = Callable[[int], Gateways | Brokers]

_RATE: Final = 10_000.0
_DELAY: Final = 0.25
_FEW: Final = 400  # spans of a small request
_FEWEST: Final = 8  # of one that is hardly more than what comes with each
_LARGE: Final = Fleet(1, 3 * _RATE, 1, _DELAY)
_SMALL: Final = Fleet(1, _RATE, 1, _DELAY, _FEW)
_TINY: Final = Fleet(1, 80.0 * _FEWEST, 1, _DELAY, _FEWEST)
_PARTS: Final = 4
_FEW_SPANS_RATE: Final = 500.0
_MEASURED: Final = (
    ("large requests", _LARGE),
    ("small requests", _SMALL),
    ("tiny requests", _TINY),
    ("large batches in parts", replace(_LARGE, destinations=_PARTS)),
    ("small batches in parts", replace(_SMALL, destinations=_PARTS, batch_spans=_FEW * _PARTS)),
    ("tiny batches in parts", replace(_TINY, destinations=_PARTS, batch_spans=_FEWEST * _PARTS)),
    ("few spans", replace(_LARGE, rate=_FEW_SPANS_RATE)),
)
_PARTITIONS: Final = 4
_TOLERANCE: Final = 20  # percent
_GATEWAY_FLEETS: Final = (Fleet(3, 10_000, 2, 0.5), Fleet(2, 20_000, 3, 0.25), Fleet(2, 200, 4, 0.25))
_MESSAGE_BYTES: Final = 1_048_588  # what Kafka lets one have, and so the drain a batch
_KAFKA_FLEETS: Final = (
    Fleet(2, 15_000, _PARTITIONS, 0.5, batch_bytes=_MESSAGE_BYTES),
    Fleet(3, 4_000, _PARTITIONS, 0.5, batch_bytes=_MESSAGE_BYTES),
)
_STORED_FLEETS: Final = (Fleet(1, 20_000, 1, 0.25), Fleet(1, 10_000, 3, 0.5), Fleet(1, 300, 4, 0.25))
_FAR: Final = tuple(Fleet(1000, rate, 64, 1.0) for rate in (1_000.0, 10_000.0, 100_000.0))


def main() -> int:
    """Measure, predict, compare; return 1 if a prediction is further off than it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of three windows (4)")
    parser.add_argument("--into", type=Path, help="put the tables into this page (docs/fleet.md)")
    options = parser.parse_args()
    seconds: float = options.seconds
    page = Page()
    machine, load = describe_machine(), os.getloadavg()[0]
    costs = _gateway_costs(page, seconds)
    worst = _try_out(page, "gateways", costs, _GATEWAY_FLEETS, Gateways, seconds)
    worst = max(worst, _try_out_spool(page, costs, seconds))
    if find_spec("confluent_kafka"):
        kafka = _kafka_costs(page, costs, seconds)
        worst = max(worst, _try_out(page, "partitions", kafka, _KAFKA_FLEETS, lambda _: Brokers("trace"), seconds))
    _extrapolate(page, costs)
    page.note(
        "costs",
        f"{machine['cpu']}, {machine['cpus']} cores, {machine['system']}, {machine['when']}; load average {load:.1f} "
        f"before, {os.getloadavg()[0]:.1f} after.",
    )
    page.note("fleets", f"The worst prediction is {worst:.0f} % off; {_TOLERANCE} % is what is allowed.")
    if options.into is not None:
        page.write_into(options.into)
    return 1 if worst > _TOLERANCE else 0


def _gateway_costs(page: Page, seconds: float) -> Costs:
    rest, *taken = _measured("gateways", Gateways, Gateways, seconds)
    cut = [fleet.destinations for _, fleet in _MEASURED]
    gateway = [one.gateways - gateways * rest.gateways for one, gateways in zip(taken, cut, strict=True)]
    loads, sent = _loads(taken), [one.all for one in taken]
    costs = Costs(
        emit=Cost.from_measurements([Load(one.emitted, one.bursts, 0.0) for one in taken], [one.emit for one in taken]),
        drain=Cost.from_measurements(loads, [one.drains - rest.drains for one in taken], of_drain=True),
        drain_idle=rest.drains,
        gateway=Cost.from_measurements(loads, gateway),
        gateway_idle=rest.gateways,
        wire=Cost.from_measurements(
            [Load(one.spans, one.requests, one.requests) for one in sent], [one.bytes for one in sent]
        ),
        encoded=_encoded(taken),
        pause=_pause(taken),
    )
    _print_costs(page, "Measured: OTLP over HTTP, gzip", costs)
    return costs


def _kafka_costs(page: Page, others: Costs, seconds: float) -> Costs:
    rest, *taken = _measured("kafka", lambda _: Brokers("none"), lambda _: Brokers("trace"), seconds)
    costs = replace(
        others,
        drain=Cost.from_measurements(_loads(taken), [one.drains - rest.drains for one in taken], of_drain=True),
        drain_idle=rest.drains,
        gateway=Cost(),
        gateway_idle=0.0,
        wire=Cost(),
        encoded=_encoded(taken),
        pause=_pause(taken),
    )
    _print_costs(page, "Measured: Kafka, zstd", costs)
    return costs


def _measured(name: str, make_one: Make, make_more: Make, seconds: float) -> list[Taken]:
    """Return what one host takes at rest, and by `_MEASURED`."""
    found = []
    for what, fleet in (("at rest", replace(_LARGE, rate=0.0)), *_MEASURED):
        _progress(f"{name}: {what}")
        destination = (make_more if fleet.destinations > 1 else make_one)(fleet.destinations)
        try:
            found.append(run(destination, fleet.hosts, fleet.rate, seconds, _settings(fleet)))
        finally:
            destination.close()
    return found


def _loads(taken: Sequence[Taken]) -> list[Load]:
    return [
        Load(one.emitted, one.requests, one.requests / min(fleet.destinations, one.emitted / one.requests))
        for one, (_, fleet) in zip(taken, _MEASURED, strict=True)
    ]


def _pause(taken: Sequence[Taken]) -> float:
    """Return the seconds between two batches beside their delay, by those with few spans: none is full before."""
    return max(0.0, 1 / taken[-1].requests - _DELAY)


def _encoded(taken: Sequence[Taken]) -> float:
    """Return a span's bytes before compression, by the largest requests."""
    return taken[0].all.encoded / taken[0].all.spans


def _try_out(page: Page, name: str, costs: Costs, fleets: Sequence[Fleet], make: Make, seconds: float) -> float:
    """Predict and run some fleets; return by how much the worst prediction is off, in percent."""
    worst = 0.0
    for fleet in fleets:
        _progress(f"{name}: {fleet}")
        found = predict(costs, fleet)
        destination = make(fleet.destinations)
        try:
            taken = run(destination, fleet.hosts, fleet.rate, seconds, _settings(fleet))
        finally:
            destination.close()
        pairs = [
            ("requests a second", found.requests, taken.requests),
            ("producers, cores", fleet.hosts * found.producer_cores, taken.emit),
            ("drains, cores", fleet.hosts * found.drain_cores, taken.drains),
        ]
        is_real = isinstance(destination, Gateways)
        if is_real:
            pairs += [
                ("gateways, cores", found.gateway_cores, taken.gateways),
                ("bytes a second", found.fleet_bytes, taken.bytes),
            ]
        title = (
            f"{fleet.hosts} hosts, {fleet.rate:,.0f} spans/s each, {fleet.destinations} {name}, delay {fleet.delay} s: "
            f"{found.spans_in_request:,.0f} spans a request"
        )
        worst = max(worst, _compare(page, title, pairs))
        if not is_real:
            page.note(
                "fleets",
                f"The brokers for tests took {_short(taken.gateways)} cores beside that, in a process of their own.",
            )
    return worst


def _try_out_spool(page: Page, costs: Costs, seconds: float) -> float:
    """Predict and run some outages; return by how much the worst prediction is off, in percent."""
    worst, beside = 0.0, 0
    for fleet in _STORED_FLEETS:
        _progress(f"spool: {fleet}")
        found, stored = predict(costs, fleet), store(fleet.destinations, fleet.rate, seconds, _settings(fleet))
        beside = max(beside, stored.other_bytes)
        title = (
            f"{fleet.rate:,.0f} spans/s for {fleet.destinations} gateways, delay {fleet.delay} s, nobody there: "
            f"into the spool, {found.spans_in_request:,.0f} spans a row"
        )
        pairs = [
            ("rows a second", found.requests, stored.rows * fleet.rate / stored.spans),
            ("bytes a second", found.stored_bytes, stored.used_bytes * fleet.rate / stored.spans),
        ]
        worst = max(worst, _compare(page, title, pairs))
    page.note("fleets", f"Beside its database the spool had {beside / (1 << 20):.1f} MiB of log and reserve.")
    return worst


def _extrapolate(page: Page, costs: Costs) -> None:
    rows: Rows = [("", *(f"{fleet.rate:,.0f}/s" for fleet in _FAR))]
    found = [predict(costs, fleet) for fleet in _FAR]
    lines: list[tuple[str, Callable[[int], str]]] = [
        ("spans a second, all hosts", lambda at: f"{_FAR[at].hosts * _FAR[at].rate:,.0f}"),
        ("producers, cores a host", lambda at: _short(found[at].producer_cores)),
        ("drain, cores a host", lambda at: _short(found[at].drain_cores)),
        ("out of a host, Mbit/s", lambda at: _short(found[at].host_bytes * 8e-6)),
        ("into the gateways, Gbit/s", lambda at: _short(found[at].fleet_bytes * 8e-9)),
        ("requests a second", lambda at: f"{found[at].requests:,.0f}"),
        ("spans a request", lambda at: _short(found[at].spans_in_request) + (" !" * found[at].is_cut_too_fine)),
        ("gateways, cores", lambda at: _short(found[at].gateway_cores)),
        ("spool for an hour, GB a host", lambda at: _short(found[at].stored_bytes * 3600e-9)),
    ]
    rows += [(name, *(cell(at) for at in range(len(_FAR)))) for name, cell in lines]
    title = "1,000 hosts, 64 gateways or partitions, delay 1 s, by spans a second of a host"
    page.table("extrapolated", title, rows)
    for gateways in (8, 64):
        fleet = Fleet(1000, 1.0, gateways, 1.0)
        limits = sorted(bounds(costs, fleet).items(), key=lambda item: item[1])
        rows = [("bound by", "spans/s of a host"), *((name, _short(rate)) for name, rate in limits)]
        title = f"1,000 hosts and {gateways} gateways, 64 cores and 10 Gbit/s each: what breaks first"
        page.table("extrapolated", title, rows)


def _settings(fleet: Fleet) -> tuple[str, ...]:
    return ("--batch-delay", str(fleet.delay), "--batch-spans", str(fleet.batch_spans))


def _print_costs(page: Page, title: str, costs: Costs) -> None:
    rows: Rows = [
        ("", "a span", "a request", "a batch", "awake", "at rest"),
        ("producer", f"{costs.emit.span * 1e9:,.0f} ns", f"{costs.emit.request * 1e6:,.0f} µs a burst", "", "", ""),
        ("drain", *_shown(costs.drain), f"{100 * costs.drain_idle:.2f} % of a core"),
    ]
    if costs.gateway.span:
        rows += [
            ("gateway", *_shown(costs.gateway), f"{100 * costs.gateway_idle:.2f} % of a core"),
            ("on the wire", *_bytes(costs.wire)),
        ]
    page.table("costs", title, rows)
    page.note(
        "costs",
        f"Between two batches: the delay and {1000 * costs.pause:.0f} ms. A span has {costs.encoded:.0f} bytes before "
        "compression.",
    )


def _shown(cost: Cost) -> tuple[str, ...]:
    single = (f"{cost.span * 1e9:,.0f} ns", f"{cost.request * 1e6:,.0f} µs", f"{cost.batch * 1e6:,.0f} µs")
    return (*single, f"{100 * cost.second:.1f} %")


def _bytes(cost: Cost) -> tuple[str, ...]:
    return f"{cost.span:.1f} bytes", f"{cost.request:,.0f} bytes", "", "", ""


def _compare(page: Page, title: str, pairs: list[tuple[str, float, float]]) -> float:
    rows: Rows = [("", "predicted", "measured", "off by")]
    worst = 0.0
    for name, predicted, measured in pairs:
        off = 100 * (predicted / measured - 1)
        worst = max(worst, abs(off))
        rows.append((name, _short(predicted), _short(measured), f"{off:+.0f} %"))
    page.table("fleets", title, rows)
    return worst


def _short(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
