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
its own in the format of `wsol.datasets.metadata`. A box becomes x0 = x, x1 = x + width, although
the authors count pixels from 1: so do the published splits, and scores depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol.datasets.checks import (
    NUMBER,
    DatasetError,
    ImageCheck,
    as_check,
    box_texts,
    check_masks,
    fit_boxes,
    raise_errors,
    read_lines,
    report,
    unique,
    with_sizes,
)
from wsol.datasets.files import relative
from wsol.datasets.index import TEST, TRAIN_WEAKSUP, fullsup_of_training, index_table
from wsol.datasets.metadata import fullsup_rows

WHERE_FROM = (
    "CUB-200-2011 is available from https://www.vision.caltech.edu/datasets/cub_200_2011/; "
    "unpack it so that images.txt and images/ are in this folder"
)
BOX = r"\s+".join(rf"(?P<{name}>{NUMBER})" for name in ("x0", "y0", "w", "h"))
FILES = {  # name: pattern of what follows the id, format of a line
    "images.txt": (r"(?P<path>.+)", "<image id> <path>"),
    "classes.txt": (r"(?P<class_name>.+)", "<class id> <class name>"),
    "image_class_labels.txt": (r"(?P<class_id>.+)", "<image id> <class id>"),
    "train_test_split.txt": (r"(?P<training>[01])", "<image id> <1 or 0>"),
    "bounding_boxes.txt": (BOX, "<image id> <x> <y> <width> <height>"),
}


def _read(root: Path, errors: list[str]) -> list[pd.DataFrame]:
    tables = []
    for name, (pattern, expected) in FILES.items():
        paths = ["path"] if name == "images.txt" else []
        table = read_lines(root / name, rf"(?P<id>\S+)\s+{pattern}", expected, errors, paths)
        tables.append(unique(table, "id", errors))
    images, classes, labels, training, boxes = tables
    for table in (labels, training, boxes):
        report(table[~table["id"].isin(images["id"])], "image id {id} is not in images.txt", errors)
    unknown = labels[~labels["class_id"].isin(classes["id"])]
    report(unknown, "label {class_id} without class in classes.txt", errors)
    again = images[images.duplicated("path")]
    first = again["path"].map(images.drop_duplicates("path").set_index("path")["id"])
    report(again.assign(first=first), "duplicate id, {path} is image {first} already", errors)
    for what, table in {"label": labels, "split": training, "box": boxes}.items():
        report(images[~images["id"].isin(table["id"])], f"image {{path}} without {what}", errors)
    return tables


def _rows(
    root: Path, check: bool | ImageCheck, errors: list[str], wanted: Sequence[str], subset: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of `train-weaksup` and `test`, and the class names by label.

    subset : leave out classes without any image, and those that are not wanted where some are
    """
    images, classes, labels, training, boxes = _read(root, errors)
    unknown = sorted({*wanted} - {*classes["class_name"]})
    errors += [f"{root / 'classes.txt'}: there is no class {name}" for name in unknown]
    if subset:
        with_images = classes["id"].isin(labels["class_id"])
        classes = classes[classes["class_name"].isin(wanted) if wanted else with_images]
        of_class = labels.loc[labels["class_id"].isin(classes["id"]), "id"]
        images, labels, boxes = (t[t["id"].isin(of_class)] for t in (images, labels, boxes))
    classes = classes.assign(label=range(len(classes)), class_id=classes["id"])
    images = with_sizes(images, root / "images", check, errors)
    boxes = boxes.merge(images.drop(columns="where"), on="id")
    corners = boxes[["x0", "y0", "w", "h"]].astype("float64")
    boxes = boxes.assign(x1=corners["x0"] + corners["w"], y1=corners["y0"] + corners["h"])
    rows = images.merge(labels.drop(columns="where"), on="id")
    rows = rows.merge(classes.drop(columns=["where", "id"]), on="class_id")
    rows = rows.merge(training.drop(columns="where"), on="id")
    split = rows["training"].map({"1": TRAIN_WEAKSUP, "0": TEST})
    rows = rows.assign(
        image_id=rows["path"],
        path="images/" + rows["path"],
        split=split,
        boxes=rows["id"].map(box_texts(fit_boxes(boxes, errors), "id")),
    )
    return index_table(rows), list(classes["class_name"])


def _with_masks(
    rows: pd.DataFrame, root: Path, folder: str, check: bool | ImageCheck, errors: list[str]
) -> pd.DataFrame:
    masks = [f"{folder}/{Path(image).with_suffix('.png').as_posix()}" for image in rows["image_id"]]
    rows = rows.assign(mask=[mask if (root / mask).is_file() else "" for mask in masks])
    if as_check(check).decode:
        check_masks(rows, root, check, errors)
    return rows


def read_cub(
    root: str | Path,
    fullsup: str | Path | None = None,
    check_images: bool | ImageCheck = True,
    fullsup_images: str | Path | None = None,
    *,
    classes: Sequence[str] = (),
    fullsup_count: int = 0,
) -> pd.DataFrame:
    """Index table of CUB-200-2011, or of any data set in its format.

    Parameters
    ----------
    root : folder of the five text files and images/
    fullsup : folder of the `train-fullsup` split, if there is one
    check_images : decode every image and mask, or only read the images' headers if False; an
        `ImageCheck` can keep the results
    fullsup_images : images of that split; by default fullsup/images, masks beside it
    classes : names of the classes to read; without a fullsup, by default all that have images
    fullsup_count : without that split, the last so many training images of each class are taken
        for it, and not trained on

    Raises DatasetError with all errors, each with file and line. A box may extend beyond the border
    by up to one pixel, as a few of CUB's do, and is clipped.
    """
    root = Path(root)
    if fullsup is not None and (len(classes) or fullsup_count):
        raise ValueError("fullsup has images of all classes: give no classes and no fullsup_count")
    if not (root / "images.txt").exists() and not (root / "images").exists():
        raise DatasetError([f"{root}: no data set here. {WHERE_FROM}"])
    errors: list[str] = []
    rows, names = _rows(root, check_images, errors, classes, subset=fullsup is None)
    rows = fullsup_of_training(rows, fullsup_count)
    tables = [_with_masks(rows, root, "segmentations", check_images, errors)]
    if fullsup is not None:
        images = Path(fullsup_images or Path(fullsup) / "images")
        rows = fullsup_rows(Path(fullsup), images, root, names, check_images, errors)
        masks = relative(images.parent / "segmentations", root)
        tables.append(_with_masks(rows, root, masks, check_images, errors))
    raise_errors(errors)
    return pd.concat(tables, ignore_index=True)
