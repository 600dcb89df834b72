"""Roots are sampled as the OpenTelemetry SDK samples them in the same environment."""

from __future__ import annotations

import doctest
import math
import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision

from ringbuf import sampling
from ringbuf.log import wait_until_told
from ringbuf.sampling import (
    THRESHOLDS,
    RootSampler,
    is_root_sampled,
    root_sampler,
    threshold_of,
    threshold_text,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

RATIO_SAMPLERS = ["traceidratio", "parentbased_traceidratio"]
SAMPLERS = ["always_on", "always_off", "parentbased_always_on", "parentbased_always_off", *RATIO_SAMPLERS]
EVERY_ROOT = 2**64

ratios = st.floats(0, 1) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 2**-64, 2**-65, 1.5 * 2**-64, 0.1, 1 - 2**-53])
trace_ids = st.binary(min_size=16, max_size=16)


def sdk_sampler(environ: dict[str, str]) -> Sampler:
    """Return the sampler that the SDK chooses in this environment."""
    with mock.patch.dict(os.environ, environ, clear=True):
        return TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler


def sdk_samples(sampler: Sampler, trace_id: bytes) -> bool:
    return sampler.should_sample(None, int.from_bytes(trace_id, "big"), "root").decision is Decision.RECORD_AND_SAMPLE


def ids_around(bound: int) -> list[bytes]:
    """Return trace ids whose low half lies at the bound, next to it, and at both ends; the high half must not count."""
    lows = {low for low in (bound - 1, bound, bound + 1, 0, 2**64 - 1) if 0 <= low < 2**64}
    return [high + low.to_bytes(8, "big") for low in sorted(lows) for high in (bytes(8), b"\xff" * 8)]


@given(
    st.sampled_from(SAMPLERS),
    ratios.map(str) | st.text(max_size=8).filter(lambda text: "\0" not in text and text.isprintable()),
    trace_ids,
)
@example("traceidratio", "1e-400", bytes(16))
@example("traceidratio", " 0.5\n", bytes(16))
@example("traceidratio", "0_0.5", bytes(16))
@example("parentbased_traceidratio", "half", bytes(16))
def test_a_root_is_sampled_as_the_sdk_samples_it(name: str, argument: str, trace_id: bytes) -> None:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    bound = root_sampler(environ).bound
    try:
        sampler = sdk_sampler(environ)
    except ValueError:  # a number beyond 0 to 1, or NaN: older SDKs fail on it, newer ones sample every root
        assert bound == EVERY_ROOT
        return
    for root in [trace_id, *ids_around(bound)]:
        assert is_root_sampled(root, root_sampler(environ)) == sdk_samples(sampler, root)


@pytest.mark.parametrize("name", RATIO_SAMPLERS)
@given(ratio=ratios)
def test_the_bound_is_the_sdks_to_the_last_bit(name: str, ratio: float) -> None:
    bound = root_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": repr(ratio)}).bound
    sampler = sdk_sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": repr(ratio)})
    assert bound == sampler.bound  # type: ignore[attr-defined]  # TraceIdRatioBased has it


