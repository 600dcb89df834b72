from __future__ import annotations

import enum
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.tools.__main__ import COMMANDS
from drain.tools.looking.help import EXAMPLES
from drain.tools.looking.help import OF_THE_DRAIN as SHARED
from ringbuf.commands import OF_THE_DRAIN
from tests.consumer import rings_in
from tests.python import run as run_python
from tests.sampled import every
from tests.service.draining import LAYOUT, emit
from tests.tools.running import OnTerminal, Running, invoke, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("list", "stat", "tail", "top", "dump", "clean")
ENTRIES = {"ringbuf": "drain.tools.__main__", "ringbuf-drain": "drain.__main__"}
SCRIPT = Path(sys.executable).with_name("ringbuf")


@pytest.fixture
def two_hundred(ring_dir: Path) -> Iterator[Path]:
    emitters = [
        ringbuf.Emitter(f"service-{n:03}", ring_dir=ring_dir, layout=LAYOUT, capacity=16, lanes=1) for n in range(200)
    ]
    for emitter in emitters:
        emit(emitter, range(3))
    yield ring_dir
    for emitter in emitters:
        emitter.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_default_of_a_choice_is_text(command: str) -> None:
    """Versions of typer before 0.24 refuse another beside click 8.1."""
    module, _, function = COMMANDS[command].partition(":")
    parameters = inspect.signature(getattr(import_module(module), function)).parameters.values()
    choices = [parameter.default for parameter in parameters if isinstance(parameter.default, enum.Enum)]
    assert all(isinstance(choice, str) for choice in choices)


def test_the_script_that_pip_installs_is_this_command() -> None:
    done = subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{ringbuf.__version__}\n")


@pytest.mark.parametrize("arguments", [["--version"], ["lst"], ["spool", "--help"]], ids=" ".join)
def test_the_package_is_run_as_the_command(arguments: list[str]) -> None:
    by_script, by_module = (
        subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        for command in ([SCRIPT], [sys.executable, "-Im", "ringbuf"])
    )
    assert (by_module.returncode, by_module.stdout) == (by_script.returncode, by_script.stdout)
    assert by_module.stderr.replace("python -m ringbuf", "ringbuf") == by_script.stderr


@pytest.mark.parametrize("name", OF_THE_DRAIN)
def test_what_the_drain_has_is_found_here_too(name: str, tmp_path: Path) -> None:
    drain = SCRIPT.with_name("ringbuf-drain")
    ours, theirs = (
        subprocess.run([program, name, tmp_path], capture_output=True, text=True, check=False)
        for program in (SCRIPT, drain)
    )
    assert ours.stdout.startswith(f"{tmp_path}: no drain has it")
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert f"\n  {name} " in output_of("--help")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_the_help_has_a_short_option_too(command: tuple[str, ...]) -> None:
    assert output_of(*command, "-h") == output_of(*command, "--help")


def test_a_name_of_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    result = invoke("list", "--ring-dir", tmp_path / "a\x1b[31m")
    assert "a\N{REPLACEMENT CHARACTER}[31m: No such file" in result.stderr


def test_the_help_names_all_subcommands() -> None:
    text = output_of("--help")
    for name in COMMANDS:
        assert re.search(rf"\n  {name} +\S.*\.\n", text), "what it does is one whole sentence on one line"
    assert {*SHARED} == {*OF_THE_DRAIN}


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_no_help_shows_a_type_of_python(name: str) -> None:
    text = output_of(*filter(None, [name]), "--help")
    assert re.findall(r"<(?:list|str|int|float|path|bool)\b|typing|Optional|\(/dev", text) == []


@pytest.mark.parametrize("example", EXAMPLES.values())
def test_the_examples_are_of_commands_and_options_that_there_are(example: str) -> None:
    program, name, *rest = shlex.split(example)
    assert program == "ringbuf"
    text = output_of(name, "--help")
    assert all(re.search(rf"{word}\b", text) for word in rest if word.startswith("-"))


@pytest.mark.parametrize(("word", "meant"), [("lst", "list"), ("spol", "spool"), ("tial", "tail")])
def test_a_misspelt_subcommand_is_told_with_the_nearest(word: str, meant: str) -> None:
    result = invoke(word)
    assert (result.exit_code, f"did you mean {meant!r}?" in result.stderr) == (2, True)


@pytest.mark.parametrize("name", OURS)
def test_the_help_of_each_tells_the_exit_codes(name: str) -> None:
    assert "130 ended by Ctrl-C" in " ".join(output_of(name, "--help").split())


def test_what_is_no_subcommand() -> None:
    result = invoke("lisp")
    assert (result.exit_code, "lisp" in result.stderr) == (2, True)


def start_of(command: str, before: str) -> subprocess.CompletedProcess[str]:
    """Run `before`, and then a command as its script does."""
    module = ENTRIES[command]
    argv = [command, *{"ringbuf": ["tail"], "ringbuf-drain": ["--once", "--ring-dir", "/nowhere"]}[command]]
    return run_python(f"import sys\n{before}\nsys.argv = {argv}\nimport {module}\n{module}.main()")


@pytest.mark.parametrize(
    ("command", "library"),
    every(3, [(command, library) for command in ENTRIES for library in ("typer", "numpy")], "-".join),
)
def test_without_the_extra_it_says_what_to_install(command: str, library: str) -> None:
    done = start_of(command, f"sys.modules[{library!r}] = None")
    assert done.returncode == 2
    assert done.stderr == f"{command}: needs {library}, which is not installed: pip install 'ringbuf-spans[drain]'\n"


