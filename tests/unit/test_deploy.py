"""The files in drain/deploy/ are what systemd, Kubernetes, Prometheus and a builder of images take."""

from __future__ import annotations

import ctypes
import importlib.resources
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
import yaml

from drain.command import app
from drain.rings import held_examination
from drain.sampling.rules import Rules
from drain.sampling.traces import Traces
from drain.settings.address import Address
from drain.settings.configuration import flag_of
from drain.settings.settings import Settings
from drain.settings.units import Unit
from drain.telemetry.metric_table import METRICS
from tests.sampled import every

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DEPLOY = importlib.resources.files("drain") / "deploy"
ALL_FILES = {
    "Containerfile",
    "grafana-dashboard.json",
    "kustomization.yaml",
    "kubernetes-sidecar.yaml",
    "kubernetes.yaml",
    "prometheus-rules.yaml",
    "ringbuf-drain.service",
    "ringbuf-drain.sysusers",
    "ringbuf-drain.tmpfiles",
}
SECONDS = 120


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text_of(name)))


def flags() -> dict[str, bool]:
    """Return the command's flags, and whether each takes a value."""
    command = typer.main.get_command(app)
    return {flag: not parameter.is_flag for parameter in command.params for flag in parameter.opts}  # type: ignore[attr-defined]  # all are options


def check_arguments(arguments: list[str]) -> None:
    """Fail unless each argument is a flag of the command, or the value of one."""
    known = flags()
    rest = iter(arguments)
    for argument in rest:
        assert argument in known, f"{argument} is no flag"
        if known[argument]:
            assert next(rest, None) is not None, f"{argument} has no value"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def test_the_package_has_all_of_them() -> None:
    assert {entry.name for entry in DEPLOY.iterdir()} == ALL_FILES


# systemd


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with the program of this environment in place of the one in /opt."""
    program = shlex.quote(str(Path(sys.executable).with_name("ringbuf-drain")))
    path = tmp_path / "ringbuf-drain.service"
    path.write_text(text_of(path.name).replace("/opt/ringbuf/bin/ringbuf-drain", program))
    return path


def settings_of(name: str) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text_of(name), re.MULTILINE):
        settings.setdefault(key, []).append(value)
    return settings


def test_systemd_takes_the_unit(unit: Path, debian_program: Callable[[str], str]) -> None:
    # A name that systemd does not know is a warning, with exit code 0.
    checked = run(debian_program("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(unit))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_is_hardened(unit: Path, debian_program: Callable[[str], str]) -> None:
    """Exposure 2.0 of 10: what is left is the network, CAP_FOWNER, and user ids that must be the machine's own."""
    checked = run(debian_program("systemd-analyze"), "security", "--offline=yes", "--threshold=20", str(unit))
    assert checked.returncode == 0, checked.stdout


def test_the_unit_starts_the_drain_with_flags_that_it_has() -> None:
    [command] = settings_of("ringbuf-drain.service")["ExecStart"]
    check_arguments(shlex.split(command)[1:])


def test_the_unit_gives_the_drain_time_to_stop_and_to_live() -> None:
    settings = settings_of("ringbuf-drain.service")
    shutdown_timeout = 10
    assert settings["Type"] == ["notify"]
    assert int(settings["TimeoutStopSec"][0]) > shutdown_timeout
    assert int(settings["TimeoutStartSec"][0]) > held_examination.MOST_SECONDS
    assert int(settings["WatchdogSec"][0]) > shutdown_timeout
    assert settings["RestartPreventExitStatus"] == ["2 75"]


def test_systemd_takes_the_user_and_the_directory(tmp_path: Path, debian_program: Callable[[str], str]) -> None:
    (tmp_path / "dev/shm").mkdir(parents=True)
    for kind in ("sysusers", "tmpfiles"):
        folder = tmp_path / f"etc/{kind}.d"
        folder.mkdir(parents=True)
        (folder / "ringbuf-drain.conf").write_text(text_of(f"ringbuf-drain.{kind}"))
    users = run(debian_program("systemd-sysusers"), f"--root={tmp_path}")
    assert users.returncode == 0, users.stderr
    groups = dict(line.split(":")[::2][:2] for line in (tmp_path / "etc/group").read_text().splitlines())
    assert "ringbuf" in (tmp_path / "etc/passwd").read_text()
    made = run(debian_program("systemd-tmpfiles"), f"--root={tmp_path}", "--create", "--prefix=/dev/shm/ringbuf")
    assert (made.returncode, made.stderr) == (0, "")
    status = (tmp_path / "dev/shm/ringbuf").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o3773, 0, int(groups["ringbuf"]))


