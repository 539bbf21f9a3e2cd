"""What the preparation of a data set leaves: index.csv if it is sound, otherwise faults.csv.

Either file appears only when it is complete, and faults.csv goes when the data set is mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from wsol.datasets.faults import DatasetError
from wsol.datasets.index import INDEX, SPLITS, parse_boxes, read_index
from wsol.datasets.pictures import write_rebased

FAULTS = "faults.csv"
COLUMNS = ("place", "fault")


def fault_table(faults: Sequence[str]) -> pd.DataFrame:
    """Faults as a table: place, a file or file:line, and fault, what is wrong there."""
    rows = [re.fullmatch(r"(?:(.*?): )?(.*)", fault, re.DOTALL).groups("") for fault in faults]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


def _write_faults(faults: Sequence[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    fault_table(faults).to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    partial.replace(path)


@contextmanager
def faults_kept(out: Path) -> Iterator[None]:
    """Write out/faults.csv when a DatasetError passes, and remove an earlier one otherwise."""
    path = Path(out) / FAULTS
    try:
        yield
    except DatasetError as error:
        _write_faults(error.faults, path)
        error.table = path
        raise
    path.unlink(missing_ok=True)


def index_or_faults(read: Callable[[], pd.DataFrame], raw: Path, out: Path) -> pd.DataFrame:
    """Write out/index.csv, or out/faults.csv if `read` raises DatasetError.

    read : gives an index table whose paths start from `raw`; in out/index.csv they start from `out`

    Returns the table of the faults, without rows if there are none; an earlier index.csv stays
    when there are some.
    """
    try:
        with faults_kept(out):
            write_rebased(read(), Path(raw), Path(out))
    except DatasetError as error:
        return fault_table(error.faults)
    return fault_table([])


def prepared_index(out: Path) -> pd.DataFrame:
    """The index table of a prepared folder. Raises DatasetError if its data set has faults."""
    path = Path(out) / FAULTS
    if path.is_file():
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8")
        raise DatasetError([": ".join(filter(None, row)) for row in table.to_numpy()], path)
    return read_index(Path(out) / INDEX)


def counts(index: pd.DataFrame) -> pd.DataFrame:
    """Per split: images, classes, boxes, most boxes of an image, masks; sizes in pixels."""
    boxes = index["boxes"].map(lambda text: len(parse_boxes(text)))
    splits = index.assign(boxes=boxes, mask=index["mask"] != "").groupby("split")
    table = splits.agg(
        images=("image_id", "size"),
        classes=("label", "nunique"),
        boxes=("boxes", "sum"),
        most_boxes=("boxes", "max"),
        masks=("mask", "sum"),
        min_width=("width", "min"),
        max_width=("width", "max"),
    )
    return _in_order(table)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the splits that there are, in the order in which they are used."""
    return table.loc[[split for split in SPLITS if split in table.index]]


def boxes_per_image(index: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """Images of each split by their number of boxes, those with `most` or more together."""
    numbers = index["boxes"].map(lambda text: len(parse_boxes(text)))
    names = numbers.map(lambda n: f"{most} or more" if n >= most else str(n))
    return _in_order(pd.crosstab(index["split"], names.rename("boxes")))