@pytest.mark.parametrize(
    ("command", "part"), [("ringbuf", "drain.tools.looking.command_line"), ("ringbuf-drain", "drain.command")]
)
def test_a_missing_part_of_our_own_is_not_an_extra(command: str, part: str) -> None:
    assert "Traceback" in start_of(command, f"sys.modules[{part!r}] = None").stderr


def test_a_subcommand_loads_neither_grpc_nor_the_service() -> None:
    code = """
import sys
from typer.testing import CliRunner
from drain.tools.__main__ import COMMANDS
from drain.tools.looking.command_line import command_line
CliRunner().invoke(command_line(COMMANDS), ["list", "--ring-dir", "/nowhere"])
heavy = {"grpc", "drain.service", "drain.tools.top.command", "rich.table", "drain.otlp.encoder"}
print(*sorted(heavy & set(sys.modules)))
"""
    assert run_python(code).stdout == "\n"


def test_the_shell_completes_rings(ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4):
        (path,) = rings_in(ring_dir)
        environment = os.environ | {
            "RINGBUF_DIR": str(ring_dir),
            "_RINGBUF_COMPLETE": "complete_bash",
            "COMP_WORDS": "ringbuf stat sh",
            "COMP_CWORD": "2",
        }
        done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False, env=environment)
        assert done.stdout.split() == [path.stem]
    # Which shell it is asked from is not what this is about: below make it is any.
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [SCRIPT, "--show-completion", "bash"], capture_output=True, text=True, check=False, env=environment
    )
    assert "_RINGBUF_COMPLETE=complete_bash" in shown.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [("ringbuf sp", {"spool"}), ("ringbuf spool --dr", {"--drop"}), ("ringbuf lst --h", {"--help"})],
)
def test_the_shell_is_told_what_there_is(words: str, offered: set[str]) -> None:
    *before, _ = words.split()
    asked = {"_RINGBUF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(before))}
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False, env=os.environ | asked)
    assert ({*done.stdout.split()}, done.stderr) == (offered, "")


def test_so_are_other_shells() -> None:
    asked = {"_RINGBUF_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked["_TYPER_COMPLETE_ARGS"] = "ringbuf spool --dr"
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False, env=os.environ | asked)
    assert (done.stdout.split()[:1], done.stderr) == (["--drop"], "")


def test_two_hundred_rings_in_a_pipe(two_hundred: Path) -> None:
    lines = output_of("list", "--ring-dir", two_hundred).splitlines()
    assert len(lines) == 201
    assert len({len(line.rstrip()) for line in lines[1:]}) <= 3
    assert len(output_of("tail", "--ring-dir", two_hundred, "--no-follow", "-n", "1000").splitlines()) == 600
    assert len(output_of("dump", "--ring-dir", two_hundred).splitlines()) == 200


@pytest.mark.parametrize("columns", [pytest.param(40, marks=pytest.mark.prove), 80, 200])
def test_two_hundred_rings_on_a_terminal(two_hundred: Path, columns: int) -> None:
    with OnTerminal("list", "--ring-dir", two_hundred, columns=columns, environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
        output = terminal.output.decode()
    assert "\x1b[3" not in output  # colours; bold is none
    lines = [line.replace("\x1b[1m", "").replace("\x1b[0m", "").rstrip() for line in output.splitlines()]
    assert sum(line.startswith("service-") for line in lines) == 200
    assert max(len(line) for line in lines[:201]) <= columns
    assert ("layout" in lines[0], "process" in lines[0]) == (columns == 200, columns >= 80)
    assert "alive" in lines[1]
    assert "18%" in lines[1]


def test_colours_are_for_terminals_that_want_them(ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=4) as emitter:
        made = emitter.layout.empty(1)
        emitter.fill_ids(made)
        made["flags"], made["status"] = 1, 2
        emitter.emit_batch(made)
        arguments = ("tail", "--ring-dir", ring_dir, "--no-follow")
        for environment, is_red in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            with OnTerminal(*arguments, columns=80, environment=environment) as terminal:
                assert terminal.end() == 0
                assert terminal.output.startswith(b"\x1b[31m") == is_red
        assert "\x1b" not in output_of(*arguments)


@pytest.mark.parametrize(("command", "part"), [("ringbuf", "drain.tools.tail"), ("ringbuf-drain", "drain.service")])
def test_ctrl_c_in_the_middle_of_an_import_is_clean(command: str, part: str) -> None:
    interrupted = f"""
import signal

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {part!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:  # as extension modules do that import others
                raise ImportError(name) from error

sys.meta_path.insert(0, Interrupted())
"""
    done = start_of(command, interrupted)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_while_it_starts_is_clean(ring_dir: Path) -> None:
    # Whenever the signal comes, from the first line of Python on; where it comes late, there is a ring to be followed.
    for _ in range(3):
        with (
            ringbuf.Emitter("shop", ring_dir=ring_dir, capacity=4),
            Running("tail", "--ring-dir", ring_dir, is_forked=False) as tail,
        ):
            maps = Path(f"/proc/{tail.process.pid}/maps")
            while "_ringbuf" not in maps.read_text():
                assert tail.process.poll() is None
            os.kill(tail.process.pid, signal.SIGINT)
            code, errors = tail.end()
            assert (code, errors) == (130, "")
