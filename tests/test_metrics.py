"""Errors and accuracies, against two lines of numpy and the peer's numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wsol.evaluation import metrics
from wsol.evaluation.boxes import TAUS, best_iou, resize_boxes
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import pixel_histogram
from wsol.evaluation.metrics import choose_tau, localization_errors
from wsol.evaluation.table import LocalizationTable
from wsol.report.format import rounded

PEER = Path(__file__).parent / "data" / "peer_vectors.npz"
THRESHOLDS = np.array([0.0, 0.25, 0.5, 0.75])


def table_of(largest, rank, every=None, histogram=None, thresholds=THRESHOLDS) -> LocalizationTable:
    largest = np.array(largest, dtype=float)
    every = largest if every is None else np.array(every, dtype=float)
    rank = np.array(rank)
    rows = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(len(rank))], "label": 0})
    rows = rows.assign(prediction=rank, rank=rank)
    return LocalizationTable(rows, thresholds, largest, every, histogram)


@pytest.fixture
def made_up() -> LocalizationTable:
    rng = np.random.default_rng(1)
    largest = rng.uniform(size=(40, 4))
    every = np.maximum(largest, rng.uniform(size=(40, 4)))
    histogram = rng.integers(0, 50, size=(2, 6))
    return table_of(largest, rng.integers(0, 9, size=40), every, histogram)


@pytest.fixture(scope="module")
def peer() -> tuple[dict[str, np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Vectors, score maps, and ground truth of each image."""
    with np.load(PEER) as file:
        vectors = dict(file)
    scores = [score / 1024.0 for score in vectors["scoremap_x1024"]]
    boxes = np.split(vectors["gt_boxes"], vectors["gt_count"].cumsum()[:-1])
    truth = [resize_boxes(b, wh) for b, wh in zip(boxes, vectors["size_wh"], strict=True)]
    return vectors, scores, truth


def peer_table(peer, taus: np.ndarray) -> LocalizationTable:
    vectors, scores, truth = peer
    iou = [best_iou(score, boxes, taus) for score, boxes in zip(scores, truth, strict=True)]
    pairs = zip(scores, vectors["mask"], strict=True)
    histogram = sum(pixel_histogram(score, mask, taus) for score, mask in pairs)
    rows = pd.DataFrame({"image_id": vectors["image_id"], "label": 0, "prediction": 0, "rank": 0})
    largest, every = np.array(iou).swapaxes(0, 1)
    return LocalizationTable(rows, taus, largest, every, histogram)


def test_the_accuracies_are_the_peers(peer):
    vectors, table = peer[0], peer_table(peer, TAUS)
    mean, parts = metrics.max_box_acc_v2(table)
    assert metrics.max_box_acc(table) == vectors["maxboxacc"]
    assert parts.tolist() == vectors["maxboxacc_v2"].tolist()
    assert mean == pytest.approx(vectors["maxboxacc_v2"].mean(), abs=1e-12)
    assert metrics.pxap(table) == pytest.approx(float(vectors["pxap_001"]), abs=1e-10)
    coarse = metrics.pxap(peer_table(peer, np.arange(0, 1, 0.01)))
    assert coarse == pytest.approx(float(vectors["pxap_01"]), abs=1e-10)


def test_a_perfect_method_makes_no_error():
    table = table_of(
        np.ones((5, 4)), [0] * 5, histogram=np.array([[9, 0, 0, 0, 0, 0], [0] * 4 + [9, 0]])
    )
    numbers = metrics.evaluate(table, table)
    errors = [value for name, value in numbers.items() if "error" in name]
    assert errors == [0] * 7
    assert (numbers["maxboxacc"], numbers["maxboxacc_v2"], numbers["pxap"]) == (100, 100, 100)


def test_an_image_counts_only_if_class_and_box_are_right():
    # right box and class, right box of the second, of the sixth class, and a wrong box
    table = table_of([[0.5] * 4, [0.6] * 4, [0.9] * 4, [0.49] * 4], [0, 1, 5, 0])
    assert metrics.localization_errors(table, 0.5) == {
        "top1_loc_error": 75,
        "top5_loc_error": 50,
        "gt_known_loc_error": 25,
        "cls_error": 50,
    }


def test_errors_are_what_pandas_makes_of_the_table(made_up):
    rows = made_up.rows.assign(right=made_up.iou_largest[:, 2] >= 0.5)
    errors = metrics.localization_errors(made_up, 0.5)
    assert errors["gt_known_loc_error"] == pytest.approx(100 - 100 * rows["right"].mean())
    for k in (1, 5):
        expected = 100 - 100 * (rows["right"] & (rows["rank"] < k)).mean()
        assert errors[f"top{k}_loc_error"] == pytest.approx(expected)
    assert errors["cls_error"] == pytest.approx(100 * (rows["prediction"] != rows["label"]).mean())


