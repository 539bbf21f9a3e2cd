"""Duplicate images: within a background set, and between it and the data set it is used with.

A background image that is also in `test` leaks it, and one that is also in `train-weaksup` contains
the object. Copies are exact (the same bytes) or near (perceptual hashes that differ in few bits).
The tables have one row per image that is a copy:

    file      the image
    reason    "exact copy" or "near copy"
    of        what it is a copy of: another file, or an image id
    split     of that image; "" for a file of the set itself
    distance  bits of the perceptual hash that differ; 0 for an exact copy
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsol.datasets.checks import raise_errors
from wsol.datasets.files import file_sha256
from wsol.datasets.image_files import decoded
from wsol.datasets.memo import map_files

DISTANCE = 6  # bits, up to which two images count as copies of each other
PAIRS = 1 << 21  # compared at a time: 16 MB


class ImageHash(NamedTuple):
    """Both hashes of one image, hexadecimal."""

    sha256: str
    phash: str  # 16 digits


def perceptual_hash(image: Image.Image) -> str:
    """The perceptual hash of an image held upright as its EXIF data say, 16 digits."""
    return str(imagehash.phash(ImageOps.exif_transpose(image)))


def hash_file(path: Path) -> ImageHash | str:
    """Both hashes of a file, or what is wrong with it."""
    try:
        with decoded(path) as image:
            return ImageHash(file_sha256(path), perceptual_hash(image))
    except ValueError as error:
        return str(error)


def hash_files(paths: Sequence[Path], memo: Path | None = None) -> list[ImageHash]:
    """Hashes of images, in their order; those that the memo has are not computed again.

    Two cores hash about 350 photographs of 500 x 375 pixels a second. Raises DatasetError with all
    images that are missing or do not decode.
    """
    hashes = list(map_files(hash_file, paths, "image hash", memo))
    raise_errors([value for value in hashes if isinstance(value, str)])
    return [ImageHash(*value) for value in hashes]


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
    blocks = list(_near_blocks(images, others, distance))
    return np.concatenate(blocks or [np.empty((0, 3), np.int64)])


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
    """Images that are copies of an earlier one which is itself no copy; the first is kept."""
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
    memo: Path | None = None,
) -> pd.DataFrame:
    """Images that are copies of an image of the data set, in any split; its closest is named.

    Parameters
    ----------
    index, root : the data set's index table, and what its paths start from
    distance : bits up to which an image is a near copy
    memo : file that keeps the data set's hashes

    Raises DatasetError if images of the data set are missing or do not decode.
    """
    images = hash_files([Path(root) / path for path in index["path"]], memo)
    owner = {one.sha256: i for i, one in reversed(list(enumerate(images)))}
    bits, others = (to_bits([one.phash for one in some]) for some in (hashes, images))
    closest: dict[int, tuple[int, int]] = {}
    for i, j, differ in near_pairs(others, bits, distance)[:, [1, 0, 2]].tolist():
        closest[i] = min(closest.get(i, (differ, j)), (differ, j))
    rows, named = [], index[["image_id", "split"]].to_numpy()
    for i, (file, one) in enumerate(zip(files, hashes, strict=True)):
        if one.sha256 in owner:
            rows.append((file, EXACT, *named[owner[one.sha256]], 0))
        elif i in closest:
            differ, j = closest[i]
            rows.append((file, NEAR, *named[j], differ))
    return table_of(rows)
