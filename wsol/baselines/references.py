"""Trivial localizers: references that a method must beat before its maps mean anything.

They are evaluated on the same splits by the same protocol, with tau and smoothing chosen on
`train-fullsup`. None of them predicts a class.

Shapes: N images, H W image, h w map, M boxes to try, G ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal.windows import gaussian

from wsol.baselines.patch_classifier import patch_map, train_patch_classifier
from wsol.datasets.backgrounds.manifest import load_background
from wsol.datasets.images import load_split
from wsol.datasets.index import TEST, TRAIN_FULLSUP, TRAIN_WEAKSUP, parse_boxes, rows_of
from wsol.evaluation.boxes import FRAME, box_iou, resize_boxes
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import MaskReader
from wsol.evaluation.metrics import DELTA, box_accuracy
from wsol.evaluation.table import LocalizationTable

CENTRE_SIGMA = 0.25  # of the centre Gaussian, in sides of the frame
CHUNK = 2048  # constant boxes compared at a time
COARSE = 14  # pixels between the corners of the first search for a constant box
SIGMAS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)  # of the smoothing, in pixels of the map
COARSE_TAUS = np.arange(0, 1, 0.01)  # to choose the smoothing by
BORDER = 4  # pixels of the image's edge whose colours count as background
NEAREST = 0.05  # share of the border that a background colour should resemble

REFERENCES = ("constant-box", "centre-gaussian", "colour-distance", "patch-classifier")

SplitMaps = dict[str, NDArray]  # by split, (N, h, w)


def constant_box(index: pd.DataFrame) -> NDArray[np.float64]:
    """Fit the one box (4,), x0 y0 x1 y1 as shares of the image, that is right most often.

    Right means IoU of at least `DELTA` in the protocol's frame. All boxes of a coarse grid are
    tried, then the corners of the best are moved until nothing improves. Raises ValueError if an
    image of `index` has no box.
    """
    rows = index.itertuples()
    truth = [resize_boxes(parse_boxes(row.boxes), (row.width, row.height)) for row in rows]
    counts = [len(boxes) for boxes in truth]
    if not counts or min(counts) == 0:
        raise ValueError("a constant box can only be fitted where all images have a box")
    starts = np.cumsum([0, *counts[:-1]])

    def best_of(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of boxes (M, 4) that which hits most images; of equals, that of higher mean IoU."""
        parts = (boxes[i : i + CHUNK] for i in range(0, len(boxes), CHUNK))
        ious = [box_iou(part, np.concatenate(truth)) for part in parts]
        iou = np.concatenate([np.maximum.reduceat(part, starts, axis=1) for part in ious])
        return boxes[((iou >= DELTA).mean(axis=1) + 1e-6 * iou.mean(axis=1)).argmax()]

    line = range(0, FRAME, COARSE)
    spans = [(a, min(b, FRAME - 1)) for a in line for b in (*line, FRAME) if b > a]
    boxes = np.array([(x0, y0, x1, y1) for (x0, x1), (y0, y1) in product(spans, spans)])
    best = best_of(boxes)
    for step in (7, 4, 2, 1):
        moves = step * np.array(list(product((0, -1, 1), repeat=4)))  # staying comes first
        while True:
            boxes = np.clip(best + moves, 0, FRAME - 1)
            moved = best_of(boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)])
            if (moved == best).all():
                break
            best = moved
    return best / FRAME


