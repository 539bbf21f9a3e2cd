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
the object and 0 elsewhere, and so is the region to ignore: the evaluation removes
the object from it. The box is that of the union, x1 = x0 + width, in pixels of the image.
There is no image_sizes.txt: sizes come from the images.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.checks import (
    Box,
    ImageCheck,
    Size,
    raise_errors,
    report,
    same_proportions,
    unique,
    with_sizes,
)
from wsol.datasets.files import relative, written_whole
from wsol.datasets.image_files import decoded
from wsol.datasets.index import SPLITS, format_boxes, index_table
from wsol.datasets.metadata import LABEL, check_images_listed, read_fields

FOLDERS = dict(zip(("train", "val", "test"), SPLITS, strict=True))
WHERE_FROM = (
    "OpenImages30k is a subset of https://storage.googleapis.com/openimages/web/index.html; "
    "https://github.com/clovaai/wsolevaluation says how to get its images and masks; unpack both "
    "so that train/, val/ and test/ are in this folder"
)


def mask_box(mask: NDArray[np.bool_], size: Size) -> Box:
    """Bounding box of a mask (h, w) in pixels of its image: x1 = x0 + width, y1 = y0 + height."""
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return x[0] * across, y[0] * down, (x[-1] + 1) * across, (y[-1] + 1) * down


