"""What `pip install .` installs: every file of wsol/, data included, and nothing else."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Files that a build reads. It writes beside them, so it works on a copy.
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
PUBLISHED = ("published/birds/weights.npz", "published/birds/about.json", "published/README.md")


def _run(code: str, folder: Path, path: Path | None = None) -> str:
    """What code prints in a new process that starts in a folder, with a path to import from."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = os.fspath(path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, with data of each kind that may be published with wsol."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "wsol", folder / "wsol", ignore=shutil.ignore_patterns("__pycache__"))
    for name in PUBLISHED:
        (folder / "wsol" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "wsol" / name).touch()
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """As `pip wheel --no-build-isolation --no-deps .` builds it, without pip."""
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    _run(code, source)
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_a_wheel_has_every_file_of_the_package_and_no_other(source: Path, wheel: Path) -> None:
    files = {p.relative_to(source).as_posix() for p in (source / "wsol").rglob("*") if p.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert members == files
    assert {"wsol/py.typed", *(f"wsol/{name}" for name in PUBLISHED)} <= members


def test_a_wheel_carries_version_licence_and_dependencies(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        assert any(n.endswith("licenses/LICENSE") for n in archive.namelist())
    assert f"\nVersion: {project['version']}\n" in metadata
    plain = [line for line in metadata.split("\n") if line.startswith("Requires-Dist: ")]
    assert len([line for line in plain if "extra ==" not in line]) == len(project["dependencies"])


def test_the_installed_package_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import wsol; from importlib.resources import files; print(wsol.__file__, *("
    code += " (files('wsol') / name).is_file() for name in "
    code += f"{['py.typed', 'methods/background.py', *PUBLISHED]}))"
    file, *there = _run(code, elsewhere, installed).split()
    assert Path(file).is_relative_to(installed)
    assert there == ["True"] * 5
