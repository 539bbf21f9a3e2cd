"""Examples for figures, selected by rule: images at fixed places of the ranking by IoU."""

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
from wsol.report.figures import Example, MapAndBox

PLACES = ("best", "upper quarter", "median", "lower quarter", "worst")  # of the ranking

# Of one row of the figure: folder of maps, name of the map, tables of `test` and `train-fullsup`.
Source = tuple[Path, str, LocalizationTable, LocalizationTable]


def rank_by_iou(test: LocalizationTable, fullsup: LocalizationTable) -> np.ndarray:
    """Rank the images of `test` by IoU at the tau of `train-fullsup`, the best first, (N,).

    Images of equal IoU come in the order of their names.
    """
    column = np.abs(test.thresholds - choose_tau(fullsup)).argmin()
    names = test.rows["image_id"].to_numpy(dtype=np.str_)
    return np.lexsort((names, -test.iou_largest[:, column]))


def spread(order: np.ndarray, count: int) -> list[int]:
    """Return `count` members of a ranking (N,) at equal distances, with the first and the last."""
    return [int(order[round(i)]) for i in np.linspace(0, len(order) - 1, count)]


def true_boxes(row: pd.Series) -> NDArray[np.int64]:
    """Ground-truth boxes (G, 4) of an index row, in the frame."""
    return resize_boxes(parse_boxes(row["boxes"]), (row["width"], row["height"]))


def load_frame(root: Path, row: pd.Series) -> NDArray[np.uint8]:
    """Load the image of an index row as (FRAME, FRAME, 3) RGB; root : folder of the data set."""
    return load_image(root / row["path"], FRAME).transpose(1, 2, 0)


def map_and_box(source: Source, row: pd.Series, number: int, tau: float) -> MapAndBox:
    """Compute score map, box and IoU at tau of image `number` of `test`, with its index row.

    At multiples of 0.001 they are those of the evaluation.
    """
    folder, kind, test, _ = source
    maps = {name: maps[number : number + 1] for name, maps in load_maps(folder).items()}
    score = score_map(read_out_map(maps, kind, test.meta["read_out"])[0])
    box = largest_box(score, tau)
    return MapAndBox(score, box, float(box_iou(box[None], true_boxes(row)).max()))


def load_example(
    row: pd.Series, number: int, title: str, root: Path, sources: Mapping[str, Source]
) -> Example:
    """Load image `number` of `test` with its maps; row : its index row, sources : by row name."""
    maps = {
        name: map_and_box(source, row, number, choose_tau(source[3]))
        for name, source in sources.items()
    }
    return Example(title, load_frame(root, row), true_boxes(row), maps)


def load_examples(
    index: pd.DataFrame,
    root: Path,
    sources: Mapping[str, Source],
    rule: str,
    titles: Sequence[str] = PLACES,
) -> list[Example]:
    """Load images of `test` at equal distances in the ranking by IoU of one of the maps.

    rule : key in `sources` of the map that ranks; titles : one for each image
    """
    rows = rows_of(index, "test")
    _, _, test, fullsup = sources[rule]
    numbers = spread(rank_by_iou(test, fullsup), len(titles))
    return [
        load_example(rows.iloc[number], number, title, root, sources)
        for number, title in zip(numbers, titles, strict=True)
    ]
