"""The dvc.yaml files, their parameter files and the notebooks fit together."""

import ast
import os
import shlex
from itertools import product
from pathlib import Path

import nbformat
import pytest
from dvc.repo import Repo

from wsol.cli import notebook as command
from wsol.notebook.parameters import (
    check_parameters,
    load_yaml,
    notebook_defaults,
    read_sections,
    read_settings,
)
from wsol.training.config import defaults_of

ROOT = Path(__file__).parents[1]
STAGES = {stage.addressing: stage for stage in Repo(os.fspath(ROOT)).index.stages}
RUNS = {
    name: command.make_context("notebook", shlex.split(stage.cmd)[2:]).params
    for name, stage in STAGES.items()
    if stage.cmd.startswith("wsol notebook ")
}
REAL = "study/real/dvc.yaml:"
EXECUTION = "execution."  # sections that say where and how fast: read, but not tracked


def params_files(name: str) -> list[Path]:
    return [ROOT / file for file in RUNS[name]["files"] or ["params.yaml"]]


def path_of(section: str) -> str:
    return section.rpartition("=")[2]


def file_of(name: str, section: str) -> Path:
    """The file from which a stage takes a section: the last that has its top level."""
    top = section.partition(".")[0]
    having = [f for f in params_files(name) if top in load_yaml(f.read_text("utf-8"))]
    return having[-1]


def deps(name: str) -> set[str]:
    return {dep.def_path for dep in STAGES[name].deps}


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_fits_its_notebook_and_depends_on_what_it_reads(name: str) -> None:
    run = RUNS[name]
    parameters = read_sections(params_files(name), run["sections"])
    parameters |= read_settings(run["settings"])
    notebook = nbformat.read(ROOT / run["notebook"], as_version=4)
    check_parameters(parameters, notebook_defaults(notebook))
    assert f"build/notebooks/{Path(run['notebook']).stem}.py" in deps(name)
    assert Path(run["out"]).as_posix() in {out.def_path for out in STAGES[name].outs}
    watched = {
        (Path(dep.fs_path), key)
        for dep in STAGES[name].deps
        for key in getattr(dep, "params", None) or []
    }
    for section in {path_of(s) for s in run["sections"] if not s.startswith(EXECUTION)}:
        file = file_of(name, section)
        parts = section.split(".")
        keys = {(file, ".".join(parts[:n])) for n in range(1, len(parts) + 1)}
        whole = not watched and file.relative_to(ROOT).as_posix() in deps(name)
        assert whole or keys & watched, section


def test_every_notebook_is_in_the_pipeline() -> None:
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    own = {"15_background_set", "60_localize_your_images", "62_your_photographs"}
    notebooks -= own  # of the user's images
    notebooks -= {"93_photographs"}  # by `make photos`
    assert {Path(run["notebook"]).stem for run in RUNS.values()} == notebooks


def test_only_the_reports_bypass_the_cache_and_licensed_data_never_enter_it() -> None:
    uncached = {n for n, s in STAGES.items() if any(not out.use_cache for out in s.outs)}
    reports = ("protocols", "study_report", "methods_report", "pages")
    own = {f"study/dvc.yaml:{name}" for name in reports}
    assert {n for n in uncached if not n.startswith(REAL)} == {
        *("report", "publish", "pages", "site"),
        *own,
    }
    real = {name: stage for name, stage in STAGES.items() if name.startswith(REAL)}
    cached = {name for name, stage in real.items() if any(out.use_cache for out in stage.outs)}
    # Weights, losses and settings.
    assert {n.removeprefix(REAL).partition("@")[0] for n in cached} == {
        "train",
        "train_with_background",
    }
    assert not [dep for name in real for dep in deps(name) if dep.startswith("data/raw")]


def test_the_real_sets_have_every_training_and_evaluation_that_the_report_asks_for() -> None:
    text = (ROOT / "study" / "params" / "real.yaml").read_text(encoding="utf-8")
    chosen = load_yaml(text)
    trained = {name for name in STAGES if name.startswith((f"{REAL}train", f"{REAL}evaluate"))}
    axes = product(chosen["datasets"], chosen["methods"], chosen["seeds"])
    keys = {f"{dataset}-{method}-{seed}" for dataset, method, seed in axes}
    assert len(trained) == 2 * len(keys)
    assert {name.partition("@")[2] for name in trained} == keys


def imported_files(code: str) -> set[str]:
    """Files of wsol that code imports when it is loaded."""
    names: set[str] = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    paths = [name.replace(".", "/") for name in names if name.startswith("wsol")]
    files = [f"{path}{end}" for path in paths for end in (".py", "/__init__.py")]
    return {file for file in files if (ROOT / file).is_file()}


def needed_files(name: str) -> set[str]:
    """Files of wsol that the notebook of a stage imports, directly or not."""
    notebook = nbformat.read(ROOT / RUNS[name]["notebook"], as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    needed: set[str] = set()
    todo = imported_files(code)
    while todo := todo - needed:
        file = todo.pop()
        needed.add(file)
        todo |= imported_files((ROOT / file).read_text(encoding="utf-8"))
    return needed


@pytest.mark.parametrize("name", [n for n in RUNS if "train" in n or "evaluate" in n])
def test_a_training_and_an_evaluation_depend_on_the_code_of_their_numbers(name: str) -> None:
    """Of data sets on images.py, of methods on their own file, and not on the report."""
    listed = {dep for dep in deps(name) if dep.startswith("wsol/")}
    needed = {
        file
        for file in needed_files(name)
        if file.startswith(("wsol/training/", "wsol/evaluation/", "wsol/backbones"))
    }
    if "train" in name:
        needed = {file for file in needed if not file.startswith("wsol/evaluation/")}
    elif "wsol/training" not in listed:  # an evaluation takes from there how a run is loaded
        needed = {file for file in needed if not file.startswith("wsol/training/")}
        assert name.startswith(REAL) or "wsol/training/runs.py" in listed
    covered = {f for f in needed if any(f == d or f.startswith(f"{d}/") for d in listed)}
    assert needed == covered
    assert not [dep for dep in listed if dep.startswith(("wsol/report", "wsol/inference"))]


@pytest.mark.parametrize("name", [n for n in RUNS if "50_change_" in STAGES[n].cmd])
def test_a_stage_that_changes_one_thing_changes_settings_that_its_methods_have(name: str) -> None:
    given = read_sections(params_files(name), RUNS[name]["sections"])
    given |= read_settings(RUNS[name]["settings"])
    assert "change" in given  # and not the default change
    notebook = nbformat.read(ROOT / RUNS[name]["notebook"], as_version=4)
    parameters = notebook_defaults(notebook) | given
    for method in parameters["methods"]:
        values = parameters["settings"] | parameters["own"].get(method, {}) | parameters["change"]
        known = defaults_of(method, values.get("combine")) | {"n_background": None}
        check_parameters(values, known)
