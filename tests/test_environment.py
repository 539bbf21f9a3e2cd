"""pyproject.toml, requirements.lock, environment.yml and the commands agree with each other."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import wsol

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", LOCK, flags=re.MULTILINE)
}
ASKED = [
    Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_to_a_release_that_pyproject_allows(asked: Requirement) -> None:
    assert PINS[canonicalize_name(asked.name)] in asked.specifier


def test_every_pin_of_the_lock_has_a_hash() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    pinned = [entry for entry in entries if "==" in entry.partition("\n")[0]]
    assert len(pinned) >= len(PINS) > 100
    assert [entry.partition(" ")[0] for entry in pinned if "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_package_index() -> None:
    assert re.findall(r"index-url|find-links|https?://|file://", LOCK) == []


def test_conda_gets_python_and_the_same_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.lock"]}
    version = python.removeprefix("python=")
    assert Version(version) in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_the_makefile_locks_for_the_oldest_python_that_pyproject_allows() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (locked_for,) = re.findall(r"--python-version (\S+)", makefile)
    major, minor = locked_for.split(".")
    assert PROJECT["requires-python"] == f">={locked_for}"
    assert f"sys.version_info < ({major}, {minor})" in makefile


def test_the_locked_torch_and_torchvision_belong_together() -> None:
    wsol.check_torch_pair(str(PINS["torch"]), str(PINS["torchvision"]))


def test_versions_are_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert wsol.__version__ == PROJECT["version"] == citation["version"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    fenced = re.findall(r"^\s*```\w*\n(.*?)^\s*```", readme, flags=re.MULTILINE | re.DOTALL)
    commands = [line.partition("#")[0].strip() for block in fenced for line in block.split("\n")]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").split("\n")
    (command,) = (line.removeprefix("exec ") for line in script if line.startswith("exec "))
    assert command == "make test"
    assert command in commands
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def _import_wsol_with(torch: str, torchvision: str, folder: Path) -> subprocess.CompletedProcess:
    """Import wsol in a new process that sees made-up metadata of the two packages first."""
    for name, version in (("torch", torch), ("torchvision", torchvision)):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", "import sys, wsol; print('torch' in sys.modules)"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("torch", "torchvision"), [("2.13.0", "0.28.0"), ("2.9.1", "0.24.1")])
def test_a_matching_pair_is_accepted_without_loading_torch(
    torch: str, torchvision: str, tmp_path: Path
) -> None:
    done = _import_wsol_with(torch, torchvision, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_a_mismatched_pair_is_refused_by_name_with_the_remedy(tmp_path: Path) -> None:
    done = _import_wsol_with("2.12.0", "0.28.0", tmp_path)
    assert done.returncode != 0
    last_line = done.stderr.strip().split("\n")[-1]
    assert "ImportError: torch 2.12.0 and torchvision 0.28.0 are installed" in last_line
    assert "torch 2.12 needs torchvision 0.27" in last_line
    assert "requirements.lock" in last_line


def test_builds_that_do_not_load_together_are_refused(tmp_path: Path) -> None:
    fault = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision.py").write_text(fault, encoding="utf-8")
    done = _import_wsol_with("2.13.0+cpu", "0.28.0", tmp_path)
    last_line = done.stderr.strip().split("\n")[-1]
    assert last_line.startswith("ImportError: torch 2.13.0+cpu and torchvision 0.28.0")
    assert "operator torchvision::nms does not exist" in last_line


def test_different_builds_that_load_together_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("", encoding="utf-8")
    assert _import_wsol_with("2.13.0", "0.28.0+cu130", tmp_path).returncode == 0
