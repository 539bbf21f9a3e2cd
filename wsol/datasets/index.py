"""The index table: one row per image, whatever data set it comes from.

Columns (boxes in original pixels, x1 = x0 + width; a path or a list that does not exist is ""):

    image_id    path below the images folder, as the data set's authors write it
    path        path of the image below the data set's root
    split       "train-weaksup" (labels only), "train-fullsup" (labels and boxes) or "test"
    label       class number from 0
    class_name  the class in the authors' words
    width       of the original image, pixels
    height
    boxes       "x0 y0 x1 y1;x0 y0 x1 y1"
    mask        path of the object mask below the root
    ignore      path of the mask of the region that does not count
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.files import read_csv, write_table

INDEX = "index.csv"  # name of the table in the folder of its data set
TRAIN_WEAKSUP, TRAIN_FULLSUP, TEST = SPLITS = ("train-weaksup", "train-fullsup", "test")
TEXT = ("image_id", "path", "split", "class_name", "boxes", "mask", "ignore")
NUMBERS = ("label", "width", "height")
DTYPES = dict.fromkeys(TEXT, "str") | dict.fromkeys(NUMBERS, "int64")
COLUMNS = (
    *("image_id", "path", "split", "label", "class_name"),
    *("width", "height", "boxes", "mask", "ignore"),
)


def parse_boxes(text: str) -> NDArray[np.float64]:
    """Boxes of one row, (G, 4) float64: x0 y0 x1 y1 in original pixels.

    Raises ValueError if the text is malformed.
    """
    boxes = [box.split() for box in text.split(";")] if text.strip() else []
    if any(len(box) != 4 for box in boxes):
        raise ValueError(f"boxes are written 'x0 y0 x1 y1;x0 y0 x1 y1', not {text!r}")
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def format_boxes(boxes: ArrayLike) -> str:
    """Text of (G, 4) boxes, in the fewest digits that give the same numbers back.

    Raises ValueError if a number is not finite.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError(f"a box is not finite: {boxes.tolist()}")
    return ";".join(
        " ".join(np.format_float_positional(value, trim="-") for value in box) for box in boxes
    )


def index_table(rows: pd.DataFrame | list[dict[str, object]]) -> pd.DataFrame:
    """An index table from rows; text that is missing becomes ""."""
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype("object")
    return table.fillna(dict.fromkeys(TEXT, "")).astype(DTYPES).reset_index(drop=True)


def check_index(table: pd.DataFrame) -> pd.DataFrame:
    """The table itself.

    Raises ValueError if a column is missing, a split is unknown, or an image is listed twice.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"the index table lacks the columns {', '.join(missing)}")
    unknown = sorted(set(table["split"]) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {', '.join(unknown)}; there are {', '.join(SPLITS)}")
    twice = table.loc[table.duplicated(["split", "image_id"]), "image_id"]
    if len(twice):
        raise ValueError(f"image {twice.iloc[0]} is listed more than once in its split")
    return table


def read_index(path: str | Path) -> pd.DataFrame:
    """Read the index table written by `write_index`. Raises ValueError if it is not one."""
    try:
        table = read_csv(path, DTYPES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: missing file; wsol prepare writes it") from error
    try:
        return check_index(table)[list(COLUMNS)]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_index(table: pd.DataFrame, path: str | Path) -> None:
    """Write an index table as CSV; the same table always gives the same bytes."""
    write_table(check_index(table)[list(COLUMNS)], path)


def fullsup_of_training(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The table with the last `count` training images of each class as `train-fullsup`."""
    training = table[table["split"] == TRAIN_WEAKSUP]
    last = table.index.isin(training.groupby("label").tail(count).index)
    return table.assign(split=table["split"].mask(last, TRAIN_FULLSUP))


def rows_of(index: pd.DataFrame, split: str) -> pd.DataFrame:
    """Rows of one split with a new index from 0. Raises ValueError if there are none."""
    rows = index[index["split"] == split].reset_index(drop=True)
    if rows.empty:
        there = ", ".join(sorted(set(index["split"]))) or "no split at all"
        raise ValueError(f"no image of the split {split!r} in this index table; it has {there}")
    return rows