@pytest.mark.parametrize(
    ("environ", "bound"),
    [
        ({}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": ""}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0),
        ({"OTEL_TRACES_SAMPLER": "Always_OFF"}, 0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ""}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, 0),
        ({"OTEL_TRACES_SAMPLER": "TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 2**62),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, EVERY_ROOT),
        ({"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "nonsense"}, 0),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.25"}, EVERY_ROOT),
    ],
)
def test_what_is_set_or_left_out_is_followed_in_silence(
    environ: dict[str, str], bound: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert root_sampler(environ).bound == bound
    wait_until_told(60)
    assert caplog.messages == []


@pytest.mark.parametrize("argument", ["half", "-0.1", "1.1", "nan", "inf", "-inf", "0,5", "1e400", " "])
def test_a_bad_argument_is_warned_about_once_and_samples_every_root(
    argument: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": argument}
    assert root_sampler(environ).bound == EVERY_ROOT
    wait_until_told(60)
    assert [(record.name, record.levelname) for record in caplog.records] == [("ringbuf", "WARNING")]
    assert f"OTEL_TRACES_SAMPLER_ARG={argument} " in caplog.text


@pytest.mark.parametrize("name", ["sometimes", "alwayson", " always_off", "jaeger_remote", "none"])
def test_an_unknown_sampler_is_warned_about_once_and_samples_every_root(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0"}
    assert root_sampler(environ).bound == EVERY_ROOT
    wait_until_told(60)
    assert [(record.name, record.levelname) for record in caplog.records] == [("ringbuf", "WARNING")]
    assert f"OTEL_TRACES_SAMPLER={name} " in caplog.text
    assert sdk_samples(sdk_sampler(environ), b"\xff" * 16)


# The specification's table of 1 in N, at its precision of 4 digits.
TABLE = {
    1: "0",
    2: "8",
    3: "aaab",
    4: "c",
    5: "cccd",
    8: "e",
    10: "e666",
    16: "f",
    100: "fd70a",
    1000: "ffbe77",
    10_000: "fff9724",
    100_000: "ffff583a",
    1_000_000: "ffffef39",
}


@pytest.mark.parametrize("name", ["probability", "parentbased_probability"])
@pytest.mark.parametrize("one_in", TABLE)
def test_a_probability_is_decided_by_the_threshold_of_the_specifications_table(name: str, one_in: int) -> None:
    sampler = root_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": repr(1 / one_in)})
    assert sampler.threshold is not None
    assert threshold_text(sampler.threshold) == TABLE[one_in]
    rounded = int(TABLE[one_in].ljust(14, "0"), 16)
    for high in (bytes(9), b"\xff" * 9):
        assert is_root_sampled(high + rounded.to_bytes(7, "big"), sampler)
        assert not rounded or not is_root_sampled(high + (rounded - 1).to_bytes(7, "big"), sampler)


@given(st.floats(2**-56, 1))
@example(2**-56)
@example(1 - 2**-53)
@example(math.nextafter(1 / 16, 0))
def test_a_threshold_is_the_nearest_of_four_significant_digits(probability: float) -> None:
    threshold = threshold_of(probability)
    text = threshold_text(threshold)
    assert 0 <= threshold < THRESHOLDS
    assert int(text.ljust(14, "0"), 16) == threshold
    assert len(text) <= min(14, 5 + (len(text) - len(text.lstrip("f"))))
    kept = (THRESHOLDS - threshold) / THRESHOLDS
    assert kept == pytest.approx(probability, rel=2**-12)


@given(st.lists(st.floats(2**-56, 1), min_size=2, max_size=2), trace_ids)
def test_what_a_lower_probability_keeps_a_higher_one_keeps_too(probabilities: list[float], trace_id: bytes) -> None:
    low, high = (RootSampler(0, threshold_of(probability)) for probability in sorted(probabilities))
    assert is_root_sampled(trace_id, high) or not is_root_sampled(trace_id, low)


@pytest.mark.parametrize("argument", ["0", "0.0", "1e-17", "5e-324"])
def test_a_probability_below_the_least_is_never(argument: str) -> None:
    assert root_sampler({"OTEL_TRACES_SAMPLER": "probability", "OTEL_TRACES_SAMPLER_ARG": argument}) == RootSampler(0)


def test_only_a_sampler_that_is_consistent_states_a_threshold() -> None:
    """Of what `traceidratio` keeps at 10 %, nine of ten contradict the threshold of 10 %."""
    environ = {"OTEL_TRACES_SAMPLER_ARG": "0.1"}
    stated = {name: root_sampler(environ | {"OTEL_TRACES_SAMPLER": name}).threshold for name in SAMPLERS}
    assert [name for name in SAMPLERS if stated[name] is None] == [
        "always_off",
        "parentbased_always_off",
        *RATIO_SAMPLERS,
    ]
    assert {stated[name] for name in ("always_on", "parentbased_always_on")} == {0}


def test_the_process_environment_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert root_sampler() == RootSampler(0)


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(sampling)
    assert result.attempted > 0
    assert result.failed == 0
