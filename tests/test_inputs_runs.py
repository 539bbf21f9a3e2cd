"""Runs, tables and score maps that do not belong together, or look right and are not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbconvert.filters import markdown2html
from papermill import execute_notebook

import wsol
from wsol.baselines.few_shot import FewShotConfig, evaluate_few_shot
from wsol.baselines.posthoc import evaluate_posthoc
from wsol.datasets.index import INDEX, TEST, read_index, rows_of, write_index
from wsol.evaluation.compare import evaluate_protocols
from wsol.evaluation.heatmaps import ScoreMapError, open_score_maps
from wsol.evaluation.run import evaluate_run
from wsol.evaluation.table import LocalizationTable
from wsol.inference import explorer
from wsol.inference.published import model_card, publish
from wsol.report.style import style
from wsol.training import FOLDER

IMAGE = np.zeros((40, 40, 3), np.uint8)
EVALUATIONS = {
    "evaluate": lambda weights, index, root: evaluate_run(weights, index, root),
    "protocols": lambda weights, index, root: evaluate_protocols(weights, index, root),
    "posthoc": lambda weights, index, root: evaluate_posthoc(weights, index, root, ()),
    "few-shot": lambda weights, index, root: evaluate_few_shot(
        weights, index, root, FewShotConfig(epochs=1)
    ),
}


def exchanged(index):
    """The first two classes under each other's label."""
    names = index["class_name"].unique()[:2]
    return index.assign(
        class_name=index["class_name"].replace(dict(zip(names, names[::-1], strict=True)))
    )


def one_more(index):
    """A class that the run has not learned."""
    return index.assign(label=index["label"].where(index["label"] > 0, index["label"].max() + 1))


def renamed(index):
    """The classes of another data set."""
    return index.assign(class_name="Other " + index["class_name"])


@pytest.mark.parametrize("change", [exchanged, one_more, renamed])
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_a_run_is_not_evaluated_on_other_classes(evaluation, change, tiny_runs):
    index = change(read_index(tiny_runs / "birds" / INDEX))
    weights = tiny_runs / "train" / "cam-0" / "weights.safetensors"
    with pytest.raises(ValueError, match=r"the data set has '.+' under label \d+, but .* learned"):
        EVALUATIONS[evaluation](weights, index, tiny_runs / "birds")


def test_names_of_another_data_set_are_not_given_to_boxes(tiny_runs, tmp_path):
    write_index(renamed(read_index(tiny_runs / "birds" / INDEX)), tmp_path / INDEX)
    with pytest.raises(ValueError, match="a run belongs to the data set that it was trained on"):
        wsol.localize(IMAGE, tiny_runs / "train" / "cam-0", data=tmp_path)


def test_some_classes_of_the_data_set_are_enough(tiny_runs):
    index = read_index(tiny_runs / "birds" / INDEX)
    few = index[index["label"].isin(sorted(index["label"].unique())[:3])]
    weights = tiny_runs / "train" / "cam-0" / "weights.safetensors"
    tables = evaluate_run(weights, few, tiny_runs / "birds").tables
    assert len(tables["class", TEST].rows) == (few["split"] == TEST).sum()


def test_a_threshold_belongs_to_weights_and_not_to_a_name(tiny_runs, tmp_path):
    """A run of one's own beside the pipeline's tables of the same name."""
    run = tmp_path / "train" / "cam-0"
    shutil.copytree(tiny_runs / "train" / "background-0", run)
    shutil.copytree(tiny_runs / "evaluate" / "cam-0", tmp_path / "evaluate" / "cam-0")
    with pytest.raises(ValueError, match=r"cam-0-class-train-fullsup.npz does not belong to"):
        wsol.localize(IMAGE, run)
    assert len(wsol.localize(IMAGE, run, tau=0.5)) == 1
    with pytest.raises(ValueError, match="does not belong to"):
        publish(run, tmp_path / "evaluate" / "cam-0" / "localization", tmp_path)


def test_thresholds_of_a_published_run_belong_to_its_weights(tiny_runs, tmp_path):
    shutil.copytree(FOLDER / "birds" / "cam-0", tmp_path / "mine")
    assert wsol.localize(IMAGE, tmp_path / "mine")
    weights = tiny_runs / "train" / "cam-0" / "weights.safetensors"
    shutil.copy(weights, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"boxes.json does not belong to"):
        wsol.localize(IMAGE, tmp_path / "mine")


def test_tables_of_other_images_are_not_explored(tiny_runs, tmp_path):
    index = read_index(tiny_runs / "birds" / INDEX)
    first = rows_of(index, TEST)["image_id"][0]
    write_index(index[index["image_id"] != first], tmp_path / INDEX)
    with pytest.raises(ValueError, match="of other images"):
        explorer.open_gallery([tiny_runs / "evaluate" / "cam-0"], tmp_path)


