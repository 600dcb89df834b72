"""The fuzz targets of tests/fuzz: the kept corpus under gcc's sanitizers, a slice of fuzzing, and mutants to be found.

`make soak` fuzzes each target for RINGBUF_FUZZ_SECONDS, 120 unless it is set. What is found lies in build/fuzz/found.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pytest

from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent  # cmake and ninja come from the extra [test]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
TARGETS = ("ring", "encode", "otlp", "hold")
MOST_BYTES = {"ring": 12_000, "encode": 17_500, "otlp": 16_400, "hold": 8_000}  # two of them: a slot of 16 KiB
SLICE_SECONDS = 8
# Read now: tests do not see variables of this name.
SOAK_SECONDS = int(os.environ.get("RINGBUF_FUZZ_SECONDS", "120"))
SEED = int(os.environ.get("RINGBUF_FUZZ_SEED", "0")) or secrets.randbelow(2**31) + 1
SANITIZE = "address,undefined"


def run(command: Sequence[str | Path], **options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"} | options
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)


def built(folder: Path, compiler: str, *options: str) -> Path:
    """Build the targets; return the folder."""
    configure: list[str | Path] = [
        *(PROGRAMS / "cmake", "-S", ROOT / "csrc", "-B", folder, "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}",
        f"-DCMAKE_C_COMPILER={compiler}",
        f"-DRINGBUF_SANITIZE={SANITIZE}",
        *options,
    ]
    kind = "fuzz" if "-DRINGBUF_BUILD_FUZZERS=ON" in options else "replay"
    targets = [word for target in TARGETS for word in ("--target", f"{kind}_{target}")]
    build: list[str | Path] = [PROGRAMS / "cmake", "--build", folder, *targets]
    for command in (configure, build):
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def replays(
    c_compiler: str, missing_debian: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with the targets that replay files, under gcc's sanitizers."""
    probe = tmp_path_factory.mktemp("probe") / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    if run([c_compiler, f"-fsanitize={SANITIZE}", probe, "-o", probe.with_suffix("")]).returncode != 0:
        missing_debian(f"gcc, whose -fsanitize={SANITIZE} works")
    return built(ROOT / "build" / "fuzz-replay", c_compiler, "-DRINGBUF_BUILD_TESTS=ON", "-DRINGBUF_WERROR=ON")


@pytest.fixture(scope="session")
def fuzzers(debian_program: Callable[[str], str], missing_debian: Callable[[str], NoReturn]) -> Path:
    """Return a folder with the targets that libFuzzer drives."""
    clang = debian_program("clang")
    probe = run([clang, "-print-file-name=libclang_rt.fuzzer-x86_64.a"]).stdout.strip()
    if os.uname().machine == "x86_64" and not Path(probe).is_absolute():
        missing_debian("libFuzzer, of libclang-rt-dev")
    return built(ROOT / "build" / "fuzz", clang, "-DRINGBUF_BUILD_FUZZERS=ON")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_in_the_corpus_is_too_much(target: str, replays: Path) -> None:
    inputs = list((CORPUS / target).iterdir())
    done = run([replays / f"replay_{target}", CORPUS / target])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(inputs)} inputs replayed\n"


def fuzz(target: str, fuzzers: Path, seconds: int) -> None:
    """Fuzz, beginning with the kept corpus, which stays as it is."""
    found = ROOT / "build" / "fuzz" / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    print(f"RINGBUF_FUZZ_SEED={SEED}")  # noqa: T201 - to run it again
    done = run(
        [
            *(fuzzers / f"fuzz_{target}", found, CORPUS / target),
            f"-seed={SEED}",
            f"-max_total_time={seconds}",
            f"-max_len={MOST_BYTES[target]}",
            *("-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"),
            f"-artifact_prefix={found.parent}/{target}-",
        ]
    )
    assert done.returncode == 0, done.stderr[-20_000:]
    print(done.stderr[done.stderr.rindex("\n#") :])  # noqa: T201 - the figures of the run


@pytest.mark.parametrize("target", TARGETS)
def test_a_slice_of_fuzzing_finds_nothing(target: str, fuzzers: Path) -> None:
    fuzz(target, fuzzers, SLICE_SECONDS)


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_a_long_run_of_fuzzing_finds_nothing(target: str, fuzzers: Path) -> None:
    fuzz(target, fuzzers, SOAK_SECONDS)


class Mutant(NamedTuple):
    """One change of a source file, and the target whose corpus must notice it."""

    source: str
    right: str
    wrong: str
    target: str


