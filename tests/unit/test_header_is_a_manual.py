"""ringbuf.h describes every function as a manual page does: what it does, what it returns, where it may be called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HEADERS = Path(__file__).parents[2] / "csrc"
TEXT = (HEADERS / "ringbuf.h").read_text(encoding="utf-8")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DECLARATION = re.compile(r"^(?P<result>[a-z][\w ]*?[ *]+)(?P<name>rb_\w+)\([^;{]*;", re.MULTILINE)
DECLARED = {match["name"]: match["result"].strip() for match in DECLARATION.finditer(COMMENT.sub("", TEXT))}


def description(name: str) -> str:
    """Return the comment that begins with the function's name, alone or in a list of names."""
    found = [
        text
        for text in COMMENT.findall(TEXT)
        if re.search(rf"^(/\*| \*) (rb_\w+, )*{name}(, rb_\w+)* - ", text, re.MULTILINE)
    ]
    assert len(found) == 1, name
    return str(found[0])


def test_the_functions_are_found() -> None:
    assert {"rb_emit", "rb_open", "rb_lane_hold", "rb_attach", "rb_encode_json", "rb_strerror"} <= DECLARED.keys()


@pytest.mark.parametrize("name", DECLARED)
def test_a_function_has_a_description_that_says_what_it_returns(name: str) -> None:
    text = description(name)
    if DECLARED[name] in ("int", "int64_t"):
        assert "Returns" in text, text


def test_every_section_says_which_threads_and_signal_handlers_may_call_it() -> None:
    producer, consumer, encoder = re.split(r"/\* ---- (?:consumer|encoder) ---- \*/", TEXT)
    for section in (producer, consumer, encoder):
        assert "Threads: " in section
    assert "Signals: safe" in producer
    assert "Signals: no" in consumer
