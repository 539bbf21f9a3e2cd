"""Image files: list them, decode them, and keep them as uint8 squares.

`load_images` gives one tensor. `open_images` gives image i as a (3, L, L) uint8 tensor, decoded on
demand or once into a memory map: one file per list of images and size, made by the first process
that needs it and shared by all. Making it can be interrupted.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor

from wsol.datasets.files import locked, write_text
from wsol.datasets.index import rows_of
from wsol.datasets.progress import ProgressBar

LOAD_RATIO = 256 / 224  # train images are loaded this much larger than they are cropped
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
ZEROS = 2**20  # bytes written at a time where disk space is not allocated otherwise
CHUNK = 256  # images between two records of the progress of filling a cache


def list_images(folder: str | Path) -> list[Path]:
    """Image files below a folder, by suffix, sorted."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


@contextmanager
def decoded(path: str | Path) -> Iterator[Image.Image]:
    """An image file, opened; what fails while it is decoded becomes a ValueError with its path."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise ValueError(f"missing image {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"image does not decode: {path} ({reason})") from error


def load_image(path: str | Path, size: int) -> np.ndarray:
    """One image as (3, size, size) uint8 RGB, resized to a square with antialiasing.

    Raises ValueError naming the file if it is missing or does not decode.
    """
    with decoded(path) as image:
        square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
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


def fill_array(
    path: Path,
    shape: tuple[int, ...],
    item: Callable[[int], Tensor],
    dtype: type,
    gigabytes: float,
    workers: int | None = None,
) -> bool:
    """Make the npy file `path` of ``item(0), item(1), ...`` unless it is there or does not fit.

    It fits if it takes at most so many gigabytes (10^9 bytes) and half of the free disk. One
    process fills it, others wait; what is interrupted resumes. `workers` threads call `item`, by
    default one per core. Returns whether the file is there.
    """
    if path.is_file():
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = np.dtype(dtype).itemsize * math.prod(shape)
    with locked(path.with_suffix(".lock")):
        if not path.is_file():
            if needed > min(gigabytes * 1e9, (_free(path.parent) + _taken(path)) / 2):
                return False
            _fill(path, shape, item, dtype, workers)
    return True


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _taken(path: Path) -> int:
    partial = path.with_suffix(".partial")
    return partial.stat().st_size if partial.is_file() else 0


def make_array(path: Path, kind: type, shape: tuple[int, ...]) -> None:
    """Write an npy file of zeros with its disk space allocated, or raise OSError.

    Writing to a memory map without space kills the process when the disk is full.
    """
    start, end = open_memmap(path, "w+", kind, shape).offset, path.stat().st_size
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, end)
        except (AttributeError, OSError) as error:  # macOS; a file system that cannot
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            file.seek(start)
            for left in range(end - start, 0, -ZEROS):
                file.write(bytes(min(left, ZEROS)))


def _fill(
    path: Path, shape: tuple[int, ...], item: Callable, dtype: type, workers: int | None
) -> None:
    """Write all items into an array that is renamed when complete.

    A file beside it says how many are in it, and is written after their values.
    """
    partial, progress = path.with_suffix(".partial"), path.with_suffix(".progress")
    done = int(progress.read_text() or 0) if progress.is_file() and partial.is_file() else 0
    if not done:
        progress.unlink(missing_ok=True)  # its array is gone
        make_array(partial, dtype, shape)
    array = open_memmap(partial, "r+")
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in ProgressBar(range(done, len(array), CHUNK), desc="cache", unit="chunk"):
            rows = range(start, min(start + CHUNK, len(array)))
            for i, value in zip(rows, pool.map(item, rows), strict=True):
                array[i] = value.numpy()
            array.flush()
            write_text(progress, str(rows.stop))
    del array
    partial.replace(path)
    progress.unlink(missing_ok=True)