MUTANTS = {
    "a tail may be more than a capacity ahead": Mutant(
        "consumer/consumer.c",
        "return tail - lane->released <= consumer->header->capacity_slots &&",
        "return",
        "ring",
    ),
    "a tail may be behind what was read": Mutant(
        "consumer/consumer.c",
        "           lane->read - lane->released <= tail - lane->released;",
        "           1;",
        "ring",
    ),
    "a head from the file is taken as it is": Mutant(
        "consumer/consumer.c",
        "    if (tail - head > header->capacity_slots)\n        return",
        "    if (0)\n        return",
        "ring",
    ),
    "a head may be behind the first position": Mutant(
        "consumer/consumer.c", "head - header->first_position > (uint64_t)INT64_MAX", "0", "ring"
    ),
    "a lane may be longer than its stride": Mutant(
        "consumer/header.c",
        "header->lane_stride_bytes < RB_LANE_BYTES + (uint64_t)capacity * header->slot_bytes ||",
        "",
        "ring",
    ),
    "a file may be shorter than its header says": Mutant(
        "consumer/header.c", "if (header->file_bytes != actual_bytes)", "if (0)", "ring"
    ),
    "a layout may lie outside the header": Mutant(
        "consumer/header.c", "&& bytes <= header->header_bytes - offset;", ";", "ring"
    ),
    "more may be released than was read": Mutant(
        "consumer/consumer.c",
        "    if (count > lane->read - lane->released)\n        return RB_E_ARGUMENT;\n",
        "",
        "ring",
    ),
    "a lane behind the last may be copied": Mutant(
        "consumer/consumer.c",
        "if (index >= consumer->header->lane_count || consumer->access != RB_CONSUME)\n        return RB_E_ARGUMENT;\n"
        "    struct lane *lane = &consumer->lanes[index];\n    uint64_t slot_bytes",
        "struct lane *lane = &consumer->lanes[index];\n    uint64_t slot_bytes",
        "ring",
    ),
    "the guard is not put on again": Mutant("consumer/sigbus.c", "guarded.bytes > 0 &&", "0 &&", "ring"),
    "a scan is not guarded": Mutant(
        "consumer/watch.c",
        "    uint32_t closed = 1;\n    rb_consumer_enter(consumer);",
        "    uint32_t closed = 1;",
        "ring",
    ),
    "a label may be one too high": Mutant(
        "otlp/protobuf.c", "return value[0] < op->label_count", "return value[0] <= op->label_count", "encode"
    ),
    "a wide label may be anything": Mutant("otlp/json.c", "return label < op->label_count", "return 1", "encode"),
    "a text may be longer than its field": Mutant(
        "otlp/protobuf.c", "    if (bytes > op->size)\n        return rb_refuse(end);\n", "", "encode"
    ),
    "an attribute may end outside the slot": Mutant(
        "otlp/plan.c", "attribute->offset + bytes > config->slot_bytes", "0", "encode"
    ),
    "a name may be one too high": Mutant(
        "shared/record.h", "(name & 0xFFFF) < span_name_count", "(name & 0xFFFF) <= span_name_count", "encode"
    ),
    "a control character stays as it is": Mutant("otlp/text.c", "byte >= 0x20 && byte < 0x80", "byte < 0x80", "encode"),
    "a surrogate passes as UTF-8": Mutant("otlp/text.c", "lead == 0xED ? 0x9F : high", "high", "encode"),
    "text grows beyond its bound": Mutant(
        "otlp/protobuf.c", "3 * (uint64_t)attribute->size;", "2 * (uint64_t)attribute->size;", "encode"
    ),
    "an otlp grows beyond its bound": Mutant("otlp/json.c", "OTLP_GROWTH 12", "OTLP_GROWTH 11", "otlp"),
    "a large write does not ask whether it fits": Mutant(
        "otlp/output.h",
        "return out <= end && bytes <= (size_t)(end - out);",
        "(void)out, (void)end, (void)bytes;\n    return 1;",
        "otlp",
    ),
    "protobuf attributes follow one that did not fit": Mutant(
        "otlp/protobuf.c",
        "(out = put_attribute(out, end, op, record)) > end",
        "(out = put_attribute(out, end, op, record)) == NULL",
        "encode",
    ),
    "JSON attributes follow one that did not fit": Mutant(
        "otlp/json.c",
        "(out = put_attribute(out, end, op, record)) > end",
        "(out = put_attribute(out, end, op, record)) == NULL",
        "encode",
    ),
    "elements follow one that did not fit": Mutant(
        "otlp/fields_json.c", "**at == tag && out <= end", "**at == tag", "otlp"
    ),
    "escapes follow one that did not fit": Mutant(
        "otlp/text.c",
        "uint8_t *end, const uint8_t *text, size_t bytes)\n{\n    for (size_t at = 0; at < bytes && out <= end;)",
        "uint8_t *end, const uint8_t *text, size_t bytes)\n{\n    for (size_t at = 0; at < bytes;)",
        "otlp",
    ),
    "straight to gzip, a tag goes on with any match": Mutant(
        "otlp/gzip/spans.c",
        "if (tag == SPAN_SPAN_ID && tokens->match_bytes != 0)",
        "if (tokens->match_bytes != 0)",
        "encode",
    ),
    "straight to gzip, a run's checksum is that of where it stood": Mutant(
        "otlp/gzip/spans.c", "rb_crc_fold(rb_times(moved, powers[sum->bytes]), powers)", "moved", "encode"
    ),
    "straight to gzip, a head is taken as it was guessed": Mutant(
        "otlp/gzip/member.c", "while (head_bytes != expected && gzip->spans != 0);", "while (0);", "encode"
    ),
    "straight to gzip, a label may be one too high": Mutant(
        "otlp/gzip/spans.c", "if (index >= op->label_count)", "if (index > op->label_count)", "encode"
    ),
    "straight to gzip, there is always room for a span": Mutant(
        "otlp/gzip/spans.c",
        "taken < count && (size_t)(gzip->out_end - tokens.bits.next) >= room",
        "taken < count",
        "encode",
    ),
    "straight to gzip, what stood before may be too far away by a byte": Mutant(
        "otlp/gzip/tokens.h", "return at - before <= RB_WINDOW;", "return at - before <= RB_WINDOW + 1;", "encode"
    ),
    "straight to gzip, a key may end behind the record": Mutant(
        "otlp/gzip/layout.c", "at < slot_bytes - WORD_BYTES ? at : slot_bytes - WORD_BYTES", "at", "encode"
    ),
    "straight to gzip, a hex may be longer than a key": Mutant(
        "otlp/gzip/layout.c",
        "op->size <= WORD_BYTES * (RB_KEY_WORDS - 1)",
        "op->size <= WORD_BYTES * RB_KEY_WORDS",
        "encode",
    ),
    "straight to gzip, a span may be of any size": Mutant(
        "otlp/gzip/layout.c", "if (plan->protobuf_bound > RB_GZIP_MAX_SPAN_BYTES)", "if (0)", "encode"
    ),
    "straight to gzip, a match may be longer than there is a symbol for": Mutant(
        "otlp/gzip/tokens.h", "while (__builtin_expect(tokens->match_bytes > RB_MAX_MATCH, 0))", "while (0)", "encode"
    ),
    "records may lie on the words of a chunk": Mutant(
        "hold/chunk.c", " + 4 * (slots + count) <= chunk->bytes;", " <= chunk->bytes;", "hold"
    ),
    "a segment may begin at any slot": Mutant("hold/chunk.c", "segment->first_slot != slots || ", "", "hold"),
    "a segment may have no record": Mutant("hold/chunk.c", "count >= 1 && ", "", "hold"),
    "words may be asked for that are not there": Mutant(
        "hold/chunk.c", "first > chunk->slots || segment->count > chunk->slots - first ||", "", "hold"
    ),
    "a record may lie behind the end of a chunk": Mutant(
        "hold/chunk.h", "return offset + slot_bytes <= chunk->bytes ?", "return 1 ?", "hold"
    ),
    "more slots may be missing than there was room for": Mutant(
        "hold/chunk.c", "(segment.first_slot - slots) * RB_CORE_BYTES <= at - chunk->used &&", "", "hold"
    ),
    "slots may be settled that are not there": Mutant(
        "hold/settle.c", "chunk == NULL || slot >= chunk->slots", "chunk == NULL", "hold"
    ),
    "what became of a record is counted again": Mutant(
        "hold/chunk.h", "    if (chunk->account.fates[slot] != RB_HELD_WAITING)\n        return 0;\n", "", "hold"
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_corpus_finds_a_mutant(name: str, c_compiler: str, replays: Path, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    if "otlp/gzip" in mutant.source and not lib.rb_gzip_is_supported():
        pytest.skip("this processor has no carry-less products")
    text = (ROOT / "csrc" / mutant.source).read_text(encoding="utf-8")
    assert text.count(mutant.right) == 1, "the code has changed: change the mutant too"
    library = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", library)
    (library / mutant.source).write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    changed = [library / mutant.source]
    if mutant.source.endswith(".h"):
        folder = Path(mutant.source).parent
        users = folder if folder.name != "shared" else Path("otlp")
        changed = sorted((library / users).glob("*.c"))
    objects = sorted((replays / "CMakeFiles" / f"replay_{mutant.target}.dir").rglob("*.o"))
    program = tmp_path / "replay"
    flags = ("-O1", "-g", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-builtin-memcpy")
    sources: list[str | Path] = [*changed, *objects, replays / "libringbuf.a"]
    built = run([c_compiler, *flags, "-D_GNU_SOURCE", f"-I{library}", *sources, "-o", program, "-lm", "-pthread"])
    assert built.returncode == 0, built.stderr
    done = run([program, CORPUS / mutant.target])
    assert done.returncode not in {0, 2}, done.stdout
    says = ("AddressSanitizer", "runtime error", "Assertion")  # the second is UndefinedBehaviorSanitizer's
    assert any(word in done.stderr for word in says), done.stderr
