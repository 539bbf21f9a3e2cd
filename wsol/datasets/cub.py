"""Reader of CUB-200-2011 as its authors pack it, and of the birds, which come in the same format.

Below the root, with ids that are the authors' own:

    images.txt              image id, path below images/
    classes.txt             class id, class name
    image_class_labels.txt  image id, class id
    train_test_split.txt    image id, 1 (train) or 0 (test)
    bounding_boxes.txt      image id, x, y, width, height, in pixels
    images/                 the images
    segmentations/          optional masks, <path of the image>.png

The training images become `train-weaksup`. `train-fullsup`, which CUB itself lacks, is a folder of
its own in the format of `split_metadata`. A box becomes x0 = x, x1 = x + width, although the
authors count pixels from 1: so do the published splits, and scores depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wsol.datasets.checks import (
    Box,
    DatasetError,
    ImageCheck,
    Record,
    as_check,
    by_key,
    fit_box,
    image_sizes,
    parse_numbers,
    parse_path,
    read_records,
)
from wsol.datasets.files import relative
from wsol.datasets.index import format_boxes, index_table
from wsol.datasets.metadata import fullsup_rows, known_sizes

WHERE_FROM = (
    "CUB-200-2011 is to be had from https://www.vision.caltech.edu/datasets/cub_200_2011/; "
    "unpack it so that images.txt and images/ lie in this folder"
)


@dataclass(frozen=True)
class CubFiles:
    """The five text files; images by image id, classes by class id, boxes as the authors write."""

    images: dict[str, Record]
    classes: dict[str, Record]
    labels: dict[str, Record]
    training: dict[str, Record]
    boxes: dict[str, Record]


def _flag(text: str) -> bool:
    """1 or 0, nothing else."""
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _corners(text: str) -> Box:
    """Corners of a box written as x, y, width, height."""
    x, y, width, height = parse_numbers(text)
    return x, y, x + width, y + height


def read_files(root: Path, faults: list[str]) -> CubFiles:
    """Read the five text files, each line for itself."""
    formats = {
        "images.txt": (parse_path, "<image id> <path>"),
        "classes.txt": (str, "<class id> <class name>"),
        "image_class_labels.txt": (str, "<image id> <class id>"),
        "train_test_split.txt": (_flag, "<image id> <1 or 0>"),
        "bounding_boxes.txt": (_corners, "<image id> <x> <y> <width> <height>"),
    }
    tables = []
    for name, (parse, expected) in formats.items():
        records = read_records(
            root / name, lambda line: line.split(None, 1), parse, expected, faults
        )
        tables.append(by_key(records, faults))
    return CubFiles(*tables)


def _check_references(files: CubFiles, faults: list[str]) -> None:
    """Ids without their counterpart, and paths that are listed under two ids."""
    for table in (files.labels, files.training, files.boxes):
        for record in table.values():
            if record.key not in files.images:
                faults.append(f"{record.where}: image id {record.key} is not in images.txt")
    for record in files.labels.values():
        if record.value not in files.classes:
            faults.append(f"{record.where}: label {record.value} without class in classes.txt")
    paths: dict[object, str] = {}
    for record in files.images.values():
        if paths.setdefault(record.value, record.key) != record.key:
            first = paths[record.value]
            faults.append(f"{record.where}: duplicate id, {record.value} is image {first} already")
    known = {"label": files.labels, "split": files.training, "box": files.boxes}
    for key, record in files.images.items():
        lacks = [what for what, table in known.items() if key not in table]
        faults.extend(f"{record.where}: image {record.value} without {what}" for what in lacks)


def _cub_rows(
    root: Path, check: bool | ImageCheck, faults: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of `train-weaksup` and `test`, and the class names by label."""
    files = read_files(root, faults)
    _check_references(files, faults)
    names = [record.value for record in files.classes.values()]
    numbers = {key: number for number, key in enumerate(files.classes)}
    paths = [record.value for record in files.images.values()]
    wheres = [record.where for record in files.images.values()]
    sizes = known_sizes(root / "images", paths, wheres, check, faults)
    rows = []
    for (key, image), size in zip(files.images.items(), sizes, strict=True):
        box, label, training = (t.get(key) for t in (files.boxes, files.labels, files.training))
        if size is None or box is None:
            continue
        corners = fit_box(box.value, size, box.where, faults)
        if label is None or training is None or label.value not in numbers:
            continue
        number, split = numbers[label.value], "train-weaksup" if training.value else "test"
        rows.append(
            dict(image_id=image.value, path=f"images/{image.value}", split=split, label=number)
            | dict(class_name=names[number], width=size[0], height=size[1])
            | dict(boxes=format_boxes([corners]))
        )
    return index_table(rows), names


def _add_masks(
    rows: pd.DataFrame, root: Path, folder: str, check: bool | ImageCheck, faults: list[str]
) -> None:
    """Fill the column `mask` with the masks that exist below root / folder."""
    masks = [f"{folder}/{Path(image).with_suffix('.png').as_posix()}" for image in rows["image_id"]]
    rows["mask"] = [mask if (root / mask).is_file() else "" for mask in masks]
    masked = rows[rows["mask"] != ""]
    if not as_check(check).decode:
        return
    found = image_sizes([root / mask for mask in masked["mask"]], check)
    for row, size in zip(masked.itertuples(), found, strict=True):
        if isinstance(size, str):
            faults.append(f"{root / row.mask}: {size}")
        elif size != (row.width, row.height):
            faults.append(
                f"{root / row.mask}: mask of {size[0]} x {size[1]} pixels for an image of "
                f"{row.width} x {row.height}"
            )


def read_cub(
    root: str | Path,
    fullsup: str | Path | None = None,
    check_images: bool | ImageCheck = True,
    fullsup_images: str | Path | None = None,
) -> pd.DataFrame:
    """Index table of CUB-200-2011, or of any data set in its format.

    Parameters
    ----------
    root : folder of the five text files and images/
    fullsup : folder of the `train-fullsup` split, if there is one
    check_images : decode every image and mask, or only the images' headers if False; an
        `ImageCheck` can remember what it found
    fullsup_images : images of that split; by default fullsup/images, masks beside it

    Raises DatasetError with all faults, each with file and line. A box may pass the border by up
    to one pixel, as a few of CUB's do, and is clipped.
    """
    root = Path(root)
    if not (root / "images.txt").exists() and not (root / "images").exists():
        raise DatasetError([f"{root}: no data set here. {WHERE_FROM}"])
    faults: list[str] = []
    rows, names = _cub_rows(root, check_images, faults)
    _add_masks(rows, root, "segmentations", check_images, faults)
    tables = [rows]
    if fullsup is not None:
        images = Path(fullsup_images or Path(fullsup) / "images")
        rows = fullsup_rows(Path(fullsup), images, root, names, check_images, faults)
        masks = relative(images.parent / "segmentations", root)
        _add_masks(rows, root, masks, check_images, faults)
        tables.append(rows)
    if faults:
        raise DatasetError(faults)
    return pd.concat(tables, ignore_index=True)
