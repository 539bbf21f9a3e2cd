"""Checks of a data set that find every error, with its file and line, before anything is raised.

The readers collect errors in a list and raise one DatasetError. Tables of lines have a column
`where`, the file and line that an error is reported at.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.image_files import check_mode, decoded, upright, upright_size
from wsol.datasets.index import format_boxes
from wsol.datasets.memo import map_files

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Size = tuple[int, int]  # width, height in pixels

SHOWN = 20  # errors in a summary, or kinds of errors where there are more
EXAMPLES = 3  # of each kind
SPECIFIC = re.compile(r"(?:'[^']*'|\S*[\d/]\S*)(?: (?:'[^']*'|\S*[\d/]\S*))*")  # of one image
BORDER = 1.0  # pixels that hand-drawn boxes may extend beyond the border of their image
LIKELY = 20  # boxes that are all in one quarter only by a mistake
CORNERS = ["x0", "y0", "x1", "y1"]
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"  # finite, as regular expression
OUTSIDE = r"^/|\\|(?:^|/)\.\.(?:/|$)"  # paths that may lead out of their folder


class DatasetError(ValueError):
    """All errors of a data set, one line each in `errors`.

    `table` is the file that they were written to, if they were. The message is `summary`.
    """

    def __init__(self, errors: Sequence[str], table: Path | None = None) -> None:
        super().__init__(errors, table)
        self.errors, self.table = list(errors), table

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The number of errors and all of them, or where there are many their kinds with examples.

        The last line says where all of them are.
        """
        count = len(self.errors)
        lines = [f"{count:,} error{'s' * (count != 1)} in the data set:"]
        lines += self.errors if count <= SHOWN else self._kinds()
        if self.table is not None:
            lines.append(f"All of them are in {self.table}.")
        elif count > SHOWN:
            lines.append("In Python the attribute `errors` of this exception has all of them.")
        return "\n".join(lines)

    def _kinds(self) -> list[str]:
        """The most frequent kinds: errors that differ only in names, paths and numbers."""
        kinds: dict[str, list[str]] = {}
        for error in self.errors:
            text = error.partition(": ")[2] or error
            kinds.setdefault(SPECIFIC.sub("...", text), []).append(error)
        lines = []
        for kind, errors in sorted(kinds.items(), key=lambda item: -len(item[1]))[:SHOWN]:
            lines += [f"{len(errors):,} x {kind}", *(f"    {one}" for one in errors[:EXAMPLES])]
            lines += ["    ..."] * (len(errors) > EXAMPLES)
        return lines + [f"and {len(kinds) - SHOWN:,} kinds more"] * (len(kinds) > SHOWN)

    def _render_traceback_(self) -> list[str]:
        """Shown by IPython instead of a traceback: the error is in the data, not in the code."""
        return [f"DatasetError: {self.summary()}"]


def raise_errors(errors: Sequence[str]) -> None:
    """Raise a DatasetError if there are errors."""
    if errors:
        raise DatasetError(errors)


def report(rows: pd.DataFrame, message: str, errors: list[str]) -> None:
    """Add an error for every row; `message` is a format string over the columns."""
    errors += [f"{row['where']}: {message.format(**row)}" for row in rows.to_dict("records")]


