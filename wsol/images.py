"""From files to tensors: decoded once, squashed to a square, kept as uint8."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

LOAD_RATIO = 256 / 224  # train images are loaded this much larger than they are cropped


def load_image(path: str | Path, size: int) -> np.ndarray:
    """Read one image as (3, size, size) uint8 RGB, squashed to a square, antialiased.

    Raises ValueError naming the file when it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error
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


def train_transform(input_size: int) -> v2.Transform:
    """Random crop and horizontal flip, as in Choe et al. (CVPR 2020); draws from torch's RNG."""
    return v2.Compose([v2.RandomCrop(input_size), v2.RandomHorizontalFlip()])


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images into floats in [0, 1]."""
    return images.float().div_(255)
