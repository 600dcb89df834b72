"""`make demo`: real data-plane work in several processes, every operation a span, every span accounted for.

A drain (`ringbuf-drain`) runs beside the producers and writes the spans as OTLP JSON lines, or sends them to
OTEL_EXPORTER_OTLP_ENDPOINT when that is set. At the end the sums of producers, drain and file must agree to the span.
Then the same work is done for a moment more, and rules decide late which traces are kept; that adds up, too.

Exit codes: 0 they do; 1 they do not, or a process failed; 2 usage; 130 after Ctrl-C, 143 after SIGTERM, which end the
work early (the sums must still agree).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drain_process import Drain, DrainError
from late_sampling import RULES, Kept, law_of, print_rules
from launch import ProducerError, Producers, stop_on_signal
from report import print_durations, print_services, print_trace, problems, read_back, sums_of
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from ringbuf import EmitterStats

_SIGNAL: Final = 128
_SHOW_SECONDS: Final = 0.1
_SAMPLED_SECONDS: Final = 2.0


def main() -> int:
    """Run the demo, and return its exit code."""
    options = _options()
    # As Ctrl-C does: an exception runs the clean-up, which the signal's default would not.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as cleanup:
            return _run(options, cleanup)
    except (DrainError, ProducerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: aborted, nothing was checked", file=sys.stderr)
        return _SIGNAL + signal.SIGINT


def _run(options: argparse.Namespace, cleanup: ExitStack) -> int:
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-demo-")))
    # In memory; a directory of its own, so that no other producer's spans are in the sums.
    shared_memory = Path(os.environ.get("RINGBUF_DIR") or "/dev/shm")  # noqa: S108 - the name is random, the mode 0700
    shared_memory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ring_dir = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-demo-", dir=shared_memory)))
    deliver_dir, sample_dir = ring_dir / "deliver", ring_dir / "sample"
    for folder in (deliver_dir, sample_dir):
        folder.mkdir(mode=0o700)
    output = options.output or scratch / "spans.jsonl"
    if endpoint:
        drain = Drain(deliver_dir, scratch / "drain.log", "--exporter", "otlp")  # which honours OTEL_EXPORTER_OTLP_*
    else:
        output.unlink(missing_ok=True)
        drain = Drain(deliver_dir, scratch / "drain.log", "--exporter", "file", "--output", os.fspath(output))
    cleanup.callback(drain.kill)
    drain.wait_until_ready()
    producers = cleanup.enter_context(_producers(options, deliver_dir, scratch, options.seconds))
    with stop_on_signal(producers.stop) as signals:
        statistics, seconds = _work(producers, options, options.seconds)
        print("Delivering what is left, and reading it back …", flush=True)
        audit = drain.stop().services
        code = _tell(statistics, audit, None if endpoint else output, seconds)
    if endpoint:
        print(f"The spans went to {endpoint}.")
    elif options.output:
        print(f"The spans are in {output}.")
    if not signals and options.sampling:
        sampled, signals = _sample(options, sample_dir, scratch, cleanup)
        code = code or sampled
    return code or (_SIGNAL + signals[0] if signals else 0)


def _sample(options: argparse.Namespace, ring_dir: Path, scratch: Path, cleanup: ExitStack) -> tuple[int, list[int]]:
    """Do some of the work once more, with rules on what is delivered; return the exit code, and the signals."""
    seconds, output, rules = min(options.seconds, _SAMPLED_SECONDS), scratch / "kept.jsonl", scratch / "rules.toml"
    rules.write_text(RULES)
    print("\nOnce more, and rules decide late which traces are kept: failures, slow flushes, 1 % of the rest.")
    sampling = ("--sampling", os.fspath(rules), "--on-stop", "decide")
    drain = Drain(ring_dir, scratch / "log", "--exporter", "file", "--output", os.fspath(output), *sampling)
    cleanup.callback(drain.kill)
    drain.wait_until_ready()  # before the producers take all processors to start
    producers = cleanup.enter_context(_producers(options, ring_dir, scratch, seconds))
    with stop_on_signal(producers.stop) as signals:
        statistics, _ = _work(producers, options, seconds)
        audit = drain.stop()
        law, wrong = law_of(statistics, audit, Kept(output))
    print_rules(audit.rules)
    Console(highlight=False, soft_wrap=True).print(law, style="bold red" if wrong else "bold green")
    print("checked against the file: " + ("; ".join(wrong) if wrong else "it adds up"))
    return int(bool(wrong)), signals


def _producers(options: argparse.Namespace, ring_dir: Path, data_dir: Path, seconds: float) -> Producers:
    return Producers(
        groups=options.processes,
        operations=options.operations,
        seconds=seconds,
        seed=options.seed,
        ring_dir=ring_dir,
        data_dir=data_dir,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="each process ends after so long (5)")
    parser.add_argument("--operations", type=int, default=100_000, help="each process ends after so many (100000)")
    parser.add_argument(
        "--processes", type=int, default=2, help="so many memory, front and storage processes each, and one GPU (2)"
    )
    parser.add_argument("--output", type=Path, help="keep the OTLP JSON lines in this file")
    parser.add_argument(
        "--no-sampling", dest="sampling", action="store_false", help="without the second act, in which rules decide"
    )
    parser.add_argument("--seed", type=int, default=219, help="of the random choices")
    options = parser.parse_args()
    if options.operations < 1 or options.processes < 1 or options.seconds <= 0:
        parser.error("--seconds, --operations and --processes must be greater than zero")
    return options


def _work(producers: Producers, options: argparse.Namespace, most_seconds: float) -> tuple[list[EmitterStats], float]:
    """Let the producers work; return their statistics and the seconds that it took."""
    print(
        f"{len(producers)} process{'' if len(producers) == 1 else 'es'}, at most {most_seconds:g} s "
        f"or {options.operations:,} operations each …",
        flush=True,
    )
    producers.begin()
    start = time.monotonic()
    with Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        console=Console(),
        disable=not sys.stdout.isatty(),
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=most_seconds)

        def show() -> None:
            progress.update(bar, completed=time.monotonic() - start, description=f"{producers.done:,} operations")

        statistics = producers.collect(show, _SHOW_SECONDS)
    return statistics, time.monotonic() - start


def _tell(statistics: list[EmitterStats], audit: dict[str, dict[str, int]], output: Path | None, seconds: float) -> int:
    """Print what came of it; return the exit code."""
    total: dict[str, int] = {}
    for service in audit.values():
        for name, count in service.items():
            total[name] = total.get(name, 0) + count
    found = None if output is None else read_back(output)
    if found is not None and output is not None:
        print_durations(found)
        if found.shown_trace is not None:
            print_trace(output, found.shown_trace)
    print_services(audit)
    arrived = total.get("delivered", 0) if found is None else len(found.span_ids)
    sums = sums_of(statistics, total, arrived)
    print(f"\n{sums.emitted / seconds:,.0f} spans per second, {seconds:.1f} s")
    wrong = problems(sums, statistics, total, found)
    where = "the drain's own audit" if found is None else f"each of {arrived:,} span ids read back once"
    Console(highlight=False, soft_wrap=True).print(str(sums), style="bold red" if wrong else "bold green")
    print(f"checked against {where}: " + ("; ".join(wrong) if wrong else "it adds up"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