def spike(value: float, dtype: str = "float32") -> np.ndarray:
    array = np.full((224, 224), 0.5, dtype)
    array[3, 4] = value
    return array


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (spike(1 + 2e-7), 1.0),
        (spike(1 + 9e-6, "float64"), 1.0),
        (spike(-9e-6), 0.0),
        (spike(1), 1.0),
        (spike(1, "float16"), 1.0),
        (spike(1, ">f4"), 1.0),
        (spike(1.001), "to 1.001, not in"),
        (spike(-0.001), "from -0.001"),
        (spike(1.0002, "float64"), "to 1.0002, not in"),
        (spike(255), "to 255"),
        (spike(np.nan), "1 of 50176 values are NaN"),
        (spike(np.inf), "1 of 50176 values are NaN or infinite"),
        (spike(1).astype(np.uint8), "divide grey levels by 255"),
        (spike(1).astype(bool), "not bool"),
        (spike(1).astype(np.int64), "not int64"),
        (spike(1).astype(np.complex64), "not complex64"),
        (spike(1).astype(np.longdouble), "write them as float32 or float64"),
        (spike(1).astype(str), "not <U"),
        (spike(1)[None], r"two dimensions \(H, W\)"),
        (spike(1)[:0], r"two dimensions \(H, W\)"),
        (np.float32(1), r"two dimensions \(H, W\)"),
    ],
    ids=str,
)
def test_score_maps_are_used_or_refused(array, expected, tmp_path):
    np.save(tmp_path / "a.jpg.npy", array)
    maps = open_score_maps(tmp_path, ["a.jpg"])
    if isinstance(expected, str):
        with pytest.raises(ScoreMapError, match=expected):
            maps[0]
    else:
        assert maps[0][3, 4] == expected
        assert maps[0].dtype == np.float64


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a*b*", "[x](javascript:y)", "a | b", "`x`", "a & b"]
)
def test_class_names_are_text_in_model_cards(name):
    tables = Path(__file__).parents[1] / "reports" / "localization" / "evaluate"
    test = {"class": LocalizationTable.load(tables / "cam-0-class-test.npz")}
    run = json.loads((FOLDER / "birds" / "cam-0" / "run.json").read_text("utf-8"))
    boxes = {"class": {"read_out": "raw", "tau": 0.5}}
    card = model_card("mine", run | {"class_names": [name, "b"]}, test, boxes, "0")
    html = markdown2html(card)
    line = next(line for line in html.splitlines() if "Classes: " in line)
    shown = line.partition("Classes: ")[2]
    assert shown.startswith(name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


@pytest.mark.parametrize("name", ["$alpha", "$x$", r"$\frac{1}$", "a $5 bird, a $6 bird"])
def test_class_names_are_text_in_figures(name):
    with style():
        figure, axes = plt.subplots()
        title = axes.set_title(name)
        figure.canvas.draw()
    assert not title.get_parse_math()
    plt.close(figure)


LINES = ["cam-0 epoch 1", "cam-0 epoch 2"]


@pytest.mark.parametrize(("disabled", "lines"), [("", LINES), ("0", LINES), ("1", [])])
def test_a_log_file_gets_lines_and_no_bar(disabled, lines):
    code = (
        "from wsol.datasets.progress import ProgressBar\n"
        "for i in (bar := ProgressBar(range(2), desc='cam-0')): bar.report(f'epoch {i + 1}')\n"
        "list(ProgressBar(range(2), show=False))"
    )
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "TQDM_DISABLE": disabled}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == lines


def test_the_notebook_on_the_data_needs_neither_masks_nor_background(tiny_runs, tmp_path):
    """Of the drawn birds without their masks, background images, and boxes in training."""
    shutil.copytree(tiny_runs / "birds", tmp_path / "birds")
    shutil.rmtree(tmp_path / "birds" / "background")
    index = read_index(tmp_path / "birds" / INDEX)
    boxes = index["boxes"].where(index["split"] != "train-weaksup", "")
    write_index(index.assign(mask="", boxes=boxes), tmp_path / "birds" / INDEX)
    notebook = Path(__file__).parents[1] / "notebooks" / "20_look_at_data.ipynb"
    values = {"data": str(tmp_path / "birds"), "n_shown": 4}
    execute_notebook(notebook, tmp_path / "out.ipynb", values, kernel_name="python3")
    (printed,) = [
        output["text"]
        for cell in json.loads((tmp_path / "out.ipynb").read_text("utf-8"))["cells"]
        for output in cell.get("outputs", ())
        if "Objects cover" in str(output.get("text"))
    ]
    assert "of the test images" in "".join(printed)
