"""The localization table: what an evaluation leaves, one row per image.

It holds the classifier's answer and the IoU of the map's box at every threshold, so that every
error and accuracy, whatever its threshold, is a matter of pandas and numpy (`metrics.py`).

Shapes: N images, K classes, H W frame, T thresholds, G ground-truth boxes.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.boxes import TAUS, best_iou, resize_boxes, score_map
from wsol.datasets.index import parse_boxes
from wsol.pixels import Masks, pixel_histogram

UNKNOWN = -1  # prediction and rank where nothing classifies
ANSWERS = ("label", "prediction", "rank")  # columns of numbers
STEPS = 10_000  # steps of IoU that are told apart on disk


@dataclass(frozen=True, eq=False)
class LocalizationTable:
    """Result of localizing N images.

    rows : image_id, label, prediction, rank of the label (0 = predicted), one row per image
    thresholds : (T,) score-map thresholds tau
    iou_largest : (N, T) best IoU over the ground truth, box of the largest contour
    iou_all : (N, T) the same for the best box of all contours
    pixel_histogram : (2, T + 2) counts of background and object pixels, or None without masks
    meta : what was evaluated: dataset, split, protocol, method, map, read_out, ...
    """

    rows: pd.DataFrame
    thresholds: NDArray[np.float64]
    iou_largest: NDArray[np.float64]
    iou_all: NDArray[np.float64]
    pixel_histogram: NDArray[np.int64] | None = None
    meta: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.thresholds))
        for name in ("iou_largest", "iou_all"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, not {shape}")
        bins = (2, shape[1] + 2)
        if self.pixel_histogram is not None and self.pixel_histogram.shape != bins:
            raise ValueError(f"pixel_histogram has the shape {self.pixel_histogram.shape}")

    def save(self, path: str | Path) -> None:
        """Write a compressed npz; the same table always gives the same bytes.

        IoU is stored in steps of 1e-4, rounded down: coarser, but on the same side of .3, .5 and
        .7 as before, so every accuracy of the protocol stays what it was.
        """
        arrays = {
            "image_id": self.rows["image_id"].to_numpy(dtype=np.str_),
            **{
                name: self.rows[name].to_numpy(np.int32) for name in ("label", "prediction", "rank")
            },
            "thresholds": self.thresholds,
            "iou_largest": _pack_iou(self.iou_largest),
            "iou_all": _pack_iou(self.iou_all),
            "meta": np.array(json.dumps(self.meta, sort_keys=True)),
        }
        if self.pixel_histogram is not None:
            arrays["pixel_histogram"] = self.pixel_histogram
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> LocalizationTable:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            rows = pd.DataFrame({"image_id": arrays["image_id"].astype(object)}, dtype="str")
            for name in ANSWERS:
                rows[name] = arrays[name].astype(np.int64)
            return cls(
                rows=rows,
                thresholds=arrays["thresholds"],
                iou_largest=arrays["iou_largest"] / STEPS,
                iou_all=arrays["iou_all"] / STEPS,
                pixel_histogram=arrays.get("pixel_histogram"),
                meta=json.loads(str(arrays["meta"])),
            )


def _pack_iou(iou: NDArray[np.float64]) -> NDArray[np.uint16]:
    """IoU in steps of 1e-4, rounded down."""
    # An IoU of .7 must not become .6999 by a rounding error. One that is really less is less by
    # 1e-6 or more, for it is the ratio of two pixel counts in a frame of 224 x 224.
    return np.floor(iou * STEPS + 1e-6).astype(np.uint16)


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
    """What the evaluation of one image needs of its index row; crosses to other processes."""

    image_id: str
    boxes: str
    width: int
    height: int
    mask: str
    ignore: str


def _evaluate(
    cam: NDArray[np.floating],
    row: _Row,
    thresholds: NDArray[np.float64],
    masks: Masks | None,
) -> tuple[NDArray, NDArray, NDArray | None]:
    """IoU in both modes, each (T,), and the pixel counts (2, T + 2) of one image."""
    score = score_map(cam)
    truth = resize_boxes(parse_boxes(row.boxes), (row.width, row.height))
    counts = None if masks is None else pixel_histogram(score, masks(row), thresholds)
    return (*best_iou(score, truth, thresholds), counts)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, in processes where there is more than one worker.

    Threads would not do: OpenCV's calls are too short for the interpreter lock to change hands.
    """
    if workers < 2:
        yield map
        return
    # A forked child would inherit torch's threads in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    one_thread = dict(initializer=cv2.setNumThreads, initargs=(1,))
    with ProcessPoolExecutor(workers, mp_context=spawn, **one_thread) as pool:
        yield partial(pool.map, chunksize=16)


def _rows(index: pd.DataFrame, logits: ArrayLike | None) -> pd.DataFrame:
    """Rows of the table: the label and what the classifier makes of it."""
    labels = index["label"].to_numpy()
    answers = (UNKNOWN, UNKNOWN) if logits is None else rank_labels(logits, labels)
    rows = pd.DataFrame({"image_id": index["image_id"].to_numpy(), "label": labels})
    return rows.assign(prediction=answers[0], rank=answers[1])


def localize(
    maps: Iterable[NDArray[np.floating]],
    index: pd.DataFrame,
    logits: ArrayLike | None = None,
    *,
    thresholds: NDArray[np.float64] = TAUS,
    masks: Masks | None = None,
    workers: int = 1,
    meta: dict[str, str] | None = None,
) -> LocalizationTable:
    """Evaluate N maps by the reference protocol.

    Parameters
    ----------
    maps : array (N, h, w) or anything that yields (h, w) maps, in the order of `index`
    index : rows of the index table with at least one box each
    logits : (N, K) of the classifier; without, no error that needs a class is defined
    thresholds : (T,) taus, ascending
    masks : gives the ground-truth mask of a row, for PxAP; see `wsol.pixels.MaskReader`
    workers : processes; with more than one, `masks` must be picklable

    Raises ValueError if maps, rows and logits differ in number, or a row has no box.
    """
    maps = list(maps)
    if len(maps) != len(index) or (logits is not None and len(logits) != len(index)):
        answers = "no" if logits is None else len(logits)
        raise ValueError(f"{len(maps)} maps and {answers} logits for {len(index)} images")
    bare = index.loc[index["boxes"] == "", "image_id"]
    if len(bare):
        raise ValueError(f"{len(bare)} images have no box to compare with, first {bare.iloc[0]}")

    jobs = [_Row(*row) for row in index[list(_Row._fields)].itertuples(index=False)]
    evaluate = partial(_evaluate, thresholds=thresholds, masks=masks)
    iou = np.zeros((2, len(index), len(thresholds)))
    histogram = None if masks is None else np.zeros((2, len(thresholds) + 2), dtype=np.int64)
    with _mapper(workers) as mapper:
        for i, (largest, every, counts) in enumerate(mapper(evaluate, maps, jobs)):
            iou[0, i], iou[1, i] = largest, every
            if histogram is not None:
                histogram += counts
    rows = _rows(index, logits)
    return LocalizationTable(rows, thresholds, iou[0], iou[1], histogram, dict(meta or {}))
