"""Features of the frozen part of a network, computed once per image, corner of the crop and flip.

They stand in place of the images of a training or a prediction. Every view is computed alone and
kept in half precision, whether it comes from the cache or not: the weights of a training do not
depend on the cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wsol.backbones import Backbone
from wsol.datasets.arrays import fill_array
from wsol.datasets.images import Images, as_input
from wsol.training.config import Execution, TrainConfig

IN_MEMORY = 4 * 10**9  # bytes; random reads of a mapped file wait for the disk


def crop_corner(row: int, column: int, margin: int, grid: int) -> tuple[int, int]:
    """Top and left of a crop, pixels, at (row, column) of a grid in images larger by `margin`."""
    step = margin / max(grid - 1, 1)
    return round(row * step), round(column * step)


class Features:
    """Packed features (F,) float16 of N images in grid x grid crops, plain and mirrored.

    images : N images of (3, L, L) uint8; with a grid of 1, L is the side of the network's input
    """

    def __init__(
        self, images: Images, backbone: Backbone, size: int, grid: int, flips: int
    ) -> None:
        self.images, self.backbone, self.crop = images, backbone, size
        self.grid, self.flips = grid, flips
        self.size = images.size
        self.array: np.ndarray | None = None
        self._path: Path | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.view(i, 0, 0, False)

    def view(self, i: int, row: int, column: int, flip: bool) -> Tensor:
        """Features of one crop of image i, at (row, column) of the grid."""
        number = ((i * self.grid + row) * self.grid + column) * self.flips + flip
        if self.array is None:
            return self.compute(number)
        return torch.from_numpy(np.array(self.array[number]))  # a copy: a map is read-only

    def compute(self, number: int) -> Tensor:
        """Features of the view with this number."""
        rest, flip = divmod(number, self.flips)
        rest, column = divmod(rest, self.grid)
        i, row = divmod(rest, self.grid)
        corner = crop_corner(row, column, self.size - self.crop, self.grid)
        image = F.crop(self.images[i], *corner, self.crop, self.crop)
        image = F.horizontal_flip(image) if flip else image
        images = as_input(image[None], next(self.backbone.buffers()).device)
        return self.backbone.pack(images)[0].cpu()

    def digest(self) -> str:
        """Identifies the images and what is frozen."""
        digest = hashlib.sha256(f"{self.images.digest()} {self.crop} {self.grid}".encode())
        digest.update(
            f"channels last {self.flips} {torch.backends.cpu.get_cpu_capability()}".encode()
        )
        for module in self.backbone.frozen:
            for tensor in module.state_dict().values():
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def load(self, path: Path) -> None:
        """Read the values from an array on disk: at once if it is small, otherwise mapped."""
        self._path = path
        self.array = np.load(path, mmap_mode=None if path.stat().st_size < IN_MEMORY else "r")

    def __getstate__(self) -> dict:
        """For a spawned worker: the path of the array, not its values."""
        return self.__dict__ | {"array": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        if self._path:
            self.load(self._path)


def open_features(
    images: Images,
    backbone: Backbone,
    size: int,
    execution: Execution,
    grid: int = 1,
    flips: int = 1,
) -> Features:
    """Features of images, from a memory map in the folder of the cache if they fit into it.

    size : side of the network's input; grid : corners per side; flips : 2 with mirror images
    """
    features = Features(images, backbone, size, grid, flips)
    length = len(features.compute(0))  # also tells the backbone the shapes of its packed features
    if execution.cache:
        path = Path(execution.cache) / f"{features.digest()[:24]}.features.npy"
        shape = (len(images) * grid * grid * flips, length)
        if fill_array(path, shape, features.compute, np.float16, execution.cache_gb, workers=2):
            features.load(path)
    return features


def takes_features(config: TrainConfig) -> bool:
    """Whether a training sees features of a frozen part instead of images.

    Methods that change the pixels of images (HaS, CutMix, matched colours) or show them to another
    network (a teacher) need images.
    """
    settings = config.method_config
    pixels = {config.method, settings.get("combine")} & {"has", "cutmix"}
    pixels = pixels or settings.get("match_colours") or settings.get("teacher")
    return config.freeze != "none" and not pixels
