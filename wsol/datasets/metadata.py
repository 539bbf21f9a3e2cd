"""Reader of one split in the metadata format of Choe et al. 2020 (repository `wsolevaluation`).

Four text files, lines of comma-separated fields; an image id may contain commas itself:

    image_ids.txt     image id, a path
    class_labels.txt  image id, class number from 0
    image_sizes.txt   image id, width, height
    localization.txt  image id, x0, y0, x1, y1; several lines per image
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol.datasets.checks import (
    CORNERS,
    NUMBER,
    ImageCheck,
    box_texts,
    fit_boxes,
    raise_errors,
    read_lines,
    report,
    unique,
    with_sizes,
)
from wsol.datasets.files import relative
from wsol.datasets.index import INDEX, SPLITS, TRAIN_FULLSUP, index_table, read_index, rows_of

LABEL, SIDE = r"\d{1,9}", r"[1-9]\d{0,8}"


def read_fields(
    path: Path, fields: dict[str, str], errors: list[str], paths: Sequence[str] = ()
) -> pd.DataFrame:
    """Lines of an image id and `fields`, a pattern by name; the columns are text."""
    groups = [r"(?P<image_id>.+?)", *(f"(?P<{name}>{field})" for name, field in fields.items())]
    pattern = r"\s*,\s*".join(groups)
    return read_lines(path, pattern, ",".join(["image id", *fields]), errors, ["image_id", *paths])


def check_images_listed(
    ids: pd.DataFrame, tables: dict[str, pd.DataFrame], errors: list[str]
) -> None:
    """Every image of the tables must be in `ids`, and the other way round."""
    images = ids["image_id"]
    for table in tables.values():
        unknown = table[~table["image_id"].isin(images)]
        report(unknown, "image {image_id} is not in image_ids.txt", errors)
    for what, table in tables.items():
        report(ids[~images.isin(table["image_id"])], f"image {{image_id}} without {what}", errors)


def split_rows(
    directory: Path, split: str, class_names: Sequence[str] | None, errors: list[str]
) -> pd.DataFrame:
    """Columns of the index table, and `where`, of the images with label, size and box."""

    def read(name: str, **fields: str) -> pd.DataFrame:
        return read_fields(directory / name, fields, errors)

    ids = unique(read("image_ids.txt"), "image_id", errors)
    labels = unique(read("class_labels.txt", label=LABEL), "image_id", errors)
    sizes = unique(read("image_sizes.txt", width=SIDE, height=SIDE), "image_id", errors)
    boxes = read("localization.txt", **dict.fromkeys(CORNERS, NUMBER))
    check_images_listed(ids, {"label": labels, "size": sizes, "box": boxes}, errors)
    numbers = set(labels["label"].astype(int))
    if len(numbers) > 1 and numbers == set(range(1, len(numbers) + 1)):
        warnings.warn(f"{directory}: labels of 1 to {len(numbers)}, none of 0", stacklevel=2)
    labels, sizes = labels.astype({"label": int}), sizes.astype({"width": int, "height": int})
    if class_names is not None:
        known = labels["label"] < len(class_names)
        report(labels[~known], "label {label} without class", errors)
        labels = labels[known]
    sizes = sizes.drop(columns="where")
    rows = ids.merge(labels.drop(columns="where")).merge(sizes)
    boxes = fit_boxes(boxes.merge(sizes), errors)
    names = rows["image_id"].str.replace("/.*", "", regex=True)
    if class_names is not None:
        names = [class_names[label] for label in rows["label"]]
    rows = rows.assign(path=rows["image_id"], split=split, class_name=names)
    return rows.assign(boxes=rows["image_id"].map(box_texts(boxes, "image_id")))


def read_split_metadata(
    directory: str | Path, split: str, class_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Index rows of one split, `path` being the image id; the images are not opened.

    directory : folder of the four text files, or a prepared data set, whose index table is read

    Without `class_names` the first folder of an image id is its class. Raises ValueError for an
    unknown split, DatasetError with all errors of the four files.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split}; there are {', '.join(SPLITS)}")
    if (Path(directory) / INDEX).is_file():
        return rows_of(read_index(Path(directory) / INDEX), split)
    errors: list[str] = []
    rows = split_rows(Path(directory), split, class_names, errors)
    raise_errors(errors)
    return index_table(rows)


def fullsup_rows(
    metadata: Path,
    images: Path,
    root: Path,
    class_names: Sequence[str],
    check: bool | ImageCheck,
    errors: list[str],
) -> pd.DataFrame:
    """Index rows of `train-fullsup`, whose listed sizes are compared with the images.

    metadata : folder of the four text files
    images : folder that the image ids start from
    root : folder that the paths of the rows start from
    class_names : by label
    """
    rows = split_rows(metadata, TRAIN_FULLSUP, class_names, errors)
    listed = rows.rename(columns={"width": "listed_width", "height": "listed_height"})
    sized = with_sizes(listed, images, check, errors)
    wrong = (sized["listed_width"] != sized["width"]) | (sized["listed_height"] != sized["height"])
    sizes = "{listed_width} x {listed_height} pixels, the image has {width} x {height}"
    place = sized[wrong].assign(where=str(metadata / "image_sizes.txt"))
    report(place, f"{{image_id}} is listed with {sizes}", errors)
    below = relative(images, root)
    return index_table(sized.assign(path=below + "/" + sized["path"]))
