"""Localization tables of the trivial localizers, beside which those of a method are read.

Same splits, same protocol, tau and smoothing chosen on `train-fullsup`. None of them knows a class.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.data import load_background, load_split, rows_of
from wsol.localization import localize
from wsol.localization_table import LocalizationTable
from wsol.pixels import MaskReader
from wsol.references import (
    CENTRE_SIGMA,
    centre_gaussian_map,
    choose_sigma,
    colour_distance_map,
    constant_box,
    constant_box_map,
    patch_map,
    smooth,
    train_patch_classifier,
)

FULLSUP, TEST = "train-fullsup", "test"
REFERENCES = ("constant-box", "centre-gaussian", "colour-distance", "patch-classifier")

Maps = dict[str, NDArray]  # by split, (N, h, w)


def constant_box_maps(index: pd.DataFrame) -> tuple[Maps, str]:
    """Maps of the best constant box of `train-fullsup`; the box in shares of the image, as text."""
    box = constant_box(rows_of(index, FULLSUP))
    return _same_for_all(constant_box_map(box), index), " ".join(f"{side:.3f}" for side in box)


def centre_gaussian_maps(index: pd.DataFrame) -> tuple[Maps, str]:
    """Maps of the centre Gaussian; its deviation in sides of the image, as text.

    Nothing is fitted: the size of its box follows from tau, which `train-fullsup` chooses.
    """
    return _same_for_all(centre_gaussian_map(), index), f"deviation {CENTRE_SIGMA:g}"


def _same_for_all(one: NDArray, index: pd.DataFrame) -> Maps:
    """One map (h, w) for every image of both splits, without a copy for each."""
    return {s: np.broadcast_to(one, (len(rows_of(index, s)), *one.shape)) for s in (FULLSUP, TEST)}


def colour_distance_maps(index: pd.DataFrame, root: Path, size: int) -> tuple[Maps, str]:
    """Smoothed colour-distance maps on images of `size` pixels, and the smoothing, as text."""
    raw = {s: _each(colour_distance_map, index, root, s, size) for s in (FULLSUP, TEST)}
    return _smoothed(raw, index)


def patch_classifier_maps(
    index: pd.DataFrame, root: Path, size: int, count: int, seed: int
) -> tuple[Maps, str]:
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


def _smoothed(raw: Mapping[str, list], index: pd.DataFrame) -> tuple[Maps, str]:
    sigma = choose_sigma(raw[FULLSUP], rows_of(index, FULLSUP))
    return {split: smooth(maps, sigma) for split, maps in raw.items()}, f"smoothed by {sigma:g}"


def reference_tables(
    name: str,
    maps: Maps,
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
