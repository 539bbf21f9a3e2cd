"""Evaluation of N maps by the reference protocol, many at a time, into a localization table.

Shapes: N images, K classes, H W frame, h w map, T thresholds, G ground-truth boxes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
    the class of lower number comes first.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
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


class _Result(NamedTuple):
    """Of one image: IoU in both modes (T,), boxes (256, 4), largest grey level, pixel counts."""

    largest: NDArray[np.uint16]
    every: NDArray[np.uint16]
    boxes: NDArray[np.uint8]
    peak: int
    truth: NDArray[np.int64]
    counts: NDArray[np.int64] | None


def _evaluate(
    cam: NDArray[np.floating],
    row: _Row,
    score_of: Callable[[NDArray], NDArray[np.float64]],
    thresholds: NDArray[np.float64],
    masks: Masks | None,
) -> _Result:
    score = score_of(cam)
    truth = resize_boxes(parse_boxes(row.boxes), (row.width, row.height))
    counts = None if masks is None else pixel_histogram(score, masks(row), thresholds)
    peak, boxes, *iou = level_iou(score, truth)
    v = levels_of(thresholds, peak)
    largest, every = (in_steps(one)[v] for one in iou)
    return _Result(largest, every, boxes.astype(np.uint8), peak, truth, counts)


def _in_order(function: Callable[[int], _Result], count: int, workers: int) -> Iterator[_Result]:
    """``function(0), function(1), ...``, computed by threads a few chunks ahead.

    Threads do: the sweep and OpenCV let go of the interpreter lock. No more than two chunks a
    worker are on their way, so that memory does not grow with the number of maps.
    """
    if workers < 2:
        yield from map(function, range(count))
        return

    def chunk(start: int) -> list[_Result]:
        return [function(i) for i in range(start, min(start + CHUNK, count))]

    starts = deque(range(0, count, CHUNK))
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(
            pool.submit(chunk, starts.popleft()) for _ in range(min(2 * workers, len(starts)))
        )
        while ahead:
            results = ahead.popleft().result()
            if starts:
                ahead.append(pool.submit(chunk, starts.popleft()))
            yield from results


def answers(index: pd.DataFrame, logits: ArrayLike | None = None) -> pd.DataFrame:
    """Rows of a localization table: label, prediction and rank of the label.

    Without logits (N, K) prediction and rank are `UNKNOWN`.
    """
    labels = index["label"].to_numpy()
    prediction, rank = (UNKNOWN, UNKNOWN) if logits is None else rank_labels(logits, labels)
    rows = pd.DataFrame({"image_id": index["image_id"].to_numpy(), "label": labels})
    return rows.assign(prediction=prediction, rank=rank)


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
    if len(maps) != len(index) or (logits is not None and len(logits) != len(index)):
        count = "no" if logits is None else len(logits)
        raise ValueError(f"{len(maps)} maps and {count} logits for {len(index)} images")
    bare = index.loc[index["boxes"] == "", "image_id"]
    if len(bare):
        raise ValueError(f"{len(bare)} images have no box to compare with, first {bare.iloc[0]}")

    jobs = [_Row(*row) for row in index[list(_Row._fields)].itertuples(index=False)]
    evaluate = partial(_evaluate, score_of=score_of, thresholds=thresholds, masks=masks)
    results = _in_order(lambda i: evaluate(maps[i], jobs[i]), len(jobs), workers)
    bar = ProgressBar(
        results, desc=progress, total=len(jobs), unit="map", show=progress is not None
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # maps side by side, not threads within each
    try:
        return _gather(bar, answers(index, logits), thresholds, dict(meta or {}))
    finally:
        cv2.setNumThreads(threads)


def _gather(
    results: Iterator[_Result], rows: pd.DataFrame, thresholds: NDArray, meta: dict[str, str]
) -> LocalizationTable:
    N, T = len(rows), len(thresholds)
    iou = np.zeros((2, N, T), dtype=np.uint16)
    boxes, peaks = np.zeros((N, LEVELS, 4), np.uint8), np.zeros(N, np.uint8)
    truth, histogram = [], None
    for i, one in enumerate(results):
        iou[0, i], iou[1, i], boxes[i], peaks[i] = one.largest, one.every, one.boxes, one.peak
        truth.append(one.truth)
        if one.counts is not None:
            histogram = one.counts if histogram is None else histogram + one.counts
    flat = np.concatenate(truth) if truth else np.zeros((0, 4))
    counts = np.array([len(t) for t in truth], dtype=np.int16)
    level_boxes = LevelBoxes(boxes, peaks, flat.astype(np.int16), counts)
    return LocalizationTable(rows, thresholds, iou[0], iou[1], histogram, meta, level_boxes)
