"""Examples for a figure, chosen by rule: the images at fixed places of the ranking by IoU."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.boxes import FRAME, box_iou, largest_box, resize_boxes, score_map
from wsol.data import rows_of
from wsol.datasets.index import parse_boxes
from wsol.images import load_image
from wsol.localization_table import LocalizationTable
from wsol.maps import READ_OUTS, load_maps
from wsol.metrics import choose_tau
from wsol.plots import Drawn, Example

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


def load_example(
    row: pd.Series, number: int, title: str, root: Path, sources: Mapping[str, Source]
) -> Example:
    """Image `number` of `test`, whose index row is given, with the maps that `sources` name."""
    truth = resize_boxes(parse_boxes(row["boxes"]), (row["width"], row["height"]))
    maps = {}
    for name, (folder, kind, test, fullsup) in sources.items():
        read_out = READ_OUTS[test.meta["read_out"]]
        score = score_map(read_out(np.asarray(load_maps(folder)[kind][number], np.float64)))
        box = largest_box(score, choose_tau(fullsup))
        maps[name] = Drawn(score, box, float(box_iou(box[None], truth).max()))
    image = load_image(root / row["path"], FRAME).transpose(1, 2, 0)
    return Example(title, image, truth, maps)


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
