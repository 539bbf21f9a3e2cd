"""Reader of OpenImages30k (Choe et al. 2020), a choice of Open Images V5 with masks.

Below the root, as its two archives unpack; the masks lie beside their images:

    train/<class>/*.jpg                      29,819 images of 100 classes
    val/<class>/*.jpg, *_m*.png, *_ignore.png     2,500 images, several object masks each
    test/<class>/*.jpg, *_m*.png, *_ignore.png    5,000 images

and in the metadata folder of `wsolevaluation`, for each of train, val and test, lines without a
header whose paths start from the root:

    image_ids.txt       image id
    class_labels.txt    image id, class number from 0
    localization.txt    image id, mask, ignore; one line per mask; not for train

`ignore`, the region that does not count, stands on the first line of an image only; elsewhere the
field is empty. The object is the union of the masks. It is written as one mask per image, 255 on
the object and 0 elsewhere, and so is the region to ignore: the evaluation takes away from it what
belongs to the object. The box is that of the union, x1 = x0 + width, in pixels of the image.
There is no image_sizes.txt: sizes come from the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.checks import (
    Box,
    DatasetError,
    ImageCheck,
    Record,
    Size,
    by_key,
    image_size,
    parse_path,
    read_records,
)
from wsol.datasets.files import relative
from wsol.datasets.index import format_boxes, index_table
from wsol.datasets.metadata import known_sizes

# From the masks of an image, of one object each, to one mask per image, and its box.


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


FOLDERS = {"train": "train-weaksup", "val": "train-fullsup", "test": "test"}
WHERE_FROM = (
    "OpenImages30k is a choice of https://storage.googleapis.com/openimages/web/index.html; "
    "https://github.com/clovaai/wsolevaluation says how to get its images and masks; unpack both "
    "so that train/, val/ and test/ lie in this folder"
)


def _parse_label(text: str) -> int:
    """A class number from 0."""
    if not text.strip().isdecimal():
        raise ValueError(text)
    return int(text)


def _parse_masks(text: str) -> Masks:
    mask, ignore = (parse_path(part.strip()) for part in text.split(","))
    if not mask:
        raise ValueError(text)
    return Masks(mask, ignore)


def _read(
    path: Path, fields: int, parse: Callable[[str], object], expected: str, faults: list[str]
) -> list[Record]:
    """Records of one text file; the image id is what stands before the last fields."""

    def cut(line: str) -> tuple[str, str]:
        key, *rest = line.rsplit(",", fields)
        if len(rest) != fields or "/" not in key:
            raise ValueError(line)
        return parse_path(key.strip()), ",".join(rest)

    return read_records(path, cut, parse, expected, faults)


@dataclass(frozen=True)
class SplitLines:
    """The lines of one split: ids and labels by image id, masks of an image in their order."""

    ids: dict[str, Record]
    labels: dict[str, Record]
    masks: dict[str, list[Record]]


def _read_split(folder: Path, masked: bool, faults: list[str]) -> SplitLines:
    ids = by_key(_read(folder / "image_ids.txt", 0, str, "folder/image", faults), faults)
    labels = _read(folder / "class_labels.txt", 1, _parse_label, "image id,label", faults)
    lines = []
    if masked:
        expected = "image id,mask,ignore"
        lines = _read(folder / "localization.txt", 2, _parse_masks, expected, faults)
    masks: dict[str, list[Record]] = {}
    for record in lines:
        if record.value.ignore and record.key in masks:
            faults.append(f"{record.where}: ignore region on another line than the image's first")
        masks.setdefault(record.key, []).append(record)
    split = SplitLines(ids, by_key(labels, faults), masks)
    for record in (*split.labels.values(), *lines):
        if record.key not in ids:
            faults.append(f"{record.where}: image {record.key} is not in image_ids.txt")
    for key, record in ids.items():
        lacks = ["label"] * (key not in split.labels) + ["mask"] * (masked and key not in masks)
        faults.extend(f"{record.where}: image {key} without {what}" for what in lacks)
    return split


def _class_names(splits: Sequence[SplitLines], faults: list[str]) -> dict[int, str]:
    """The folder of an image is its class in the authors' words, and one label's throughout."""
    names: dict[int, str] = {}
    for record in (record for split in splits for record in split.labels.values()):
        folder = record.key.split("/")[-2]
        if names.setdefault(record.value, folder) != folder:
            first = names[record.value]
            faults.append(f"{record.where}: label {record.value} is {first}, the folder {folder}")
    return names


def _unite(
    root: Path, split: SplitLines, keys: Sequence[str], sizes: Sequence[Size], united: Path
) -> list[United]:
    """What the masks of some images come to, in their order; decoding is what takes the time."""

    def one(key: str, size: Size) -> United:
        return unite_masks(root, split.masks[key], size, united)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, keys, sizes))


def _rows(
    root: Path,
    name: str,
    split: SplitLines,
    classes: dict[int, str],
    united: Path,
    check_images: bool | ImageCheck,
    faults: list[str],
) -> pd.DataFrame:
    """Rows of the images of one split of which everything is known."""
    keys, wheres = list(split.ids), [record.where for record in split.ids.values()]
    known = known_sizes(root, keys, wheres, check_images, faults)
    sizes = {key: size for key, size in zip(keys, known, strict=True) if size is not None}
    masked = [key for key in sizes if key in split.masks]
    unions = _unite(root, split, masked, [sizes[key] for key in masked], united)
    found = dict(zip(masked, unions, strict=True))
    rows = []
    for key, size in sizes.items():
        row = dict(image_id=key, path=key, split=FOLDERS[name], width=size[0], height=size[1])
        if key in found:
            faults += found[key].faults
            if found[key].box is None:
                continue
            row["boxes"] = format_boxes([found[key].box])
            files = {"mask": found[key].mask, "ignore": found[key].ignore}
            row |= {column: relative(file, root) for column, file in files.items() if file}
        if key in split.labels:
            label = split.labels[key].value
            rows.append(row | dict(label=label, class_name=classes[label]))
    return index_table(rows)


def read_openimages(
    root: str | Path,
    metadata: str | Path,
    united: str | Path,
    check_images: bool | ImageCheck = True,
) -> pd.DataFrame:
    """Index table of OpenImages30k, paths from root; boxes in pixels of the images.

    Parameters
    ----------
    root : folder of train/, val/ and test/
    metadata : folder of the text files of the three splits
    united : folder to write one mask, and one region to ignore, per image into
    check_images : decode every image, or only their headers if False; an `ImageCheck` can remember
        what it found. Masks are always decoded

    `train-weaksup` has neither boxes nor masks. Raises DatasetError with all faults, each with file
    and line: among them masks that are missing, empty, undecodable or of other proportions.
    """
    root, metadata, united = Path(root), Path(metadata), Path(united)
    missing = [str(root / name) for name in FOLDERS if not (root / name).is_dir()]
    if missing:
        raise DatasetError([f"{folder}: missing folder. {WHERE_FROM}" for folder in missing])
    faults: list[str] = []
    splits = {name: _read_split(metadata / name, name != "train", faults) for name in FOLDERS}
    classes = _class_names(list(splits.values()), faults)
    tables = [
        _rows(root, name, split, classes, united, check_images, faults)
        for name, split in splits.items()
    ]
    if faults:
        raise DatasetError(faults)
    return pd.concat(tables, ignore_index=True)
