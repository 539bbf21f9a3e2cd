"""Pictures as people have them: files, folders and arrays of any size, decoded a batch at a time.

Shapes: H W picture, L side of the network's input.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wsol.datasets.images import SUFFIXES, list_images

READERS = 4  # threads that decode pictures

Source = str | os.PathLike | NDArray[np.uint8]  # a file, a folder or a picture


class Picture(NamedTuple):
    """What the network needs of a picture: the picture itself is not kept."""

    name: str
    size: tuple[int, int]  # width, height
    square: NDArray[np.uint8]  # (3, L, L)


def read_picture(source: Source) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Raises ValueError, for a file with its name, if it is no picture.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.shape[2:] != (3,) or source.size == 0:
            shape = f"{source.shape} {source.dtype}"
            raise ValueError(f"a picture is an array of (H, W, 3) uint8, not of {shape}")
        return source
    if not Path(source).exists():
        raise ValueError(f"{source}: there is no such file or folder")
    try:
        with Image.open(source) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{source}: cannot be read as an image ({error})") from error


def picture_files(folder: str | Path) -> list[Path]:
    """All pictures below a folder, sorted. Raises ValueError if there are none."""
    found = list_images(folder)
    if not found:
        raise ValueError(f"no picture below {folder} ({', '.join(SUFFIXES)} are looked for)")
    return found


def _sources(images: Source | Iterable[Source]) -> Iterator[tuple[str, Path | NDArray]]:
    """Name and source of every picture, one after the other."""
    one = isinstance(images, str | os.PathLike)
    one = one or (isinstance(images, np.ndarray) and images.ndim < 4)
    for number, item in enumerate([images] if one else images):
        if isinstance(item, np.ndarray):
            yield f"array {number}", item
        elif Path(item).is_dir():
            yield from ((path.as_posix(), path) for path in picture_files(item))
        else:
            yield Path(item).as_posix(), Path(item)


def _read(name: str, source: Path | NDArray, side: int) -> Picture | str:
    """The picture, squashed as `wsol.datasets.images.load_image` does, or what is wrong with it."""
    try:
        picture = read_picture(source)
    except ValueError as error:
        return f"{name}: {error}" if isinstance(source, np.ndarray) else str(error)
    square = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    height, width = picture.shape[:2]
    return Picture(name, (width, height), np.asarray(square).transpose(2, 0, 1))


def batches(
    images: Source | Iterable[Source],
    batch_size: int,
    side: int,
    errors: str,
    skipped: list[str] | None,
) -> Iterator[list[Picture]]:
    """Pictures, decoded `batch_size` at a time; those that cannot be read raise or are told."""
    sources = _sources(images)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(sources, batch_size)):
            read = list(pool.map(lambda item: _read(*item, side), batch))
            for fault in (one for one in read if isinstance(one, str)):
                if errors == "raise":
                    raise ValueError(fault)
                if skipped is None:
                    warnings.warn(f"skipped {fault}", stacklevel=2)
                else:
                    skipped.append(fault)
            if pictures := [one for one in read if isinstance(one, Picture)]:
                yield pictures
