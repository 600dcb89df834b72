"""docs/examples/compose/: what it mounts is there, what it passes is understood, and its parts find each other.

No container is started: there is no engine where the tests run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

import ringbuf
from drain.settings.address import Address
from tests.consumer import Consumer, rings_in
from tests.unit.test_deploy import SECONDS, check_arguments, image_entrypoint, instructions, run, text_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "compose"
EXAMPLES = FOLDER.parent
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts_of(name: str) -> dict[str, str]:
    """Return what is mounted into a service's container: the source by the place in it."""
    parts = [mount.split(":") for mount in SERVICES[name].get("volumes", [])]
    return {target: source for source, target, *_read_only in parts}


def files_of(name: str) -> dict[str, Path]:
    """Return the files and folders of the tree that a service has, by the place in its container."""
    return {target: FOLDER / source for target, source in mounts_of(name).items() if source.startswith(".")}


def configured(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    for target, path in files_of(name).items():
        assert path.exists(), f"{target}: {path}"
    volumes = {source for source in mounts_of(name).values() if not source.startswith(".")}
    assert volumes <= COMPOSE["volumes"].keys()


def test_every_file_of_the_folder_is_used() -> None:
    mounted = {path.resolve() for name in SERVICES for path in files_of(name).values()}
    assert {path for path in FOLDER.iterdir() if path.name != "compose.yaml"} <= mounted


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_that_there_are_and_is_open_to_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", [])) <= SERVICES.keys()
    if isinstance(needed := service.get("depends_on"), dict):
        healthy = [other for other, how in needed.items() if how["condition"] == "service_healthy"]
        assert all("healthcheck" in SERVICES[other] for other in healthy)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "a tag that moves is another program tomorrow"


def test_the_image_is_that_of_the_containerfile_and_of_this_version() -> None:
    for name in ("drain", "workload"):
        service = SERVICES[name]
        assert service["image"] == f"ringbuf-drain:{ringbuf.__version__}"
        context = FOLDER / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).read_text() == text_of("Containerfile")
        assert (context / "pyproject.toml").is_file()


def test_the_drain_is_passed_options_that_it_has_and_sends_to_jaeger() -> None:
    arguments = [*image_entrypoint()[1:], *SERVICES["drain"]["command"]]
    check_arguments(arguments)
    endpoint = urlsplit(arguments[arguments.index("--endpoint") + 1])
    assert (endpoint.hostname in SERVICES, endpoint.port) == (True, 4318)
    for flag in ("--ring-dir", "--state-dir"):
        assert arguments[arguments.index(flag) + 1] in mounts_of("drain")


def test_the_workload_is_passed_options_that_it_has_and_writes_where_the_drain_reads() -> None:
    _python, script = SERVICES["workload"]["entrypoint"]
    folder, source = next((target, path) for target, path in files_of("workload").items() if script.startswith(target))
    assert (source / script.removeprefix(f"{folder}/")).samefile(EXAMPLES / "workload.py")
    options = workload().parsed(SERVICES["workload"]["command"])
    rings = str(options.ring_dir)
    arguments = image_entrypoint()
    assert mounts_of("workload")[rings] == mounts_of("drain")[arguments[arguments.index("--ring-dir") + 1]]


def test_the_rings_are_in_memory_and_belong_to_the_user_of_the_image() -> None:
    options = COMPOSE["volumes"][mounts_of("drain")["/rings"]]["driver_opts"]
    assert options["type"] == "tmpfs"
    [user] = [rest for name, rest in instructions() if name == "USER"]
    assert {f"uid={user}", "mode=0700"} <= set(options["o"].split(","))


def test_the_page_that_health_is_asked_of_is_where_the_image_listens() -> None:
    *_, code = SERVICES["drain"]["healthcheck"]["test"]
    compile(code, "healthcheck", "exec")
    asked = urlsplit(re.search(r"'(http://[^']+)'", code)[1])  # type: ignore[index]  # it has a URL
    assert (asked.path, asked.port) == ("/healthz", listening_port())


def listening_port() -> int:
    entrypoint = image_entrypoint()
    return Address.parse(entrypoint[entrypoint.index("--listen") + 1])[1]


def test_prometheus_takes_its_configuration_with_the_rules(
    tmp_path: Path, debian_program: Callable[[str], str]
) -> None:
    for target, path in files_of("prometheus").items():
        place = tmp_path / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    checked = run(debian_program("promtool"), "check", "config", str(tmp_path / "etc/prometheus/prometheus.yml"))
    assert checked.returncode == 0, checked.stderr
    assert "1 rule files found" in checked.stdout


def test_prometheus_scrapes_the_drain_under_the_name_that_the_alerts_ask_for() -> None:
    [scraped] = configured("prometheus.yml")["scrape_configs"]
    assert f'job="{scraped["job_name"]}"' in text_of("prometheus-rules.yaml")
    [target] = scraped["static_configs"][0]["targets"]
    assert target == f"drain:{listening_port()}"


def test_grafana_has_the_dashboard_that_we_ship_and_a_source_for_it() -> None:
    mounted = files_of("grafana")
    [provider] = configured("grafana-dashboards.yaml")["providers"]
    [dashboard] = [path for target, path in mounted.items() if Path(target).parent == Path(provider["options"]["path"])]
    shipped = json.loads(dashboard.read_text(encoding="utf-8"))
    assert shipped == json.loads(text_of("grafana-dashboard.json"))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounted[home] == dashboard
    [source] = configured("grafana-datasource.yaml")["datasources"]
    [asked] = [variable for variable in shipped["templating"]["list"] if variable["type"] == "datasource"]
    assert asked["query"] == source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    folders = {Path(target).parent.name for target in mounted if target.startswith("/etc/grafana/provisioning/")}
    assert folders == {"datasources", "dashboards"}


def taken_from(ring_dir: Path) -> int:
    """Do what a drain does; return how many spans there were."""
    count = 0
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            count += len(consumer.take_all())
    return count


def workload() -> Any:
    spec = importlib.util.spec_from_file_location("workload", EXAMPLES / "workload.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXAMPLES))  # it imports the files beside it by their plain names
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


@pytest.mark.parametrize("wrong", [["--pause", "-1"], ["--processes", "0"], ["--seconds", "nan"], ["--rate", "1"]])
def test_the_workload_refuses_what_it_cannot_do(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        workload().parsed(wrong)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.prove
def test_the_workload_emits_until_it_is_told_to_stop(ring_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "workload.py"), "--ring-dir", str(ring_dir), "--pause", "0.01"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            until(lambda: taken_from(ring_dir) > 0, within=SECONDS)
            os.killpg(process.pid, signal.SIGTERM)  # as a terminal that is closed does, and timeout(1)

            def has_ended() -> bool:
                taken_from(ring_dir)  # the producers wait for their spans to be taken
                return process.poll() is not None

            until(has_ended, within=SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        assert re.search(r"^emitted [\d,]+ spans, of which [\d,]+ are written$", process.stdout.read(), re.MULTILINE)
    assert process.returncode == 0