def test_the_unit_and_the_directory_name_the_same_user_and_place() -> None:
    settings = settings_of("ringbuf-drain.service")
    _kind, path, mode, owner, group, _age = text_of("ringbuf-drain.tmpfiles").splitlines()[-1].split()
    assert (mode, owner) == ("3773", "root")
    assert [group] == settings["Group"] == settings["User"]
    assert text_of("ringbuf-drain.sysusers").splitlines()[-1].split()[1] == group
    command = shlex.split(settings["ExecStart"][0])
    assert command[command.index("--ring-dir") + 1] == path
    assert command[command.index("--allow-gid") + 1] == group


@pytest.mark.prove
def test_the_drain_works_without_memory_that_is_written_and_executed(ring_dir: Path, tmp_path: Path) -> None:
    """What MemoryDenyWriteExecute= forbids; a foreign function interface with closures would not start."""
    libc = ctypes.CDLL(None, use_errno=True)
    set_mdwe, refuse_exec_gain = 65, 1
    if libc.prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    code = (
        "import ctypes, sys; libc = ctypes.CDLL(None)\n"
        f"assert libc.prctl({set_mdwe}, {refuse_exec_gain}, 0, 0, 0) == 0\n"
        "import drain.__main__; drain.__main__.main()"
    )
    output = str(tmp_path / "spans.jsonl")
    for arguments in (["--output", output], ["--exporter", "otlp-grpc"], ["--exporter", "otlp-http"]):
        ended = run(sys.executable, "-Ic", code, "--once", "--ring-dir", str(ring_dir), *arguments)
        assert ended.returncode == 0, ended.stderr


# Kubernetes


def pod_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("kubernetes.yaml", "kubernetes-sidecar.yaml"):
        for manifest in manifests(name):
            if manifest["kind"] == "DaemonSet":
                yield name, manifest["spec"]["template"]["spec"]
            if manifest["kind"] == "Pod":
                yield name, manifest["spec"]


POD_SPECS = [pytest.param(spec, id=name) for name, spec in pod_specs()]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def drain_of(spec: dict[str, Any]) -> dict[str, Any]:
    [drain] = [container for container in containers(spec) if container["name"] == "drain"]
    return drain


