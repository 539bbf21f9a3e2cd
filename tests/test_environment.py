"""pyproject.toml, requirements.lock and the files that use them agree with each other."""

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
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", flags=re.MULTILINE)
PINS = {canonicalize_name(name): Version(version) for name, version in PIN.findall(LOCK)}
ASKED = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_dependency_is_pinned_with_a_hash_to_a_release_that_pyproject_allows() -> None:
    pins = {asked.name: PINS[canonicalize_name(asked.name)] for asked in ASKED}
    assert [asked.name for asked in ASKED if pins[asked.name] not in asked.specifier] == []
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    pinned = [entry for entry in entries if "==" in entry.partition("\n")[0]]
    assert len(pinned) >= len(PINS) > 100
    assert [entry.partition(" ")[0] for entry in pinned if "--hash=sha256:" not in entry] == []
    assert re.findall(r"index-url|find-links|https?://|file://", LOCK) == []


def test_conda_binder_and_make_install_the_same() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = conda["dependencies"]
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock"]})
    newest = Version(python.removeprefix("python=") + ".99")  # conda takes the newest of a series
    assert newest in Requirement(f"python{PROJECT['requires-python']}").specifier
    text = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8")
    binder = {canonicalize_name(name): pin for name, pin in PIN.findall(text)}
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    assert set(binder) == wanted - {"dvc", "jupyterlab"} | {"setuptools"}
    assert {n for n, pin in binder.items() if pin.endswith("+cpu")} == {"torch", "torchvision"}
    # Where the lock has two versions, the first is for the oldest Python.
    locked = {canonicalize_name(name): pin for name, pin in PIN.findall(LOCK)[::-1]}
    assert {n: pin.removesuffix("+cpu") for n, pin in binder.items()} == {
        n: locked[n] for n in binder
    }
    assert re.findall(r"--python-version (\S+)", MAKEFILE) == [PROJECT["requires-python"][2:]]


def test_the_locked_torch_and_torchvision_belong_together() -> None:
    wsol.check_torch_pair(str(PINS["torch"]), str(PINS["torchvision"]))


def test_versions_are_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(.+?)\]", changes, flags=re.MULTILINE)[0]
    assert wsol.__version__ == PROJECT["version"] == citation["version"] == newest


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nexec make test\n" in script
    assert re.search(r"^make test\b", readme, flags=re.MULTILINE)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
    assert set(re.findall(r"run: make ([a-z-]+)", workflow)) <= targets
    assert "run: .ci/run" in workflow


def test_mypy_looks_at_all_of_wsol_and_its_exceptions_exist() -> None:
    mypy = PYPROJECT["tool"]["mypy"]
    assert mypy["files"] == ["wsol"]
    named = [name for override in mypy["overrides"] for name in override["module"]]
    for name in (n for n in named if n.startswith("wsol.")):
        path = ROOT.joinpath(*name.removesuffix(".*").split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name


def _import_wsol_with(torch: str, torchvision: str, folder: Path) -> subprocess.CompletedProcess:
    """Import wsol in a new process that sees made-up metadata of the two packages first."""
    for name, version in (("torch", torch), ("torchvision", torchvision)):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", "import sys, wsol; print('torch' in sys.modules)"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("torch", "torchvision"), [("2.13.0", "0.28.0"), ("2.9.1", "0.24.1")])
def test_a_matching_pair_is_accepted_without_loading_torch(torch, torchvision, tmp_path) -> None:
    done = _import_wsol_with(torch, torchvision, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_a_mismatched_pair_is_refused_by_name_with_the_remedy(tmp_path: Path) -> None:
    done = _import_wsol_with("2.12.0", "0.28.0", tmp_path)
    assert done.returncode != 0
    last_line = done.stderr.strip().split("\n")[-1]
    assert "ImportError: torch 2.12.0 and torchvision 0.28.0 are installed" in last_line
    assert "torch 2.12 needs torchvision 0.27" in last_line


def test_builds_that_do_not_load_together_are_refused(tmp_path: Path) -> None:
    module = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision.py").write_text(module, encoding="utf-8")
    done = _import_wsol_with("2.13.0+cpu", "0.28.0", tmp_path)
    last_line = done.stderr.strip().split("\n")[-1]
    assert last_line.startswith("ImportError: torch 2.13.0+cpu and torchvision 0.28.0")
    assert "operator torchvision::nms does not exist" in last_line


def test_different_builds_that_load_together_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("", encoding="utf-8")
    assert _import_wsol_with("2.13.0", "0.28.0+cu130", tmp_path).returncode == 0
