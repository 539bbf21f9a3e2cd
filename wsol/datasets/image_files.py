"""Image files: list them, and decode them as a viewer shows them. PyTorch is not imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

UNDECODABLE = (  # what Pillow raises for damaged files
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError),
    Image.DecompressionBombError,
)
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def list_images(folder: str | Path, skipped: Counter[str] | None = None) -> list[Path]:
    """Image files below a folder, by suffix, sorted; linked folders are followed, once.

    What is hidden (a name that begins with ".", or macOS's __MACOSX) is no image. `skipped` gets
    the number of files by reason. Raises ValueError for a name that is not UTF-8.
    """
    paths, seen, skipped = [], set(), Counter() if skipped is None else skipped
    for where, folders, files in os.walk(folder, followlinks=True):
        there = os.path.realpath(where)
        if there in seen:
            folders.clear()
            continue
        seen.add(there)
        skipped["hidden folders"] += sum(map(is_hidden, folders))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in files:
            if is_hidden(name):
                skipped["hidden files"] += 1
            elif Path(name).suffix.lower() not in SUFFIXES:
                skipped[f"files of type {Path(name).suffix.lower() or 'unknown'}"] += 1
            else:
                paths.append(Path(where) / name)
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name of {str(path)!r} is not UTF-8: rename the file") from None
        if len(str(path).splitlines()) > 1:
            raise ValueError(f"the name of {str(path)!r} has a line break: rename the file")
    return sorted(paths)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is an editor's or a system's, and not the user's."""
    return name.startswith(".") or name == "__MACOSX"


@contextmanager
def decoded(path: str | Path | IO[bytes]) -> Iterator[Image.Image]:
    """An image file, opened; what fails while it is decoded becomes a ValueError with its path."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise ValueError(f"missing image {path}") from error
    except UNDECODABLE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"image does not decode: {path} ({reason})") from error


def check_mode(image: Image.Image) -> None:
    """Raise ValueError for pixels of 32-bit integers or floating point, see `upright`."""
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have the mode {image.mode}: convert them to 8 bits")


def upright(image: Image.Image, mode: str = "RGB") -> Image.Image:
    """An image as a viewer shows it: turned as its EXIF orientation says, 8 bits a channel.

    Grey levels of 16 bits are divided by 257; transparency is dropped, the colour under it shows.
    Raises ValueError for 32-bit integers and floating-point numbers, whose range nobody knows.
    """
    check_mode(image)
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # spares a copy of most images
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    return image.convert(mode)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of `upright`, from the header alone but for TIFF."""
    if image.format == "TIFF":  # Pillow turns it while it decodes, not in every mode
        image.load()
        return image.size
    exif = Image.Exif()
    if image.format != "PNG":
        exif = image.getexif()
    elif "exif" in image.info:  # `getexif` would decode the pixels
        exif.load(image.info["exif"])
    turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)  # by a quarter
    return image.size[::-1] if turned else image.size


def load_image(path: str | Path, size: int) -> np.ndarray:
    """One image as (3, size, size) uint8 RGB, resized to a square with antialiasing.

    Raises ValueError naming the file if it is missing or does not decode.
    """
    with decoded(path) as image:
        square = upright(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).transpose(2, 0, 1)
