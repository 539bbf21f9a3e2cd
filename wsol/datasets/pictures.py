"""What the readers of data sets share: paths, sizes of listed pictures, a `train-fullsup`.

As in `faults`, what is wrong is appended to a list, and the reader raises it all together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol.datasets.faults import Size
from wsol.datasets.image_check import ImageCheck, image_sizes
from wsol.datasets.index import INDEX, write_index
from wsol.datasets.split_metadata import split_rows


def relative(path: Path, root: Path) -> str:
    """The path as it is written in an index table whose paths start from root."""
    return Path(os.path.relpath(path, root)).as_posix()


def write_rebased(index: pd.DataFrame, raw: Path, out: Path) -> Path:
    """Write an index table whose paths start from raw into out, from where they start then."""
    for column in ("path", "mask", "ignore"):
        index[column] = [relative(raw / path, out) if path else "" for path in index[column]]
    write_index(index, out / INDEX)
    return out / INDEX


def known_sizes(
    folder: Path,
    names: Sequence[str],
    wheres: Sequence[str],
    check: bool | ImageCheck,
    faults: list[str],
) -> list[Size | None]:
    """Width and height of the pictures folder / name in pixels, None where there is none.

    `wheres` says for each picture which line of which file is to blame, `check` how they are
    looked at (see `image_check`).
    """
    if names and not folder.is_dir():
        faults.append(f"{folder}: missing folder of {len(names)} images")
        return [None] * len(names)
    found = image_sizes([folder / name for name in names], check)
    for size, where in zip(found, wheres, strict=True):
        if isinstance(size, str):
            faults.append(f"{where}: {size}")
    return [None if isinstance(size, str) else size for size in found]


def fullsup_rows(
    metadata: Path,
    images: Path,
    root: Path,
    names: Sequence[str],
    check: bool | ImageCheck,
    faults: list[str],
) -> pd.DataFrame:
    """Index rows of a `train-fullsup` in the format of `split_metadata`.

    metadata : folder of the four text files
    images : folder that its image ids start from
    root : what the paths of the rows start from
    names : class names by label
    """
    rows = split_rows(metadata, "train-fullsup", names, faults)
    wheres = [f"{metadata / 'image_ids.txt'}: {image}" for image in rows["image_id"]]
    sizes = known_sizes(images, list(rows["image_id"]), wheres, check, faults)
    for row, size in zip(rows.itertuples(), sizes, strict=True):
        if size is not None and size != (row.width, row.height):
            faults.append(
                f"{metadata / 'image_sizes.txt'}: {row.image_id} is said to be {row.width} x "
                f"{row.height} pixels and has {size[0]} x {size[1]}"
            )
    below = relative(images, root)
    rows["path"] = [f"{below}/{image}" for image in rows["image_id"]]
    return rows
