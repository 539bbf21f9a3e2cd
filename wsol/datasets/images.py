"""Images as uint8 squares: all in one tensor, or one by one.

`load_images` gives one tensor. `open_images` gives image i as a (3, L, L) uint8 tensor, decoded on
demand or once into a memory map: one file per list of images and size, made by the first process
that needs it and shared by all. Making it can be interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wsol.datasets.arrays import fill_array
from wsol.datasets.image_files import load_image
from wsol.datasets.index import rows_of

LOAD_RATIO = 256 / 224  # train images are loaded this much larger than they are cropped


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
            self._digest = hashlib.sha256(np.ascontiguousarray(self.array).data).hexdigest()
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
