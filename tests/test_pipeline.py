"""The dvc.yaml files, their params files and the notebooks fit together."""

import ast
import os
import shlex
from itertools import product
from pathlib import Path

import nbformat
import pytest
from dvc.repo import Repo

from wsol import notebook as runner
from wsol import notebook as yaml12
from wsol.notebook import notebook_code

ROOT = Path(__file__).parents[1]
STAGES = {stage.addressing: stage for stage in Repo(os.fspath(ROOT)).index.stages}
RUNS = {
    name: runner.parse_arguments(shlex.split(stage.cmd)[3:])
    for name, stage in STAGES.items()
    if stage.cmd.startswith("python -m wsol.notebook ")
}

# Modules that change no number of a training or an evaluation, only how it is shown or found.
FINDING = {"wsol/__init__.py", "wsol/paths.py", "wsol/smoke.py", "wsol/datasets/__init__.py"}
SHOWING = {
    "wsol/report/examples.py",
    "wsol/report/data_figures.py",
    "wsol/report/names.py",
    "wsol/report/figures.py",
}
SHOWS = (
    "look",
    "explain",
    "report",
    "study/dvc.yaml:study_report",
    "study/dvc.yaml:methods_report",
    *(f"study/real/dvc.yaml:report@{dataset}" for dataset in ("cub", "ilsvrc", "openimages")),
)  # stages whose result is what they show


EXECUTION = "execution."  # sections that say where and how fast: read, and no reason to run again


def _params_files(name: str) -> list[Path]:
    return [ROOT / file for file in RUNS[name].params_files or ["params.yaml"]]


def _file_of(name: str, section: str) -> Path:
    """The params file from which a stage takes a section: the last that has its top level."""
    top = section.partition(".")[0]
    having = [f for f in _params_files(name) if top in yaml12.load(f.read_text(encoding="utf-8"))]
    return having[-1]


def _deps(name: str) -> set[str]:
    return {dep.def_path for dep in STAGES[name].deps}


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_gives_its_notebook_parameters_that_fit(name: str) -> None:
    run = RUNS[name]
    parameters = runner.read_sections(_params_files(name), run.section)
    parameters |= runner.read_settings(run.set)
    notebook = nbformat.read(ROOT / run.notebook, as_version=4)
    runner.check_parameters(parameters, runner.notebook_defaults(notebook))


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_depends_on_its_code_and_on_the_parameters_it_reads(name: str) -> None:
    run = RUNS[name]
    assert f"build/notebooks/{run.notebook.stem}.py" in _deps(name)
    watched = {
        (Path(dep.fs_path), key)
        for dep in STAGES[name].deps
        for key in getattr(dep, "params", None) or []
    }
    sections = {section for section in run.section if not section.startswith(EXECUTION)}
    assert watched == {(_file_of(name, section), section) for section in sections}


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_keeps_the_executed_notebook_with_its_results(name: str) -> None:
    assert RUNS[name].out.as_posix() in {out.def_path for out in STAGES[name].outs}


def test_every_notebook_is_in_the_pipeline() -> None:
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    # The user's pictures are no part of the study.
    notebooks -= {"14_prepare_folder", "15_background_set", "60_localize_your_images"}
    assert {run.notebook.stem for run in RUNS.values()} == notebooks
    outs = {Path(out.def_path).stem for out in STAGES["notebook_code"].outs}
    assert outs == notebooks


REAL = "study/real/dvc.yaml:"


def test_of_the_study_only_the_reports_bypass_the_cache() -> None:
    uncached = {
        name
        for name, stage in STAGES.items()
        if not name.startswith(REAL) and any(not out.use_cache for out in stage.outs)
    }
    reports = ("protocols", "study_report", "methods_report", "render")
    own = {f"study/dvc.yaml:{name}" for name in reports}
    assert uncached == {"report", "publish", "render", "site", *own}


def test_nothing_of_a_licensed_data_set_enters_the_cache() -> None:
    real = {name: stage for name, stage in STAGES.items() if name.startswith(REAL)}
    cached = {name: stage for name, stage in real.items() if any(o.use_cache for o in stage.outs)}
    assert {name.removeprefix(REAL).partition("@")[0] for name in cached} == {
        "train",  # weights, losses, settings
        "train_with_background",
    }
    deps = {dep for name in real for dep in _deps(name)}
    assert not [dep for dep in deps if dep.startswith("data/raw")]


def test_the_real_sets_have_every_training_and_evaluation_that_the_report_asks_for() -> None:
    chosen = yaml12.load((ROOT / "params" / "real.yaml").read_text(encoding="utf-8"))
    trained = {name for name in STAGES if name.startswith((f"{REAL}train", f"{REAL}evaluate"))}
    axes = product(chosen["datasets"], chosen["methods"], chosen["seeds"])
    keys = {f"{dataset}-{method}-{seed}" for dataset, method, seed in axes}
    assert chosen["seeds"] == [0, 1, 2]
    assert len(trained) == 2 * len(keys)
    assert {name.partition("@")[2] for name in trained} == keys


def _module_file(name: str) -> str | None:
    """The file of a module of wsol, from the root of the project, if there is one."""
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.relative_to(ROOT).as_posix()
    return None


def _imports(code: str) -> set[str]:
    """Files of wsol that code imports when it is loaded; imports inside functions do not count."""
    names: set[str] = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {file for name in names if name.startswith("wsol") and (file := _module_file(name))}


def _needed(code: str, leave: set[str]) -> set[str]:
    """Files of wsol that code needs, directly or not, without those to leave and what they need."""
    needed, todo = set(), _imports(code)
    while todo := todo - needed - leave:
        file = todo.pop()
        needed.add(file)
        todo |= _imports((ROOT / file).read_text(encoding="utf-8"))
    return needed


def _methods(name: str) -> set[str]:
    """Methods that a stage trains or evaluates."""
    run = RUNS[name]
    values = runner.read_sections(_params_files(name), run.section)
    values |= runner.read_settings(run.set)
    if "method" in values:
        return {values["method"], values.get("combine", values["method"])}
    if "run" in values:  # a folder that ends in <method>-<seed>
        return {Path(values["run"]).name.rpartition("-")[0]}
    return {"background"} if name.startswith("ablate@") else {"cam", "background"}


@pytest.mark.parametrize("name", RUNS)
def test_a_stage_depends_on_the_modules_that_its_numbers_follow_from(name: str) -> None:
    leave = set(FINDING)
    if name not in SHOWS:
        leave |= SHOWING
    needed = _needed(notebook_code(ROOT / RUNS[name].notebook), leave)
    if "wsol/methods/__init__.py" in needed:  # it loads the methods by their names
        methods = "".join(f"import wsol.methods.{method}\n" for method in _methods(name))
        needed |= _needed(methods, leave)
    needed = {"wsol/datasets/birds" if "/birds/" in file else file for file in needed}
    own = {dep for dep in _deps(name) if dep.startswith("wsol/")}
    assert own - {"wsol/published/birds"} == needed
