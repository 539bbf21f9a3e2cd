"""Image files: list them, decode them, and keep them as uint8 squares.

`load_images` gives one tensor. `open_images` gives image i as a (3, L, L) uint8 tensor, decoded on
demand or once into a memory map: one file per list of images and size, made by the first process
that needs it and shared by all. Making it can be interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from wsol.datasets.arrays import fill_array
from wsol.datasets.index import rows_of

LOAD_RATIO = 256 / 224  # train images are loaded this much larger than they are cropped
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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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


def load_images(paths: Sequence[str | Path], size: int, workers: int = 4) -> Tensor:
    """Read N images as one (N, 3, size, size) uint8 tensor, in the order given."""
    images = torch.empty((len(paths), 3, size, size), dtype=torch.uint8)
    with ThreadPoolExecutor(workers) as pool:
        for i, image in enumerate(pool.map(lambda path: load_image(path, size), paths)):
            images[i] = torch.from_numpy(image.copy())
    return images


def load_size(input_size: int) -> int:
    """Side at which train images are loaded before a crop of ``input_size`` (256 for 224)."""
    return round(input_size * LOAD_RATIO)


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images into floats in [0, 1]."""
    return images.float().div_(255)


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Images (B, 3, H, W) uint8 as input of a network: in [0, 1], channels last, on the device.

    Packed features (B, F) of `Backbone.pack` become floats.
    """
    if images.dim() == 2:
        return images.to(device, non_blocking=True).float()
    images = to_float(images.to(device, non_blocking=True))  # uint8 is what travels
    return images.contiguous(memory_format=torch.channels_last)


def load_split(
    index: pd.DataFrame, root: str | Path, split: str, size: int
) -> tuple[Tensor, Tensor]:
    """Images (N, 3, size, size) uint8 and labels (N,) int64 of one split, in its order."""
    rows = rows_of(index, split)
    images = load_images([Path(root) / path for path in rows["path"]], size)
    return images, torch.from_numpy(rows["label"].to_numpy().copy())


class Images(Protocol):
    """N images of (3, L, L) uint8."""

    size: int  # L, pixels

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Tensor: ...

    def digest(self) -> str: ...


class ArrayImages:
    """Images of one array (N, 3, L, L) uint8, in memory or memory-mapped from the file `path`."""

    def __init__(
        self, array: np.ndarray | Tensor, digest: str | None = None, path: Path | None = None
    ) -> None:
        self.array = array.numpy() if isinstance(array, Tensor) else array
        self.size = self.array.shape[-1]
        self._digest, self._path = digest, path

    def __getstate__(self) -> dict:
        """For a spawned worker: the path of the file, not its pixels."""
        return self.__dict__ | ({"array": None} if self._path else {})

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        if self._path:
            self.array = np.load(self._path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(np.array(self.array[i]))  # a copy: the map is read-only

    def digest(self) -> str:
        """Identifies the images: of their files where there are any, otherwise of the pixels."""
        if self._digest is None:
            self._digest = hashlib.sha256(np.ascontiguousarray(self.array)).hexdigest()
        return self._digest


class FileImages:
    """Images decoded on each access."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = [str(path) for path in paths], size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(load_image(self.paths[i], self.size).copy())

    def digest(self) -> str:
        """Of names, sizes and times of the files, and of L; nothing is decoded."""
        digest = hashlib.sha256(str(self.size).encode())
        for path in self.paths:
            state = os.stat(path)
            digest.update(f"\n{path}\t{state.st_size}\t{state.st_mtime_ns}".encode())
        return digest.hexdigest()


def open_images(
    paths: Sequence[Path],
    size: int,
    cache: str | Path | None = None,
    cache_gb: float = 32.0,
    workers: int | None = None,
) -> Images:
    """Images of files at size L, from a memory map in the folder `cache` if they fit into it.

    `cache_gb` and `workers` are those of `fill_array`. Raises ValueError naming a file that
    does not decode, FileNotFoundError for a missing one.
    """
    files = FileImages(paths, size)
    if cache is None or not len(files):
        return files
    digest = files.digest()
    path = Path(cache) / f"{digest[:24]}.npy"
    shape = (len(files), 3, size, size)
    if not fill_array(path, shape, files.__getitem__, np.uint8, cache_gb, workers):
        return files
    return ArrayImages(np.load(path, mmap_mode="r"), digest, path)
