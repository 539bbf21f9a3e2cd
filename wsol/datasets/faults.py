"""Reading a data set's text files without stopping at the first fault.

Every function here appends what it finds wrong to a list of lines "file:line: what"; the reader
raises them all together as one `DatasetError`, so that a data set is mended in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Value = TypeVar("Value")
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Size = tuple[int, int]  # width, height in pixels

SHOWN = 20  # faults in a summary
BORDER = 1.0  # pixels by which hand-drawn boxes may pass the border before it is a fault


class DatasetError(ValueError):
    """All that is wrong with a data set; `faults` holds one line per fault.

    `table` is the file that they were written to, if they were.
    """

    def __init__(self, faults: Sequence[str], table: Path | None = None) -> None:
        self.faults, self.table = list(faults), table
        super().__init__("\n".join([f"{self._count()} in the data set:", *self.faults]))

    def _count(self) -> str:
        return f"{len(self.faults):,} fault{'s' * (len(self.faults) != 1)}"

    def summary(self) -> str:
        """The count and the first faults, for a person to read."""
        lines = [f"{self._count()} in the data set:", *self.faults[:SHOWN]]
        if len(self.faults) > SHOWN:
            lines.append(f"... and {len(self.faults) - SHOWN:,} more")
        if self.table is not None:
            lines.append(f"All of them are in {self.table}.")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the faults are in the data, not in the code."""
        return [f"DatasetError: {self.summary()}"]


class Record(NamedTuple):
    """One line of a text file: where it stands, whom it is about, what it says."""

    where: str
    key: str
    value: object


def read_records(
    path: Path,
    split: Callable[[str], Sequence[str]],
    parse: Callable[[str], object],
    expected: str,
    faults: list[str],
) -> list[Record]:
    """The records of a text file, blank lines left out.

    `split` cuts a line into key and rest, `parse` makes the rest a value; a line where either
    raises ValueError is a fault, and so is a file that is missing, empty or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        faults.append(f"{path}: " + ("missing file" if missing else f"cannot be read: {error}"))
        return []
    if not any(line.strip() for line in lines):
        faults.append(f"{path}: empty file")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            key, rest = split(line.strip())
            records.append(Record(where, key, parse(rest)))
        except ValueError:
            faults.append(f"{where}: malformed line {line.strip()!r}, expected '{expected}'")
    return records


def by_key(records: Iterable[Record], faults: list[str]) -> dict[str, Record]:
    """Records by their key; one that comes again is a fault, and the first stands."""
    table: dict[str, Record] = {}
    for record in records:
        if record.key in table:
            first = table[record.key].where.rpartition(":")[2]
            faults.append(f"{record.where}: duplicate id {record.key}, first on line {first}")
        else:
            table[record.key] = record
    return table


def parse_path(text: str) -> str:
    """A path below the images folder. Raises ValueError if it leads out of it."""
    if text.startswith("/") or "\\" in text or ".." in text.split("/"):
        raise ValueError(text)
    return text


def parse_numbers(text: str, separator: str | None = None) -> Box:
    """Four finite numbers. Raises ValueError if there are fewer, more, or others."""
    a, b, c, d = map(float, text.split(separator))
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError(text)
    return a, b, c, d


def fit_box(box: Box, size: Size, where: str, faults: list[str]) -> Box:
    """The box clipped to its image; of zero size or beyond `BORDER` pixels outside is a fault."""
    (x0, y0, x1, y1), (width, height) = box, size
    shown = " ".join(f"{value:g}" for value in box)
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if x1 <= x0 or y1 <= y0:
        faults.append(f"{where}: box of zero size: {shown}")
    elif min(x0, y0) < -BORDER or x1 > width + BORDER or y1 > height + BORDER:
        faults.append(f"{where}: box {shown} outside the image of {width} x {height} pixels")
    elif clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        faults.append(f"{where}: box {shown} on the border of the image, nothing of it inside")
    return clipped
