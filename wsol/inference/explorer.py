"""What an explorer of localization runs shows, apart from its widgets (`wsol.inference.widgets`).

Choose a run, an order of the images and a threshold: picture, score map and box follow from the
maps that the evaluation left, by the very functions of the evaluation.

Shapes: N images of `test`, H W picture (the protocol's frame).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.evaluation.failures import REASONS, RIGHT, WRONG_CLASS, failure_reasons
from wsol.evaluation.metrics import choose_tau
from wsol.evaluation.table import LocalizationTable
from wsol.inference.export import overlay
from wsol.inference.settings import spoken
from wsol.report import examples
from wsol.report.examples import Source, rank_by_iou
from wsol.report.figures import Drawn
from wsol.report.names import METHODS
from wsol.report.tables import read_pair

WORST, BEST, FIRST = "worst first", "best first", "as in the index"


@dataclass(frozen=True)
class Gallery:
    """Evaluated runs on the `test` images of one data set.

    rows : index rows of the N images
    root : folder of the data set
    sources : by run and map, where its maps lie and its tables
    """

    rows: pd.DataFrame
    root: Path
    sources: Mapping[tuple[str, str], Source]

    @property
    def runs(self) -> list[str]:
        """Names of the runs, in the order given."""
        return list(dict.fromkeys(run for run, _ in self.sources))

    def kinds(self, run: str) -> list[str]:
        """Maps of a run: class, foreground, product."""
        return [kind for name, kind in self.sources if name == run]


def open_gallery(evaluations: list[Path], data: Path) -> Gallery:
    """The runs of some evaluations, folders named <method>-<seed> with localization/ and maps/.

    Raises FileNotFoundError if one of them has no localization tables.
    """
    sources = {}
    for folder in evaluations:
        files = sorted((folder / "localization").glob(f"{folder.name}-*-test.npz"))
        if not files:
            raise FileNotFoundError(f"{folder / 'localization'} has no tables of {folder.name}")
        for file in files:
            kind = file.name.removeprefix(f"{folder.name}-").removesuffix("-test.npz")
            pair = read_pair(file.parent, f"{folder.name}-{kind}")
            sources[folder.name, kind] = (folder / "maps" / "test", kind, *pair)
    return Gallery(rows_of(read_index(data / INDEX), "test"), data, sources)


def orders(gallery: Gallery) -> list[str]:
    """What `numbers` can sort or choose by: IoU, kinds of failure, classes."""
    classes = sorted(set(gallery.rows["class_name"]))
    failures = [f"failure: {reason}" for reason in REASONS if reason != RIGHT]
    return [WORST, BEST, FIRST, *failures, *(f"class: {name}" for name in classes)]


def numbers(gallery: Gallery, run: str, kind: str, order: str) -> list[int]:
    """Numbers of the images in an order, those of a failure or class the worst first; maybe none.

    Failures are those of the class, or of the box with the class given, at the tau of
    `train-fullsup`.
    Raises ValueError if there is no such order.
    """
    _, _, test, fullsup = gallery.sources[run, kind]
    ranked = rank_by_iou(test, fullsup)[::-1]
    what, _, value = order.partition(": ")
    if order == FIRST:
        return list(range(len(ranked)))
    if order in (WORST, BEST):
        return (ranked if order == WORST else ranked[::-1]).tolist()
    if what == "class":
        wanted = gallery.rows["class_name"].to_numpy() == value
    elif order == f"failure: {WRONG_CLASS}":
        wanted = test.rows["rank"].to_numpy() > 0
    elif what == "failure" and value in REASONS:
        wanted = _reasons(test, fullsup) == value
    else:
        raise ValueError(f"unknown order {order!r}")
    return [int(i) for i in ranked if wanted[i]]


def _reasons(test: LocalizationTable, fullsup: LocalizationTable) -> NDArray[np.str_]:
    found, tau = test.level_boxes, choose_tau(fullsup)
    if found is None:
        raise ValueError("the localization tables have no boxes: evaluate the run again")
    return failure_reasons(found.at(tau), found.ground_truth())


def chosen_tau(gallery: Gallery, run: str, kind: str) -> float:
    """Tau that was chosen on `train-fullsup`."""
    return choose_tau(gallery.sources[run, kind][3])


def draw(gallery: Gallery, run: str, kind: str, number: int, tau: float) -> Drawn:
    """Score map, box and IoU of image `number` at tau, in the frame."""
    return examples.draw(gallery.sources[run, kind], gallery.rows.iloc[number], number, tau)


def picture(gallery: Gallery, number: int, drawn: Drawn | None = None) -> NDArray[np.uint8]:
    """An image (H, W, 3) with its ground truth in white and, if given, a map and its box."""
    row = gallery.rows.iloc[number]
    image = examples.load_picture(gallery.root, row).copy()
    if drawn is not None:
        image = overlay(image, drawn.score, drawn.box)
    for x0, y0, x1, y1 in examples.true_boxes(row).tolist():
        for thickness, colour in ((3, (0, 0, 0)), (1, (255, 255, 255))):  # shows on any picture
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
    return image


def answer(gallery: Gallery, run: str, kind: str, number: int) -> str:
    """What a run says the image shows, and whether that is right."""
    row = gallery.sources[run, kind][2].rows.iloc[number]
    names = gallery.rows.drop_duplicates("label").set_index("label")["class_name"]
    said, shown = (spoken(names.get(row[name], "?")) for name in ("prediction", "label"))
    return f"{said}, right" if row["rank"] == 0 else f"{said}, wrong: it is {shown}"


def title(run: str, kind: str) -> str:
    """What a run is called: "Background images: foreground map, seed 0"."""
    method, _, seed = run.rpartition("-")
    return f"{METHODS.get((method, kind), f'{method}, {kind} map')}, seed {seed}"