def constant_box_map(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a map (FRAME, FRAME) of 0 and 1 that gives this box at every tau."""
    x0, y0, x1, y1 = np.round(np.asarray(box) * FRAME).astype(int)
    score = np.zeros((FRAME, FRAME))
    score[y0:y1, x0:x1] = 1  # the protocol puts the far corner one past the object
    return score


def centre_gaussian_map() -> NDArray[np.float64]:
    """Return an isotropic Gaussian (FRAME, FRAME) around the middle, above 0 and below 1.

    Each tau gives a centred square, from a few pixels to the whole frame.
    """
    profile = gaussian(FRAME, CENTRE_SIGMA * FRAME)
    return np.outer(profile, profile)


def colour_distance_map(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how rare the colours of an image (3, H, W) are on its border, (H, W), at least 0.

    It is, for each pixel, the distance in CIE Lab within which lie `NEAREST` of the border's
    pixels. That was the best of six variants on the `train-fullsup` of a set of birds (GT-known
    error at the best tau and smoothing 55.5 %; distance to the border's mean colour 60.5,
    Mahalanobis distance 61.5, rarity in the background images 77.5, log-ratio of both image sets'
    histograms 80, distance from the centre of the image 66.5).
    """
    rgb = np.ascontiguousarray(image.transpose(1, 2, 0))
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inner = np.zeros(lab.shape[:2], dtype=bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    border = lab[~inner][::7]  # neighbours are alike
    squared = (lab**2).sum(axis=2)[..., None] + (border**2).sum(axis=1) - 2 * lab @ border.T
    k = round(NEAREST * len(border))
    nearest = np.partition(squared, k, axis=2)[..., k]
    return np.sqrt(np.maximum(nearest, 0)).astype(np.float32)


def smooth(maps: Iterable[NDArray[np.float32]], sigma: float) -> NDArray[np.float32]:
    """Smooth N maps (h, w) with a Gaussian of `sigma` pixels of the map; 0 changes nothing."""
    if sigma == 0:
        return np.stack(list(maps))
    return np.stack([cv2.GaussianBlur(m, (0, 0), sigma) for m in maps])


def choose_sigma(maps: Sequence[NDArray[np.float32]], index: pd.DataFrame) -> float:
    """Return the smoothing of lowest GT-known error at its best tau, the smallest of equals.

    index : rows of `train-fullsup`, one for each map
    """
    errors = []
    for sigma in SIGMAS:
        table = localize(smooth(maps, sigma), index, thresholds=COARSE_TAUS)
        errors.append(100 - box_accuracy(table.steps_largest).max())
    return SIGMAS[int(np.argmin(errors))]


def constant_box_maps(index: pd.DataFrame) -> tuple[SplitMaps, str]:
    """Maps of the best constant box of `train-fullsup`; the box in shares of the image, as text."""
    box = constant_box(rows_of(index, TRAIN_FULLSUP))
    return _repeated(constant_box_map(box), index), " ".join(f"{side:.3f}" for side in box)


def centre_gaussian_maps(index: pd.DataFrame) -> tuple[SplitMaps, str]:
    """Maps of the centre Gaussian; its deviation in sides of the image, as text."""
    return _repeated(centre_gaussian_map(), index), f"deviation {CENTRE_SIGMA:g}"


def _repeated(map_: NDArray, index: pd.DataFrame) -> SplitMaps:
    counts = {split: len(rows_of(index, split)) for split in (TRAIN_FULLSUP, TEST)}
    return {split: np.broadcast_to(map_, (n, *map_.shape)) for split, n in counts.items()}


def colour_distance_maps(index: pd.DataFrame, root: Path, size: int) -> tuple[SplitMaps, str]:
    """Smoothed colour-distance maps on images of `size` pixels; the smoothing, as text."""
    return _smoothed_maps(colour_distance_map, index, root, size)


def patch_classifier_maps(
    index: pd.DataFrame, root: Path, size: int, count: int, seed: int
) -> tuple[SplitMaps, str]:
    """Smoothed maps of a patch classifier, trained on `count` patches; the smoothing, as text."""
    objects, _ = load_split(index, root, TRAIN_WEAKSUP, size)
    background = load_background(root, None, size)
    classifier = train_patch_classifier(objects.numpy(), background.numpy(), seed, count)
    return _smoothed_maps(partial(patch_map, classifier), index, root, size)


def _smoothed_maps(
    map_of: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    index: pd.DataFrame,
    root: Path,
    size: int,
) -> tuple[SplitMaps, str]:
    raw = {}
    for split in (TRAIN_FULLSUP, TEST):
        images, _ = load_split(index, root, split, size)
        raw[split] = [map_of(image) for image in images.numpy()]
    sigma = choose_sigma(raw[TRAIN_FULLSUP], rows_of(index, TRAIN_FULLSUP))
    return {split: smooth(maps, sigma) for split, maps in raw.items()}, f"smoothed by {sigma:g}"


def reference_tables(
    name: str,
    maps: SplitMaps,
    read_out: str,
    index: pd.DataFrame,
    root: str | Path,
    meta: Mapping[str, str] | None = None,
    workers: int = 1,
) -> dict[str, LocalizationTable]:
    """Return the localization tables of one of the `REFERENCES` by split.

    name : of the reference; read_out : the fitted setting, as text
    meta : further entries of the tables' meta data; workers : threads that turn maps into boxes
    """
    tables = {}
    for split, scores in maps.items():
        rows = rows_of(index, split)
        masked = split == TEST and (rows["mask"] != "").all()
        about = {"method": name, "map": "reference", "read_out": read_out, "split": split}
        tables[split] = localize(
            scores,
            rows,
            masks=MaskReader(Path(root)) if masked else None,
            workers=workers,
            meta=about | {"protocol": "choe2020", "backbone": "", "seed": "0", **(meta or {})},
        )
    return tables


def save_references(tables: Mapping[str, LocalizationTable], folder: str | Path) -> None:
    """Write the tables of one reference as ``<name>-<split>.npz``."""
    for split, table in tables.items():
        table.save(Path(folder) / f"{table.meta['method']}-{split}.npz")
