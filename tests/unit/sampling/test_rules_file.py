"""Rules from TOML: what each key means, and a named error for every mistake."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from drain.sampling.rules import AttributeTest, Rule, Rules
from drain.sampling.rules_file import RulesError, read_rules, rules_of
from tests.python import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = """
[sampling]
wait = "5s"
wait_after_root = "250ms"
wait_after_entry = 2
default = "keep"
incoming = "all"
kept_spans_per_second = 50000
dry_run = true

[[sampling.rule]]
name = "failures"
status = "error"

[[sampling.rule]]
name = "slow flushes"
span = ["grafos.*", "flush"]
service = "storage-?"
kind = ["server", "internal"]
attributes = { "grafos.operation" = "fbbu_flush", hit = true, bytes = { at_least = 1, at_most = 9.5 }, n = [1, 2.5] }
longer_than = "100us"
traces_per_second = 100

[[sampling.rule]]
name = "large"
trace_longer_than = "1m"
trace_spans_at_least = 1000
ratio = 0.5
"""


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(EVERYTHING)
    assert read_rules(path) == Rules(
        (
            Rule("failures", statuses=frozenset({2})),
            Rule(
                "slow flushes",
                spans=("grafos.*", "flush"),
                services=("storage-?",),
                kinds=frozenset({1, 2}),
                attributes=(
                    AttributeTest("grafos.operation", ("fbbu_flush",)),
                    AttributeTest("hit", (True,)),
                    AttributeTest("bytes", at_least=1.0, at_most=9.5),
                    AttributeTest("n", (1, 2.5)),
                ),
                longer_than_nano=100_000,
                traces_per_second=100.0,
            ),
            Rule("large", trace_longer_than_nano=60 * 10**9, trace_spans_at_least=1000, ratio=0.5),
            Rule("default", ratio=1.0),
        ),
        wait_nano=5 * 10**9,
        wait_after_root_nano=250_000_000,
        wait_after_entry_nano=2 * 10**9,
        is_head_open=True,
        kept_spans_per_second=50000.0,
        is_dry_run=True,
    )


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "sampling.md").read_text(), re.DOTALL)
    (tmp_path / "rules.toml").write_text(example)
    names = [rule.name for rule in read_rules(tmp_path / "rules.toml").rules]
    assert names == ["failures", "slow flushes", "rest", "default"]


def test_what_is_left_out_has_its_default() -> None:
    assert rules_of({"default": "drop"}) == Rules()


def rule(text: str, name: str = '"r"') -> str:
    return f"[[sampling.rule]]\nname = {name}\nstatus = 'ok'\n{text}\n"


NAMED = '[[sampling.rule]]\nname = "r"\n'
CATCH_ALL = "[[sampling.rule]]\nname = 'rest'\nratio = 0.1\n"
R = "sampling.rule 1 'r': "
MISTAKES = {
    "[sampling]\nwiat = '5s'": "sampling: 'wiat' is not known; did you mean 'wait'?",
    "[sampling]\nwait = '5 pc'": "sampling.wait: '5 pc' is no time: the units are ns, us, ms, s, m, h, d",
    "[sampling]\nwait = -1": 'sampling.wait: -1 is no time, as "10ms", "5s", or a number of seconds',
    "[sampling]\nwait = true": 'sampling.wait: true is no time, as "10ms", "5s", or a number of seconds',
    "[sampling]\nwait = '1s'\nwait_after_root = '2s'": (
        "sampling.wait_after_root: is longer than wait, which ends before it"
    ),
    "[sampling]\ndefault = 'dorp'": "sampling.default: 'dorp' is not known; did you mean 'drop'?",
    "[sampling]\nincoming = 1": (
        'sampling.incoming: 1 is not known: it is "all" where nobody samples upstream, else "unknown"'
    ),
    "[sampling]\nincoming = 'none'": (
        'sampling.incoming: \'none\' is not known: it is "all" where nobody samples upstream, else "unknown"'
    ),
    '[sampling]\ndry_run = "false"': "sampling.dry_run: 'false' is not true or false, without quotes",
    "[sampling]\nkept_spans_per_second = 0": (
        "sampling.kept_spans_per_second: 0 is not above 0; to keep none, write ratio = 0"
    ),
    "[sampling]\nrule = 1": "sampling.rule: is no array of tables: each rule begins with [[sampling.rule]]",
    "[sampling]\nrule = [1]": (
        "sampling.rule 1: 1 is no table",
        "sampling.rule 1: name: it has none, and metrics and kept spans could not say which rule it was",
    ),
    "sampling = 1": "sampling: 1 is no table",
    "[[sampling]]\nwait = '5s'": (
        "sampling: is an array of tables, where one table is meant: write its name in [ ], not in [[ ]]"
    ),
    rule("", "' '"): "sampling.rule 1: name: it has none, and metrics and kept spans could not say which rule it was",
    rule("", "'default'"): ("sampling.rule 1: name: 'default' is the rule of traces that no other matches already"),
    rule("", "'unsampled'"): "sampling.rule 1: name: 'unsampled' is the built-in rule of unsampled spans already",
    rule("") + rule(""): "sampling.rule 2: name: 'r' is rule 1 already",
    rule("ration = 0.1"): "sampling.rule 1: 'ration' is not known; did you mean 'ratio'?",
    rule("ratio = -2"): R + "ratio: -2 is not between 0 (none) and 1 (all)",
    rule("ratio = 10"): R + "ratio: 10 is not between 0 (none) and 1 (all); 10 % is 0.1",
    rule("ratio = '1%'"): R + "ratio: '1%' is no number: it is written without quotes and unit, as 0.01",
    rule("ratio = 'some'"): R + "ratio: 'some' is no number",
    rule("traces_per_second = '100/s'"): (
        R + "traces_per_second: '100/s' is no number: it is written without quotes and unit, as 100"
    ),
    "[sampling]\nkept_spans_per_second = '50k'": (
        "sampling.kept_spans_per_second: '50k' is no number: it is written without quotes and unit, as 50000"
    ),
    "[sampling]\ndecision_wait = '30s'": "sampling: 'decision_wait' is not known; did you mean 'wait'?",
    rule("min_duration = '5ms'"): "sampling.rule 1: 'min_duration' is not known; did you mean 'longer_than'?",
    rule("duration = '5ms'"): "sampling.rule 1: 'duration' is not known; did you mean 'longer_than'?",
    rule("sampling_percentage = 10"): "sampling.rule 1: 'sampling_percentage' is not known; did you mean 'ratio'?",
    NAMED + "status = 'ERROR'": R + "status: 'ERROR' is not known; did you mean 'error'?",
    NAMED + "status = 2": R + "status: 2 is not known; known are error, ok, unset",
    NAMED + "status = []": R + "status: [] is not known; known are error, ok, unset",
    rule("span = '^GET .*$'"): (
        R + "span: '^GET .*$' looks like a regular expression; patterns have *, ? and [abc], and fit the whole name: "
        "'GET *'"
    ),
    rule("span = '.*health.*'"): (
        R + "span: '.*health.*' looks like a regular expression; patterns have *, ? and [abc], and fit the whole name: "
        "'*health*'"
    ),
    rule("span = ['(GET|PUT)', 'a[|]b']"): (
        R + 'span: \'(GET|PUT)\': several are a list, as ["GET", "PUT"]; the character itself is written [|]'
    ),
    rule("service = ['a', 'b[c']"): (
        R + "service: 'b[c': no ] ends what [ begins; the character itself is written [[]"
    ),
    rule("attributes = { code = '>= 500' }"): (
        R + "attributes: 'code': '>= 500' is a text, and no comparison: { at_least = 500 }"
    ),
    rule("attributes = { code = { min = 500 } }"): (
        R + "attributes: 'code': of a table at_least and at_most are known, not min; did you mean at_least?"
    ),
    rule("", '"a\\u0007"'): (
        "sampling.rule 1 'a\\x07': name: metrics and kept spans have it: one line, at most 100 characters"
    ),
    "[sampling]\ndefault = 0.01": (
        'sampling.default: 0.01 is not "drop" or "keep"; a share is a last rule without a condition, with a ratio'
    ),
    "[sampling]\nwait = '5s'": (
        'sampling: has no rule, so that all is dropped: add a [[sampling.rule]], or say default = "drop"'
    ),
    rule("ratio = nan"): R + "ratio: nan is no number",
    rule("ratio = true"): R + "ratio: true is no number",
    # TOML puts it into the rule, as it stands below.
    rule("default = 'keep'"): (
        "sampling.rule 1: 'default' belongs to all rules: put it into [sampling], above the first [[sampling.rule]]"
    ),
    "[sampling]\ndefault = 'keep'\nstatus = 'error'": (
        "sampling: 'status' belongs to a rule: put it below a [[sampling.rule]]"
    ),
    "[sampling]\ndefault = 'keep'\nhold-bytes = '1GiB'": (
        "sampling: 'hold-bytes' is not known: it is an option of the drain, --hold-bytes"
    ),
    rule("drop = true"): (
        "sampling.rule 1: 'drop' is not known: write ratio = 0 to drop what matches; without a ratio it is kept"
    ),
    rule("not = { span = '/health' }"): (
        "sampling.rule 1: 'not' is not known: no condition is the opposite of another: put a rule before this one that "
        "matches what is not meant"
    ),
    rule("trace_spans_at_most = 10"): (
        "sampling.rule 1: 'trace_spans_at_most' is not known: conditions are lower bounds: put a rule before this one "
        "that matches what is above it"
    ),
    rule("traces_per_second = 0"): R + "traces_per_second: 0 is not above 0; to keep none, write ratio = 0",
    rule("ratio = 1\ntraces_per_second = 1"): (
        R + "ratio and traces_per_second: one of the two, as either is a threshold"
    ),
    rule("kind = 'serve'"): R + "kind: 'serve' is not known; did you mean 'server'?",
    rule("span = []"): R + "span: [] is no name or pattern, nor a list of them",
    rule("service = ''"): R + "service: '' is no name or pattern, nor a list of them",
    rule("attributes = 1"): R + 'attributes: 1 is no table of attributes, as { "http.method" = "GET" }',
    rule("attributes = {}"): R + 'attributes: {} is no table of attributes, as { "http.method" = "GET" }',
    rule("attributes = { a = [] }"): R + "attributes: 'a': [] is no text, number or bool, nor a list of them",
    rule("attributes = { a = { below = 1 } }"): (
        R + "attributes: 'a': of a table at_least and at_most are known, not below"
        '; a key with a dot needs quotes: "a.below"'
    ),
    rule("attributes = { grafos.operation = 'x' }"): (
        R + "attributes: 'grafos': of a table at_least and at_most are known, not operation"
        '; a key with a dot needs quotes: "grafos.operation"'
    ),
    rule("attributes = { a = { at_least = 1, at_moist = 2 } }"): (
        R + "attributes: 'a': of a table at_least and at_most are known, not at_moist"
    ),
    rule("attributes = { a = { at_least = 2, at_most = 1.5 } }"): (
        R + "attributes: 'a': no number is at least 2 and at most 1.5"
    ),
    rule("attributes = { b = 1, a = { at_least = 'x' } }"): R + "attributes: 'a': at_least: 'x' is no number",
    rule("attributes = { a = {} }"): R + "attributes: 'a': its table has neither at_least nor at_most",
    rule("attributes = { a = nan }"): R + "attributes: 'a': no number is equal to nan",
    rule("attributes = { a = [2020-01-31, true, { b = false }] }"): (
        R + "attributes: 'a': [2020-01-31, true, { b = false }] is no text, number or bool, nor a list of them"
    ),
    rule("trace_spans_at_least = 0"): R + "trace_spans_at_least: 0 is no number of spans, from 1",
    CATCH_ALL + rule("") + rule("", "'s'"): (
        "sampling.rule 1 'rest': has no condition, so that these behind it are never asked: 'r', 's'"
    ),
    "[sampling]\ndefault = 'keep'\n" + CATCH_ALL: (
        "sampling.default: no trace comes to it: rule 'rest' has no condition"
    ),
    "[sampling]\nwait = 'x'\ndefault = 'y'": (
        'sampling.wait: \'x\' is no time, as "10ms", "5s", or a number of seconds',
        "sampling.default: 'y' is not known; known are drop, keep",
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_every_mistake_is_told_with_its_place(text: str) -> None:
    expected = MISTAKES[text]
    with pytest.raises(RulesError) as error:
        rules_of(tomllib.loads(text)["sampling"])
    assert error.value.mistakes == ([expected] if isinstance(expected, str) else list(expected))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[sampling", "no TOML: "),
        (b"\xff", "no TOML: "),
        (b"", "there is no table [sampling]: it begins with that line"),
        (b"[sampleing]", "there is no table [sampling]: [sampleing] is not known; did you mean [sampling]?"),
        (b"[[rule]]", "there is no table [sampling]: each rule begins with [[sampling.rule]]"),
        (b"sampling:\n  wait: 5s", "no TOML: Expected '=' after a key in a key/value pair (at line 1, column 9)"),
        (
            b"- wait: 5s",
            "no TOML: Expected '=' after a key in a key/value pair (at line 1, column 3): - wait: 5s; it looks",
        ),
        (b'{"sampling": {}}', "no TOML: Invalid statement (at line 1, column 1): "),
        (b"[sampling]\ndefault = keep", "no TOML: Invalid value (at line 2, column 11): default = keep; a text is "),
        ("[sampling]\ndefault = “keep”".encode(), "no TOML: Invalid value (at line 2, column 11): default = "),
        (
            b"[sampling]\nwait = 5s",
            "no TOML: Expected newline or end of document after a statement (at line 2, column 9): wait = 5s; a time",
        ),
        (
            b"[[sampling.rule]]\nname = 'a'\nname = 'b'",
            "no TOML: Cannot overwrite a value (at end of document); a key stands twice in one table: each rule begins",
        ),
        (b"[sampling]\n[[rule]]\nname = 'a'", "[[rule]] is not known: each rule begins with [[sampling.rule]]"),
        (b"wait = '5s'\n[sampling]", "'wait' is not known: all rules stand in [sampling] and [[sampling.rule]]"),
    ],
)
def test_a_file_without_rules_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(RulesError) as error:
        read_rules(path)
    assert str(error.value).startswith(reason)


def test_a_file_may_begin_with_the_mark_of_some_editors(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xef\xbb\xbf[sampling]\r\ndefault = 'drop'\r\n")
    assert read_rules(path) == Rules()


@pytest.mark.parametrize(("count", "is_wrong"), [(63, False), (64, True)])
def test_there_may_be_as_many_rules_as_a_mask_has_bits(count: int, *, is_wrong: bool) -> None:
    table = {"rule": [{"name": f"r{number}", "status": "ok"} for number in range(count)]}
    if not is_wrong:
        assert len(rules_of(table).rules) == 64
        return
    with pytest.raises(RulesError, match=r"sampling\.rule: 64 rules; there may be 63"):
        rules_of(table)


def test_the_last_rule_may_have_no_condition() -> None:
    assert [found.name for found in rules_of(tomllib.loads(rule("") + CATCH_ALL)["sampling"]).rules] == [
        *("r", "rest", "default")
    ]
