"""How the values of metrics are read: label values, in the order of the metric's labels, and a number for each."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, TypeVar

from drain.accounting.export_state import LATENCY_BOUNDS
from drain.accounting.hold_sums import HOLD_SUM_NAMES
from drain.accounting.label_names import label_value
from drain.accounting.sampling_status import UNSAMPLED
from drain.telemetry.metric import Distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drain.accounting.broker_state import Broker, BrokerState
    from drain.accounting.export_state import EndpointState
    from drain.accounting.hold_sums import HoldStatus
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.sampling_status import RuleStatus, SamplingStatus
    from drain.accounting.spool_status import SpoolStatus
    from drain.accounting.sums import Sums
    from drain.telemetry.metric import Reading, Values

_T = TypeVar("_T")


def one(value: float) -> Values:
    """Return the value of a metric without labels."""
    return [((), value)]


def by_service(reading: Reading, value: Callable[[Sums], int]) -> Values:
    """Return a sum of each service."""
    return [((service,), total) for service, total in _totals(reading.snapshot.services, value).items()]


def _totals(services: Mapping[str, _T], value: Callable[[_T], int]) -> dict[str, int]:
    """Return a number by service as its label has it: two names may be the same once they are cut."""
    totals: dict[str, int] = {}
    for service, sums in services.items():
        name = label_value(service)
        totals[name] = totals.get(name, 0) + value(sums)
    return totals


def of_spool(reading: Reading, value: Callable[[SpoolStatus], float]) -> Values:
    """Return a number of the spool, nothing without one."""
    return [] if reading.spool is None else one(value(reading.spool))


def dropped(reading: Reading) -> Values:
    """Return the spans that producers could not write, by service and reason."""
    for reason in ("full", "contended"):
        for (service,), count in by_service(reading, operator.attrgetter(reason)):
            yield (service, reason), count


def lag(reading: Reading) -> Values:
    """Return the age of each service's oldest pending span, in seconds."""
    lags = dict.fromkeys(map(label_value, reading.snapshot.services), 0.0)
    for service, seconds in reading.snapshot.lag_seconds.items():
        name = label_value(service)
        lags[name] = max(seconds, lags.get(name, 0.0))
    return [((service,), seconds) for service, seconds in lags.items()]


def rings_by_state(reading: Reading) -> Values:
    """Return how many rings are in each state."""
    return [((state,), count) for state, count in reading.snapshot.rings.items()]


def attempts(reading: Reading) -> Values:
    """Return the attempts by verdict."""
    return [((verdict.replace(" ", "_"),), count) for verdict, count in reading.exports.attempts.items()]


def export_bytes(reading: Reading) -> Values:
    """Return the bytes of delivered batches, as they were encoded and as they went out."""
    return [(("encoded",), reading.exports.encoded_bytes), (("sent",), reading.exports.sent_bytes)]


def gzip_spans(reading: Reading) -> Values:
    """Return the spans that were delivered as gzip, by what it was made from."""
    return [((made_from,), spans) for made_from, spans in reading.exports.gzip_spans.items()]


def gzip_layouts(reading: Reading) -> Values:
    """Return the layouts by how gzip is made of their records."""
    return [((way,), layouts) for way, layouts in reading.exports.gzip_layouts.items()]


def attempt_durations(reading: Reading) -> Iterable[Distribution]:
    """Return how long attempts took."""
    exports = reading.exports
    counts, seconds, exponential = exports.latency_counts, exports.latency_seconds, exports.latency_exponential
    return [Distribution({}, LATENCY_BOUNDS, counts, seconds, exponential=exponential)]


def of_hold(reading: Reading, value: Callable[[HoldStatus], float]) -> Values:
    """Return a number of the hold, nothing without one."""
    return [] if reading.snapshot.hold is None else one(value(reading.snapshot.hold))


def hold_spans(reading: Reading) -> Values:
    """Return the spans that wait in the hold, by service."""
    services = {} if reading.snapshot.hold is None else reading.snapshot.hold.services
    return [((service,), count) for service, count in _totals(services, operator.attrgetter("waiting")).items()]


def left_the_hold(reading: Reading) -> Values:
    """Return the spans that left the hold, by service and outcome."""
    services = {} if reading.snapshot.hold is None else reading.snapshot.hold.services
    for outcome in HOLD_SUM_NAMES[2:-1]:
        for service, count in _totals(services, operator.attrgetter(outcome)).items():
            yield (service, outcome), count


def of_sampling(reading: Reading, value: Callable[[SamplingStatus], float]) -> Values:
    """Return a number of late sampling, nothing without it."""
    return [] if reading.snapshot.sampling is None else one(value(reading.snapshot.sampling))


def by_rule(reading: Reading, value: Callable[[RuleStatus], float]) -> Values:
    """Return a number of each rule."""
    sampling = reading.snapshot.sampling
    return [] if sampling is None else [((name,), value(rule)) for name, rule in sampling.rules.items()]


def decided_traces(reading: Reading) -> Values:
    """Return the traces that were decided, by rule and by what ended the wait."""
    sampling = reading.snapshot.sampling
    for name, rule in {} if sampling is None else sampling.rules.items():
        for reason, count in rule.traces.items():
            yield (name, reason), count


