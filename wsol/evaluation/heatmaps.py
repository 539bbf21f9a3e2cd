"""Readers of score maps and predictions written by any method.

Score maps are what the reference code of Choe et al. 2020 (`wsolevaluation`) leaves: one array per
image, 224 x 224, from 0 to 1, in `<image_id>.npy` below a folder (`001.Black/x.jpg.npy`), or a
single `.npy` of (N, H, W) in the order of the image ids. They are used as they are.

Shapes: N images, H W map.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.checks import raise_errors, read_lines, report, unique
from wsol.evaluation.boxes import FRAME

TOLERANCE = 1e-5  # outside [0, 1] that a map may be by rounding; it is clipped
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

    Made by `open_score_maps`. It holds no open file: maps may be read in other processes.
    """

    path: Path  # folder of `<image_id>.npy`, or one `.npy` of (N, H, W)
    image_ids: tuple[str, ...]
    first: int = 0  # place of the first of them in the one `.npy`

    def __len__(self) -> int:
        return len(self.image_ids)

    def part(self, part: slice) -> ScoreMaps:
        """Some of the maps, in a row."""
        return replace(self, image_ids=self.image_ids[part], first=self.first + part.start)

    def __getitem__(self, place: int) -> Floats:
        image_id = self.image_ids[operator.index(place)]  # its IndexError ends a loop over the maps
        if self.path.suffix != ".npy" or self.path.is_dir():
            file = f"{self.path}/{image_id}.npy"  # the image's own suffix stays
            return _score_map(_open(file, whole=True), file)
        stack = _open(self.path)
        place = self.first + range(len(self))[place]
        return _score_map(stack[place], f"{self.path}, map {place} of image {image_id}")


def open_score_maps(path: str | Path, image_ids: Sequence[str]) -> ScoreMaps:
    """Score maps of the images, in the order of `image_ids`.

    Maps of 224 x 224 are used as they are, others are resized to it (float64, OpenCV INTER_CUBIC)
    and clipped to [0, 1].

    Raises ScoreMapError at once if maps are missing or belong to no image, or their number, shape
    or type is wrong; and when a map is read, if its file cannot be (pickled objects never are), it
    is not of floats in two dimensions, or a value is not finite or more than `TOLERANCE` outside
    [0, 1].
    """
    path, image_ids = Path(path), tuple(image_ids)
    if len(set(image_ids)) != len(image_ids):
        raise ScoreMapError("an image id is listed more than once")
    if path.is_dir():
        there, errors = set(_maps_below(path)), []
        absent = (name for name in image_ids if name not in there)  # or behind a link
        if missing := [name for name in absent if not (path / f"{name}.npy").is_file()]:
            errors.append(f"{len(missing)} of {len(image_ids)} maps are missing: {_some(missing)}")
        if unknown := sorted(there - set(image_ids)):
            errors.append(f"{len(unknown)} maps are of no image in the metadata: {_some(unknown)}")
        if errors:
            raise ScoreMapError(f"{path} (maps are <image_id>.npy): {'; '.join(errors)}")
    elif path.suffix == ".npy":
        stack = _open(path)
        if stack.ndim != 3:
            raise ScoreMapError(f"{path}: one file of maps is (N, H, W), this one {stack.shape}")
        if len(stack) != len(image_ids):
            raise ScoreMapError(f"{path}: {len(stack)} maps for {len(image_ids)} images")
        _check_dtype(stack, str(path))
    else:
        raise ScoreMapError(f"{path}: neither a folder of <image_id>.npy nor one .npy of (N, H, W)")
    return ScoreMaps(path, image_ids)


def _maps_below(path: Path) -> Iterator[str]:
    start = len(os.path.join(path, ""))
    for folder, _, names in os.walk(path):  # in a tenth of the time of Path.rglob
        files = (os.path.join(folder, name) for name in names if name.endswith(".npy"))
        yield from (file[start:-4].replace(os.sep, "/") for file in files)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@lru_cache(maxsize=16)
def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    return npy.read_array_header_1_0(BytesIO(start))


def _open(path: str | Path, whole: bool = False) -> NDArray:
    """An array on disk, mapped, or as a whole. Raises ScoreMapError if it is none."""
    try:
        if whole:  # in half the time of `numpy.load`: many files share one header
            with open(path, "rb") as file:
                data = file.read()
            if data[:8] == npy.magic(1, 0):
                end = 10 + int.from_bytes(data[8:10], "little")
                shape, fortran, dtype = _header(data[8:end])
                if min(shape, default=0) < 0:
                    raise ValueError(f"the shape {shape} has a negative side")
                values = np.frombuffer(data, dtype, math.prod(shape), end)
                return values.reshape(shape, order="F" if fortran else "C")
        return npy.open_memmap(path, mode="r")  # has no way to unpickle
    except Exception as error:  # damaged headers make NumPy raise almost anything
        raise ScoreMapError(f"{path}: cannot be read as a .npy of numbers: {error}") from error


