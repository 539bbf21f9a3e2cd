"""Pictures that are there twice: within a background set, and in the data set it is meant for.

A background picture that is also in `test` leaks it, and one that is also in `train-weaksup` has
the object. Copies are exact (the same bytes) or near (`wsol.datasets.backgrounds.copies`). The tables
have one row per picture that is a copy:

    file      the picture
    reason    "exact copy" or "near copy"
    of        what it is a copy of: another file, or an image id
    split     of that image; "" for a file of the set itself
    distance  bits of the perceptual hash that differ; 0 for an exact copy
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsol.datasets.backgrounds.manifest import file_sha256
from wsol.datasets.checks import DatasetError
from wsol.datasets.memo import append_rows, read_journal

# Hashes of pictures: of their bytes, and of what they look like.

DISTANCE = 6  # bits, up to which two pictures count as copies of each other
PAIRS = 1 << 21  # that are compared at a time: 16 MB
BLOCK = 2048  # pictures between two writes of the cache
COLUMNS = ("path", "size", "mtime_ns", "sha256", "phash")


class ImageHash(NamedTuple):
    """Both hashes of one picture, hexadecimal."""

    sha256: str
    phash: str  # 16 digits


def perceptual_hash(image: Image.Image) -> str:
    """The perceptual hash of a picture held upright as its EXIF data say, 16 digits."""
    return str(imagehash.phash(ImageOps.exif_transpose(image)))


def hash_file(path: Path) -> ImageHash | str:
    """Both hashes of a file, or what is wrong with it."""
    try:
        with Image.open(path) as image:
            return ImageHash(file_sha256(path), perceptual_hash(image))
    except FileNotFoundError:
        return f"missing image {path}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"image does not decode: {path} ({str(error).splitlines()[0]})"


def _state(path: Path) -> tuple[str, str]:
    """Size and time of change: if these are what they were, so are the hashes."""
    try:
        stat = path.stat()
    except OSError:
        return "", ""
    return str(stat.st_size), str(stat.st_mtime_ns)


def _hash_rows(paths: Sequence[Path], faults: list[str]) -> list[dict[str, str]]:
    """A row of the cache for every picture that decodes."""
    states = [_state(path) for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(hash_file, paths))
    faults += [fault for fault in found if isinstance(fault, str)]
    return [
        dict(zip(COLUMNS, (str(path), *state, *hashes), strict=True))
        for path, state, hashes in zip(paths, states, found, strict=True)
        if not isinstance(hashes, str)
    ]


def hash_files(paths: Sequence[Path], cache: Path | None = None) -> list[ImageHash]:
    """Hashes of pictures, in their order; those that `cache` knows are not read again.

    The cache is a CSV file that grows by a block at a time, so that a first pass over a large data
    set may be interrupted: two cores hash about 350 photographs of 500 x 375 pixels a second, and
    look up 100,000 known ones in two seconds and 150 MB. Raises DatasetError with all pictures that
    are missing or do not decode.
    """
    paths = [Path(os.path.abspath(path)) for path in paths]
    known = {} if cache is None else read_journal(cache, COLUMNS, "path")
    old = {path: row for path, row in known.items() if len(row["phash"]) == 16}
    new = [p for p in dict.fromkeys(paths) if not _is_known(p, old)]
    faults: list[str] = []
    for start in range(0, len(new), BLOCK):
        rows = _hash_rows(new[start : start + BLOCK], faults)
        if cache is not None:
            append_rows(cache, COLUMNS, rows)
        old |= {row["path"]: row for row in rows}
    if faults:
        raise DatasetError(faults)
    return [ImageHash(old[str(path)]["sha256"], old[str(path)]["phash"]) for path in paths]


def _is_known(path: Path, rows: dict[str, dict[str, str]]) -> bool:
    row = rows.get(str(path))
    return row is not None and (row["size"], row["mtime_ns"]) == _state(path)


def to_bits(phashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hexadecimal hashes as numbers, (N,)."""
    return np.array([int(text, 16) for text in phashes], dtype=np.uint64)


def near_pairs(
    images: NDArray[np.uint64], others: NDArray[np.uint64], distance: int = DISTANCE
) -> NDArray[np.int64]:
    """All pairs (P, 3) of which no more than `distance` bits differ: row in `images` (N,), row in
    `others` (M,), bits. A block of `images` at a time, so that memory stays flat: a million against
    a thousand take 3.5 s and 100 MB on one core, and ten times as long for ten thousand.
    """
    found = list(_near_blocks(images, others, distance)) or [np.empty((0, 3), np.int64)]
    return np.concatenate(found)


def _near_blocks(
    images: NDArray[np.uint64], others: NDArray[np.uint64], distance: int
) -> Iterator[NDArray[np.int64]]:
    step = max(1, PAIRS // max(1, len(others)))
    for start in range(0, len(images), step):
        block = images[start : start + step, None]
        bits = np.bitwise_count(block ^ others[None])  # (step, M) uint8
        rows, columns = np.nonzero(bits <= distance)
        yield np.stack([rows + start, columns, bits[rows, columns]], axis=1).astype(np.int64)


COPY_COLUMNS = ("file", "reason", "of", "split", "distance")
EXACT, NEAR = "exact copy", "near copy"


def table_of(rows: Sequence[tuple]) -> pd.DataFrame:
    """A table of copies."""
    return pd.DataFrame(rows, columns=list(COPY_COLUMNS)).astype({"distance": "int64"})


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
