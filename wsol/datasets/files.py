"""Writing files so that nobody ever finds half of one, and deleting only what was made here.

Every file and folder that this library writes appears under its name only when it is complete. A
folder is deleted only if a marker in it, or a record that only this library writes, proves that it
was made here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

MADE = ".made-by-wsol"  # marks a folder that may be deleted; ignored by Git and DVC
LONGEST = 255  # bytes of a name, on every usual file system
PARTIAL, LOCK = ".wsol-partial", ".wsol-lock"  # endings that no file of somebody else has


def relative(path: Path, root: Path) -> str:
    """The path as it is written in a table whose paths start from root, posix.

    It leads to the file from where `root` really is: behind a link, ".." leads elsewhere.
    """
    real = os.path.realpath(root)
    if real != os.path.abspath(root) or ".." in Path(path).parts:
        root, path = Path(real), Path(os.path.realpath(Path(path).parent)) / Path(path).name
    return Path(os.path.relpath(path, root)).as_posix()


def beside(path: Path, suffix: str) -> Path:
    """`path` with `suffix` behind its name; where that is too long, behind a digest of the name."""
    name = f"{path.name}{suffix}"
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(path.name)).hexdigest() + suffix
    return path.with_name(name)


def _claim(path: Path) -> tuple[Path, int]:
    """The empty temporary file of `path`, held until its descriptor is closed.

    Another writer of the same path waits; what a killed one left is taken over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # which raises if the name is too long
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_symlink() or (path.exists() and not path.is_file()):  # of a device, say
        raise FileExistsError(errno.EEXIST, "is a link or no regular file", str(path))
    partial = beside(path, PARTIAL)
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with suppress(OSError):  # of a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(partial)):
                os.ftruncate(file, 0)
                return partial, file
        os.close(file)  # the one who held it has renamed it


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place if the block ends without an error.

    The folders above are made. After an error the temporary file is removed and an earlier file at
    `path` is as it was. An OSError, such as of a full disk, names `path`.
    """
    path = Path(path)
    try:
        partial, file = _claim(path)
        try:
            yield partial
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(beside(path, PARTIAL))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(*paths: str | Path) -> None:
    """Refuse files that could not be written, before the work whose result they are to hold.

    An earlier file stays as it is, and a folder for it is made and removed again; those above that
    one are left. Raises OSError naming the file.
    """
    for path in map(Path, paths):
        try:
            there = path.parent.exists()
            partial, file = _claim(path)
            partial.unlink()
            os.close(file)
            if not there:
                path.parent.rmdir()
        except OSError as error:
            raise type(error)(f"{path} cannot be written: {error.strerror}") from error


def check_ours(path: Path, start: str) -> None:
    """Raise FileExistsError if a file is there that does not begin with `start`, as ours do."""
    with suppress(FileNotFoundError, IsADirectoryError), open(path, "rb") as file:
        begin = file.read(len(start.encode()))
        if begin and begin != start.encode():
            raise FileExistsError(f"{path} was not made by wsol: move it, or name another folder")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with \\n line ends, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def read_csv(path: str | Path, dtype: str | dict[str, str] = "str") -> pd.DataFrame:
    """Read a CSV table of UTF-8. Raises ValueError, which names the file, if it is none."""
    try:  # a class may be called "null" or "nan"
        table = pd.read_csv(path, dtype=dtype, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first fields as names
        raise ValueError(f"{path}: cannot be read: the lines have more fields than the header")
    return table


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError, which names the file, if it is none."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a JSON object is expected, not {type(content).__name__}")
    return content


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV without its index; the same table always gives the same bytes."""
    with written_whole(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def file_sha256(path: str | Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def is_made(folder: Path) -> bool:
    """Whether a folder has the marker `MADE`."""
    return (folder / MADE).is_file()


def is_unchanged(folder: Path) -> bool:
    """Whether a folder with the marker `MADE` holds exactly what it held when it was written."""
    return is_made(folder) and (folder / MADE).read_text("utf-8") == _contents(folder)


def _contents(folder: Path) -> str:
    # Hidden files are a system's, such as .DS_Store.
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return "".join(f"{file_sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files)


def check_replaceable(folder: Path, ours: Callable[[Path], bool] = is_made) -> None:
    """Raise FileExistsError if a folder is not empty and `ours` does not know it as made here.

    A link may be replaced: what it leads to stays.
    """
    if folder.is_symlink() or not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not ours(folder)):
        raise FileExistsError(
            f"{folder} is there already and was not made by wsol, or holds files of others: "
            "remove it, or name another folder"
        )


def remove_made(folder: Path) -> None:
    """Delete a folder that has the marker `MADE` or is empty.

    Raises FileExistsError if it is another one.
    """
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a link: remove it, or name another folder")
    check_replaceable(folder)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name != MADE:  # the proof goes last: a deletion that is killed is done again
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def new_folder(folder: Path) -> Path:
    """An empty folder with the marker `MADE`, in place of an earlier one of the same kind."""
    remove_made(folder)
    folder.mkdir(parents=True)
    (folder / MADE).touch()
    return folder


def replace_folder(
    new: Path, out: Path, ours: Callable[[Path], bool] = is_made, *, marked: bool = False
) -> None:
    """Put a complete folder in the place of an older one; at no moment are both gone.

    new : of `new_folder`; it may be on another disk
    ours : tells whether the folder in `out` was made here; only then it is deleted. A symbolic link
        at `out` is replaced, not followed.
    marked : leave the marker in it, with the digests of its files, see `is_unchanged`

    Raises FileExistsError, before anything changes, if there is a folder that was not made here.
    """
    check_replaceable(out, ours)
    old, finished = beside(out, ".old"), beside(out, ".new")
    remove_made(old)
    remove_made(finished)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.rename(finished)
    except OSError:  # another disk
        shutil.copytree(new, new_folder(finished), symlinks=True, dirs_exist_ok=True)
        remove_made(new)
    if out.is_symlink():
        out.unlink()
    elif out.exists():
        (out / MADE).touch()
        out.rename(old)
    if marked:
        (finished / MADE).write_text(_contents(finished), "utf-8")
    finished.rename(out)
    if not marked:
        (out / MADE).unlink()
    remove_made(old)


@contextmanager
def written_folder(
    out: str | Path, ours: Callable[[Path], bool] = is_made, *, marked: bool = False
) -> Iterator[Path]:
    """An empty folder beside `out` that takes its place if the block ends without an error.

    `ours` and `marked` are those of `replace_folder`. Another writer of `out` waits. Raises
    FileExistsError, before the block, if `out` is a folder that was not made here.
    """
    out = Path(out)
    with locked(beside(out, LOCK)):
        check_replaceable(out, ours)
        new = new_folder(beside(out, PARTIAL))
        try:
            yield new
            replace_folder(new, out, ours, marked=marked)
        except BaseException:
            with suppress(OSError):
                remove_made(new)
            raise


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file that ends with its process and is removed afterwards.

    timeout : seconds to wait, -1 for ever; then filelock.Timeout is raised

    Whoever waited must look whether the work is done already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
