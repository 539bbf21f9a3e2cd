"""Readers of score maps and predictions written by any method.

Score maps are what the reference code of Choe et al. 2020 (`wsolevaluation`) leaves: one array per
image, 224 x 224, from 0 to 1, in a file `<image_id>.npy` below a folder, the image id with its
subfolder and ending (`001.Black/x.jpg.npy`). A single `.npy` of (N, H, W) in the order of the image
ids does too. Nothing is normalized here: maps are used as they are.

Shapes: N images, H W map.
"""

from __future__ import annotations

import csv
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.checks import DatasetError, Record, by_key, read_records
from wsol.evaluation.boxes import FRAME

SHOWN = 5  # names of images that a message lists
RANKED = 5  # classes that a prediction ranks
COLUMNS = ("image_id", *(f"class_{i}" for i in range(1, RANKED + 1)))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ScoreMapError(ValueError):
    """Score maps that cannot be evaluated: which, and why."""


@dataclass(frozen=True)
class ScoreMaps(Sequence):
    """N score maps (224, 224) of float64 in [0, 1], each read when it is asked for.

    path : folder of `<image_id>.npy`, or one `.npy` of (N, H, W)
    image_ids : of the N images, in order

    Made by `open_score_maps`, which says what is refused. It holds no open file: maps may be read
    in other processes.
    """

    path: Path
    image_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, place: int) -> Floats:
        image_id = self.image_ids[operator.index(place)]  # its IndexError ends a loop over the maps
        if self.path.is_dir():
            file = _file(self.path, image_id)
            return _score_map(_open(file), str(file))
        stack = _open(self.path)
        return _score_map(stack[place], f"{self.path}, map {place} of image {image_id}")


def open_score_maps(path: str | Path, image_ids: Sequence[str]) -> ScoreMaps:
    """Score maps of the images, in the order of `image_ids`.

    Maps of 224 x 224 are used as they are, others are resized to it (float64, OpenCV INTER_CUBIC)
    and clipped to [0, 1].

    Raises ScoreMapError at once if maps are missing or belong to no image, or their number, shape
    or type is wrong; and when a map is read, if its file cannot be (pickled objects never are), it
    is not of floats in two dimensions, or a value is not finite or outside [0, 1].
    """
    path, image_ids = Path(path), tuple(image_ids)
    if len(set(image_ids)) != len(image_ids):
        raise ScoreMapError("an image id is listed more than once")
    if path.is_dir():
        _check_folder(path, image_ids)
    elif path.suffix == ".npy":
        _check_stack(path, image_ids)
    else:
        raise ScoreMapError(f"{path}: neither a folder of <image_id>.npy nor one .npy of (N, H, W)")
    return ScoreMaps(path, image_ids)


def _file(folder: Path, image_id: str) -> Path:
    return folder / f"{image_id}.npy"  # the image's own suffix stays


