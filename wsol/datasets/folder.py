"""Reader of any folder of images: one folder per class, boxes in one table.

    ROOT/<class>/...          or    ROOT/train/<class>/...   becomes train-weaksup
                                    ROOT/val/<class>/...     becomes train-fullsup
                                    ROOT/test/<class>/...    becomes test

An image is named by its path below ROOT, also in the boxes (`wsol.datasets.box_tables`), where all
names may have one folder more in front. Its mask, if there is one, has the same path below the
folder of masks, ending in .png.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.datasets.box_tables import image_ids, read_boxes
from wsol.datasets.checks import (
    DatasetError,
    ImageCheck,
    box_texts,
    check_masks,
    fit_boxes,
    raise_errors,
    report,
    with_sizes,
)
from wsol.datasets.files import relative
from wsol.datasets.image_files import SUFFIXES, is_hidden, list_images
from wsol.datasets.index import SPLITS, TRAIN_WEAKSUP, index_table

FOLDERS = dict(zip(("train", "val", "test"), SPLITS, strict=True))
LIKE_FOLDERS = ("valid", "validation", "training", "testing")  # names that are no class
SHARES = (0.7, 0.1, 0.2)  # of train-weaksup, train-fullsup and test


def _folders(folder: Path, leave: set[Path]) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    return [p for p in paths if not is_hidden(p.name) and p.resolve() not in leave]


def _images_in(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file() and not is_hidden(path.name))
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def _class_images(
    folder: Path, root: Path, split: str, leave: set[Path], errors: list[str]
) -> list[tuple[str, str, str]]:
    classes, images = _folders(folder, leave), []
    if not classes:
        errors.append(f"{folder}: no folder of a class in it")
    errors += [f"{path}: image outside the folder of any class" for path in _images_in(folder)]
    for path in classes:
        below = list_images(path)
        if not below:
            errors.append(f"{path}: class without image")
        images += [(image.relative_to(root).as_posix(), path.name, split) for image in below]
    return images


def _list_classes(root: Path, leave: set[Path], errors: list[str]) -> pd.DataFrame:
    above, folders = root, _folders(root, leave)
    while len(folders) == 1 and folders[0].name not in FOLDERS:
        inner = _folders(folders[0], leave)
        if not inner or _images_in(folders[0]):  # a class
            break
        above, folders = folders[0], inner  # of an archive that was unpacked
    splits = [path for path in folders if path.name in FOLDERS]
    if folders and {path.name.lower() for path in folders} <= {*FOLDERS, *LIKE_FOLDERS}:
        near = [path for path in folders if path not in splits]
        errors += [f"{path}: folders of splits are called train, val, test" for path in near]
        folders = splits
    images = [] if splits else _class_images(above, root, "", leave, errors)
    for path in folders if splits else ():
        if path in splits:
            images += _class_images(path, root, FOLDERS[path.name], leave, errors)
        else:
            errors.append(f"{path}: none of train, val and test, but beside them")
    table = pd.DataFrame(images, columns=["image_id", "class_name", "split"], dtype="str")
    _check_links(table, root, errors)
    trained = set(table.loc[table["split"] == TRAIN_WEAKSUP, "class_name"])
    for name in sorted(set(table["class_name"]) - trained) if splits else ():
        errors.append(f"{root / 'train' / name}: class {name} has no image to learn from")
    return table.assign(path=table["image_id"], where=[f"{root}/{i}" for i in table["image_id"]])


def _check_links(table: pd.DataFrame, root: Path, errors: list[str]) -> None:
    """One file, which links lead to, may not belong to two classes or splits."""
    table = table.assign(file=[os.path.realpath(root / image) for image in table["image_id"]])
    first = table.groupby("file")[["image_id", "class_name", "split"]].transform("first")
    other = (table[["class_name", "split"]] != first[["class_name", "split"]]).any(axis=1)
    pairs = zip(table["image_id"][other], first["image_id"][other], strict=True)
    errors += [f"{root / image}: the same file as {root / before}" for image, before in pairs]


def _check_shares(shares: Sequence[float]) -> None:
    if len(shares) != 3 or min(shares) < 0 or not math.isclose(sum(shares), 1):
        raise ValueError(f"shares are {tuple(shares)}; they must be three that add up to 1")
    if shares[0] == 0:
        raise ValueError("the share of train-weaksup is 0; there must be something to learn from")


def _counts(images: int, boxed: int, shares: Sequence[float]) -> tuple[int, int]:
    """Images of one class in `train-fullsup` and `test`.

    Rounded, but at least one where the share is not 0 and the class has enough; training comes
    first, then the test, and neither of the two takes an image without a box.
    """
    rounded = (max(1, math.floor(share * images + 0.5)) if share else 0 for share in shares[1:])
    fullsup, test = rounded
    test = max(0, min(test, images - 1, boxed))
    return max(0, min(fullsup, images - 1 - test, boxed - test)), test


def draw_splits(
    classes: Mapping[str, Sequence[str]],
    boxed: set[str] | None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> dict[str, str]:
    """The split of every image, drawn class by class.

    classes : images of each class
    boxed : images with a box, the only ones that may leave `train-weaksup`; None for all
    shares : of `train-weaksup`, `train-fullsup` and `test`, within every class
    seed : another one draws other splits

    The draw of one class does not depend on the others. Raises ValueError for impossible shares.
    """
    _check_shares(shares)
    split = {}
    for name, images in classes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        candidates = [image for image in sorted(images) if boxed is None or image in boxed]
        drawn = [candidates[i] for i in rng.permutation(len(candidates))]
        fullsup, test = _counts(len(images), len(candidates), shares)
        parts = images, drawn[:fullsup], drawn[fullsup : fullsup + test]
        for name_of_split, part in zip(SPLITS, parts, strict=True):
            split |= dict.fromkeys(part, name_of_split)
    return split


def _check_boxes(boxes: pd.DataFrame, images: pd.DataFrame, errors: list[str]) -> pd.DataFrame:
    """The boxes of the images that decode, clipped to them; boxes of other images are errors."""
    classes = images.set_index("image_id")["class_name"]
    boxes = boxes.assign(image=image_ids(boxes["image"], {*classes.index}))
    boxes = boxes.assign(own=boxes["image"].map(classes))
    unknown = boxes["own"].isna()
    others = boxes[unknown].assign(example=next(iter(classes.index), ""))
    report(others, "image {image} is not in the folder; images are named like {example}", errors)
    boxes = boxes[~unknown]
    category, own = (boxes[name].str.normalize("NFC") for name in ("category", "own"))
    other = (category != "") & (category != own)
    named = boxes["category"].isin(classes)
    message = "category {category!r} is unknown, no class has this name"
    report(boxes[other & ~named], message, errors)
    message = "box of {category!r} in {image}, an image of the class {own!r}"
    report(boxes[other & named], message, errors)
    sizes = images.dropna(subset="width")[["image_id", "width", "height"]]
    sizes = sizes.astype({"width": int, "height": int})
    boxes = boxes[~other].merge(sizes, left_on="image", right_on="image_id")
    actual = boxes["width"].astype("str") + " x " + boxes["height"].astype("str")
    wrong = (boxes["listed"] != "") & (boxes["listed"] != actual)
    message = "image {image} is listed with {listed} pixels and has {width} x {height}"
    report(boxes[wrong], message, errors)
    return fit_boxes(boxes, errors)


def _masks(folder: Path, images: pd.DataFrame, root: Path, errors: list[str]) -> list[str]:
    paths = [folder / Path(image).with_suffix(".png") for image in images["image_id"]]
    masks = [relative(path, root) if path.is_file() else "" for path in paths]
    listed = pd.Series(masks, index=images.index)
    shared = images["image_id"][listed.duplicated() & (listed != "")]
    errors += [f"{root / name}: another image has the same mask" for name in shared]
    if not any(masks):
        errors.append(f"{folder}: no mask of any image in it")
    return masks


def read_folder(
    root: str | Path,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    leave: Sequence[str | Path] = (),
    check_images: bool | ImageCheck = True,
) -> pd.DataFrame:
    """Index table of an image folder; its paths start from `root`.

    root : folder of one folder per class, or of train/, val/ and test/ with such folders
    boxes : table of boxes, CSV or COCO's JSON
    masks : folder of object masks
    shares, seed : how splits are drawn where there are no folders of splits, see `draw_splits`
    leave : folders below root that are no classes; the one of the masks is always left out
    check_images : decode every image and mask, or only read their headers if False; an `ImageCheck`
        can keep the results

    Labels are numbered in the order of the class names. With a table of boxes, every image of
    `train-fullsup` and `test` must have one. Raises DatasetError with all errors, each with its
    file and, in a table, the line.
    """
    root, errors = Path(root), []
    if not root.is_dir():
        raise DatasetError([f"{root}: missing folder"])
    left = {Path(path).resolve() for path in (*leave, *([masks] if masks else []))}
    listed = _list_classes(root, left, errors)
    if listed.empty:
        raise_errors(errors)
    rows = with_sizes(listed, root, check_images, errors)
    if boxes is not None:
        count = len(errors)
        table = read_boxes(Path(boxes), errors)
        if table.empty and len(errors) == count:
            errors.append(f"{boxes}: no box in it")
        sized = listed.join(rows[["width", "height"]])
        fitted = _check_boxes(table, sized, errors)
        texts = box_texts(fitted, "image")
        rows = rows.assign(boxes=[texts.get(image, "") for image in rows["image_id"]])
    if masks is not None:
        rows = rows.assign(mask=_masks(Path(masks), rows, root, errors))
        check_masks(rows, root, check_images, errors)
    boxed = None if boxes is None else set(rows.loc[rows["boxes"] != "", "image_id"])
    classes = rows[rows["split"] == ""].groupby("class_name")["image_id"].agg(list).to_dict()
    drawn = draw_splits(classes, boxed, shares, seed)
    pairs = zip(rows["image_id"], rows["split"], strict=True)
    split = pd.Series([drawn.get(*pair) for pair in pairs], index=rows.index, dtype="str")
    if boxes is not None and not errors:
        without = rows.assign(split=split)[(split != TRAIN_WEAKSUP) & (rows["boxes"] == "")]
        report(without, "image of {split} without box", errors)
    raise_errors(errors)
    labels = {name: label for label, name in enumerate(sorted(set(rows["class_name"])))}
    return index_table(rows.assign(split=split, label=rows["class_name"].map(labels)))
