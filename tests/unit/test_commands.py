"""The command line of `ringbuf-drain`: its help, and that each flag is where one looks for it."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest
from typer.main import get_command

from drain.command import app
from drain.commands.flags import WITHOUT_FLAG
from drain.commands.help import EXAMPLES, GROUPS, OWN, group_of
from drain.settings import units
from drain.settings.configuration import flag_of
from drain.settings.settings import Settings
from drain.settings.units import bytes_of, seconds_of, shown_bytes, shown_seconds
from tests.python import output_of
from tests.unit.settings.command_line import RUNNER

WIDE = {"COLUMNS": "100"}


def sections(*command: str) -> dict[str, str]:
    """Return the parts of a help by their headings."""
    told = RUNNER.invoke(app, [*command, "-h"], env=WIDE).output
    parts = re.split(r"^([A-Z][\w ]+):\n", told, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_setting_is_in_the_help_under_its_heading() -> None:
    told = sections()
    for name in Settings.model_fields:
        if name not in WITHOUT_FLAG:
            assert f"  {flag_of(name)} " in told[group_of(name)], name
    assert [*told] == ["Examples", "Commands", *GROUPS, "Exit codes"]
    assert len([name for name in Settings.model_fields if group_of(name) == "The service itself"]) <= 6


def test_what_stands_for_a_value_is_a_word_for_people() -> None:
    values = re.findall(r"^  --[a-z/-]+ ([A-Z]\S*|<.*|\w+\.\S*)", "".join(sections().values()), flags=re.MULTILINE)
    assert {"PATH", "TIME", "SIZE", "N", "TEXT"} <= set(values)
    assert not [value for value in values if "typing" in value or "Annotated" in value]


def test_what_each_subcommand_does_is_one_whole_sentence_on_a_line_of_a_terminal() -> None:
    told = RUNNER.invoke(app, ["-h"], env={"COLUMNS": "80"}).output
    rows = told.partition("\nCommands:\n")[2].partition("\n\n")[0].splitlines()
    assert [row for row in rows if not re.fullmatch(r"  \w+ +[A-Z][^.]*\.", row)] == []
    assert {row.split()[0] for row in rows} == {"config", "check", "replay", "spool", "sampling"}


@pytest.mark.parametrize("command", [[], ["config"], ["check"], ["replay"], ["spool"], ["sampling"]], ids=" ".join)
def test_no_help_shows_a_type_of_python_or_a_size_in_digits(command: list[str]) -> None:
    told = RUNNER.invoke(app, [*command, "-h"], env=WIDE).output
    assert re.findall(r"<(?:list|str|int|float|path|bool)\b|\{[a-z]+\}", told) == []
    assert re.findall(r"\[default:\s+\d{6,}", told) == [], "bytes; spans of a batch have five digits"


@pytest.mark.parametrize("command", ["replay", "sampling"])
def test_what_is_not_guessed_has_no_default(command: str) -> None:
    told = " ".join(sections(command)["Where the spans go"].split())
    assert "[default: file]" not in told
    assert "[default: spans.jsonl]" not in told


def test_a_default_is_shown_as_people_write_it_and_reads_back() -> None:
    told = " ".join("".join(sections().values()).split())
    assert "[default: 1GiB]" in told
    assert "[default: 7d]" in told
    for name in ("spool_max_bytes", "dead_letter_bytes", "batch_bytes", "hold_bytes"):
        default = Settings.model_fields[name].default
        assert bytes_of(shown_bytes(default)) == default
    for name in ("spool_max_age", "batch_delay", "timeout", "shutdown_timeout", "retry_after_maximum"):
        default = Settings.model_fields[name].default
        assert seconds_of(shown_seconds(default)) == default
    assert doctest.testmod(units).failed == 0


@pytest.mark.parametrize("command", ["config", "check", "replay"])
def test_subcommands_have_the_same_headings(command: str) -> None:
    told = [heading for heading in sections(command) if heading not in {"Arguments", "Exit codes", OWN[0]}]
    assert told == [group for group in GROUPS if group in told]
    assert "--endpoint TEXT" in sections(command)["Where the spans go"]


def test_what_one_subcommand_has_alone_comes_first() -> None:
    of_spool = ["--json", "--all", "--drop", "--dead-letter", "--yes"]
    for command, options in (
        ("replay", ["--remove"]),
        ("sampling", ["--against", "--flush"]),
        ("spool", of_spool),
    ):
        told = sections(command)
        assert [*told][1] == OWN[0]
        assert re.findall(r"^  (--[a-z-]+)", told[OWN[0]], flags=re.MULTILINE) == options


@pytest.mark.parametrize("command", ["config", "check", "replay", "sampling", "spool"])
def test_once_is_refused_where_it_has_no_effect(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = {"replay": [__file__], "sampling": ["--against", __file__, "--keep-ratio", "1"]}.get(command, [])
    result = RUNNER.invoke(app, ["--once", command, *words])
    assert result.exit_code == 2
    assert f"--once has no effect with {command}" in result.output + capfd.readouterr().err


@pytest.mark.parametrize("example", EXAMPLES.values())
def test_the_examples_have_flags_and_commands_that_there_are(example: str) -> None:
    program, *words = shlex.split(example)
    commands = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    every = (get_command(app), *commands.values())
    flags = {option for command in every for one in command.params for option in one.opts}
    assert program == "ringbuf-drain"
    assert {word for word in words if word.startswith("--")} <= flags
    assert sum(word in commands for word in words) <= 1


def test_the_shell_completes_flags() -> None:
    code = """
import os
os.environ |= {"_RINGBUF_DRAIN_COMPLETE": "complete_bash", "COMP_WORDS": "ringbuf-drain --spool-m", "COMP_CWORD": "1"}
sys.argv = ["ringbuf-drain"]
import drain.__main__
drain.__main__.main()
"""
    assert output_of(code).split() == ["--spool-max-bytes", "--spool-max-age"]