def _some(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _check_folder(folder: Path, image_ids: tuple[str, ...]) -> None:
    """Raise ScoreMapError unless every image has a map and every map an image."""
    missing = [name for name in image_ids if not _file(folder, name).is_file()]
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*.npy"))
    unknown = sorted({name.removesuffix(".npy") for name in names} - set(image_ids))
    errors = []
    if missing:
        errors.append(f"{len(missing)} of {len(image_ids)} maps are missing: {_some(missing)}")
    if unknown:
        errors.append(f"{len(unknown)} maps are of no image in the metadata: {_some(unknown)}")
    if errors:
        raise ScoreMapError(f"{folder} (maps are <image_id>.npy): {'; '.join(errors)}")


def _check_stack(path: Path, image_ids: tuple[str, ...]) -> None:
    """Raise ScoreMapError unless the file holds one map for each image."""
    stack = _open(path)
    if stack.ndim != 3:
        raise ScoreMapError(f"{path}: one file of maps is (N, H, W), this one {stack.shape}")
    if len(stack) != len(image_ids):
        raise ScoreMapError(f"{path}: {len(stack)} maps for {len(image_ids)} images")
    _check_dtype(stack, str(path))


def _open(path: Path) -> np.memmap:
    """An array on disk, of which nothing is read yet. Raises ScoreMapError if it is none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")  # has no way to unpickle
    except (OSError, ValueError, EOFError) as error:
        raise ScoreMapError(f"{path}: cannot be read as a .npy of numbers: {error}") from error


def _check_dtype(array: NDArray, where: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        grey = array.dtype == np.uint8
        hint = "divide grey levels by 255" if grey else "write them as float32 or float64"
        raise ScoreMapError(f"{where}: score maps are floats in [0, 1], not {array.dtype}: {hint}")


def _score_map(array: NDArray, where: str) -> Floats:
    """One map, checked and brought to the frame."""
    if array.ndim != 2 or array.size == 0:
        raise ScoreMapError(f"{where}: a map has two dimensions (H, W), this one {array.shape}")
    _check_dtype(array, where)
    score = np.array(array, dtype=np.float64, order="C")
    if not np.isfinite(score).all():
        bad = np.count_nonzero(~np.isfinite(score))
        raise ScoreMapError(f"{where}: {bad} of {score.size} values are NaN or infinite")
    low, high = score.min(), score.max()
    if low < 0 or high > 1:
        raise ScoreMapError(f"{where}: values from {low:g} to {high:g}, not in [0, 1]")
    if score.shape == (FRAME, FRAME):
        return score
    resized = cv2.resize(score, (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)
    return np.clip(resized, 0, 1)  # cubic overshoots; dividing by the maximum would move every tau


def _split(line: str) -> tuple[str, str]:
    """Cut a line of the predictions into image id, which may hold commas, and classes."""
    fields = next(csv.reader([line]))
    if len(fields) <= RANKED:
        raise ValueError(line)
    return ",".join(fields[:-RANKED]), ",".join(fields[-RANKED:])


def _classes(text: str) -> tuple[int, ...] | None:
    """Five class numbers; None for the header."""
    fields = [field.strip() for field in text.split(",")]
    if fields == list(COLUMNS[1:]):
        return None
    if not all(field.isascii() and field.isdecimal() for field in fields):
        raise ValueError(text)
    return tuple(map(int, fields))


def _check_classes(record: Record, n_classes: int | None, errors: list[str]) -> None:
    """Five different classes that exist, or an error."""
    if len(set(record.value)) != RANKED:
        errors.append(f"{record.where}: image {record.key} has a class more than once")
    if n_classes is not None and max(record.value) >= n_classes:
        worst = max(record.value)
        errors.append(f"{record.where}: class {worst} of image {record.key}, of {n_classes} from 0")


def read_predictions(
    path: str | Path, image_ids: Sequence[str], labels: ArrayLike, n_classes: int | None = None
) -> tuple[Ints, Ints]:
    """Ranks (N,) of the labels and predictions (N, 5), in the order of `image_ids`.

    The file is CSV with the header image_id,class_1,...,class_5: the five first classes, best
    first, as numbers from 0. The rank of a label is its place, from 0, and 5 where it is not among
    them. Raises DatasetError with all errors, by file and line: other columns, a class that is no
    number, is repeated or not below `n_classes`, an image twice, unknown or without prediction.
    """
    if len(labels) != len(image_ids):
        raise ValueError(f"{len(labels)} labels for {len(image_ids)} images")
    errors: list[str] = []
    records = read_records(Path(path), _split, _classes, ",".join(COLUMNS), errors)
    headers = [record.key for record in records if record.value is None]
    if headers != [COLUMNS[0]] or records[0].value is not None:
        errors.append(f"{path}: the header {','.join(COLUMNS)} is to be the first line, and once")
    table = by_key([record for record in records if record.value is not None], errors)
    known = set(image_ids)
    for record in table.values():
        _check_classes(record, n_classes, errors)
        if record.key not in known:
            errors.append(f"{record.where}: image {record.key} is not in the metadata")
    missing = [name for name in image_ids if name not in table]
    if missing:
        errors.append(f"{path}: {len(missing)} images without prediction: {_some(missing)}")
    if errors:
        raise DatasetError(errors)
    predictions = np.array([table[name].value for name in image_ids], np.int64).reshape(-1, RANKED)
    hits = predictions == np.asarray(labels)[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), RANKED), predictions
