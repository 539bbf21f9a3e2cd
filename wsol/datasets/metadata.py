"""What the readers of data sets share: paths, sizes of listed pictures, a `train-fullsup`.

As in `faults`, what is wrong is appended to a list, and the reader raises it all together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wsol.datasets.checks import (
    Box,
    DatasetError,
    ImageCheck,
    Record,
    Size,
    by_key,
    fit_box,
    image_sizes,
    parse_numbers,
    parse_path,
    read_records,
)
from wsol.datasets.files import relative
from wsol.datasets.index import INDEX, SPLITS, format_boxes, index_table, write_index

# Reader of one split in the metadata format of Choe et al. 2020 (their `wsolevaluation`).


@dataclass(frozen=True)
class SplitFiles:
    """The four files of a split; the keys of all tables are image ids."""

    ids: dict[str, Record]
    labels: dict[str, Record]
    sizes: dict[str, Record]
    boxes: list[Record]


def _cut(fields: int) -> Callable[[str], tuple[str, str]]:
    """Cut a line into its image id, which may hold commas itself, and its last fields."""

    def cut(line: str) -> tuple[str, str]:
        key, *rest = line.rsplit(",", fields)
        if len(rest) != fields:
            raise ValueError(line)
        return parse_path(key.strip()), ",".join(rest)

    return cut


def _label(text: str) -> int:
    """A class number from 0."""
    label = int(text)
    if label < 0:
        raise ValueError(text)
    return label


def _size(text: str) -> Size:
    """Width and height, both positive."""
    width, height = map(int, text.split(","))
    if min(width, height) < 1:
        raise ValueError(text)
    return width, height


def read_files(directory: Path, faults: list[str]) -> SplitFiles:
    """Read the four files of a split, each line for itself."""

    def read(name: str, parse: Callable[[str], object], *fields: str) -> list[Record]:
        expected = ",".join(("image id", *fields))
        return read_records(directory / name, _cut(len(fields)), parse, expected, faults)

    ids = read("image_ids.txt", str)
    labels = read("class_labels.txt", _label, "label")
    sizes = read("image_sizes.txt", _size, "width", "height")
    boxes = read("localization.txt", lambda text: parse_numbers(text, ","), "x0", "y0", "x1", "y1")
    return SplitFiles(*(by_key(records, faults) for records in (ids, labels, sizes)), boxes=boxes)


def _strangers(files: SplitFiles, faults: list[str]) -> None:
    """Lines about images that image_ids.txt does not list."""
    for record in (*files.labels.values(), *files.sizes.values(), *files.boxes):
        if record.key not in files.ids:
            faults.append(f"{record.where}: image {record.key} is not in image_ids.txt")


def _fitted_boxes(files: SplitFiles, faults: list[str]) -> dict[str, list[Box]]:
    """The boxes of each image; without a known size they cannot be judged and are left out."""
    boxes: dict[str, list[Box]] = {key: [] for key in files.ids}
    for record in files.boxes:
        if record.key in files.ids and record.key in files.sizes:
            size = files.sizes[record.key].value
            boxes[record.key].append(fit_box(record.value, size, record.where, faults))
    return boxes


def split_rows(
    directory: Path, split: str, class_names: Sequence[str] | None, faults: list[str]
) -> pd.DataFrame:
    """Index rows of the images of which everything is known; what is wrong goes to `faults`."""
    files = read_files(directory, faults)
    _strangers(files, faults)
    boxed = {record.key for record in files.boxes}
    boxes = _fitted_boxes(files, faults)
    rows = []
    for key, record in files.ids.items():
        known = {"label": files.labels, "size": files.sizes, "box": boxed}
        lacks = [what for what, table in known.items() if key not in table]
        faults.extend(f"{record.where}: image {key} without {what}" for what in lacks)
        if lacks:
            continue
        label = files.labels[key].value
        if class_names is not None and label >= len(class_names):
            faults.append(f"{files.labels[key].where}: label {label} without class")
            continue
        width, height = files.sizes[key].value
        name = Path(key).parts[0] if class_names is None else class_names[label]
        rows.append(
            dict(image_id=key, path=key, split=split, label=label, class_name=name)
            | dict(width=width, height=height, boxes=format_boxes(boxes[key]))
        )
    return index_table(rows)


def read_split_metadata(
    directory: str | Path, split: str, class_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Index rows of one split, `path` being the image id; the images are not looked at.

    Without `class_names` the folder of an image names its class. Raises DatasetError with all the
    faults of the four files.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split}; there are {', '.join(SPLITS)}")
    faults: list[str] = []
    rows = split_rows(Path(directory), split, class_names, faults)
    if faults:
        raise DatasetError(faults)
    return rows


def write_rebased(index: pd.DataFrame, raw: Path, out: Path) -> Path:
    """Write an index table whose paths start from raw into out, from where they start then."""
    for column in ("path", "mask", "ignore"):
        index[column] = [relative(raw / path, out) if path else "" for path in index[column]]
    write_index(index, out / INDEX)
    return out / INDEX


def known_sizes(
    folder: Path,
    names: Sequence[str],
    wheres: Sequence[str],
    check: bool | ImageCheck,
    faults: list[str],
) -> list[Size | None]:
    """Width and height of the pictures folder / name in pixels, None where there is none.

    `wheres` says for each picture which line of which file is to blame, `check` how they are
    looked at (see `image_check`).
    """
    if names and not folder.is_dir():
        faults.append(f"{folder}: missing folder of {len(names)} images")
        return [None] * len(names)
    found = image_sizes([folder / name for name in names], check)
    for size, where in zip(found, wheres, strict=True):
        if isinstance(size, str):
            faults.append(f"{where}: {size}")
    return [None if isinstance(size, str) else size for size in found]


def fullsup_rows(
    metadata: Path,
    images: Path,
    root: Path,
    names: Sequence[str],
    check: bool | ImageCheck,
    faults: list[str],
) -> pd.DataFrame:
    """Index rows of a `train-fullsup` in the format of `split_metadata`.

    metadata : folder of the four text files
    images : folder that its image ids start from
    root : what the paths of the rows start from
    names : class names by label
    """
    rows = split_rows(metadata, "train-fullsup", names, faults)
    wheres = [f"{metadata / 'image_ids.txt'}: {image}" for image in rows["image_id"]]
    sizes = known_sizes(images, list(rows["image_id"]), wheres, check, faults)
    for row, size in zip(rows.itertuples(), sizes, strict=True):
        if size is not None and size != (row.width, row.height):
            faults.append(
                f"{metadata / 'image_sizes.txt'}: {row.image_id} is said to be {row.width} x "
                f"{row.height} pixels and has {size[0]} x {size[1]}"
            )
    below = relative(images, root)
    rows["path"] = [f"{below}/{image}" for image in rows["image_id"]]
    return rows
