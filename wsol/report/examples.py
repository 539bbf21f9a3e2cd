"""Examples for a figure, chosen by rule: the images at fixed places of the ranking by IoU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.images import load_image
from wsol.datasets.index import parse_boxes, rows_of
from wsol.evaluation.boxes import FRAME, box_iou, largest_box, resize_boxes, score_map
from wsol.evaluation.metrics import choose_tau
from wsol.evaluation.predict import load_maps, read_out_map
from wsol.evaluation.table import LocalizationTable
from wsol.report.figures import Drawn, Example

PLACES = ("best", "upper quarter", "median", "lower quarter", "worst")  # of the ranking

# What one row of the figure shows: the folder of maps, the map's name, and the pair of tables.
Source = tuple[Path, str, LocalizationTable, LocalizationTable]


def rank_by_iou(test: LocalizationTable, fullsup: LocalizationTable) -> np.ndarray:
    """Images of `test` from the best to the worst IoU at the tau of `train-fullsup`, (N,).

    Of equal IoU the one whose name comes first.
    """
    column = np.abs(test.thresholds - choose_tau(fullsup)).argmin()
    names = test.rows["image_id"].to_numpy(dtype=np.str_)
    return np.lexsort((names, -test.iou_largest[:, column]))


def spread(order: np.ndarray, count: int) -> list[int]:
    """`count` members of a ranking (N,) at equal distances, the first and the last among them."""
    return [int(order[round(i)]) for i in np.linspace(0, len(order) - 1, count)]


def true_boxes(row: pd.Series) -> NDArray[np.int64]:
    """Ground-truth boxes (G, 4) in the frame, of an image whose index row is given."""
    return resize_boxes(parse_boxes(row["boxes"]), (row["width"], row["height"]))


def load_picture(root: Path, row: pd.Series) -> NDArray[np.uint8]:
    """The image of an index row, (H, W, 3) RGB in the frame; `root`: folder of the data set."""
    return load_image(root / row["path"], FRAME).transpose(1, 2, 0)


def draw(source: Source, row: pd.Series, number: int, tau: float) -> Drawn:
    """Score map, box and IoU at tau of image `number` of `test`, whose index row is given.

    They are those of the evaluation, which cuts at the same thresholds (multiples of 0.001).
    """
    folder, kind, test, _ = source
    own = {name: maps[number : number + 1] for name, maps in load_maps(folder).items()}
    score = score_map(read_out_map(own, kind, test.meta["read_out"])[0])
    box = largest_box(score, tau)
    return Drawn(score, box, float(box_iou(box[None], true_boxes(row)).max()))


def load_example(
    row: pd.Series, number: int, title: str, root: Path, sources: Mapping[str, Source]
) -> Example:
    """Image `number` of `test`, whose index row is given, with the maps that `sources` name."""
    maps = {
        name: draw(source, row, number, choose_tau(source[3])) for name, source in sources.items()
    }
    return Example(title, load_picture(root, row), true_boxes(row), maps)


def load_examples(
    index: pd.DataFrame,
    root: Path,
    sources: Mapping[str, Source],
    rule: str,
    titles: Sequence[str] = PLACES,
) -> list[Example]:
    """As many images of `test` as titles, at equal distances in the ranking of the map `rule`."""
    rows = rows_of(index, "test")
    _, _, test, fullsup = sources[rule]
    numbers = spread(rank_by_iou(test, fullsup), len(titles))
    return [
        load_example(rows.iloc[number], number, title, root, sources)
        for number, title in zip(numbers, titles, strict=True)
    ]
