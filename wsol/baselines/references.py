"""Localization tables of the trivial localizers, beside which those of a method are read.

Same splits, same protocol, tau and smoothing chosen on `train-fullsup`. None of them knows a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal.windows import gaussian
from torch import nn
from torch.nn import functional as F

from wsol.datasets.backgrounds.manifest import load_background
from wsol.datasets.images import load_split
from wsol.datasets.index import parse_boxes, rows_of
from wsol.evaluation.boxes import FRAME, box_iou, resize_boxes
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import MaskReader
from wsol.evaluation.metrics import DELTA, box_accuracy
from wsol.evaluation.table import LocalizationTable

# Trivial localizers: what a method has to beat before its maps mean anything.

CENTRE_SIGMA = 0.25  # of the centre Gaussian, in sides of the frame
COARSE = 14  # pixels between the corners of the first search for a constant box
SIGMAS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)  # of the smoothing, in pixels of the map
COARSE_TAUS = np.arange(0, 1, 0.01)  # enough to choose by

BORDER = 4  # pixels of the image's edge whose colours count as background
NEAREST = 0.05  # share of the border that a background colour should resemble

PATCH = 5  # pixels
STRIDE = 2  # pixels between the patches of a map
HIDDEN = (128, 64)  # units of the patch classifier
EPOCHS = 8

Maps = NDArray[np.float32]  # (N, h, w)


def _ground_truth(index: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Boxes of all images in the frame, (G, 4), and where each image's begin, (N,)."""
    boxes = [
        resize_boxes(parse_boxes(row.boxes), (row.width, row.height)) for row in index.itertuples()
    ]
    counts = [len(b) for b in boxes]
    if not counts or min(counts) == 0:
        raise ValueError("a constant box is fitted on images that all have a box")
    return np.concatenate(boxes), np.cumsum([0, *counts[:-1]])


