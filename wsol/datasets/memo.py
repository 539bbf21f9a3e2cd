"""Results about files that took long to compute, kept in one SQLite file (`memo.sqlite`).

A value is valid as long as its file has the same size and modification time. Values are written in
batches, so that an interrupted run resumes, and several processes can use one memo.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from wsol.datasets.progress import ProgressBar

MEMO = "memo.sqlite"  # name of the memo in a prepared folder
BATCH = 256  # files under way at a time, and values per transaction
SECONDS = 1.0  # longest time between two transactions
TABLE = (
    "CREATE TABLE IF NOT EXISTS memo (kind TEXT, path BLOB, size INTEGER, mtime_ns INTEGER,"
    " value TEXT, PRIMARY KEY (kind, path)) WITHOUT ROWID"
)


class State(NamedTuple):
    """What identifies the content of a file: path from the memo's folder, bytes, time of change."""

    path: bytes
    size: int
    mtime_ns: int


class Memo:
    """Values by kind and state of a file. With path None nothing is kept.

    Used as a context manager. Raises ValueError if the file is no memo; it is never deleted.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self._connection: sqlite3.Connection | None = None
        self._pending: list[tuple] = []
        self._written = time.monotonic()
        if self.path is not None and self.path.exists():
            self._open()

    def __enter__(self) -> Memo:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=60)
            try:
                # SQLite would take a file of less than a page for an empty database.
                if 0 < self.path.stat().st_size < 512:
                    raise sqlite3.DatabaseError("it is no database")
                tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if set(tables) - {("memo",)}:
                    raise sqlite3.DatabaseError("it is another database")
                connection.execute(TABLE)
            except sqlite3.OperationalError:  # a read-only folder, another process
                connection.close()
                raise
            except sqlite3.DatabaseError as error:
                connection.close()
                raise ValueError(f"{self.path}: not a memo of wsol ({error}): move it") from error
            self._connection = connection
        return self._connection

    def state(self, path: Path) -> State | None:
        """The state of a file now, None if there is no file or no memo."""
        if self.path is None or not path.exists():
            return None
        stat = path.stat()
        below = os.fsencode(os.path.relpath(path, self.path.parent))
        return State(below, stat.st_size, stat.st_mtime_ns)

    def get(self, kind: str, state: State | None) -> Any:
        """The value for a file in this state, or None."""
        if state is None or self._connection is None:
            return None
        query = "SELECT value FROM memo WHERE kind = ? AND path = ? AND size = ? AND mtime_ns = ?"
        row = self._connection.execute(query, (kind, *state)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, state: State | None, value: object) -> None:
        """Keep a value that JSON can hold; it is written with the next batch."""
        if state is None or self.path is None:
            return
        self._pending.append((kind, *state, json.dumps(value)))
        if len(self._pending) >= BATCH or time.monotonic() > self._written + SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the values that are not written yet."""
        if self._pending:
            insert = "INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?, ?)"
            try:
                with self._open() as transaction:
                    transaction.executemany(insert, self._pending)
            except sqlite3.OperationalError as error:  # a full disk
                raise OSError(f"{self.path} cannot be written: {error}") from error
            self._pending.clear()
        self._written = time.monotonic()


def map_files(
    function: Callable[[Path], Any],
    paths: Sequence[Path],
    kind: str,
    memo: str | Path | None = None,
    workers: int | None = None,
    keep: bool = True,
) -> Iterator[Any]:
    """Values of `function` for files, in their order, computed by threads.

    kind : name of the function in the memo
    workers : threads, one per core by default
    keep : write new values to the memo; a text is an error message and is never kept
    """
    bar = ProgressBar(total=len(paths), desc=kind, unit="image", leave=False, delay=2)
    with Memo(memo) as known, ThreadPoolExecutor(workers or os.cpu_count()) as pool, bar:
        for start in range(0, len(paths), BATCH):
            chunk = paths[start : start + BATCH]
            states = list(pool.map(known.state, chunk))
            values = [known.get(kind, state) for state in states]
            new = [path for path, value in zip(chunk, values, strict=True) if value is None]
            computed = pool.map(function, new)
            for state, value in zip(states, values, strict=True):
                if value is None:
                    value = next(computed)
                    if keep and not isinstance(value, str):
                        known.put(kind, state, value)
                yield value
                bar.update()