def _check_dtype(array: NDArray, where: str) -> None:
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        grey = array.dtype == np.uint8
        hint = "divide grey levels by 255" if grey else "write them as float32 or float64"
        raise ScoreMapError(f"{where}: score maps are floats in [0, 1], not {array.dtype}: {hint}")


def _score_map(array: NDArray, where: str) -> Floats:
    if array.ndim != 2 or array.size == 0:
        raise ScoreMapError(f"{where}: a map has two dimensions (H, W), this one {array.shape}")
    _check_dtype(array, where)
    score = np.array(array, dtype=np.float64, order="C")
    low, high = score.min(), score.max()  # NaN if there is one
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        if bad := np.count_nonzero(~np.isfinite(score)):
            raise ScoreMapError(f"{where}: {bad} of {score.size} values are NaN or infinite")
        raise ScoreMapError(f"{where}: values from {low:.7g} to {high:.7g}, not in [0, 1]")
    if low < 0 or high > 1:
        score = score.clip(0, 1)
    if score.shape == (FRAME, FRAME):
        return score
    resized = cv2.resize(score, (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)
    return np.clip(resized, 0, 1)  # cubic overshoots; dividing by the maximum would move every tau


def _columns_of(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8-sig") as file:
        header = [name.strip() for name in file.readline().split(",")]
        if header == list(COLUMNS[: len(header)]) and len(header) > 1:
            return header
    return list(COLUMNS)


def read_predictions(
    path: str | Path, image_ids: Sequence[str], labels: ArrayLike
) -> tuple[Ints, Ints]:
    """Ranks (N,) of the labels and predictions (N, 5), in the order of `image_ids`.

    The file is CSV with the header image_id,class_1,...,class_5: the five first classes, best
    first, as numbers from 0. Where there are K < 5 classes it has K columns, and each line ranks
    all of 0 to K - 1; then predictions are (N, K). The rank of a label is its place, from 0, and 5
    where it is not among them. Raises DatasetError with all errors, by file and line: other
    columns, a class that is no number or repeated, an image twice, unknown or without prediction.
    """
    columns = _columns_of(Path(path))
    ranked = len(columns) - 1
    if len(labels) != len(image_ids):
        raise ValueError(f"{len(labels)} labels for {len(image_ids)} images")
    errors: list[str] = []
    classes = "".join(rf",\s*(?P<{name}>[^,]*?)\s*" for name in columns[1:])
    pattern = rf'(?P<quote>"?)(?P<{columns[0]}>.+?)(?P=quote){classes}'
    table = read_lines(Path(path), pattern, ",".join(columns), errors)
    unquoted = table[columns[0]].str.replace('""', '"')
    table[columns[0]] = table[columns[0]].where(table["quote"] == "", unquoted)
    is_header = (table[columns] == columns).all(axis=1)
    if is_header.sum() != 1 or not is_header.iloc[0]:
        errors.append(f"{path}: the header {','.join(columns)} is to be the first line, and once")
    table = table[~is_header]
    number = table[columns[1:]].apply(lambda column: column.str.fullmatch("[0-9]{1,9}"))
    line = table[columns].agg(",".join, axis=1) if len(table) else ""
    report(
        table.assign(line=line)[~number.all(axis=1)],
        f"malformed line {{line!r}}, expected '{','.join(columns)}'",
        errors,
    )
    table = unique(table[number.all(axis=1)], columns[0], errors)
    numbers = table[columns[1:]].astype("int64")
    repeated = numbers.nunique(axis=1) < ranked
    report(table[repeated], "image {image_id} has a class more than once", errors)
    if ranked < RANKED:
        beyond = numbers.max(axis=1) >= ranked
        message = f"image {{image_id}}: {ranked} columns must rank the classes 0 to {ranked - 1}"
        report(table[beyond], f"{message}; of more classes give {RANKED}", errors)
        if ranked <= np.max(np.asarray(labels), initial=0):
            errors.append(f"{path}: {ranked} columns, and the metadata has more classes")
    least, most = numbers.min(axis=None), np.max(np.asarray(labels), initial=0)
    if least == 1 and numbers.max(axis=None) > most:
        warnings.warn(f"{path}: classes of 1 to more than {most}, none of 0", stacklevel=2)
    unknown = table[~table[columns[0]].isin(list(image_ids))]
    report(unknown, "image {image_id} is not in the metadata", errors)
    predicted = set(table[columns[0]])
    missing = [name for name in image_ids if name not in predicted]
    if missing:
        errors.append(f"{path}: {len(missing)} images without prediction: {_some(missing)}")
    raise_errors(errors)
    numbers.index = table[columns[0]]
    predictions = numbers.loc[list(image_ids)].to_numpy().reshape(-1, ranked)
    hits = predictions == np.asarray(labels)[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), RANKED), predictions