def _hits(
    boxes: NDArray[np.int64], truth: NDArray[np.int64], starts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Value (M,) of constant boxes: share of images hit; of equal shares, the higher mean IoU."""
    iou = np.concatenate(
        [np.maximum.reduceat(box_iou(part, truth), starts, axis=1) for part in _chunks(boxes)]
    )
    return (iou >= DELTA).mean(axis=1) + 1e-6 * iou.mean(axis=1)


def _chunks(boxes: NDArray[np.int64], size: int = 2048) -> list[NDArray[np.int64]]:
    return [boxes[i : i + size] for i in range(0, len(boxes), size)]


def constant_box(index: pd.DataFrame) -> NDArray[np.float64]:
    """The one box (4,), x0 y0 x1 y1 as shares of the image, that is right most often on `index`.

    Right as the protocol has it, in its frame. All boxes of a coarse grid are tried, then the best
    is moved corner by corner until nothing helps. Raises ValueError where an image has no box.
    """
    truth, starts = _ground_truth(index)
    line = range(0, FRAME, COARSE)
    spans = [(a, min(b, FRAME - 1)) for a in line for b in (*line, FRAME) if b > a]
    boxes = np.array([(x0, y0, x1, y1) for (x0, x1), (y0, y1) in product(spans, spans)])
    best = boxes[_hits(boxes, truth, starts).argmax()]
    for step in (7, 4, 2, 1):
        moves = step * np.array(list(product((0, -1, 1), repeat=4)))  # staying comes first
        while True:
            boxes = np.clip(best + moves, 0, FRAME - 1)
            boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
            place = _hits(boxes, truth, starts).argmax()
            if (boxes[place] == best).all():
                break
            best = boxes[place]
    return best / FRAME


def constant_box_map(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (224, 224) of 0 and 1 from which the protocol takes this very box at every tau."""
    x0, y0, x1, y1 = np.round(np.asarray(box) * FRAME).astype(int)
    score = np.zeros((FRAME, FRAME))
    score[y0:y1, x0:x1] = 1  # the protocol puts the far corner one past the object
    return score


def centre_gaussian_map() -> NDArray[np.float64]:
    """Isotropic Gaussian (224, 224) around the middle of the frame, above 0 and below 1.

    Its deviation chooses which tau belongs to which square, not which squares there are: a quarter
    of the side spreads them over the thresholds, from a few pixels to the whole frame.
    """
    profile = gaussian(FRAME, CENTRE_SIGMA * FRAME)
    return np.outer(profile, profile)


def colour_distance_map(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How little the colours of an image (3, H, W) occur on its border, (H, W).

    For each pixel the distance in CIE Lab within which it finds 5 % of the border's pixels. That
    was the strongest of six variants on the `train-fullsup` of a set of birds (GT-known error at
    the best tau and smoothing 55.5 %; distance to the border's mean colour 60.5, Mahalanobis
    distance 61.5, rareness in the background images 77.5, log-ratio of both image sets' histograms
    80, distance from the centre of the image 66.5).
    """
    rgb = np.ascontiguousarray(image.transpose(1, 2, 0))
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inner = np.zeros(lab.shape[:2], dtype=bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    border = lab[~inner][::7]  # neighbours resemble each other
    squared = (lab**2).sum(axis=2)[..., None] + (border**2).sum(axis=1) - 2 * lab @ border.T
    k = round(NEAREST * len(border))
    nearest = np.partition(squared, k, axis=2)[..., k]
    return np.sqrt(np.maximum(nearest, 0)).astype(np.float32)


def _values(windows: NDArray[np.uint8]) -> torch.Tensor:
    """Patches (P, 75) of about zero mean and unit variance from windows (..., 3, 5, 5)."""
    flat = np.ascontiguousarray(windows).reshape(-1, 3 * PATCH**2)
    return (torch.from_numpy(flat).float() / 255 - 0.45) / 0.25


def _sample_patches(
    images: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> torch.Tensor:
    """Patches (P, 75) from random places of random images (N, 3, H, W)."""
    windows = sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    n, _, rows, columns = windows.shape[:4]
    image, y, x = (rng.integers(high, size=count) for high in (n, rows, columns))
    return _values(windows[image, :, y, x])


def train_patch_classifier(
    objects: NDArray[np.uint8], background: NDArray[np.uint8], seed: int = 0, count: int = 400_000
) -> nn.Module:
    """Learn to tell patches of object images (N, 3, H, W) from patches of background images.

    ``count`` patches, half of each image set; no box is used. The same seed gives the same
    classifier. On the `train-fullsup` of a set of birds its GT-known error is 56.5 and 61.5 % with
    two seeds; one hidden layer had 62, boosted trees 64.5, and two layers at a constant rate 56 and
    60.5.
    """
    rng = np.random.default_rng(seed)
    half = count // 2
    patches = torch.cat([_sample_patches(images, half, rng) for images in (objects, background)])
    labels = torch.arange(2 * half) < half
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (patches.shape[1], *HIDDEN)
        layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))
        _fit(network, patches, labels.float())
    return network.eval()


def _fit(network: nn.Module, patches: torch.Tensor, labels: torch.Tensor) -> None:
    """Minimize the logistic loss of (P, 75) patches with labels 0 or 1."""
    batch = min(1024, len(patches))
    steps = EPOCHS * (len(patches) // batch)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(patches)).split(batch):
            if len(rows) < batch:
                continue
            logits = network(patches[rows])[:, 0]
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, labels[rows]).backward()
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def patch_map(classifier: nn.Module, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probability (h, w) that the patch around every second pixel is of an object image."""
    padded = np.pad(image, ((0, 0), (PATCH // 2,) * 2, (PATCH // 2,) * 2), mode="reflect")
    windows = sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    logits = classifier(_values(windows.transpose(1, 2, 0, 3, 4)))[:, 0]
    return logits.sigmoid().reshape(windows.shape[1:3]).numpy()


def smooth(maps: Iterable[NDArray[np.float32]], sigma: float) -> Maps:
    """Maps (N, h, w) after a Gaussian of ``sigma`` pixels of the map; 0 leaves them as they are."""
    if sigma == 0:
        return np.stack(list(maps))
    return np.stack([cv2.GaussianBlur(m, (0, 0), sigma) for m in maps])


def choose_sigma(maps: Sequence[NDArray[np.float32]], index: pd.DataFrame) -> float:
    """The smoothing of lowest GT-known error at its best tau; the least of equals.

    ``index`` must be rows of `train-fullsup`.
    """
    errors = []
    for sigma in SIGMAS:
        table = localize(smooth(maps, sigma), index, thresholds=COARSE_TAUS)
        errors.append(100 - box_accuracy(table.steps_largest).max())
    return SIGMAS[int(np.argmin(errors))]


FULLSUP, TEST = "train-fullsup", "test"
REFERENCES = ("constant-box", "centre-gaussian", "colour-distance", "patch-classifier")

SplitMaps = dict[str, NDArray]  # by split, (N, h, w)


def constant_box_maps(index: pd.DataFrame) -> tuple[SplitMaps, str]:
    """SplitMaps of the best constant box of `train-fullsup`; the box in shares of the image, as text."""
    box = constant_box(rows_of(index, FULLSUP))
    return _same_for_all(constant_box_map(box), index), " ".join(f"{side:.3f}" for side in box)


def centre_gaussian_maps(index: pd.DataFrame) -> tuple[SplitMaps, str]:
    """SplitMaps of the centre Gaussian; its deviation in sides of the image, as text.

    Nothing is fitted: the size of its box follows from tau, which `train-fullsup` chooses.
    """
    return _same_for_all(centre_gaussian_map(), index), f"deviation {CENTRE_SIGMA:g}"


def _same_for_all(one: NDArray, index: pd.DataFrame) -> SplitMaps:
    """One map (h, w) for every image of both splits, without a copy for each."""
    return {s: np.broadcast_to(one, (len(rows_of(index, s)), *one.shape)) for s in (FULLSUP, TEST)}


def colour_distance_maps(index: pd.DataFrame, root: Path, size: int) -> tuple[SplitMaps, str]:
    """Smoothed colour-distance maps on images of `size` pixels, and the smoothing, as text."""
    raw = {s: _each(colour_distance_map, index, root, s, size) for s in (FULLSUP, TEST)}
    return _smoothed(raw, index)


def patch_classifier_maps(
    index: pd.DataFrame, root: Path, size: int, count: int, seed: int
) -> tuple[SplitMaps, str]:
    """Smoothed maps of a patch classifier, trained on `count` patches; the smoothing, as text."""
    objects, _ = load_split(index, root, "train-weaksup", size)
    background = load_background(root, None, size)
    classifier = train_patch_classifier(objects.numpy(), background.numpy(), seed, count)
    raw = {
        s: _each(lambda image: patch_map(classifier, image), index, root, s, size)
        for s in (FULLSUP, TEST)
    }
    return _smoothed(raw, index)


def _each(function, index: pd.DataFrame, root: Path, split: str, size: int) -> list[NDArray]:
    images, _ = load_split(index, root, split, size)
    return [function(image) for image in images.numpy()]


def _smoothed(raw: Mapping[str, list], index: pd.DataFrame) -> tuple[SplitMaps, str]:
    sigma = choose_sigma(raw[FULLSUP], rows_of(index, FULLSUP))
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
    """Localization tables by split of one of the `REFERENCES`; `read_out` says what was fitted."""
    tables = {}
    for split, cams in maps.items():
        rows = rows_of(index, split)
        masked = split == TEST and (rows["mask"] != "").all()
        about = {"method": name, "map": "reference", "read_out": read_out, "split": split}
        tables[split] = localize(
            cams,
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
