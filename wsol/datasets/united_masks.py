"""From the masks of an image, of one object each, to one mask per image, and its box.

As in the evaluation of Choe et al. 2020 a pixel belongs if any mask is not 0 there. Open Images
publishes masks in another resolution than the images, of the same proportions up to rounding
(https://github.com/openimages/dataset/issues/92). A united mask keeps its resolution, because the
protocol shrinks masks and images alike to its frame; the box is brought to that of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.faults import Box, Record, Size
from wsol.datasets.image_check import image_size


class Masks(NamedTuple):
    """Files of one object of an image; `ignore` is "" on all lines of an image but the first."""

    mask: str
    ignore: str


def read_mask(path: Path) -> NDArray[np.bool_] | str:
    """A mask (H, W), true where it is not 0 as in the reference, or what is wrong with it."""
    found = image_size(path)
    if isinstance(found, str):
        return found.replace("image", "mask", 1)
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 0


def same_proportions(a: Size, b: Size) -> bool:
    """Whether two sizes, in pixels, can be those of one picture scaled and rounded."""
    stretch = a[0] * b[1] / (a[1] * b[0])
    return abs(stretch - 1) <= sum(1 / side for side in (*a, *b))


def mask_box(mask: NDArray[np.bool_], size: Size) -> Box:
    """Bounding box of a mask (h, w) in pixels of its image: x1 = x0 + width, y1 = y0 + height."""
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return x[0] * across, y[0] * down, (x[-1] + 1) * across, (y[-1] + 1) * down


def _sound_mask(
    where: str, path: Path, size: Size, faults: list[str], empty: bool = False
) -> NDArray[np.bool_] | None:
    """A mask that fits an image of that size; None, and a fault, if it does not."""
    mask = read_mask(path)
    if isinstance(mask, str):
        faults.append(f"{where}: {mask}")
        return None
    height, width = mask.shape
    if not same_proportions((width, height), size):
        faults.append(
            f"{where}: mask of {width} x {height} pixels for an image of {size[0]} x {size[1]}"
        )
        return None
    if not empty and not mask.any():
        faults.append(f"{where}: empty mask {path}")
        return None
    return mask


def _save(mask: NDArray[np.bool_], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")
    partial.replace(path)


class United(NamedTuple):
    """What an image's masks come to: box, files of object and region to ignore, what is wrong."""

    box: Box | None
    mask: Path | None
    ignore: Path | None
    faults: list[str]


def unite_masks(root: Path, lines: Sequence[Record], size: Size, united: Path) -> United:
    """Write the union of an image's masks, and its region to ignore, below `united`.

    `lines` holds a record of `Masks` per object, paths from root; `size` is that of the image. Both
    files are grey, 255 inside and 0 outside. Nothing is written if there is a fault.
    """
    faults: list[str] = []
    found = [_sound_mask(line.where, root / line.value.mask, size, faults) for line in lines]
    first, region = lines[0], None
    if first.value.ignore:
        path = root / first.value.ignore
        region = _sound_mask(first.where, path, size, faults, empty=True)
    if faults:
        return United(None, None, None, faults)
    union = found[0].astype(np.uint8)
    for mask in found[1:]:  # of one resolution as a rule
        union |= cv2.resize(
            mask.astype(np.uint8), union.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
    object_file = united / Path(first.key).with_suffix(".png")
    ignore_file = object_file.with_name(f"{object_file.stem}_ignore.png")
    _save(union > 0, object_file)
    if region is not None:
        _save(region, ignore_file)
    box = mask_box(union > 0, size)
    return United(box, object_file, None if region is None else ignore_file, [])
