"""Evaluation of N maps by the reference protocol, many at a time, into a localization table.

Shapes: N images, K classes, H W frame, h w map, T thresholds, G ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.index import parse_boxes
from wsol.datasets.progress import ProgressBar
from wsol.evaluation.boxes import LEVELS, TAUS, level_iou, levels_of, resize_boxes, score_map
from wsol.evaluation.masks import Masks, pixel_histogram
from wsol.evaluation.table import LevelBoxes, LocalizationTable, in_steps

UNKNOWN = -1  # prediction and rank where nothing classifies
CHUNK = 16  # maps that a worker takes at a time


def rank_labels(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    """Predicted classes (N,) and ranks of the labels (N,) from (N, K) logits.

    The rank counts the classes that come before the label, 0 if it is predicted; of equal logits
    the class of lower number comes first. Raises ValueError if a logit is not
    finite, or a label none of the K classes.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise ValueError(f"a logit is not finite, or these {logits.shape} are not (N, K)")
    if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= logits.shape[1])).any():
        raise ValueError(f"labels are whole numbers of 0 to {logits.shape[1] - 1}")
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return logits.argmax(axis=1), ranks


class _Row(NamedTuple):
    image_id: str
    boxes: str
    width: int
    height: int
    mask: str
    ignore: str


@dataclass
class _Evaluation:
    """The evaluation of N maps: results, which any thread may fill in for its images."""

    maps: Sequence[NDArray[np.floating]] | NDArray[np.floating]
    rows: list[_Row]
    thresholds: NDArray[np.float64]
    score_of: Callable[[NDArray], NDArray[np.float64]]
    masks: Masks | None

    def __post_init__(self) -> None:
        N, T = len(self.rows), len(self.thresholds)
        self.levels = levels_of(self.thresholds, np.arange(LEVELS)[:, None])  # (256, T), by peak
        self.iou = np.zeros((2, N, T), np.uint16)  # largest contour, all contours
        self.boxes, self.peaks = np.zeros((N, LEVELS, 4), np.uint8), np.zeros(N, np.uint8)
        self.truth: list[NDArray[np.int64]] = [np.zeros((0, 4), np.int64)] * N

    def run(self, start: int) -> tuple[int, NDArray[np.int64]]:
        """Evaluate a chunk of maps; returns their number and their pixel counts (2, T + 2)."""
        counts = np.zeros((2, len(self.thresholds) + 2), np.int64)
        part = range(start, min(start + CHUNK, len(self.rows)))
        for i in part:
            row, score = self.rows[i], self.score_of(self.maps[i])
            truth = resize_boxes(parse_boxes(row.boxes), (row.width, row.height))
            if self.masks is not None:
                counts += pixel_histogram(score, self.masks(row), self.thresholds)
            peak, self.boxes[i], *iou = level_iou(score, truth)
            self.truth[i], self.peaks[i] = truth, peak
            for mode, one in enumerate(iou):
                self.iou[mode, i] = in_steps(one)[self.levels[peak]]
        return len(part), counts

    def level_boxes(self) -> LevelBoxes:
        flat = np.concatenate(self.truth) if self.truth else np.zeros((0, 4))
        counts = np.array([len(truth) for truth in self.truth], np.int16)
        return LevelBoxes(self.boxes, self.peaks, flat.astype(np.int16), counts)


def answers(index: pd.DataFrame, logits: ArrayLike | None = None) -> pd.DataFrame:
    """Rows of a localization table: label, prediction and rank of the label.

    Without logits (N, K) prediction and rank are `UNKNOWN`.
    """
    labels = index["label"].to_numpy()
    prediction, rank = (UNKNOWN, UNKNOWN) if logits is None else rank_labels(logits, labels)
    rows = pd.DataFrame({"image_id": index["image_id"].to_numpy(), "label": labels})
    return rows.assign(prediction=prediction, rank=rank)


def check_rows(index: pd.DataFrame, **values: Sized | None) -> None:
    """Raise ValueError unless all values are as many as index rows, and each row has a box."""
    counts = {name: len(one) for name, one in values.items() if one is not None}
    if {*counts.values()} != {len(index)}:
        shown = " and ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"{shown} for {len(index)} images")
    bare = index.loc[index["boxes"] == "", "image_id"]
    if len(bare):
        raise ValueError(f"{len(bare)} images have no box to compare with, first {bare.iloc[0]}")


def localize(
    maps: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    index: pd.DataFrame,
    logits: ArrayLike | None = None,
    *,
    score_of: Callable[[NDArray], NDArray[np.float64]] = score_map,
    thresholds: NDArray[np.float64] = TAUS,
    masks: Masks | None = None,
    workers: int = 1,
    progress: str | None = None,
    meta: dict[str, str] | None = None,
) -> LocalizationTable:
    """Evaluate N maps by the reference protocol.

    Parameters
    ----------
    maps : (N, h, w), or N maps of any sizes, in the order of `index`; each is read when its turn
        comes, so that a memory-mapped array or a sequence that reads files need not fit in memory
    index : rows of the index table with at least one box each
    logits : (N, K) of the classifier; without, no error that needs a class is defined
    score_of : from a map to its score map in [0, 1]
    thresholds : (T,) taus in [0, 1), ascending
    masks : gives the ground-truth mask of a row, for PxAP; see `wsol.evaluation.masks.MaskReader`
    workers : threads
    progress : text of a progress bar; None for no bar

    The table takes 5 kB of memory an image. Raises ValueError if maps, rows and logits differ in
    number, or a row has no box.
    """
    check_rows(index, maps=maps, logits=logits)
    rows = [_Row(*row) for row in index[list(_Row._fields)].itertuples(index=False)]
    evaluation = _Evaluation(maps, rows, thresholds, score_of, masks)
    bar = ProgressBar(desc=progress, total=len(rows), unit="map", show=progress is not None)
    histogram, starts = 0, range(0, len(rows), CHUNK)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # maps side by side, not threads within each
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:  # the sweep needs no interpreter lock
            in_order = pool.map if workers > 1 else map
            for count, counts in in_order(evaluation.run, starts):
                bar.update(count)
                histogram = histogram + counts
    finally:
        cv2.setNumThreads(threads)
        bar.close()
    return LocalizationTable(
        answers(index, logits),
        thresholds,
        *evaluation.iou,
        None if masks is None or not rows else histogram,
        dict(meta or {}),
        evaluation.level_boxes(),
    )
