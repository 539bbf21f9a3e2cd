"""Configurations of the tools around the library: they parse, and name what is there."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = dict(
    re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;\\]+)",
        (ROOT / "requirements.lock").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )[::-1]  # where there are two, the first is for the oldest Python
)
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
# Made in a change of its own; the workflow knows its name already.


def _steps(workflow: str) -> list[dict]:
    return [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"]]


def _commands(workflow: str) -> list[str]:
    return [step["run"] for step in _steps(workflow) if "run" in step]


def _hooks() -> list[dict]:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    return [hook | {"repo": repo["repo"]} for repo in config["repos"] for hook in repo["hooks"]]


def test_hooks_are_modules_of_the_locked_environment() -> None:
    hooks = _hooks()
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "nbstripout"}
    for hook in hooks:
        assert (hook["repo"], hook["language"]) == ("local", "system")
        python, flag, module, *_ = shlex.split(hook["entry"])
        assert (python, flag) == ("python", "-m")
        assert module in LOCK


def test_the_hook_strips_no_notebook_as_it_is_kept() -> None:
    (hook,) = (hook for hook in _hooks() if hook["id"] == "nbstripout")
    paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")]
    kept = [path for path in paths if not re.search(hook["exclude"], path)]
    assert len(kept) == len(paths) - 1
    command = [sys.executable, *shlex.split(hook["entry"])[1:], "--verify", *kept]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_pre_commit_accepts_the_hooks() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_tests_the_checks_and_the_browser() -> None:
    commands = _commands("ci")
    assert {".ci/run", "make check", "make test-browser"} <= set(commands)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    called = {
        word
        for workflow in WORKFLOWS
        for command in _commands(workflow)
        if command.startswith("make ")
        for word in command.split()[1:]
    }
    assert called <= TARGETS


@pytest.mark.parametrize("name", ["ci", "pages"])
def test_a_workflow_starts_by_itself_with_the_oldest_python_and_few_rights(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML 1.1 reads "on" as true
    assert workflow["permissions"]["contents"] == "read"
    pythons = [s["with"]["python-version"] for s in _steps(name) if "setup-python" in str(s)]
    assert {f">={python}" for python in pythons} == {PYPROJECT["project"]["requires-python"]}
    actions = [step["uses"] for step in _steps(name) if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions)


def test_pages_publish_what_make_site_puts_together() -> None:
    (upload,) = (step for step in _steps("pages") if "upload-pages" in step.get("uses", ""))
    assert upload["with"]["path"] == "build/site"
    assert "make site" in _commands("pages")
    index = (ROOT / ".github" / "pages" / "index.html").read_text(encoding="utf-8")
    links = set(re.findall(r'(?:href|src)="(.*?)"', index))
    assert {"api/index.html", "reports/index.html"} == links | {"reports/index.html"}
    assert "url=reports/index.html" in index  # it leads on to the report


def test_the_header_of_the_makefile_names_its_targets() -> None:
    named = set(re.findall(r"^# make ([a-z-]+)", MAKEFILE, flags=re.MULTILINE))
    assert named == TARGETS - {"setup"}


def test_the_dev_container_sets_up_the_environment_of_make() -> None:
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    container = json.loads(text)
    assert container["image"].startswith("python:3.11")
    assert container["postCreateCommand"] == "make setup"
    assert container["forwardPorts"] == [8888]


def test_binder_has_the_locked_versions_of_what_notebooks_need() -> None:
    text = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(.+)$", text, flags=re.MULTILINE))
    wanted = {re.match(r"[a-z0-9-]+", line)[0] for line in PYPROJECT["project"]["dependencies"]}
    assert set(pins) == wanted - {"dvc", "jupyterlab"} | {"setuptools"}
    assert {name: pin.removesuffix("+cpu") for name, pin in pins.items()} == {
        name: LOCK[name] for name in pins
    }
    assert {name for name, pin in pins.items() if pin.endswith("+cpu")} == {"torch", "torchvision"}
    runtime = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    assert runtime.replace("python-", ">=") == PYPROJECT["project"]["requires-python"]
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)


def test_mypy_looks_at_all_of_wsol_and_its_exceptions_exist() -> None:
    mypy = PYPROJECT["tool"]["mypy"]
    assert mypy["files"] == ["wsol"]
    assert mypy["check_untyped_defs"]
    named = [name for override in mypy["overrides"] for name in override["module"]]
    own = [name for name in named if name == "wsol" or name.startswith("wsol.")]
    for name in own:
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
    silenced = [o for o in mypy["overrides"] if "disable_error_code" in o]
    assert len(silenced) < 10


def _imported(path: Path, names: set[str]) -> set[str]:
    """Modules of wsol that a file imports when it is loaded."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & names


def test_imports_go_one_way() -> None:
    """No circle; data sets and methods know nothing of each other, nor of what uses them."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "wsol").rglob("*.py")
    }
    graph = {name: _imported(path, set(files)) - {name} for name, path in files.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(files)  # a circle raises

    def outside(package: str) -> set[str]:
        inner = {name for name in files if f"{name}.".startswith(f"{package}.")}
        return {needed for name in inner for needed in graph[name]} - inner

    assert outside("wsol.datasets") == {"wsol.paths"}
    assert outside("wsol.methods") == {"wsol.training.distributed", "wsol.backbones", "wsol.paths"}


def test_the_guide_for_contributors_names_files_and_names_that_there_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = "wsol|tests|params|study|notebooks|data"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]+)`", text))
    named |= set(re.findall(r"\]\(([^)#:]+)", text))
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    for file, names in {
        "wsol/report/names.py": ["METHODS"],
        "wsol/report/figures.py": ["METHOD_STYLE"],
        "wsol/search.py": ["SPACE"],
        "wsol/report/format.py": ["HEADERS"],
        "wsol/datasets/prepare.py": ["KINDS", "UNPACK"],
    }.items():
        code = (ROOT / file).read_text(encoding="utf-8")
        assert all(f"\n{name}" in code and f"`{name}`" in text for name in names), file


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["type"] in {"software", "dataset"}
    assert citation["license"] == PYPROJECT["project"]["license"]
    for work in (citation, *citation["references"]):
        assert work["title"]
        assert all("name" in a or {"family-names", "given-names"} & set(a) for a in work["authors"])
    assert all(
        {"type", "value"} <= set(i) for r in citation["references"] for i in r["identifiers"]
    )


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert versions[0] == PYPROJECT["project"]["version"]
