"""What is said of wheels in several places agrees, and the figures of import and size are made of what they say."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.packaging.conftest import ROOT

sys.path.append(str(ROOT))  # last: ringbuf and drain are those that are installed

from bench.cost import import_time

if TYPE_CHECKING:
    from pathlib import Path

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEELS = PYPROJECT["tool"]["cibuildwheel"]


def test_wheels_are_built_for_each_python_that_is_promised() -> None:
    promised = [
        found[1]
        for line in PYPROJECT["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line))
    ]
    built = [re.fullmatch(r"cp3(\d+)(t?)-manylinux_\*", pattern) for pattern in WHEELS["build"]]
    assert [found[1] for found in built if found and not found[2]] == promised
    assert [found[1] for found in built if found and found[2]] == [promised[-1]]
    assert None not in built


def test_the_wheels_tests_are_there() -> None:
    paths = re.findall(r"\{project\}/(tests/\S+\.py)", WHEELS["test-command"])
    assert len(paths) > 4
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_workflow_has_a_machine_of_each_kind_and_pins_its_actions_by_hash() -> None:
    text = (ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["jobs"]["wheels"]["strategy"]["matrix"]["machine"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    # A tag can be moved to other code; the version beside the hash is for people and for bots that renew it.
    assert all(re.fullmatch(r"(actions|pypa)/[\w-]+@[0-9a-f]{40}", name) for name in used)
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text)) == len(used)


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8"))
URLS = PYPROJECT["project"]["urls"]
HOMES = {
    "as it is": (URLS, ".example/" not in URLS["Source"]),
    "settled": (dict.fromkeys(URLS, "https://github.com/someone/ringbuf"), True),
    "one is left": ({**dict.fromkeys(URLS, "https://github.com/someone/ringbuf"), "Issues": URLS["Issues"]}, False),
    "without a path": (dict.fromkeys(URLS, "https://ringbuf.example"), False),
    "with a port": (dict.fromkeys(URLS, "https://ringbuf.example:8443/x"), False),
    "in capitals": (dict.fromkeys(URLS, "https://RINGBUF.EXAMPLE/x"), False),
    "not there": ({}, False),
    "an example in the path": (dict.fromkeys(URLS, "https://github.com/x.example/ringbuf"), True),
}


@pytest.mark.parametrize("case", HOMES)
def test_a_release_without_a_home_is_refused(case: str, tmp_path: Path) -> None:
    urls, is_released = HOMES[case]
    head, rest = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.urls]\n")
    kept = rest[rest.index("\n[") :]
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    (tmp_path / "pyproject.toml").write_text(f"{head}[project.urls]\n{table}{kept}", encoding="utf-8")
    (guard,) = [step for step in WORKFLOW["jobs"]["home"]["steps"] if "run" in step]
    done = subprocess.run(["/bin/sh", "-ec", guard["run"]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == is_released, done.stdout + done.stderr
    if not is_released:
        assert "pyproject.toml" in done.stdout + done.stderr


def test_nothing_of_a_release_is_made_before_its_home_is_known() -> None:
    assert WORKFLOW["jobs"]["home"]["if"] == "github.ref_type == 'tag'"
    for name, job in WORKFLOW["jobs"].items():
        if name != "home":
            assert job["needs"] == "home"
            # A job that was not asked for must not keep the wheels of a branch from being built.
            assert job["if"] == "!cancelled() && needs.home.result != 'failure'"


def test_the_readme_has_no_link_that_leads_nowhere_on_the_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "csrc"))
    import long_description  # type: ignore[import-not-found]  # noqa: PLC0415 - the build runs it, nobody imports it

    assert doctest.testmod(long_description).failed == 0
    source = PYPROJECT["project"]["urls"]["Source"]
    made = long_description.dynamic_metadata({}, {"urls": {"Source": source}, "version": "1.2.3"})["readme"]
    targets = re.findall(r"\]\(([^)]+)\)", made["text"])
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    of_tree = [
        re.sub(rf"^{re.escape(source)}/(?:blob|raw)/v1\.2\.3/", "", target)
        for target in targets
        if target.startswith(source)
    ]
    assert [name for name in of_tree if not (ROOT / name.partition("#")[0]).exists()] == []
    code = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    assert code.findall(made["text"]) == code.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_import_times_are_what_the_import_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_time, "PROBES", {"nothing": "pass", "spin": "for _ in range(2_000_000): pass"})
    times = import_time.import_milliseconds(2)
    assert [len(values) for values in times.values()] == [2, 2]
    assert min(times["spin"]) > 0


def test_every_probe_of_the_import_times_runs(capfd: pytest.CaptureFixture[str]) -> None:
    for code in import_time.PROBES.values():
        import_time._milliseconds(code)
    assert capfd.readouterr() == ("", "")


def test_a_size_is_that_of_all_that_comes_along() -> None:
    size, names = import_time.installed_bytes("ringbuf-spans")
    assert {"ringbuf-spans", "cffi", "pycparser"} == set(names)
    assert size > import_time._own_bytes("cffi") + import_time._own_bytes("ringbuf-spans") > 500_000


@pytest.mark.parametrize("extra", ["", "numpy", "drain", "kafka", "otel", "parquet"])
def test_what_users_install_has_lower_bounds_alone(extra: str) -> None:
    """So that it goes with what else an application pins."""
    project = PYPROJECT["project"]
    requirements = project["optional-dependencies"][extra] if extra else project["dependencies"]
    bound = re.compile(r"ringbuf-spans\[\w+\]|[\w.-]+>=[\d.]+")
    assert requirements
    assert [each for each in requirements if not bound.fullmatch(each)] == []