def decided_spans(reading: Reading) -> Values:
    """Return the spans of decided traces by rule and decision, and those that the head did not want."""
    sampling = reading.snapshot.sampling
    if sampling is None:
        return
    for name, rule in sampling.rules.items():
        yield (name, "kept"), rule.kept_spans
        yield (name, "sampled_out"), rule.sampled_out_spans
    yield (UNSAMPLED, "sampled_out"), sampling.unsampled


def late_spans(reading: Reading) -> Values:
    """Return the spans that came after the decision, by what became of them."""
    sampling = reading.snapshot.sampling
    if sampling is None:
        return []
    return [(("as_trace",), sampling.late - sampling.late_kept), (("for_itself",), sampling.late_kept)]


def spool_spans(reading: Reading) -> Values:
    """Return the spans of each service in the spool."""
    services = {} if reading.spool is None else reading.spool.services
    return [((service,), count) for service, count in _totals(services, lambda sums: sums.waiting).items()]


def left_the_spool(reading: Reading) -> Values:
    """Return the spans that left the spool since the drain's start, by service and outcome."""
    if reading.spool is None:
        return
    for outcome in ("delivered", "rejected", "dead_lettered", "expired", "dropped", "damaged"):
        before = _totals(reading.spool.services_before, operator.attrgetter(outcome))
        for service, count in _totals(reading.spool.services, operator.attrgetter(outcome)).items():
            yield (service, outcome), max(0, count - before.get(service, 0))


def spool_refused(reading: Reading) -> Values:
    """Return the batches that the spool did not take, by reason."""
    if reading.spool is None:
        return []
    return [(("full",), reading.spool.refused_full), (("failing",), reading.spool.refused_failing)]


def dead_letter_spans(reading: Reading) -> Values:
    """Return the spans of each service in the dead letters."""
    services = {} if reading.dead_letters is None else reading.dead_letters.services
    return [((service,), count) for service, count in _totals(services, lambda sums: sums.waiting).items()]


def of_letters(reading: Reading, value: Callable[[LetterStatus], float]) -> Values:
    """Return a number of the dead letters, nothing without them."""
    return [] if reading.dead_letters is None else one(value(reading.dead_letters))


def left_the_letters(reading: Reading) -> Values:
    """Return the spans that left the dead letters, by service and what became of them."""
    services = {} if reading.dead_letters is None else reading.dead_letters.services
    for outcome, name in (("deleted", "deleted"), ("taken_away", "taken")):
        for service, count in _totals(services, operator.attrgetter(name)).items():
            yield (service, outcome), count


def dead_letter_batches(reading: Reading) -> Values:
    """Return the batches that were kept, and those that could not be."""
    if reading.dead_letters is None:
        return []
    return [(("kept",), reading.dead_letters.batches_kept), (("failed",), reading.dead_letters.batches_failed)]


def of_brokers(reading: Reading, value: Callable[[BrokerState], float]) -> Values:
    """Return a number of the Kafka client, nothing without one."""
    return [] if reading.exports.brokers is None else one(value(reading.exports.brokers))


def by_broker(reading: Reading, value: Callable[[Broker], float | None]) -> Values:
    """Return a number of each broker that has one."""
    if reading.exports.brokers is not None:
        for broker in reading.exports.brokers.brokers:
            if (number := value(broker)) is not None:
                yield (broker.name,), number


def by_endpoint(reading: Reading, value: Callable[[EndpointState], float]) -> Values:
    """Return a number of each of several endpoints."""
    return [((endpoint.name,), value(endpoint)) for endpoint in reading.exports.endpoints]


def endpoint_attempts(reading: Reading) -> Values:
    """Return the attempts at each of several endpoints, by verdict."""
    for endpoint in reading.exports.endpoints:
        for verdict, count in endpoint.attempts.items():
            yield (endpoint.name, verdict.replace(" ", "_")), count


def metric_exports(reading: Reading) -> Values:
    """Return the exports of metrics by OTLP, by outcome; nothing where there are none."""
    exports = reading.metric_exports
    return [] if exports is None else [(("delivered",), exports.delivered), (("failed",), exports.failed)]


def metric_points_rejected(reading: Reading) -> Values:
    """Return the data points that the receiver of the metrics did not take."""
    return [] if reading.metric_exports is None else one(reading.metric_exports.points_rejected)


def span_series(reading: Reading) -> Values:
    """Return how many series the span metrics have."""
    return [] if reading.spans is None else one(reading.spans.series_count)


def span_overflow(reading: Reading) -> Values:
    """Return the spans that found no series of their own."""
    return [] if reading.spans is None else one(reading.spans.overflow)


def span_durations(reading: Reading) -> Iterable[Distribution]:
    """Return the durations of spans by series."""
    if reading.spans is not None:
        for series in reading.spans.series():
            yield Distribution(
                series.labels,
                reading.spans.bounds,
                series.counts,
                series.seconds,
                series.keys,
                series.exponential,
                series.exemplars,
            )
