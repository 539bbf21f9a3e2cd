"""The contents of an explorer of evaluated runs; `wsol.inference.widgets` has its widgets.

Score maps and boxes are computed from the stored maps by the functions of the evaluation.

Shapes: N images of `test`, H W image (the protocol's frame).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.index import INDEX, TEST, read_index, rows_of
from wsol.evaluation.failures import REASONS, RIGHT, WRONG_CLASS, failure_reasons
from wsol.evaluation.metrics import choose_tau
from wsol.inference.export import overlay
from wsol.inference.settings import display_name
from wsol.report import examples
from wsol.report.examples import MapAndBox, Source, rank_by_iou
from wsol.report.names import METHODS
from wsol.report.tables import read_pair

WORST, BEST, FIRST = "worst first", "best first", "as in the index"


@dataclass(frozen=True)
class Gallery:
    """Evaluated runs on the `test` images of one data set."""

    rows: pd.DataFrame  # index rows of the N images
    root: Path  # folder of the data set
    sources: Mapping[tuple[str, str], Source]  # maps and tables, by run and map

    @property
    def runs(self) -> list[str]:
        """Names of the runs, in the order of `sources`."""
        return list(dict.fromkeys(run for run, _ in self.sources))

    def kinds(self, run: str) -> list[str]:
        """Maps of a run: class, foreground, product."""
        return [kind for name, kind in self.sources if name == run]


def open_gallery(evaluations: list[Path], data: Path) -> Gallery:
    """Open evaluations: folders named <method>-<seed> with localization/ and maps/.

    Raises FileNotFoundError if one of them has no localization tables, ValueError if they are of
    another data set.
    """
    sources, rows = {}, rows_of(read_index(data / INDEX), TEST)
    for folder in evaluations:
        files = sorted((folder / "localization").glob(f"{folder.name}-*-test.npz"))
        if not files:
            raise FileNotFoundError(f"{folder / 'localization'} has no tables of {folder.name}")
        for file in files:
            kind = file.name.removeprefix(f"{folder.name}-").removesuffix("-test.npz")
            pair = read_pair(file.parent, f"{folder.name}-{kind}")
            if pair[0].rows["image_id"].tolist() != rows["image_id"].tolist():
                raise ValueError(f"{file} is of other images than `test` of {data}")
            sources[folder.name, kind] = (folder / "maps" / TEST, kind, *pair)
    return Gallery(rows, data, sources)


def orders(gallery: Gallery) -> list[str]:
    """List what `numbers` can sort or select by: IoU, kinds of failure, classes."""
    classes = sorted(set(gallery.rows["class_name"]))
    failures = [f"failure: {reason}" for reason in REASONS if reason != RIGHT]
    return [WORST, BEST, FIRST, *failures, *(f"class: {name}" for name in classes)]


def numbers(gallery: Gallery, run: str, kind: str, order: str) -> list[int]:
    """Return the numbers of the images in one of the `orders`; may be empty.

    Images of a failure (at the tau of `train-fullsup`, of the box of the true class) or of a class
    come with the worst IoU first. Raises ValueError if there is no such order.
    """
    _, _, test, fullsup = gallery.sources[run, kind]
    ranked = rank_by_iou(test, fullsup)[::-1]
    selection, _, value = order.partition(": ")
    if order == FIRST:
        return list(range(len(ranked)))
    if order in (WORST, BEST):
        return (ranked if order == WORST else ranked[::-1]).tolist()
    if selection == "class":
        selected = gallery.rows["class_name"].to_numpy() == value
    elif order == f"failure: {WRONG_CLASS}":
        selected = test.rows["rank"].to_numpy() > 0
    elif selection == "failure" and value in REASONS:
        boxes = test.level_boxes
        selected = failure_reasons(boxes.at(choose_tau(fullsup)), boxes.ground_truth()) == value
    else:
        raise ValueError(f"unknown order {order!r}")
    return [int(i) for i in ranked if selected[i]]


def chosen_tau(gallery: Gallery, run: str, kind: str) -> float:
    """Return the tau chosen on `train-fullsup`."""
    return choose_tau(gallery.sources[run, kind][3])


def map_and_box(gallery: Gallery, run: str, kind: str, number: int, tau: float) -> MapAndBox:
    """Compute score map, box and IoU of image `number` at tau, in the frame."""
    return examples.map_and_box(gallery.sources[run, kind], gallery.rows.iloc[number], number, tau)


def render(gallery: Gallery, number: int, one: MapAndBox | None = None) -> NDArray[np.uint8]:
    """Draw an image (H, W, 3) with its ground truth in white and, optionally, a map and its box."""
    row = gallery.rows.iloc[number]
    image = examples.load_frame(gallery.root, row).copy()
    if one is not None:
        image = overlay(image, one.score, one.box)
    for x0, y0, x1, y1 in examples.true_boxes(row).tolist():
        for thickness, colour in ((3, (0, 0, 0)), (1, (255, 255, 255))):  # visible on any image
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
    return image


def describe_prediction(gallery: Gallery, run: str, kind: str, number: int) -> str:
    """Describe the predicted class and whether it is right."""
    row = gallery.sources[run, kind][2].rows.iloc[number]
    names = gallery.rows.drop_duplicates("label").set_index("label")["class_name"]
    predicted, true = (display_name(names.get(row[name], "?")) for name in ("prediction", "label"))
    return f"{predicted}, right" if row["rank"] == 0 else f"{predicted}, wrong: it is {true}"


def title(run: str, kind: str) -> str:
    """Return the title of a run, as in "Background images: foreground map, seed 0"."""
    method, _, seed = run.rpartition("-")
    return f"{METHODS.get((method, kind), f'{method}, {kind} map')}, seed {seed}"
