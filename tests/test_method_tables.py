"""All methods side by side: crossed tables, object sizes, and the figures."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from committed import skip_unless_committed

from wsol.evaluation.metrics import error_curve, evaluate
from wsol.evaluation.table import LevelBoxes, LocalizationTable
from wsol.report import figures
from wsol.report.names import METHODS
from wsol.report.study import N_BINS, crossed, error_by_size, methods_table, write_crossed
from wsol.report.style import METHOD_STYLE
from wsol.report.tables import in_order, per_run, read_pairs, row_name

N = 40
TAUS = np.array([0.0, 0.5])


def table(method: str, kind: str, right: np.ndarray, ranks: np.ndarray, split: str = "test"):
    """N images with squares of 20 to 98 pixels; at tau = .5 those of `right` have a right box."""
    iou = np.stack([np.zeros(N), np.where(right, 0.8, 0.2)], axis=1)
    rows = pd.DataFrame({"image_id": [f"{i:02d}" for i in range(N)], "label": 0})
    rows = rows.assign(prediction=np.minimum(ranks, 1), rank=ranks)
    sides = 20 + 2 * np.arange(N)
    truth = np.stack([np.zeros(N), np.zeros(N), sides, sides], axis=1).astype(np.int16)
    boxes = LevelBoxes(
        np.zeros((N, 256, 4), np.uint8), np.full(N, 255, np.uint8), truth, np.ones(N, np.int16)
    )
    meta = {"method": method, "map": kind, "dataset": "d", "backbone": "b", "seed": "0"}
    return LocalizationTable(
        rows, TAUS, iou, iou, meta=meta | {"split": split, "protocol": "p"}, level_boxes=boxes
    )


RIGHT = np.arange(N) >= 10  # the larger three quarters
RANKS = np.where(np.arange(N) % 4 == 0, 2, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("test", "train-fullsup"):
        for method, kind, right, ranks in (
            ("cam", "class", ~RIGHT, RANKS),
            ("background", "foreground", RIGHT, np.zeros(N, int)),
        ):
            name = f"{method}-0-{kind}-{split}.npz"
            table(method, kind, right, ranks, split).save(tmp_path / "evaluate" / name)
    return tmp_path


def test_crossed_tables_have_the_boxes_of_one_and_the_classes_of_the_other(folder: Path) -> None:
    write_crossed(folder / "evaluate", [0])
    runs = per_run(folder).set_index("method")
    row = runs.loc["CAM's class, box of the foreground map"]
    assert row["gt_known_loc_error"] == 25  # of the foreground map
    assert row["cls_error"] == 25  # of CAM
    either = 100 * (~RIGHT | (RANKS > 0)).mean()
    assert row["top1_loc_error"] == pytest.approx(either)


def test_tables_of_other_images_are_not_crossed() -> None:
    a = table("background", "foreground", RIGHT, RANKS)
    b = table("cam", "class", RIGHT, RANKS)
    b.rows["image_id"] = b.rows["image_id"].to_numpy()[::-1]
    with pytest.raises(ValueError, match="not about the same images"):
        crossed(a, b)


def test_error_by_size_puts_as_many_images_into_every_group(folder: Path) -> None:
    sizes = error_by_size(folder)
    assert (sizes["n_images"] == N // N_BINS).all()
    foreground = sizes[sizes["method"] == "Background images: foreground map"]
    assert foreground["gt_known_loc_error"].tolist() == [100, 0, 0, 0]
    assert foreground["size_low"].iloc[0] == pytest.approx(100 * 20**2 / 224**2)
    assert foreground["size_high"].iloc[-1] == pytest.approx(100 * 98**2 / 224**2)
    cam = sizes[sizes["method"] == "CAM"]
    overall = evaluate(*[table("cam", "class", ~RIGHT, RANKS)] * 2)["gt_known_loc_error"]
    assert cam["gt_known_loc_error"].mean() == overall


def test_figures_show_every_row_the_same_way_each_time(folder: Path, tmp_path: Path) -> None:
    sizes, runs = error_by_size(folder), methods_table(per_run(folder), {"CAM": 12}, {"CAM": 7})
    added = runs.set_index("method")[["search_trials", "parameters"]]
    assert added.loc["CAM"].tolist() == [12, 7]
    assert added.loc["Background images: foreground map"].isna().all()
    names = ["CAM", "Background images: foreground map"]
    pairs = [pair for pair in read_pairs(folder / "evaluate")]
    curves = [(row_name(pair[0]), error_curve(pair[0]), 0.5) for pair in pairs]
    losses = pd.DataFrame({"method": ["CAM"] * 3, "seed": 0, "epoch": [1, 2, 3]})
    losses = losses.assign(loss=[3.0, 2, 1], class_loss=[2.0, 1, 0.5])
    drawn = {
        "sizes": lambda: figures.error_by_size(sizes, names),
        "tau": lambda: figures.error_against_tau(curves),
        "losses": lambda: figures.training_curves(losses),
        "cost": lambda: figures.cost_against_error(runs, {"CAM": 1.0, "Background images": 1.8}),
    }
    for name, draw in drawn.items():
        for file in (tmp_path / "a.png", tmp_path / "b.png"):
            figure = draw()
            figures.save(figure, file)
            plt.close(figure)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes(), name
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == (names if name in ("sizes", "tau") else ["CAM"])
        assert all(axes.get_xlabel() for axes in figure.axes)
    look = {(line.get_color(), line.get_linestyle()) for line in drawn["tau"]().axes[0].lines}
    assert len(look) == len(names)


def test_bars_are_as_long_as_the_shares() -> None:
    shares = pd.DataFrame(
        {"method": ["a", "a", "b"], "reason": ["too small", "right", "elsewhere"]}
        | {"gt_known_loc_error": [30.0, 70.0, 20.0]}
    )
    bars = figures.failure_bars(shares).axes[0].patches
    assert {round(bar.get_width()) for bar in bars if bar.get_width()} == {30, 20}


def test_the_page_of_the_methods_quotes_them() -> None:
    skip_unless_committed("reports/tables")
    root = Path(__file__).parents[1]
    committed = root / "reports" / "tables" / "methods.md"
    if not committed.is_file():
        pytest.skip("there is no report of the study yet")
    page = (root / "docs" / "methods.md").read_text(encoding="utf-8")
    lines = [line for line in committed.read_text(encoding="utf-8").splitlines() if "|" in line]
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        quoted = [cells[1], cells[3], *cells[4:9]]  # method, seeds, errors from Top-1 to oracle
        assert f"| {' | '.join(quoted)} |" in page


def test_a_method_without_a_name_is_called_what_its_file_is_and_comes_last() -> None:
    names = list(METHODS.values())
    assert len(set(names)) == len(names)
    assert set(names) <= set(METHOD_STYLE)
    assert METHODS["hide_square", "class"] == "hide_square"
    assert METHODS["hide_square", "foreground"] == "hide_square: foreground map"
    assert METHOD_STYLE["hide_square"] not in METHOD_STYLE.values()
    assert "hide_square" not in METHODS.values()
    table = pd.DataFrame({"method": ["hide_square", "Background images", "CAM", "hide_square"]})
    ordered = in_order(table.assign(n=range(4)))
    assert ordered["n"].tolist() == [2, 1, 0, 3]
