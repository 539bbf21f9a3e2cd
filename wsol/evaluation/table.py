"""The localization table: the result of an evaluation, one row per image.

It holds the prediction, the IoU of the map's box at every threshold, and that box at every
grey level, so that every error and accuracy, whatever its threshold, and the reason of every
failure is a matter of pandas and numpy (`metrics.py`, `failures.py`).

Shapes: N images, T thresholds, G ground-truth boxes.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.files import written_whole
from wsol.evaluation.boxes import levels_of

ANSWERS = ("label", "prediction", "rank")  # columns of numbers
STEPS = 10_000  # steps of IoU that are distinguished


def in_steps(iou: ArrayLike) -> NDArray[np.uint16]:
    """IoU of 0 to 1 in steps of 1e-4, rounded down.

    Coarser, but on the same side of .3, .5 and .7 as before, so every accuracy of the protocol
    stays what it was: an IoU of .7 does not become .6999 by a rounding error, and one that is
    really less is less by 1e-6 or more, for it is the ratio of two pixel counts in the frame.
    """
    return np.floor(np.asarray(iou) * STEPS + 1e-6).astype(np.uint16)


class LevelBoxes(NamedTuple):
    """Boxes of the largest contours of N maps, and what they are compared with, in the frame."""

    boxes: NDArray[np.uint8]  # (N, 256, 4) x0, y0, x1, y1 at each level of `wsol.evaluation.boxes`
    peaks: NDArray[np.uint8]  # (N,) largest grey level of each map
    truth: NDArray[np.int16]  # (sum of G, 4) ground-truth boxes of all images
    truth_counts: NDArray[np.int16]  # (N,) G of each image

    def at(self, tau: float) -> NDArray[np.int64]:
        """Boxes (N, 4) at one threshold."""
        v = levels_of(tau, self.peaks)
        return self.boxes[np.arange(len(v)), v].astype(np.int64)

    def ground_truth(self) -> list[NDArray[np.int64]]:
        """Boxes (G, 4) of each of the N images."""
        ends = np.cumsum(self.truth_counts[:-1], dtype=np.int64)
        return np.split(self.truth.astype(np.int64), ends)


@dataclass(frozen=True, eq=False)
class LocalizationTable:
    """Result of localizing N images.

    rows : image_id, label, prediction, rank of the label (0 = predicted), one row per image
    thresholds : (T,) score-map thresholds tau
    steps_largest : (N, T) best IoU over the ground truth, box of the largest contour, in steps of
        1e-4 (an IoU of 0 to 1 may be handed over, see `in_steps`)
    steps_all : (N, T) the same for the best box of all contours
    pixel_histogram : (2, T + 2) counts of background and object pixels, or None without masks
    meta : what was evaluated: dataset, split, protocol, method, map, read_out, ...
    level_boxes : the boxes of the largest contours, or None

    ``iou_largest`` and ``iou_all`` are the same as IoU, (N, T) float64.
    """

    rows: pd.DataFrame
    thresholds: NDArray[np.float64]
    steps_largest: NDArray[np.uint16]
    steps_all: NDArray[np.uint16]
    pixel_histogram: NDArray[np.int64] | None = None
    meta: dict[str, str] = field(default_factory=dict)
    level_boxes: LevelBoxes | None = None

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.thresholds))
        for name in ("steps_largest", "steps_all"):
            iou = getattr(self, name)
            if iou.shape != shape:
                raise ValueError(f"{name} has the shape {iou.shape}, not {shape}")
            if iou.dtype != np.uint16:
                object.__setattr__(self, name, in_steps(iou))
        bins = (2, shape[1] + 2)
        if self.pixel_histogram is not None and self.pixel_histogram.shape != bins:
            raise ValueError(f"pixel_histogram has the shape {self.pixel_histogram.shape}")

    @property
    def iou_largest(self) -> NDArray[np.float64]:
        return self.steps_largest / STEPS

    @property
    def iou_all(self) -> NDArray[np.float64]:
        return self.steps_all / STEPS

    def save(self, path: str | Path) -> None:
        """Write a compressed npz; the same table always gives the same bytes."""
        arrays = {
            "image_id": self.rows["image_id"].to_numpy(dtype=np.str_),
            **{name: self.rows[name].to_numpy(np.int32) for name in ANSWERS},
            "thresholds": self.thresholds,
            "iou_largest": self.steps_largest,
            "iou_all": self.steps_all,
            "meta": np.array(json.dumps(self.meta, sort_keys=True)),
        }
        if self.level_boxes is not None:
            arrays |= self.level_boxes._asdict()
        if self.pixel_histogram is not None:
            arrays["pixel_histogram"] = self.pixel_histogram
        with written_whole(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> LocalizationTable:
        """Read what `save` wrote. Raises ValueError, which names the file, for anything else."""
        try:
            return cls._load(path)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no localization table: {error}") from error

    @classmethod
    def _load(cls, path: str | Path) -> LocalizationTable:
        with np.load(path) as arrays:
            rows = pd.DataFrame({"image_id": arrays["image_id"].astype(object)}, dtype="str")
            for name in ANSWERS:
                rows[name] = arrays[name].astype(np.int64)
            boxes = [arrays[name] for name in LevelBoxes._fields if name in arrays]
            return cls(
                rows=rows,
                thresholds=arrays["thresholds"],
                steps_largest=arrays["iou_largest"],
                steps_all=arrays["iou_all"],
                pixel_histogram=arrays.get("pixel_histogram"),
                meta=json.loads(str(arrays["meta"])),
                level_boxes=LevelBoxes(*boxes) if boxes else None,
            )


def part_of(count: int, shard: str) -> slice:
    """Which of `count` images a shard "i/n" has: the i-th, from 1, of n parts of about equal size.

    Raises ValueError if it is none.
    """
    match = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", shard)
    if not match or int(match[1]) > int(match[2]):
        raise ValueError(f"a shard is i/n with i of 1 to n, such as 1/8, not {shard!r}")
    i, n = int(match[1]), int(match[2])
    return slice(count * (i - 1) // n, count * i // n)


def join_tables(tables: Sequence[LocalizationTable]) -> LocalizationTable:
    """One table of the shards 1/n to n/n of an evaluation, in any order.

    It equals that of an evaluation without shards. Raises ValueError if a shard is missing or there
    twice, or the tables are of different evaluations.
    """
    by_shard = {table.meta.get("shard", "1/1"): table for table in tables}
    n = int(next(iter(by_shard), "1/1").partition("/")[2])
    names = [f"{i}/{n}" for i in range(1, n + 1)]
    if sorted(names) != sorted(by_shard) or len(tables) != n:
        there = ", ".join(sorted(table.meta.get("shard", "1/1") for table in tables)) or "none"
        raise ValueError(f"the shards of an evaluation are 1/n to n/n, once each, not {there}")
    parts = [by_shard[name] for name in names]
    metas = [{k: v for k, v in part.meta.items() if k != "shard"} for part in parts]
    if any(meta != metas[0] for meta in metas):
        raise ValueError(f"shards of different evaluations: {metas}")
    for name in ("of", "chosen_on"):  # digests of what all shards are of
        metas[0].pop(name, None)
    return replace(concatenate(parts), meta=metas[0])


def concatenate(tables: Sequence[LocalizationTable]) -> LocalizationTable:
    """One table of the images of several, in this order, with the meta data of the first.

    Raises ValueError if only some of them have masks, or ranks.
    """
    for what in (lambda t: t.pixel_histogram is None, lambda t: (t.rows["rank"] < 0).any()):
        if len({bool(what(table)) for table in tables if len(table.rows)}) > 1:
            raise ValueError("some images come with masks, or logits, and some without")
    boxes = [table.level_boxes for table in tables if table.level_boxes is not None]
    histograms = [table.pixel_histogram for table in tables if table.pixel_histogram is not None]
    return LocalizationTable(
        rows=pd.concat([table.rows for table in tables], ignore_index=True),
        thresholds=tables[0].thresholds,
        steps_largest=np.concatenate([table.steps_largest for table in tables]),
        steps_all=np.concatenate([table.steps_all for table in tables]),
        pixel_histogram=np.sum(histograms, axis=0) if histograms else None,
        meta=tables[0].meta,
        level_boxes=LevelBoxes(*map(np.concatenate, zip(*boxes, strict=True))) if boxes else None,
    )


def one_protocol(tables: Sequence[LocalizationTable]) -> str:
    """The protocol that all tables share.

    Raises ValueError if they do not: errors under different protocols do not compare.
    """
    names = sorted({table.meta.get("protocol", "unknown") for table in tables})
    if len(names) != 1:
        raise ValueError(f"one table of results holds one protocol, not {', '.join(names)}")
    return names[0]
