"""A CSV file that only grows: what took long to find out outlives the process that found it out.

Rows are appended as they come, the last row of a key counts, and a row that was cut off in the
middle of being written is passed over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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
    """Write rows behind those that are there, in one piece; start the file if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        header = ",".join(columns) + "\n"
        fresh = file.readline() != header
        if fresh:
            file.truncate(0)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writerows(rows)
        file.write((header if fresh else _line_end(path)) + text.getvalue())


def _line_end(path: Path) -> str:
    """What ends a row that was cut off, so that the next one does not continue it."""
    with path.open("rb") as file:
        file.seek(-1, io.SEEK_END)
        return "" if file.read(1) == b"\n" else "\n"