def read_text(path: Path, errors: list[str]) -> str | None:
    """A UTF-8 file; None, and an error, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        errors.append(f"{path}: missing file")
    except (OSError, UnicodeDecodeError) as error:
        errors.append(f"{path}: cannot be read: {error}")
    return None


def read_lines(
    path: Path, pattern: str, expected: str, errors: list[str], paths: Sequence[str] = ()
) -> pd.DataFrame:
    """Lines of a text file as columns of text, blank lines left out.

    pattern : regular expression of a whole line; its named groups are the columns
    expected : the format in words, for the error about a line that does not match
    paths : columns that hold paths; one that leads out of its folder is an error
    """
    text = read_text(path, errors)
    if text is not None and not text.strip():
        errors.append(f"{path}: empty file")
    lines = pd.Series((text or "").splitlines(), dtype="str").str.strip()
    lines.index += 1
    lines = lines[lines != ""]
    table = lines.str.extract(f"^(?:{pattern})$").astype("str")
    bad = table.isna().all(axis=1)
    for column in paths:
        bad |= table[column].str.contains(OUTSIDE).fillna(value=False).astype(bool)
    table["where"] = [f"{path}:{line}" for line in table.index]
    message = f"malformed line {{line!r}}, expected '{expected}'"
    report(table[bad].assign(line=lines[bad]), message, errors)
    return table[~bad].reset_index(drop=True)


def unique(table: pd.DataFrame, key: str, errors: list[str]) -> pd.DataFrame:
    """The first row of every key; the other rows are errors."""
    again = table.duplicated(key)
    if again.any():
        first = table.drop_duplicates(key).set_index(key)["where"].str.rpartition(":")[2]
        rows = table[again].assign(first=table.loc[again, key].map(first))
        report(rows, f"duplicate id {{{key}}}, first on line {{first}}", errors)
    return table[~again]


def fit_boxes(boxes: pd.DataFrame, errors: list[str]) -> pd.DataFrame:
    """Boxes clipped to their images; columns `CORNERS`, width and height, in pixels.

    A box of zero size, or more than `BORDER` pixels outside, is an error.
    """
    boxes = boxes.astype(dict.fromkeys(CORNERS, "float64"))
    finite = np.isfinite(boxes[CORNERS]).all(axis=1)  # 1e999 is not
    report(boxes[~finite], "box of infinite numbers", errors)
    boxes = boxes[finite]
    right, bottom = boxes["x1"] - boxes["width"], boxes["y1"] - boxes["height"]
    outside = boxes[["x0", "y0"]].lt(-BORDER).any(axis=1) | (right > BORDER) | (bottom > BORDER)
    fitted = boxes.assign(
        x0=boxes["x0"].clip(lower=0),
        y0=boxes["y0"].clip(lower=0),
        x1=boxes["x1"].clip(upper=boxes["width"]),
        y1=boxes["y1"].clip(upper=boxes["height"]),
    )
    shown = "{x0:g} {y0:g} {x1:g} {y1:g}"
    size = "the image of {width} x {height} pixels"
    zero = _is_empty(boxes)
    if len(boxes) and (boxes[CORNERS] <= 1).all(axis=None) and (boxes["width"] > 2).all():
        where = boxes["where"].iloc[0]
        errors.append(f"{where}: all boxes lie in [0, 1]: pixels are expected, not shares")
        return fitted
    if zero.sum() > 1 and zero.mean() > 0.1:
        where = boxes.loc[zero, "where"].iloc[0]
        errors.append(f"{where}: x0 y0 x1 y1 are expected; are these x y width height?")
    spread = boxes["x0"] + boxes["x1"] <= boxes["width"]
    spread &= boxes["y0"] + boxes["y1"] <= boxes["height"]
    if len(boxes) >= LIKELY and spread.all():
        where = boxes["where"].iloc[0]
        warnings.warn(f"{where}: all boxes look like x y width height, not corners", stacklevel=2)
    report(boxes[zero], f"box of zero size: {shown}", errors)
    report(boxes[outside & ~zero], f"box {shown} outside {size}", errors)
    beside = _is_empty(fitted) & ~outside & ~zero
    report(boxes[beside], f"box {shown} beside {size}: nothing of it inside", errors)
    return fitted


def _is_empty(boxes: pd.DataFrame) -> pd.Series:
    return (boxes["x1"] <= boxes["x0"]) | (boxes["y1"] <= boxes["y0"])


def box_texts(boxes: pd.DataFrame, key: str) -> dict[str, str]:
    """The text of all boxes of each key, in their order, as in the index table."""
    of_key = boxes.groupby(key, sort=False).indices
    corners = boxes[CORNERS].to_numpy()
    return {name: format_boxes(corners[rows]) for name, rows in of_key.items()}


@dataclass(frozen=True)
class ImageCheck:
    """How the images of a data set are checked.

    decode : read all pixels of every image; otherwise only the headers are read
    memo : file that keeps the sizes of the images that decoded, see `wsol.datasets.memo`
    workers : threads, one per core by default; Pillow decodes outside the interpreter lock
    """

    decode: bool = True
    memo: Path | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be at least 1")


def as_check(check: bool | ImageCheck) -> ImageCheck:
    """The check itself, or for a bool one that decodes images or not."""
    return check if isinstance(check, ImageCheck) else ImageCheck(decode=check)


def image_size(path: Path, decode: bool = True) -> Size | str:
    """Upright width and height of an image, or what is wrong with it; `decode` reads its pixels."""
    try:
        with decoded(path) as image:
            if decode:
                check_mode(image)
                image.load()
            return upright_size(image)
    except ValueError as error:
        return str(error)


def same_proportions(a: Size, b: Size) -> bool:
    """Whether two sizes, in pixels, can be those of one image scaled and rounded."""
    stretch = a[0] * b[1] / (a[1] * b[0])
    return abs(stretch - 1) <= sum(1 / side for side in (*a, *b))


def read_mask(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """The mask (H, W) of an image of `size`: grey levels, of which at least 128 are the object.

    Masks of 0 and 1 (also the indices of a palette) count as 0 and 255. Raises ValueError for other
    masks without a level of 128, such as trimaps of 1, 2, 3, and for other proportions than those
    of `size`.
    """
    with decoded(path) as image:
        small = image.getextrema()[1] if image.mode in ("P", "I;16") else 255
        is_levels = small <= 1 or (image.mode == "I;16" and small < 256)  # not grey of 16 bits
        pixels = np.asarray(image if is_levels else upright(image, "L")).astype(np.uint8)
    shown, peak = (pixels.shape[1], pixels.shape[0]), pixels.max()
    if size is not None and not same_proportions(shown, size):
        sizes = f"{shown[0]} x {shown[1]} pixels, its image {size[0]} x {size[1]}"
        raise ValueError(f"mask {path} has {sizes}")
    if 1 < peak < 128:
        levels = ", ".join(map(str, np.unique(pixels)[:5]))
        raise ValueError(f"mask {path} has the levels {levels}: write 0 and 255")
    return pixels * np.uint8(255) if peak == 1 else pixels


def _mask_size(path: Path, decode: bool = True) -> Size | str:
    try:
        return read_mask(path).shape[::-1] if decode else image_size(path, decode=False)
    except ValueError as error:
        return str(error)


def image_sizes(
    paths: Sequence[Path], check: bool | ImageCheck = True, masks: bool = False
) -> list[Size | str]:
    """`image_size` of many images, in their order; `masks` have to be what `read_mask` reads."""
    check, measure, kind = as_check(check), image_size, "upright size"
    if masks:
        measure, kind = _mask_size, "mask size"
    # A header that can be read says nothing about the pixels, so it is not kept.
    options = dict(memo=check.memo, workers=check.workers, keep=check.decode)
    sizes = map_files(lambda path: measure(path, check.decode), paths, kind, **options)
    return [size if isinstance(size, str) else tuple(size) for size in sizes]


def with_sizes(
    table: pd.DataFrame, folder: Path, check: bool | ImageCheck, errors: list[str]
) -> pd.DataFrame:
    """The rows whose image folder / path decodes, with its `width` and `height` in pixels.

    The others are errors.
    """
    if len(table) and not folder.is_dir():
        errors.append(f"{folder}: missing folder of {len(table)} images")
        return table.assign(width=0, height=0)[:0]
    sizes = image_sizes([folder / path for path in table["path"]], check)
    good = np.array([not isinstance(size, str) for size in sizes], dtype=bool)
    reasons = [size for size in sizes if isinstance(size, str)]
    report(table[~good].assign(reason=reasons), "{reason}", errors)
    decoding = [size for size in sizes if not isinstance(size, str)]
    width, height = np.array(decoding, dtype=np.int64).reshape(-1, 2).T
    return table[good].assign(width=width, height=height)


def check_masks(
    rows: pd.DataFrame, root: Path, check: bool | ImageCheck, errors: list[str]
) -> None:
    """Masks, column `mask` below root, must be masks of the size of their image."""
    rows = rows[rows["mask"] != ""]
    sizes = image_sizes([root / mask for mask in rows["mask"]], check, masks=True)
    for row, size in zip(rows.itertuples(), sizes, strict=True):
        if isinstance(size, str):
            errors.append(f"{root / row.mask}: {size}")
        elif size != (row.width, row.height):
            shown = f"{size[0]} x {size[1]} pixels for an image of {row.width} x {row.height}"
            errors.append(f"{root / row.mask}: mask of {shown}")
