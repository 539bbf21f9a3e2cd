"""What every notebook of this repository keeps to."""

import re
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from wsol.methods import METHODS, get_method
from wsol.notebook.parameters import ParameterError, notebook_defaults
from wsol.training.config import Execution, TrainConfig

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=nbformat.NO_CONVERT)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_valid_stripped_and_short(name: str) -> None:
    notebook = NOTEBOOKS[name]
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = _code(notebook)
    assert len(cells) <= 12
    # Outputs that the tests compare are kept, see `nbval-check-output`.
    loose = [cell for cell in cells if "nbval-check-output" not in cell.metadata.get("tags", [])]
    assert [cell.id for cell in loose if cell.outputs or cell.execution_count] == []


def test_the_notebook_that_teaches_the_metrics_is_compared_with_its_outputs() -> None:
    cells = _code(NOTEBOOKS["42_metrics"])
    checked = [c for c in cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(checked) >= 6
    assert all(cell.outputs for cell in checked)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_asks_a_question_and_links_the_next(name: str) -> None:
    first, last = NOTEBOOKS[name].cells[0], NOTEBOOKS[name].cells[-1]
    assert re.match(r"# .+\?\n", first.source)
    for link in re.findall(r"\]\((.+?\.ipynb)\)", last.source):
        assert (ROOT / "notebooks" / link).is_file()
    assert ".ipynb)" in last.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_figure_has_an_alternative_text(name: str) -> None:
    """Also one that only other parameters draw."""
    drawing = [
        cell for cell in _code(NOTEBOOKS[name]) if re.search(r"^ +save\(", cell.source, re.M)
    ]
    assert [cell.id for cell in drawing if not cell.metadata.get("alt")] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_defaults_are_literals_and_stay_below_the_smoke_folder(name: str) -> None:
    """Or name a published run or a file of the repository, which are only read."""
    defaults = notebook_defaults(NOTEBOOKS[name])
    assert defaults  # derived values would raise
    paths = [value for value in defaults.values() if isinstance(value, str) and "/" in value]
    read = (ROOT / "wsol" / "published", ROOT)
    inside = [
        path.startswith("runs/smoke") or any((p / path).exists() for p in read) for path in paths
    ]
    assert all(inside), paths


FIELDS = "__dataclass_fields__"
NESTED = {"method_config", "combine_config"}  # a notebook gives their entries, flat


def test_every_setting_of_a_training_is_a_parameter_of_the_notebook_that_trains() -> None:
    configs = [TrainConfig, Execution, *(get_method(method).Config for method in METHODS)]
    wanted = {field.name for config in configs for field in fields(config)} - NESTED
    assert wanted <= set(notebook_defaults(NOTEBOOKS["30_train"]))


def test_no_two_methods_have_a_setting_of_the_same_name() -> None:
    """A notebook hands over all its parameters, and each method takes its own or inherited ones."""
    configs = [get_method(method).Config for method in METHODS]
    names = [
        field.name
        for config in configs
        for field in fields(config)
        if not any(field.name in getattr(base, FIELDS, ()) for base in config.__bases__)
    ]
    assert len(names) == len(set(names))
    assert set(names).isdisjoint(field.name for field in fields(TrainConfig))


def test_the_index_of_the_notebooks_has_each_with_its_question() -> None:
    index = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    for name, notebook in NOTEBOOKS.items():
        question = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
        assert f"| [{name}]({name}.ipynb) | {question} |" in index


@pytest.mark.parametrize(
    "given",
    [{"change": {"mask_wieght": 3}}, {"settings": {"epoch": 3}}, {"own": {"background": {"x": 1}}}],
)
def test_an_ablation_refuses_a_setting_that_would_change_nothing(given: dict) -> None:
    parameters, imports, _, training, *_ = _code(NOTEBOOKS["50_change_one_thing"])
    variables: dict = {"folder": ROOT / "nowhere", "index": None}
    for code in (parameters.source, imports.source):
        exec(code, variables)
    with pytest.raises(ParameterError, match=r"there is no parameter '(mask_wieght|epoch|x)'"):
        exec(training.source, variables | given)
