"""A CSV file that only grows: what took long to find out outlives the process that found it out.

Rows are appended as they come, the last row of a key counts, and a row that was cut off in the
middle of being written is passed over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

Row = dict[str, str]


def read_journal(path: Path, columns: Sequence[str], key: str) -> dict[str, Row]:
    """The last whole row of every key, in the order in which the keys first came.

    A file that is missing, or was written with other columns, is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole, newline="")))
    if not rows or rows[0] != list(columns):
        return {}
    found = [dict(zip(columns, row, strict=True)) for row in rows[1:] if len(row) == len(columns)]
    return {row[key]: row for row in found}


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows behind those that are there, in one piece; start the file if there is none.

    A row that was cut off makes way, and so does a file that was written with other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ",".join(columns) + "\n"
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    with path.open("a+b") as file:
        file.seek(0)
        fresh = file.readline() != header.encode()
        file.truncate(0 if fresh else _whole(file))
        file.write(((header if fresh else "") + text.getvalue()).encode())


def _whole(file: BinaryIO) -> int:
    """Length of a file up to the end of its last whole row."""
    end = file.seek(-1, io.SEEK_END) + 1
    if file.read(1) == b"\n":
        return end
    file.seek(0)
    return file.read().rfind(b"\n") + 1
