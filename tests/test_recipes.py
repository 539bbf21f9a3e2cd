"""study/params/: recipes from public sources and settings of the real data sets load."""

from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from wsol.datasets.sources import FOLDERS
from wsol.methods import get_method
from wsol.notebook.parameters import check_parameters, load_yaml, notebook_defaults, read_sections
from wsol.training.config import Execution, TrainConfig, config_from, execution_from

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "study" / "params"
RECIPES = sorted((PARAMS / "recipes").glob("*.yaml"))
SETS = ("cub", "ilsvrc", "openimages")


def _known(method: str) -> set[str]:
    of_method = {field.name for field in fields(get_method(method).Config)}
    return {field.name for field in fields(TrainConfig)} - {"method_config"} | of_method


def test_there_is_a_recipe_for_each_data_set_and_network() -> None:
    cam = {f"{d}-cam-{b}" for d in SETS for b in ("vgg16", "resnet50", "inceptionv3")}
    assert {path.stem for path in RECIPES} == cam | {f"{d}-background-resnet50" for d in SETS}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_training_with_nothing_unknown_in_it(path: Path) -> None:
    values = read_sections([path], ["recipe"])
    config = config_from(values)
    _, method, network = path.stem.split("-")
    assert config.method == method
    assert config.backbone.partition("-")[0] == network
    assert set(values) <= _known(method)
    assert {"learning_rate", "weight_decay", "epochs", "batch_size", "schedule"} <= set(values)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_notebook_of_a_training_takes_a_recipe(path: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "30_train.ipynb", as_version=4)
    check_parameters(read_sections([path], ["recipe"]), notebook_defaults(notebook))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_its_source_or_says_that_there_is_none(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("recipe:")[0]
    assert head.count("# Source: ") == 1
    ours = "-background-" in path.stem
    assert ("# Source: none." in head and "Not measured" in head) == ours
    assert ours or "github.com/" in head


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("method", ["cam", "background"])
def test_the_study_trains_by_the_recipe_for_resnet50(dataset: str, method: str) -> None:
    values = read_sections([PARAMS / f"{dataset}.yaml"], ["train", method])
    assert set(values) <= _known(method)
    recipe = read_sections([PARAMS / "recipes" / f"{dataset}-{method}-resnet50.yaml"], ["recipe"])
    threads = {"threads": values["threads"]}  # on a GPU it decides nothing
    assert config_from(values | {"method": method}) == config_from(recipe | threads)


@pytest.mark.parametrize("dataset", SETS)
def test_execution_has_a_section_of_its_own_with_nothing_unknown(dataset: str) -> None:
    values = read_sections([PARAMS / f"{dataset}.yaml"], ["execution.common", "execution.train"])
    assert set(values) == {field.name for field in fields(Execution)}
    assert execution_from(values).processes == 1


@pytest.mark.parametrize("dataset", SETS)
def test_data_sets_are_looked_for_where_the_readme_puts_them(dataset: str) -> None:
    prepare = read_sections([PARAMS / f"{dataset}.yaml"], ["prepare"])
    names = {"images": "fullsup_images"}
    assert {names.get(k, k): v for k, v in FOLDERS[dataset].items()}.items() <= prepare.items()
    assert prepare["out"] == f"data/{dataset}"
    chosen = load_yaml((PARAMS / "real.yaml").read_text(encoding="utf-8"))
    assert dataset in chosen["datasets"]
