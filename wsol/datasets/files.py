"""Writing files so that nobody ever finds half of one.

Every file and folder that this library writes appears under its name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock


def relative(path: Path, root: Path) -> str:
    """The path as it is written in a table whose paths start from root, posix."""
    return Path(os.path.relpath(path, root)).as_posix()


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place if the block ends without an error.

    The folders above are made. After an error the temporary file is removed and an earlier file at
    `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with \\n line ends, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV without its index; the same table always gives the same bytes."""
    with written_whole(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def replace_folder(new: Path, out: Path) -> None:
    """Put a complete folder in the place of an older one; at no moment are both gone.

    `new` may be on another disk. A symbolic link at `out` is replaced, not followed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    old, finished = (out.with_name(f"{out.name}.{suffix}") for suffix in ("old", "new"))
    for folder in (old, finished):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.move(new, finished)
    if out.exists() or out.is_symlink():
        out.rename(old)
    finished.rename(out)
    old.unlink() if old.is_symlink() else shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file that ends with its process and is removed afterwards.

    timeout : seconds to wait, -1 for ever; then filelock.Timeout is raised

    Whoever waited must look whether the work is done already: a removed file no longer excludes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