def read_mask(path: Path, size: Size, empty: bool = False) -> NDArray[np.bool_]:
    """A mask (H, W) of an image of `size`, true where it is not 0, as in the reference.

    Raises ValueError if it does not decode, has other proportions, or is empty and may not be.
    """
    try:
        with decoded(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except ValueError as error:
        raise ValueError(str(error).replace("image", "mask", 1)) from error
    height, width = mask.shape
    if not same_proportions((width, height), size):
        shown = f"{width} x {height} pixels for an image of {size[0]} x {size[1]}"
        raise ValueError(f"mask of {shown}")
    if not empty and not mask.any():
        raise ValueError(f"empty mask {path}")
    return mask


def _save(mask: NDArray[np.bool_], path: Path) -> None:
    with written_whole(path) as partial:
        Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")


class United(NamedTuple):
    """The masks of one image combined: box in pixels of the image, files, errors."""

    box: Box | None
    mask: Path | None
    ignore: Path | None
    errors: list[str]


def unite_masks(root: Path, objects: pd.DataFrame, size: Size, out: Path) -> United:
    """Write the union of an image's masks, and its region to ignore, below `out`.

    objects : rows image_id, mask, ignore and where, paths from root; ignore is on the first only
    size : of the image

    Both files are grey, 255 inside and 0 outside. Nothing is written if there is an error.
    """
    errors: list[str] = []

    def read(name: str, where: str, empty: bool = False) -> NDArray[np.bool_] | None:
        try:
            return read_mask(root / name, size, empty)
        except ValueError as error:
            errors.append(f"{where}: {error}")
            return None

    masks = [read(row.mask, row.where) for row in objects.itertuples()]
    first = objects.iloc[0]
    region = read(first["ignore"], first["where"], empty=True) if first["ignore"] else None
    if errors:
        return United(None, None, None, errors)
    union = masks[0].astype(np.uint8)
    for mask in masks[1:]:  # of one resolution as a rule
        size_of_first = union.shape[::-1]
        union |= cv2.resize(mask.astype(np.uint8), size_of_first, interpolation=cv2.INTER_NEAREST)
    object_file = out / Path(first["image_id"]).with_suffix(".png")
    ignore_file = object_file.with_name(f"{object_file.stem}_ignore.png")
    _save(union > 0, object_file)
    if region is not None:
        _save(region, ignore_file)
    box = mask_box(union > 0, size)
    return United(box, object_file, None if region is None else ignore_file, [])


class Split(NamedTuple):
    """The text files of one split: columns where and image_id; label; mask and ignore."""

    ids: pd.DataFrame
    labels: pd.DataFrame
    masks: pd.DataFrame


def _read_split(folder: Path, masked: bool, errors: list[str]) -> Split:
    ids = read_fields(folder / "image_ids.txt", {}, errors)
    flat = ~ids["image_id"].str.contains("/")
    report(ids[flat], "malformed line {image_id!r}, expected 'folder/image'", errors)
    ids = unique(ids[~flat], "image_id", errors)
    labels = read_fields(folder / "class_labels.txt", {"label": LABEL}, errors)
    labels = unique(labels, "image_id", errors).astype({"label": int})
    masks = pd.DataFrame(columns=["image_id", "mask", "ignore", "where"], dtype="str")
    if masked:
        fields = {"mask": r"[^,\s][^,]*?", "ignore": "[^,]*?"}
        masks = read_fields(folder / "localization.txt", fields, errors, ["mask", "ignore"])
        later = masks.duplicated("image_id") & (masks["ignore"] != "")
        report(masks[later], "ignore region on another line than the image's first", errors)
    tables = {"label": labels} | ({"mask": masks} if masked else {})
    check_images_listed(ids, tables, errors)
    return Split(ids, labels, masks)


def _class_names(labels: pd.DataFrame, errors: list[str]) -> dict[int, str]:
    labels = labels.assign(folder=labels["image_id"].str.rsplit("/").str[-2])
    first = labels.groupby("label")["folder"].transform("first")
    mixed = labels.assign(first=first)[labels["folder"] != first]
    report(mixed, "label {label} is {first}, the folder {folder}", errors)
    return dict(zip(labels["label"], first, strict=True))


def _with_masks(rows: pd.DataFrame, root: Path, masks: pd.DataFrame, out: Path) -> pd.DataFrame:
    groups = dict(list(masks.groupby("image_id")))
    rows = rows[rows["image_id"].isin(groups)]

    def unite(row: tuple) -> United:
        return unite_masks(root, groups[row.image_id], (row.width, row.height), out)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding takes most of the time
        united = list(pool.map(unite, rows.itertuples()))
    return rows.assign(
        boxes=[format_boxes([one.box]) if one.box else "" for one in united],
        mask=[relative(one.mask, root) if one.mask else "" for one in united],
        ignore=[relative(one.ignore, root) if one.ignore else "" for one in united],
        errors=[one.errors for one in united],
    )


def names_masks(directory: Path) -> bool:
    """Whether the localization.txt of a split names masks, in place of boxes."""
    path = directory / "localization.txt"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        fields = file.readline().rsplit(",", 2)  # image id, which may have commas, mask, ignore
    return len(fields) == 3 and fields[1].endswith(".png")


def read_masked_split(
    root: str | Path, directory: str | Path, split: str, united: str | Path
) -> pd.DataFrame:
    """Index rows of one split without its images: sizes are those of the masks, paths from root.

    root, united : as in `read_openimages`; directory : folder of the split's three text files

    Raises DatasetError with all errors.
    """
    errors: list[str] = []
    ids, labels, masks = _read_split(Path(directory), True, errors)
    first = masks.drop_duplicates("image_id").rename(columns={"mask": "path"})
    sizes = with_sizes(first, Path(root), False, errors)[["image_id", "width", "height"]]
    rows = _with_masks(ids.merge(sizes), Path(root), masks, Path(united))
    raise_errors(errors + [error for row in rows["errors"] for error in row])
    rows = rows.merge(labels.drop(columns="where"), on="image_id")
    names = rows["label"].map(_class_names(labels, errors))
    raise_errors(errors)
    return index_table(rows.assign(path=rows["image_id"], split=split, class_name=names))


def read_openimages(
    root: str | Path,
    metadata: str | Path,
    united: str | Path,
    check_images: bool | ImageCheck = True,
) -> pd.DataFrame:
    """Index table of OpenImages30k, paths from root; boxes in pixels of the images.

    root : folder of train/, val/ and test/
    metadata : folder of the text files of the three splits
    united : folder to write one mask, and one region to ignore, per image into
    check_images : decode every image, or only read their headers if False; an `ImageCheck` can keep
        the results. Masks are always decoded

    `train-weaksup` has neither boxes nor masks. Raises DatasetError with all errors, each with file
    and line: among them masks that are missing, empty, undecodable or of other proportions.
    """
    root, metadata, united = Path(root), Path(metadata), Path(united)
    missing = [str(root / name) for name in FOLDERS if not (root / name).is_dir()]
    raise_errors([f"{folder}: missing folder. {WHERE_FROM}" for folder in missing])
    errors: list[str] = []
    splits = {name: _read_split(metadata / name, name != "train", errors) for name in FOLDERS}
    labels = pd.concat([split.labels for split in splits.values()])
    classes, tables = _class_names(labels, errors), []
    for name, split in splits.items():
        ids = split.ids.assign(path=split.ids["image_id"])
        rows = with_sizes(ids, root, check_images, errors)
        if name != "train":
            rows = _with_masks(rows, root, split.masks, united)
            errors += [error for row in rows["errors"] for error in row]
        rows = rows.merge(split.labels.drop(columns="where"), on="image_id")
        names = rows["label"].map(classes)
        tables.append(index_table(rows.assign(split=FOLDERS[name], class_name=names)))
    raise_errors(errors)
    return pd.concat(tables, ignore_index=True)
