"""Reasons of failure and intervals of differences, from tables in a folder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wsol.evaluation.failures import REASONS
from wsol.evaluation.table import LevelBoxes, LocalizationTable
from wsol.report.tables import differences, failures

RIGHT, SMALL, LARGE = (50, 50, 150, 150), (50, 50, 80, 80), (0, 0, 223, 223)
IOU = {RIGHT: 1.0, SMALL: 961 / 10201, LARGE: 10201 / 50176}


def save(folder: Path, name: str, boxes: list, ranks: list[int], **meta: str) -> None:
    """Tables of `test` with these boxes at every level, and of a `train-fullsup` that is right."""
    for split, drawn in (("test", boxes), ("train-fullsup", [RIGHT])):
        N = len(drawn)
        rows = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(N)], "label": 0})
        rows = rows.assign(prediction=0, rank=ranks[:N])
        iou = np.array([[IOU[box]] * 2 for box in drawn])
        level_boxes = LevelBoxes(
            np.repeat(np.array(drawn, np.uint8)[:, None], 256, axis=1),
            np.full(N, 255, np.uint8),
            np.array([RIGHT] * N, np.int16),
            np.ones(N, np.int16),
        )
        meta |= {"dataset": "d", "protocol": "choe2020", "split": split}
        table = LocalizationTable(rows, np.array([0.0, 0.5]), iou, iou, None, meta, level_boxes)
        table.save(folder / f"{name}-{split}.npz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "references").mkdir()
    for seed in ("0", "1"):
        about = dict(map="class", seed=seed)
        save(tmp_path / "evaluate", f"cam-{seed}", [SMALL] * 3 + [RIGHT], [0, 0, 0, 3],
             method="cam", **about)  # fmt: skip
        drawn = [RIGHT, RIGHT, LARGE if seed == "0" else RIGHT, RIGHT]
        save(tmp_path / "evaluate", f"background-{seed}", drawn, [0] * 4,
             method="background", **about)  # fmt: skip
    save(tmp_path / "references", "constant-box", [LARGE] * 4, [-1] * 4,
         method="constant-box", map="reference", seed="0")  # fmt: skip
    return tmp_path


def test_reasons_are_means_over_the_seeds(folder: Path) -> None:
    table = failures(folder).set_index(["method", "reason"])
    known = table["gt_known_loc_error"]
    assert known["CAM", "too small"] == 75
    assert known["Background images", "too large"] == 12.5
    assert known["Background images", "right"] == 87.5
    assert known["Constant box", "too large"] == 100
    assert table["top1_loc_error"]["CAM", "wrong class"] == 25
    assert np.isnan(table["top1_loc_error"]["Constant box", "right"])


def test_reasons_keep_their_order_and_add_up(folder: Path) -> None:
    for _, part in failures(folder).groupby("method"):
        assert tuple(part["reason"]) == REASONS
        assert part["gt_known_loc_error"].sum() == pytest.approx(100)


def test_differences_are_from_cam_with_the_same_seed(folder: Path) -> None:
    table = differences(folder, resamples=200)
    assert set(table["method"]) == {"Background images"}
    fixed = table[(table["tau"] == "fixed") & (table["error"] == "gt_known_loc_error")]
    assert fixed.set_index("seed")["difference"].to_dict() == {0: -50, 1: -75}
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    top1 = table[(table["tau"] == "fixed") & (table["error"] == "top1_loc_error")]
    assert top1.set_index("seed")["difference"].to_dict() == {0: -75, 1: -100}
