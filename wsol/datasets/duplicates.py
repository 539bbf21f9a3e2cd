"""Pictures that are there twice: within a background set, and in the data set it is meant for.

A background picture that is also in `test` leaks it, and one that is also in `train-weaksup` has
the object. Copies are exact (the same bytes) or near (`wsol.datasets.image_hashes`). The tables
have one row per picture that is a copy:

    file      the picture
    reason    "exact copy" or "near copy"
    of        what it is a copy of: another file, or an image id
    split     of that image; "" for a file of the set itself
    distance  bits of the perceptual hash that differ; 0 for an exact copy
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.datasets.image_hashes import DISTANCE, ImageHash, hash_files, near_pairs, to_bits

COLUMNS = ("file", "reason", "of", "split", "distance")
EXACT, NEAR = "exact copy", "near copy"


def table_of(rows: Sequence[tuple]) -> pd.DataFrame:
    """A table of copies."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"distance": "int64"})


def copies_within(
    files: Sequence[str], hashes: Sequence[ImageHash], distance: int = DISTANCE
) -> pd.DataFrame:
    """Pictures that are copies of an earlier one which is itself no copy; the first is kept."""
    bits = to_bits([one.phash for one in hashes])
    near: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i, j, differ in near_pairs(bits, bits, distance).tolist():
        if j < i:
            near[i].append((differ, j))
    rows, kept, first = [], set(), {}
    for i, file in enumerate(files):
        exact = first.setdefault(hashes[i].sha256, i)
        close = min((pair for pair in near[i] if pair[1] in kept), default=None)
        if exact != i and exact in kept:
            rows.append((file, EXACT, files[exact], "", 0))
        elif close is not None:
            rows.append((file, NEAR, files[close[1]], "", close[0]))
        else:
            kept.add(i)
    return table_of(rows)


def leakage(
    files: Sequence[str],
    hashes: Sequence[ImageHash],
    index: pd.DataFrame,
    root: str | Path,
    distance: int = DISTANCE,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Pictures that are copies of an image of the data set, in any split; its closest is named.

    Parameters
    ----------
    index, root : the data set's index table, and what its paths start from
    distance : bits up to which a picture is a near copy
    cache : CSV file of the data set's hashes, so that they are worked out once

    Raises DatasetError if images of the data set are missing or do not decode.
    """
    images = hash_files([Path(root) / path for path in index["path"]], cache)
    owner = {one.sha256: i for i, one in reversed(list(enumerate(images)))}
    bits, others = (to_bits([one.phash for one in some]) for some in (hashes, images))
    closest: dict[int, tuple[int, int]] = {}
    for i, j, differ in near_pairs(others, bits, distance)[:, [1, 0, 2]].tolist():
        closest[i] = min(closest.get(i, (differ, j)), (differ, j))
    rows = []
    ids, splits = np.asarray(index["image_id"]), np.asarray(index["split"])
    for i, (file, one) in enumerate(zip(files, hashes, strict=True)):
        if one.sha256 in owner:
            j = owner[one.sha256]
            rows.append((file, EXACT, ids[j], splits[j], 0))
        elif i in closest:
            differ, j = closest[i]
            rows.append((file, NEAR, ids[j], splits[j], differ))
    return table_of(rows)
