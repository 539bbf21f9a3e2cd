"""Hashes of pictures: of their bytes, and of what they look like.

The *perceptual hash* is `imagehash.phash` (the signs of the lowest 8 x 8 frequencies of the picture
shrunk to 32 x 32, against their median): 64 bits of which a re-encoded, resized or slightly cropped
copy changes few. Measured on 1,200 drawn birds and habitats, in bits that differ:

    copy as JPEG of quality 25 to 90, as WebP, in half or double size, squashed, grey    up to  4
    copy without a border of 2 % on each side                                            up to 10
    two different pictures, 719,400 pairs                                                12 or more

(half of those pairs: 32 or more), so that `DISTANCE` finds copies and takes no two of these for
one. Copies that are mirrored or cropped by more are not found. Pictures with hardly any structure
(a clear sky, an even texture) have a hash that is mostly noise and may look alike: what is left out
is always reported, for a look.

A hash is one np.uint64. Shapes: N images of a data set, M of a background set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsol.datasets.backgrounds import file_sha256
from wsol.datasets.faults import DatasetError
from wsol.datasets.journal import append_rows, read_journal

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
