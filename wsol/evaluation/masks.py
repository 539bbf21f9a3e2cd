"""Ground-truth masks and pixel histograms, for PxAP (Choe et al. 2020).

Shapes: H W frame, T thresholds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.checks import raise_errors, read_mask
from wsol.evaluation.boxes import FRAME
from wsol.evaluation.contours import kernel

BACKGROUND, OBJECT, IGNORE = 0, 1, 255  # values of a ground-truth mask
GUESSES = 1024  # places at which the search for a bin may begin

Masks = Callable[[Any], NDArray[np.uint8]]  # row of the index table -> (H, W) mask


def pixel_histogram(
    score: NDArray[np.float64], mask: NDArray[np.uint8], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Counts (2, T + 2) of background and object pixels between the thresholds.

    Ignored pixels are dropped. The last edges (1, 2, 3) are the reference's: the map's maximum
    gets a bin of its own and the last one stays empty.
    """
    edges = np.concatenate([thresholds, [1.0, 2.0, 3.0]])
    # Where to begin looking for the bin of a score, by its first ten bits.
    begin = np.searchsorted(edges, np.arange(GUESSES + 1) / GUESSES, side="right") - 1
    return _count(score.ravel(), mask.ravel(), edges, begin)


@kernel
def _count(score, mask, edges, begin):
    """As np.histogram of each kind of pixel: a bin holds its lower edge and not its upper one."""
    counts = np.zeros((2, len(edges) - 1), np.int64)
    for i in range(len(score)):
        s, kind = score[i], mask[i]
        if kind > 1 or s < edges[0]:
            continue
        bin_ = max(begin[int(s * GUESSES)], 0)
        while edges[bin_ + 1] <= s:
            bin_ += 1
        counts[kind, bin_] += 1
    return counts


@dataclass(frozen=True)
class MaskReader:
    """From an index row, a named tuple, to its (size, size) mask: 1, 0, or 255 to ignore.

    Pixels of at least 128 belong: CUB's grey levels are the share of annotators who marked a pixel,
    so this is their majority. The object wins over the region to ignore. What is read as a mask and
    what is refused: `wsol.datasets.checks.read_mask`.
    """

    root: Path  # folder that the paths of the index table start from
    size: int = FRAME  # side of the frame, pixels

    def __call__(self, row: Any) -> NDArray[np.uint8]:
        if not row.mask:
            raise ValueError(f"image {row.image_id} has no mask, so its pixels cannot be scored")
        mask = np.full((self.size, self.size), BACKGROUND, dtype=np.uint8)
        if row.ignore:
            mask[self._read(row.ignore, row)] = IGNORE
        mask[self._read(row.mask, row)] = OBJECT
        return mask

    def _read(self, path: str, row: Any) -> NDArray[np.bool_]:
        pixels = read_mask(Path(self.root) / path, (row.width, row.height))
        return cv2.resize(pixels, (self.size,) * 2, interpolation=cv2.INTER_NEAREST) >= 128


def with_masks(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Index rows with the masks of a folder, named after the image ids without their endings.

    Raises DatasetError if one is missing or two images share one.
    """
    stems = rows["image_id"].map(lambda image_id: os.path.splitext(image_id)[0])
    there = (stems + ".png").map(lambda name: (folder / name).is_file())
    missing = zip(stems[~there], rows.loc[~there, "image_id"], strict=True)
    errors = [f"{folder}: no mask {stem}.png of image {name}" for stem, name in missing]
    twice = stems[stems.duplicated()].unique()
    raise_errors(errors + [f"{folder}: {stem}.png is of more than one image" for stem in twice])
    ignore = stems + "_ignore.png"
    ignore = ignore.where(ignore.map(lambda name: (folder / name).is_file()), "")
    return rows.assign(mask=stems + ".png", ignore=ignore)