def test_the_curve_holds_the_errors_at_every_tau(made_up):
    curve = metrics.error_curve(made_up)
    assert curve["tau"].tolist() == THRESHOLDS.tolist()
    for row in curve.to_dict("records"):
        errors = metrics.localization_errors(made_up, row.pop("tau"))
        assert row == {name: errors[name] for name in row}


def test_of_equal_thresholds_the_lowest_is_chosen():
    table = table_of([[0.1, 0.7, 0.6, 0.1], [0.1, 0.7, 0.7, 0.1]], [0, 0])
    assert metrics.choose_tau(table) == 0.25


def test_maxboxacc_is_the_complement_of_the_oracle_error(made_up):
    numbers = metrics.evaluate(made_up, made_up)
    assert numbers["maxboxacc"] == pytest.approx(100 - numbers["gt_known_loc_error_oracle"])
    assert numbers["gt_known_loc_error"] == numbers["gt_known_loc_error_oracle"]


def test_tau_comes_from_the_other_split(made_up):
    fullsup = table_of([[0, 0, 0, 0.9]], [0])
    numbers = metrics.evaluate(made_up, fullsup)
    assert numbers["tau"] == 0.75
    assert numbers["gt_known_loc_error"] == metrics.error_curve(made_up)["gt_known_loc_error"][3]
    assert numbers["gt_known_loc_error"] >= numbers["gt_known_loc_error_oracle"]


def test_each_part_of_v2_has_its_own_threshold():
    table = table_of([[0.0] * 4], [0], every=[[0.3, 0.5, 0.7, 0.0]])
    assert metrics.max_box_acc_v2(table)[1].tolist() == [100, 100, 100]


def test_pixel_precision_of_chance_is_the_share_of_the_object():
    histogram = np.array([[30, 30, 30, 30, 0, 0], [10, 10, 10, 10, 0, 0]])
    assert metrics.pxap(table_of(np.ones((1, 4)), [0], histogram=histogram)) == 25


def test_pixel_iou_is_that_of_the_pixels_at_and_above_tau(peer):
    vectors, _, _ = peer
    scores, masks = vectors["scoremap_x1024"] / 1024.0, vectors["mask"]
    histogram = sum(pixel_histogram(*pair, TAUS) for pair in zip(scores, masks, strict=True))
    table = table_of(np.ones((1, 1000)), [0], histogram=histogram, thresholds=TAUS)
    for tau in (0.0, 0.25, 0.5):
        predicted, truth = scores >= tau, masks == 1
        predicted &= masks != 255
        expected = 100 * (predicted & truth).sum() / (predicted | truth).sum()
        assert metrics.pixel_iou(table, tau) == pytest.approx(expected, rel=1e-12)


def test_without_masks_or_classes_their_numbers_are_not_defined():
    index = pd.DataFrame({"image_id": ["a.jpg"], "label": [0], "boxes": ["0 0 9 9"], "mask": [""]})
    index = index.assign(width=20, height=20, ignore="")
    table = localize([np.eye(5)], index, thresholds=THRESHOLDS)
    numbers = metrics.evaluate(table, table)
    for name in ("pxap", "pixel_iou", "top1_loc_error", "top5_loc_error", "cls_error"):
        assert np.isnan(numbers[name])
    assert numbers["gt_known_loc_error"] in (0, 100)


def test_a_tau_that_was_not_evaluated_is_refused(made_up):
    with pytest.raises(ValueError, match="not among the thresholds"):
        metrics.localization_errors(made_up, 0.3)


def test_the_guide_quotes_what_a_chosen_tau_is_worth():
    """The table "Which threshold" of docs/heatmaps.md, from the committed tables."""
    root, columns = Path(__file__).parents[1], []
    for run in ("cam-0", "background-0"):
        path = root / "reports" / "localization" / "evaluate" / f"{run}-class-{{}}.npz"
        test, fullsup = (
            LocalizationTable.load(str(path).format(split)) for split in ("test", "train-fullsup")
        )
        right, labels = test.iou_largest >= 0.5, test.rows["label"].to_numpy()
        by_class = [right[labels == label].mean(axis=0).max() for label in np.unique(labels)]
        accuracies = [right.mean(axis=0).max(), np.mean(by_class), right.any(axis=1).mean()]
        errors = localization_errors(test, choose_tau(fullsup))
        columns.append([errors["gt_known_loc_error"], *(100 * (1 - a) for a in accuracies)])
    text = (root / "docs" / "heatmaps.md").read_text("utf-8").partition("## Which threshold")[2]
    rows = [line.split("|")[2:4] for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [[f" {rounded(a)} ", f" {rounded(b)} "] for a, b in zip(*columns, strict=True)]
