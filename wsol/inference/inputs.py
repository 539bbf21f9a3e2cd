"""Images as users have them: files, folders and arrays of any size, decoded a batch at a time.

Shapes: H W image, L side of the network's input.
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

READERS = 4  # threads that decode images

Source = str | os.PathLike | NDArray[np.uint8]  # a file, a folder or an image


class InputImage(NamedTuple):
    """What the network needs of an image; the full-size pixels are not kept."""

    name: str
    size: tuple[int, int]  # width, height
    square: NDArray[np.uint8]  # (3, L, L)


def read_image(source: Source) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, rotated as its EXIF orientation says.

    An array is checked and returned as it is. Raises ValueError, with the name of the file, if
    the source cannot be read as an image.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.shape[2:] != (3,) or source.size == 0:
            shape = f"{source.shape} {source.dtype}"
            raise ValueError(f"an image is an array of (H, W, 3) uint8, not of {shape}")
        return source
    if not Path(source).exists():
        raise ValueError(f"{source}: there is no such file or folder")
    try:
        with Image.open(source) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{source}: cannot be read as an image ({error})") from error


def image_files(folder: str | Path) -> list[Path]:
    """List all images below a folder, sorted. Raises ValueError if there are none."""
    images = list_images(folder)
    if not images:
        raise ValueError(f"no image below {folder} (suffixes: {', '.join(SUFFIXES)})")
    return images


def _sources(images: Source | Iterable[Source]) -> Iterator[tuple[str, Path | NDArray]]:
    single = isinstance(images, str | os.PathLike)
    single = single or (isinstance(images, np.ndarray) and images.ndim < 4)
    for number, item in enumerate([images] if single else images):
        if isinstance(item, np.ndarray):
            yield f"array {number}", item
        elif Path(item).is_dir():
            yield from ((path.as_posix(), path) for path in image_files(item))
        else:
            yield Path(item).as_posix(), Path(item)


def _read(name: str, source: Path | NDArray, side: int) -> InputImage | str:
    """The image, squashed as `wsol.datasets.images.load_image` does it, or an error message."""
    try:
        image = read_image(source)
    except ValueError as error:
        return f"{name}: {error}" if isinstance(source, np.ndarray) else str(error)
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    height, width = image.shape[:2]
    return InputImage(name, (width, height), np.asarray(square).transpose(2, 0, 1))


def batches(
    images: Source | Iterable[Source],
    batch_size: int,
    side: int,
    errors: str,
    skipped: list[str] | None,
) -> Iterator[list[InputImage]]:
    """Decode images, `batch_size` at a time.

    An image that cannot be read raises ValueError if `errors` is "raise". Otherwise it is skipped:
    its message is appended to `skipped`, or warned if that is None.
    """
    sources = _sources(images)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(sources, batch_size)):
            read = list(pool.map(lambda item: _read(*item, side), batch))
            for message in (item for item in read if isinstance(item, str)):
                if errors == "raise":
                    raise ValueError(message)
                if skipped is None:
                    warnings.warn(f"skipped {message}", stacklevel=2)
                else:
                    skipped.append(message)
            if decoded := [item for item in read if isinstance(item, InputImage)]:
                yield decoded
