"""Settings come from flags, environment, file and defaults, in this order, and each says where it came from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from drain import assembly
from drain.exporters.file import FileExporter
from drain.exporters.otlp_http import OtlpHttpExporter
from drain.settings.configuration import ConfigurationError, load
from drain.settings.settings import Settings


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "drain.toml"


def test_the_defaults_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGBUF_DRAIN_LISTEN")  # which all tests have
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    configuration = load({}, None)
    assert configuration.settings.exporter == "file"
    assert set(configuration.origins.values()) == {"default"}
    assert configuration.origins.keys() == Settings.model_fields.keys()


def test_a_flag_beats_the_environment_which_beats_the_file(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("batch_spans = 1\nbatch_bytes = 1001\nconcurrency = 1\n")
    monkeypatch.setenv("RINGBUF_DRAIN_BATCH_BYTES", "1002")
    monkeypatch.setenv("RINGBUF_DRAIN_CONCURRENCY", "2")
    configuration = load({"concurrency": 3}, toml)
    settings = configuration.settings
    assert (settings.batch_spans, settings.batch_bytes, settings.concurrency) == (1, 1002, 3)
    assert configuration.origins["batch_spans"] == str(toml)
    assert configuration.origins["batch_bytes"] == "RINGBUF_DRAIN_BATCH_BYTES"
    assert configuration.origins["concurrency"] == "--concurrency"


def test_the_drains_own_variable_beats_otels_and_an_empty_one_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318")
    monkeypatch.setenv("RINGBUF_DRAIN_ENDPOINT", "")
    configuration = load({"exporter": "otlp-http"}, None)
    assert configuration.settings.endpoint == "http://otel:4318"
    assert configuration.origins["endpoint"] == "OTEL_EXPORTER_OTLP_ENDPOINT"
    monkeypatch.setenv("RINGBUF_DRAIN_ENDPOINT", "http://own:4318")
    assert load({}, None).origins["endpoint"] == "RINGBUF_DRAIN_ENDPOINT"


@pytest.mark.parametrize(
    ("variable", "flag", "url"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", None, "http://h:1/base/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None, "http://h:1/base"),
        ("RINGBUF_DRAIN_ENDPOINT", None, "http://h:1/base/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://flag:2", "http://flag:2/v1/traces"),
    ],
)
def test_the_path_is_appended_but_to_the_endpoint_of_the_signal(
    variable: str, flag: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://h:1/base")
    flags: dict[str, object] = {"exporter": "otlp-http"}
    if flag:
        flags["endpoint"] = flag
    exporter = assembly.make_exporter(load(flags, None))
    try:
        assert isinstance(exporter, OtlpHttpExporter)
        assert exporter.endpoint == url
    finally:
        exporter.close()


def test_a_timeout_in_otels_variable_is_milliseconds_and_in_ours_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")
    assert load({}, None).settings.timeout == 2.5
    monkeypatch.setenv("RINGBUF_DRAIN_TIMEOUT", "4")
    assert load({}, None).settings.timeout == 4


def test_an_otel_variable_that_cannot_be_read_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    assert ["OTEL_EXPORTER_OTLP_TIMEOUT" in warning for warning in load({}, None).warnings] == [True]


def test_ringbuf_dir_is_the_ring_directory_unless_something_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DIR", "/a")
    assert load({}, None).settings.ring_dir == Path("/a")
    assert load({}, None).origins["ring_dir"] == "RINGBUF_DIR"
    monkeypatch.setenv("RINGBUF_DRAIN_RING_DIR", "/b")
    assert load({}, None).settings.ring_dir == Path("/b")


def test_lists_and_headers_have_a_form_for_variables_and_one_for_files(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text('allow_uid = [1, 2]\n[headers]\nX-Key = "a=b"\n')
    settings = load({}, toml).settings
    assert settings.allow_uid == [1, 2]
    assert settings.headers == {"x-key": "a=b"}
    monkeypatch.setenv("RINGBUF_DRAIN_ALLOW_UID", "3,4")
    monkeypatch.setenv("RINGBUF_DRAIN_HEADERS", "x-other=c%20d")
    settings = load({}, toml).settings
    assert settings.allow_uid == [3, 4]
    assert settings.headers == {"x-other": "c d"}


def test_unknown_keys_are_refused_by_name(toml: Path) -> None:
    toml.write_text("batch_span = 1\nspool = true\n")
    with pytest.raises(ConfigurationError, match="unknown keys: batch_span, spool"):
        load({}, toml)


@pytest.mark.parametrize("content", ["a = ", "\udcff"])
def test_a_file_that_is_no_toml_is_refused(toml: Path, content: str) -> None:
    toml.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"drain\.toml: no TOML"):
        load({}, toml)


def test_a_file_that_is_not_there_is_refused(toml: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load({}, toml)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"batch_spans": 0}, "batch_spans .--batch-spans"),
        ({"exporter": "zipkin"}, "exporter"),
        ({"timeout": -1.0, "exporter": "otlp"}, "timeout"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_origin(flags: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load(flags, None)


@pytest.mark.parametrize(
    "flags",
    [
        {"exporter": "file", "endpoint": "http://h:1"},
        {"exporter": "console", "output": "x"},
        {"endpoint": "http://h:1", "output": "x"},
        {"exporter": "otlp-grpc", "file_sync": True},
        {"exporter": "otlp-http", "resolve_interval": 10},
        {"endpoint": ["http://a", "http://b"], "balance": "failover", "hand_over_after": 60},
        {"endpoint": ["http://a"], "hand_over_after": 60},
    ],
)
def test_a_flag_without_effect_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="has no effect"):
        load(flags, None)


@pytest.mark.parametrize(
    "flags",
    [
        {"endpoint": ["http://a"], "resolve_interval": 10, "hand_over_after": 60},
        {"endpoint": ["http://a", "http://b"], "hand_over_after": 60},
        {"endpoint": ["http://a"], "resolve_interval": 0, "hand_over_after": 0},
    ],
)
def test_a_flag_of_gateways_with_effect_is_not(flags: dict[str, object]) -> None:
    assert load(flags, None).settings.hand_over_after == flags["hand_over_after"]


def test_the_description_is_toml_that_reads_back_and_hides_headers(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=topsecret")
    text = load({"exporter": "otlp", "allow_gid": [7]}, None).describe()
    assert "topsecret" not in text
    assert tomllib.loads(text)["headers"] == {"api-key": "(hidden)"}
    assert 'exporter = "otlp"  # --exporter' in text
    assert "batch_spans = 16384  # default" in text
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_HEADERS")
    toml.write_text(load({"batch_spans": 77, "output": "a b\\c"}, None).describe())
    settings = load({}, toml).settings
    assert (settings.batch_spans, settings.output) == (77, Path("a b\\c"))


def test_a_wrong_header_is_refused_without_its_value(toml: Path) -> None:
    toml.write_text('[headers]\nkey = "secret\\nX: y"\n')
    with pytest.raises(ConfigurationError) as raised:
        load({}, toml)
    assert "headers" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_file_options_reach_the_exporter(tmp_path: Path) -> None:
    flags = {"output": tmp_path / "out", "file_sync": True, "file_rotate_bytes": 5, "file_keep": 2}
    exporter = assembly.make_exporter(load(flags, None))
    try:
        assert isinstance(exporter, FileExporter)
        options = exporter._options
        assert (options.sync, options.rotate_bytes, options.keep) == (True, 5, 2)
    finally:
        exporter.close()


def test_nothing_listens_when_told_so_and_a_drain_that_ends_by_itself_only_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert assembly.listen_address(load({}, None), once=False) is None, "RINGBUF_DRAIN_LISTEN=off, as all tests have it"
    monkeypatch.delenv("RINGBUF_DRAIN_LISTEN")
    assert assembly.listen_address(load({}, None), once=False) == ("127.0.0.1", 9464)
    assert assembly.listen_address(load({}, None), once=True) is None
    assert assembly.listen_address(load({"listen": "[::1]:1"}, None), once=True) == ("::1", 1)
    with pytest.raises(ConfigurationError, match=r"listen \(--listen\): .* is no HOST:PORT"):
        load({"listen": "everywhere"}, None)


def quantities() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if field.annotation in (int, float, list[int])]


@pytest.mark.parametrize("text", ["inf", "nan", "1e10", "9" * 30, "9" * 5000, " "])
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_a_number_that_no_wait_and_no_disk_takes_is_refused_by_name(
    source: str, text: str, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in quantities():
        flags: dict[str, object] = {"exporter": "otlp"} if name in {"timeout", "max_connection_age"} else {}
        monkeypatch.delenv(variable := f"RINGBUF_DRAIN_{name.upper()}", raising=False)
        toml.write_text("")
        if source == "flag":
            flags |= {name: [text] if name.startswith("allow") else text}
        elif source == "variable":
            monkeypatch.setenv(variable, text)
        else:
            is_toml = text in {"inf", "nan", "1e10", "9" * 30}
            toml.write_text(f"{name} = {text}" if is_toml else f'{name} = "{text}"')
        if (text == " " and name.startswith("allow")) or (source == "file" and text == "1e10" and "bytes" in name):
            continue  # nobody; or 10 GB
        with pytest.raises(ConfigurationError, match=rf"^{name}\b.*\(") as raised:
            load(flags, toml)
        assert "Value error" not in str(raised.value)
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("spool_max_bytes", "10GiB", 10 << 30),
        ("spool_max_bytes", "1.5 GB", 1_500_000_000),
        ("batch_bytes", "4000000", 4_000_000),
        ("spool_max_age", "7d", 604_800.0),
        ("batch_delay", "250ms", 0.25),
        ("shutdown_timeout", "1m30s", 90.0),
        ("shutdown_timeout", "2.5", 2.5),
    ],
)
def test_sizes_and_times_may_have_a_unit(
    name: str, text: str, value: float, tmp_path: Path, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(load({name: text, "state_dir": tmp_path}, None).settings, name) == value
    toml.write_text(f'{name} = "{text}"')
    assert getattr(load({}, toml).settings, name) == value
    monkeypatch.setenv(f"RINGBUF_DRAIN_{name.upper()}", text)
    assert getattr(load({}, None).settings, name) == value


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("batch_bytes", "10G", "write GB or GiB"),
        ("batch_bytes", "10 parsecs", "no unit of sizes"),
        ("batch_bytes", "1000.5B", "no whole number of bytes"),
        ("batch_delay", "3 fortnights", "the units are ns, us"),
        ("batch_delay", "1s 5sec", "the units are ns, us"),
        ("batch_delay", "1s2", "valid number"),
        ("concurrency", "4k", "valid integer"),
    ],
)
def test_a_unit_that_is_none_or_two_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} \(--.*{reason}"):
        load({name: text}, None)


@pytest.mark.parametrize("name", ["ring_dir", "state_dir", "output", "endpoint", "headers_file", "listen"])
def test_an_empty_text_is_no_directory_and_no_address(name: str, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGBUF_DRAIN_LISTEN")
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    with pytest.raises(ConfigurationError, match=rf"^{name} \(--.*\): the value is empty"):
        load({name: ""}, None)
    toml.write_text(f'{name} = " "')
    with pytest.raises(ConfigurationError, match=rf"^{name} \(.*toml\): the value is empty"):
        load({}, toml)


def test_an_empty_state_directory_of_systemd_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    monkeypatch.setenv("STATE_DIRECTORY", ":/elsewhere")
    assert load({}, None).origins["state_dir"] == "default"


def test_a_misspelt_variable_is_told_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DRAIN_ENDPIONT", "http://h:1")
    monkeypatch.setenv("RINGBUF_DRAIN_XYZZY", "1")
    monkeypatch.setenv("RINGBUF_DRAIN_CONFIG", "/none")
    monkeypatch.setenv("RINGBUF_DRAINAGE", "/none")
    assert load({}, None).warnings == (
        "RINGBUF_DRAIN_ENDPIONT is no setting and is ignored: did you mean RINGBUF_DRAIN_ENDPOINT?",
        "RINGBUF_DRAIN_XYZZY is no setting and is ignored",
    )


def test_a_misspelt_key_is_told_with_what_was_meant(toml: Path) -> None:
    toml.write_text("batch_span = 1\nxyzzy = 1\n")
    with pytest.raises(ConfigurationError, match=r"unknown keys: batch_span, xyzzy; did you mean batch_spans\?"):
        load({}, toml)


def test_flags_split_lists_as_variables_do(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({"allow_uid": ["1,2", "root"]}, None).settings.allow_uid == [1, 2, 0]
    toml.write_text('allow_uid = ["1, 2", 3]')
    assert load({}, toml).settings.allow_uid == [1, 2, 3]
    monkeypatch.setenv("RINGBUF_DRAIN_ALLOW_UID", "1,2,root")
    assert load({}, None).settings.allow_uid == [1, 2, 0]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://h:1/?api_key=s3cret",
        "http://h:1/?s3cret",
        "http://me:s3cret@h:1",
        "http://me:s3cret@h:99999",
        "http://me:s3/cret@h",
        "http://me:s3cret@[h",
        "me:s3cret@h:1",
        "grpc://me:s3cret@h:1/p",
    ],
)
@pytest.mark.parametrize("exporter", ["otlp-http", "otlp-grpc"])
def test_nothing_quotes_what_may_be_a_secret_in_an_endpoint(exporter: str, endpoint: str) -> None:
    configuration = load({"exporter": exporter, "endpoint": endpoint}, None)
    assert "(hidden)" in configuration.describe()
    shown = configuration.describe()
    try:
        made = assembly.make_exporter(configuration)
    except ValueError as error:
        shown += str(error)
    else:
        shown += made.endpoint
        made.close()
    assert "s3" not in shown
    assert "cret" not in shown


@pytest.mark.parametrize("text", ["me:s3cret@h:1", "http://me:s3cret@h:x", "h:s3cret", "[::1]:99999"])
def test_an_address_that_is_none_does_not_quote_a_password(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no HOST:PORT") as raised:
        load({"listen": text}, None)
    assert "me:s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "variables", "content", "chosen", "origin"),
    [
        ({}, {}, "", "file", "default"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, "", "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h"}, "", "otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({}, {"RINGBUF_DRAIN_ENDPOINT": "http://h"}, "", "otlp", "RINGBUF_DRAIN_ENDPOINT"),
        ({"endpoint": "http://h"}, {}, "", "otlp", "--endpoint"),
        ({}, {}, 'endpoint = "http://h"', "otlp", "FILE"),
        ({"output": "x"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, "", "file", "--output"),
        ({}, {"RINGBUF_DRAIN_OUTPUT": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": "h"}, "", "file", "RINGBUF_DRAIN_OUTPUT"),
        ({"exporter": "console"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, "", "console", "--exporter"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, 'exporter = "console"', "console", "FILE"),
    ],
)
def test_who_names_an_endpoint_means_otlp_and_who_names_an_output_a_file(
    flags: dict[str, object],
    variables: dict[str, str],
    content: str,
    chosen: str,
    origin: str,
    toml: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    toml.write_text(content)
    configuration = load(flags, toml)
    assert configuration.settings.exporter == chosen
    assert configuration.origins["exporter"] == origin.replace("FILE", str(toml))


@pytest.mark.parametrize(("text", "is_warned"), [("10", True), ("999", True), ("1000", False), ("0", False)])
def test_a_timeout_that_was_meant_as_seconds_is_told(
    text: str, is_warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", text)
    expected = f"OTEL_EXPORTER_OTLP_TIMEOUT is {text} milliseconds, its unit by the specification: of seconds {text}000"
    assert load({}, None).warnings == ((expected,) if is_warned else ())
