"""Every command of ours that a page shows is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from drain.command import app
from drain.tools.__main__ import COMMANDS
from drain.tools.looking.command_line import command_line
from ringbuf.commands import OF_THE_DRAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"^```(?:sh|text|console|bash)?\n(.*?)^```|^((?: {4}\S.*\n)+)|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|[|;&`]|\$ |bin/)\s*(ringbuf(?:-drain)? [^|;&`\n]*)", re.MULTILINE)
# Of whatever click typer brings along.
PROGRAMS: dict[str, Any] = {
    "ringbuf": typer.main.get_command(command_line(COMMANDS)),
    "ringbuf-drain": typer.main.get_command(app),
}


def shown(page: Path) -> Iterator[list[str]]:
    """Yield the commands that a page shows, as words; what stands for something else is left out."""
    for found in CODE.finditer(page.read_text(encoding="utf-8")):
        code = "".join(part for part in found.groups() if part).replace("\\\n", " ")
        for command in COMMAND.findall(code):
            try:
                yield shlex.split(command, comments=True)
            except ValueError:  # a quotation mark in prose
                continue


def unknown_in(words: list[str]) -> list[str]:
    """Return the options of a command that it does not have, and a subcommand that there is not."""
    program, *rest = words
    group = PROGRAMS[program]
    names = {*group.list_commands(None), *(OF_THE_DRAIN if program == "ringbuf" else ())}
    at = next((index for index, word in enumerate(rest) if word in names), None)
    if at is None and program == "ringbuf":
        return [word for word in rest[:1] if re.fullmatch(r"[a-z]+", word)]
    commands = [group]
    if at is not None:
        owner = PROGRAMS["ringbuf-drain"] if rest[at] in OF_THE_DRAIN else group
        commands.append(owner.get_command(None, rest[at]))
    known = {"-h", "--help", "--install-completion", "--show-completion"}
    for command in commands:
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    return [word for word in rest if word.startswith("-") and word != "-" and word.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_that_a_page_shows_are_understood(page: Path) -> None:
    wrong = {" ".join(words): unknown for words in shown(page) if (unknown := unknown_in(words))}
    assert wrong == {}


def test_many_are_shown() -> None:
    commands = [words for page in PAGES for words in shown(page)]
    assert len(commands) > 80
    assert {words[1] for words in commands if words[0] == "ringbuf" and words[1:]} >= COMMANDS.keys()


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("ringbuf lsit", ["lsit"]),
        ("ringbuf list --sort drops --stat dead", ["--stat"]),
        ("ringbuf-drain --exporter otlp --endpoit http://x", ["--endpoit"]),
        ("ringbuf-drain replay --exporter otlp --removed x", ["--removed"]),
        ("ringbuf spool --json", []),
        ("ringbuf dump -o x", []),
    ],
)
def test_a_command_that_there_is_not_is_noticed(command: str, unknown: list[str]) -> None:
    assert unknown_in(shlex.split(command)) == unknown
