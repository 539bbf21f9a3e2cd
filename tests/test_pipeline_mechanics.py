"""What makes a stage stale and what does not, in a toy project with a space in its path."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

PARAMS = """\
first:
  factor: 1e-1
second:
  word: no
"""

PIPELINE = """\
stages:
  notebook_code:
    cmd: python -m nbconvert --log-level WARN --to python --no-prompt
      --TemplateExporter.exclude_markdown=True --output-dir build/notebooks notebooks/*.ipynb
    deps: [notebooks]
    outs: [build/notebooks]
  first:
    cmd: python -m wsol.cli notebook notebooks/first.ipynb runs/first.ipynb
      --section first --set "out=runs/a file.txt"
    deps: [build/notebooks/first.py]
    params: [first]
    outs: [runs/a file.txt]
  second:
    cmd: python -m wsol.cli notebook notebooks/second.ipynb runs/second.ipynb --section second
    deps: [build/notebooks/second.py, runs/a file.txt]
    params: [second]
    outs: [runs/second.txt]
"""

FIND_ROOT = "from wsol import project_root\nroot = project_root()"
NOTEBOOKS = {
    "first": (
        'factor: float = 1.0  # times ten\nout = "runs/a file.txt"',
        '(root / "runs").mkdir(exist_ok=True)\n_ = (root / out).write_text(str(10 * factor))',
    ),
    "second": (
        'word = ""',
        'text = (root / "runs/a file.txt").read_text()\n'
        '_ = (root / "runs/second.txt").write_text(f"{word} {text}")',
    ),
}


def _run(project: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a module of this interpreter in the project, as the Makefile does."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "DVC_SITE_CACHE_DIR": str(project / "site cache"),
    }
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _repro(project: Path) -> list[str]:
    """Return the names of the stages that `dvc repro` ran."""
    done = _run(project, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"Running stage '(.+)'", done.stdout)


def _edit(project: Path, name: str, change: Callable[[nbformat.NotebookNode], object]) -> None:
    path = project / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Make the toy project and reproduce it once; return it and the stages that ran."""
    project = tmp_path_factory.mktemp("pipeline") / "toy project"
    (project / "notebooks").mkdir(parents=True)
    for name, (parameters, code) in NOTEBOOKS.items():
        cells = [
            new_markdown_cell(f"# The {name} notebook"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            new_code_cell(FIND_ROOT),
            new_code_cell(code),
        ]
        nbformat.write(new_notebook(cells=cells), project / "notebooks" / f"{name}.ipynb")
    (project / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (project / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    shutil.copy(ROOT / ".dvcignore", project)
    (project / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", project / ".dvc")
    no_scm = "[core]\n    no_scm = true\n"  # what `make` writes where there is no Git
    (project / ".dvc" / "config.local").write_text(no_scm, encoding="utf-8")
    return project, _repro(project)


@pytest.fixture
def project(built: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """Return a copy of the project, everything up to date."""
    return Path(shutil.copytree(built[0], tmp_path / "toy project"))


def test_repro_runs_every_stage_in_order_and_gives_parameters_their_types(
    built: tuple[Path, list[str]],
) -> None:
    project, ran = built
    assert ran == ["notebook_code", "first", "second"]
    assert (project / "runs" / "second.txt").read_text() == "no 1.0"


def test_prose_metadata_running_and_saving_make_nothing_stale_but_the_cleaning(
    project: Path,
) -> None:
    assert _repro(project) == []  # a second time, there is nothing to do

    def restyle(notebook: nbformat.NotebookNode) -> None:
        notebook.cells[0].source += "\n\nA sentence more."
        notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
        notebook.cells[3].metadata["collapsed"] = True

    _edit(project, "first", restyle)
    execute = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace")
    done = _run(project, *execute, str(project / "notebooks" / "second.ipynb"))
    assert done.returncode == 0, done.stderr
    cells = json.loads((project / "notebooks" / "second.ipynb").read_text())["cells"]
    assert cells[-1]["execution_count"] == 3
    assert _repro(project) == ["notebook_code"]


def test_code_reruns_its_stage_and_what_follows(project: Path) -> None:
    def double(notebook: nbformat.NotebookNode) -> None:
        notebook.cells[3].source = notebook.cells[3].source.replace("10", "20")

    _edit(project, "first", double)
    assert _repro(project) == ["notebook_code", "first", "second"]
    assert (project / "runs" / "second.txt").read_text() == "no 2.0"


def test_a_parameter_reruns_the_stages_that_use_it(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("no", "yes"), encoding="utf-8")
    assert _repro(project) == ["second"]
    assert (project / "runs" / "second.txt").read_text() == "yes 1.0"


def test_a_cell_that_raises_fails_the_stage_and_leaves_the_notebook_to_read(project: Path) -> None:
    def spoil(notebook: nbformat.NotebookNode) -> None:
        notebook.cells[3].source = 'print("so far")\nraise ValueError("no box in this image")'

    _edit(project, "second", spoil)
    done = _run(project, "dvc", "repro")
    assert done.returncode != 0
    assert "second.ipynb: cell [4] raised ValueError: no box in this image" in done.stderr
    assert not (project / "runs" / "second.ipynb").exists()
    left = nbformat.read(project / "runs" / "second.failed.ipynb", as_version=4)
    outputs = left.cells[-1].outputs
    assert [output.output_type for output in outputs] == ["stream", "error"]
