"""What a run says of its origin: versions, platform, and the commit where there is one."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from wsol.training.runs import git_commit, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", "-C", str(folder), *identity, "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A repository with one commit, taken for the project's."""
    folder = tmp_path / "my clone"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file.txt").write_text("first\n")
    git(folder, "add", "file.txt")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr("wsol.project_root", lambda: folder)
    return folder


def test_a_clean_clone_gives_its_commit(clone):
    assert git_commit() == git(clone, "rev-parse", "HEAD")


def test_a_changed_file_is_marked_and_a_new_one_is_not(clone):
    (clone / "results.txt").write_text("untracked")
    assert not git_commit().endswith("+")
    (clone / "file.txt").write_text("second\n")
    assert git_commit() == git(clone, "rev-parse", "HEAD") + "+"
    git(clone, "add", "file.txt")  # staged is not committed
    assert git_commit().endswith("+")


def test_outside_a_clone_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr("wsol.project_root", lambda: tmp_path)
    assert git_commit() == "unknown"


def test_without_git_the_commit_is_unknown(clone, monkeypatch):
    monkeypatch.setenv("PATH", str(clone))
    assert git_commit() == "unknown"


def test_provenance_names_versions_and_is_json(clone):
    record = json.loads(json.dumps(provenance()))
    assert set(record) == {"packages", "python", "platform", "git_commit"}
    assert record["packages"]["torch"] == version("torch")
    assert record["packages"]["numpy"] == version("numpy")


def test_provenance_names_no_machine_and_no_folder(clone):
    text = json.dumps(provenance())
    assert str(clone) not in text
    assert str(Path.home()) not in text