def test_the_daemon_set_selects_its_own_pods() -> None:
    [daemon_set] = [manifest for manifest in manifests("kubernetes.yaml") if manifest["kind"] == "DaemonSet"]
    assert daemon_set["apiVersion"] == "apps/v1"
    selected = daemon_set["spec"]["selector"]["matchLabels"].items()
    assert selected <= daemon_set["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("spec", POD_SPECS)
def test_every_mount_has_its_volume_and_every_volume_a_mount(spec: dict[str, Any]) -> None:
    mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("spec", POD_SPECS)
def test_containers_have_no_more_rights_than_they_need(spec: dict[str, Any]) -> None:
    """The rules of the "restricted" pod security standard, but for the DaemonSet's user 0 and its hostPath."""
    assert spec["automountServiceAccountToken"] is False
    for container in containers(spec):
        context = {**spec.get("securityContext", {}), **container["securityContext"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("spec", POD_SPECS)
def test_probes_ask_for_pages_that_there_are_at_the_port_that_the_image_listens_on(spec: dict[str, Any]) -> None:
    drain = drain_of(spec)
    [port] = [port["containerPort"] for port in drain["ports"] if port["name"] == "metrics"]
    entrypoint = image_entrypoint()
    assert Address.parse(entrypoint[entrypoint.index("--listen") + 1]) == ("", port), "all addresses, of both families"
    probes = [probe["httpGet"] for name, probe in drain.items() if name.endswith("Probe")]
    assert probes
    assert {probe["path"] for probe in probes} <= {"/healthz", "/readyz"}
    assert {probe["port"] for probe in probes} == {"metrics"}
    assert drain["livenessProbe"]["httpGet"]["path"] == "/healthz", (
        "an outage of the backend must not restart the drain"
    )
    start = drain["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] > held_examination.MOST_SECONDS


@pytest.mark.parametrize("spec", POD_SPECS)
def test_the_drain_has_flags_that_there_are_and_folders_that_are_mounted(spec: dict[str, Any]) -> None:
    drain = drain_of(spec)
    arguments = [*image_entrypoint()[1:], *drain["args"]]
    check_arguments(arguments)
    mounts = [mount["mountPath"] for mount in drain["volumeMounts"]]
    for flag in ("--ring-dir", "--state-dir"):
        folder = arguments[len(arguments) - 1 - arguments[::-1].index(flag) + 1]
        assert any(folder == mount or folder.startswith(f"{mount}/") for mount in mounts)
    assert spec["terminationGracePeriodSeconds"] > 10


def test_the_sidecars_volume_is_memory() -> None:
    [pod] = manifests("kubernetes-sidecar.yaml")
    [rings] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "rings"]
    assert rings["emptyDir"]["medium"] == "Memory"
    [shop] = pod["spec"]["containers"]
    [variable] = shop["env"]
    arguments = drain_of(pod["spec"])["args"]
    assert variable == {"name": "RINGBUF_DIR", "value": arguments[arguments.index("--ring-dir") + 1]}


def virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("spec", POD_SPECS)
def test_the_memory_limit_has_room_for_the_hold_and_two_trace_tables(spec: dict[str, Any]) -> None:
    """The hold's pages are charged to the drain, which touches them first, wherever the volume is declared."""

    def bytes_of(text: str) -> int:
        return int(text.removesuffix("Mi")) << 20

    drain, hold = drain_of(spec), Settings.model_fields["hold_bytes"].default
    for volume in spec["volumes"]:
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            hold = min(hold, bytes_of(volume["emptyDir"]["sizeLimit"]) // 4)
    before = virtual_bytes()
    table = Traces(Rules(), bytes(16), traces=hold // 256, spans=hold // 64, decided=hold // 256)
    table_bytes = virtual_bytes() - before
    assert table_bytes > hold, "each of its parts grows as it is used"
    del table
    resources = drain["resources"]
    needed = bytes_of(resources["requests"]["memory"]) + hold + 2 * table_bytes
    assert bytes_of(resources["limits"]["memory"]) >= needed, needed >> 20


def built(program: str, folder: Path) -> list[dict[str, Any]]:
    done = run(program, "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_an_overlay_of_the_base_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None or run(kubectl, "kustomize", "--help").returncode != 0:
        pytest.skip("needs kubectl with kustomize")
    base = tmp_path / "base"
    base.mkdir()
    for name in ("kustomization.yaml", "kubernetes.yaml"):
        (base / name).write_text(text_of(name))
    by_kind = {manifest["kind"]: manifest for manifest in manifests("kubernetes.yaml")}
    assert {manifest["kind"]: manifest for manifest in built(kubectl, base)} == by_kind
    (tmp_path / "kustomization.yaml").write_text("""
resources: [base]
images: [{name: ringbuf-drain, newName: registry.example/ringbuf-drain, newTag: "9"}]
patches:
  - target: {kind: DaemonSet, name: ringbuf-drain}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/env/0/value, value: "http://mine:4318"}
""")
    [daemon_set] = [manifest for manifest in built(kubectl, tmp_path) if manifest["kind"] == "DaemonSet"]
    drain = drain_of(daemon_set["spec"]["template"]["spec"])
    assert drain["image"] == "registry.example/ringbuf-drain:9"
    assert drain["env"][0] == {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://mine:4318"}


# The dashboard


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of("grafana-dashboard.json"))
    return found


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not() -> None:
    asked = {
        name.removesuffix("_bucket").removesuffix("_count")
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"ringbuf_\w+", target["expr"])
    }
    assert asked == {metric.name for metric in METRICS}


def test_the_panels_of_the_dashboard_have_numbers_and_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {variable["name"] for variable in dashboard()["templating"]["list"]} == {"datasource", "instance", "service"}


# The image


def instructions() -> list[tuple[str, str]]:
    joined = text_of("Containerfile").replace("\\\n", " ")
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in joined.splitlines()
        if line and not line.startswith("#")
    ]


def image_entrypoint() -> list[str]:
    [entrypoint] = [yaml.safe_load(rest) for name, rest in instructions() if name == "ENTRYPOINT"]
    assert isinstance(entrypoint, list)
    return entrypoint


def test_the_image_copies_files_that_there_are() -> None:
    copied = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    sources = [source for words in copied for source in words[:-1]]
    assert "pyproject.toml" in sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    metadata = (ROOT / "pyproject.toml").read_text()
    for needed in re.findall(r'^(?:readme|license-files) = \[?"([^"]+)"', metadata, re.MULTILINE):
        assert needed in sources, "the build reads it"


def test_the_image_has_stages_a_user_and_the_command() -> None:
    names = [name for name, _ in instructions()]
    assert names.count("FROM") == 2
    assert set(names) <= {
        "ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    [user] = [rest for name, rest in instructions() if name == "USER"]
    assert int(user) > 0
    entrypoint = image_entrypoint()
    [command] = [yaml.safe_load(rest) for name, rest in instructions() if name == "CMD"]
    assert entrypoint[0] == "ringbuf-drain"
    check_arguments([*entrypoint[1:], *command])


# Alerts

RULES = DEPLOY / "prometheus-rules.yaml"
# By alert: series that fire it, as promtool writes them.
FIRING = {
    "RingbufDrainDown": ['up{job="ringbuf-drain",instance="a"} 0x20'],
    "RingbufLoopStalled": ['ringbuf_drain_loop_stalled_seconds{instance="a"} 11+60x20'],
    "RingbufThreadEnded": ['ringbuf_drain_threads_ended{instance="a"} 0x10 1x10'],
    "RingbufDrainRestarts": ['process_start_time_seconds{job="ringbuf-drain",instance="a"} 0+60x20'],
    "RingbufFilesLeftAlone": ['ringbuf_drain_rings{instance="a",state="left_alone"} 0x5 1x15'],
    "RingbufBackendFailing": ['ringbuf_drain_export_failing_seconds{instance="a"} 0+60x20'],
    "RingbufSpansDropped": ['ringbuf_drain_spans_dropped_total{instance="a",service="shop",reason="full"} 0x10 5x10'],
    "RingbufSpansRefused": [
        'ringbuf_drain_spans_rejected_total{instance="a",service="shop"} 0x10 5x10',
        'ringbuf_drain_spans_dead_lettered_total{instance="a",service="shop"} 0x20',
    ],
    "RingbufSpansInvalid": ['ringbuf_drain_spans_invalid_total{instance="a",service="shop"} 0x10 5x10'],
    "RingbufLag": ['ringbuf_drain_lag_seconds{instance="a",service="shop"} 0+60x20'],
    "RingbufSpoolFilling": [
        'ringbuf_drain_spool_size_bytes{instance="a"} 90x20',
        'ringbuf_drain_spool_capacity_bytes{instance="a"} 100x20',
    ],
    "RingbufSpoolLost": [
        'ringbuf_drain_spool_spans_left_total{instance="a",service="shop",outcome="expired"} 0x10 5x10',
    ],
    "RingbufSpoolSetAside": ['ringbuf_drain_spool_set_aside_total{instance="a"} 0x10 1x10'],
    "RingbufSpoolNotWritable": ['ringbuf_drain_spool_writable{instance="a"} 1x10 0x10'],
    "RingbufDeadLettersFilling": [
        'ringbuf_drain_dead_letter_size_bytes{instance="a"} 90x20',
        'ringbuf_drain_dead_letter_capacity_bytes{instance="a"} 100x20',
    ],
    "RingbufDeadLettersDeleted": [
        'ringbuf_drain_dead_letter_spans_left_total{instance="a",service="shop",outcome="deleted"} 0x10 5x10',
    ],
    "RingbufDeadLettersNotKept": ['ringbuf_drain_dead_letter_batches_total{instance="a",event="failed"} 0x10 1x10'],
    "RingbufRingQuarantined": ['ringbuf_drain_rings_quarantined_total{instance="a"} 0x10 1x10'],
    "RingbufSpansUnaccounted": ['ringbuf_drain_spans_unaccounted{instance="a",service="shop"} 0x5 1x15'],
    "RingbufSeriesOverflow": ['ringbuf_drain_span_series_overflow_total{instance="a"} 0x10 9x10'],
    "RingbufHoldFilling": [
        'ringbuf_drain_hold_used_bytes{instance="a"} 81x20',
        'ringbuf_drain_hold_capacity_bytes{instance="a"} 100x20',
    ],
    "RingbufTracesDecidedEarly": ['ringbuf_drain_sampling_traces_total{instance="a",reason="hold"} 0x10 5x10'],
    "RingbufHoldLost": ['ringbuf_drain_hold_spans_left_total{instance="a",service="shop",outcome="lost"} 0x10 5x10'],
    "RingbufHoldRemade": ['ringbuf_drain_hold_files_remade_total{instance="a"} 0x10 1x10'],
    "RingbufGzipMistrusted": ['ringbuf_drain_export_gzip_mistrusted_layouts_total{instance="a"} 0x10 1x10'],
    "RingbufReloadFailed": ['ringbuf_drain_failed_reloads_total{instance="a"} 0x10 1x10'],
}


def alerts() -> dict[str, dict[str, Any]]:
    [group] = yaml.safe_load(text_of(RULES.name))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def alone(alert: str) -> str:
    """Return a rules file of one alert, without its annotations, which would have to be expected word by word."""
    rule = {key: value for key, value in alerts()[alert].items() if key != "annotations"}
    return yaml.safe_dump({"groups": [{"name": "alone", "rules": [rule]}]})


def test_alerts_ask_for_metrics_and_labels_that_there_are() -> None:
    labels_by_name = {metric.name: {*metric.labels, "instance"} for metric in METRICS}
    for alert in alerts().values():
        names = re.findall(r"ringbuf_\w+", alert["expr"])
        assert set(names) <= labels_by_name.keys()
        for grouped in re.findall(r"by \(([\w, ]+)\)", alert["expr"]):
            assert all(set(grouped.split(", ")) <= labels_by_name[name] for name in names)


def test_every_alert_is_explained_to_the_operator() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    assert [alert for alert in alerts() if f"`{alert}`" not in page] == []


@pytest.mark.parametrize("alert", every(3, FIRING))
def test_alerts_fire_when_they_should_and_only_then(
    alert: str, tmp_path: Path, debian_program: Callable[[str], str]
) -> None:
    firing = [(f"{name}}}", values) for name, values in (one.rsplit("} ", 1) for one in FIRING[alert])]
    quiet = [
        (name, "1x20" if name.startswith(("up{", "ringbuf_drain_spool_writable")) else "0x20") for name, _ in firing
    ]
    labels = {"severity": alerts()[alert]["labels"]["severity"], **dict(re.findall(r'(\w+)="(.*?)"', firing[0][0]))}
    (tmp_path / "rules.yaml").write_text(alone(alert))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "alert_rule_test": [{"eval_time": "16m", "alertname": alert, "exp_alerts": expected}],
        }
        for series, expected in ((quiet, []), (firing, [{"exp_labels": labels}]))
    ]
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    checked = run(debian_program("promtool"), "test", "rules", str(tmp_path / "test.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", every(3, (name for name, rule in alerts().items() if "increase(" in rule["expr"])))
def test_a_series_that_appears_with_its_value_fires_too_and_not_for_ever(
    alert: str, tmp_path: Path, debian_program: Callable[[str], str]
) -> None:
    """What a new service loses before it was ever scraped: `increase` knows no value before the first."""
    name, _ = FIRING[alert][0].rsplit("} ", 1)
    labels = {"severity": alerts()[alert]["labels"]["severity"], **dict(re.findall(r'(\w+)="(.*?)"', name))}
    (tmp_path / "rules.yaml").write_text(alone(alert))
    looks = [("10m", []), ("13m", [{"exp_labels": labels}]), ("100m", [])]
    case = {
        "interval": "1m",
        "input_series": [{"series": f"{name}}}", "values": "_x11 5x100"}],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": fired} for at, fired in looks],
    }
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    checked = run(debian_program("promtool"), "test", "rules", str(tmp_path / "test.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_such_a_test() -> None:
    assert FIRING.keys() == alerts().keys()


def test_prometheus_takes_the_rules(debian_program: Callable[[str], str]) -> None:
    checked = run(debian_program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stderr


def test_the_operators_page_has_every_option() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .*? \| (.*?) \|$", page, re.MULTILINE))
    without_flag = {
        "headers": "OTEL_EXPORTER_OTLP_HEADERS",
        "kafka": "RINGBUF_DRAIN_KAFKA_",
        "metrics_headers": "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    }
    for name, field in Settings.model_fields.items():
        shown = without_flag.get(name, flag_of(name))
        assert rows.get(shown) == field.description


def test_the_operators_page_has_defaults_with_units_as_the_help_has_them() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    fields = Settings.model_fields.items()
    units = {name: part for name, field in fields for part in field.metadata if isinstance(part, Unit)}
    shown = {name: unit.shown(Settings.model_fields[name].default) for name, unit in units.items()}
    assert len(shown) > 20
    assert [name for name, default in shown.items() if f"| `{flag_of(name)}` | `{default}` |" not in page] == []


def test_the_operators_page_asks_for_metrics_that_there_are() -> None:
    names = {metric.name for metric in METRICS} | {
        f"{metric.name}_{part}"
        for metric in METRICS
        if metric.kind == "histogram"
        for part in ("bucket", "count", "sum")
    }
    asked = set(re.findall(r"\bringbuf_(?:drain|span)_\w+", (ROOT / "docs/operations.md").read_text()))
    assert asked
    assert asked <= names
