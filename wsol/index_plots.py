"""Pictures of an index table, whatever data set it is of."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wsol.data_plots import contact_sheet, unit_boxes
from wsol.images import load_image


def spread(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most n of the rows, evenly from the first to the last, so that many classes are shown."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def boxed_sheet(index: pd.DataFrame, root: Path, split: str, n: int, size: int) -> Figure:
    """n pictures of a split with their boxes, squashed to squares of `size` pixels.

    `root` is what the paths of the table start from. Raises ValueError if the split is empty.
    """
    rows = spread(index[index["split"] == split], n)
    if rows.empty:
        raise ValueError(f"no image of the split {split!r} in this index table")
    images = np.stack([load_image(root / path, size) for path in rows["path"]])
    return contact_sheet(images, unit_boxes(rows), columns=min(n, 8))
