"""Unpacking archives of strangers: nothing leaves the target, nothing is left half written.

A member is written only if it is a plain file, of a bounded size, whose name is of the form that
its data set's authors use; what is refused is a fault, and the rest is unpacked all the same. A
file appears under its name only when it is complete, and one that is there already with the right
size is passed over, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

from wsol.datasets.faults import DatasetError, parse_path

BLOCK = 512  # bytes; a tar ends with two blocks of zeros
BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)  # what a damaged archive may raise


@dataclass(frozen=True)
class Limits:
    """Most bytes of one file, of the archive of one class, and of all files together.

    All of ILSVRC 2012 is about 145 GB in 1.3 million files.
    """

    file: int = 2**26
    synset: int = 2**31
    total: int = 2**38


@dataclass
class Unpacked:
    """How many files were written and how many were there already; bytes seen; what was refused."""

    written: int = 0
    kept: int = 0
    seen: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """The names that the authors of a data set give its files.

    pattern : of the files to unpack; its one group is their path below the target
    authors : whose names they are, for the message of a refusal
    passed : of plain files that are in the archive and of no use, neither unpacked nor a fault
    """

    pattern: re.Pattern
    authors: str
    passed: re.Pattern | None = None

    def refusal(self, member: tarfile.TarInfo, name: str, limit: int) -> str | None:
        """Why a member is not unpacked, if so."""
        try:
            parse_path(name)
        except ValueError:
            return "leads out of the target"
        if not member.isreg() or member.issparse():
            return "is no plain file"
        if not self.pattern.fullmatch(name):
            return f"is not named as {self.authors} names its files"
        if member.size > limit:
            return f"has {member.size} bytes, more than {limit}"
        return None

    def passes_over(self, member: tarfile.TarInfo, name: str) -> bool:
        """Whether a member is left alone: a folder, or a file that is of no use."""
        if member.isdir():
            return True
        return bool(member.isreg() and self.passed and self.passed.fullmatch(name))


def members(
    archive: tarfile.TarFile, where: str, names: Names, limit: int, done: Unpacked
) -> list[tuple[tarfile.TarInfo, str]]:
    """The acceptable members of an archive with the part of their name that the pattern keeps."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        name = member.name.removeprefix("./")
        if names.passes_over(member, name):
            continue
        fault = names.refusal(member, name, limit)
        kept = "" if fault else names.pattern.fullmatch(name)[1]
        if fault or kept in found:
            done.faults.append(f"{where}: member {name!r} {fault or 'comes more than once'}")
            continue
        found[kept] = member
    _check_end(archive, where, done)
    return [(member, name) for name, member in found.items()]


def _check_end(archive: tarfile.TarFile, where: str, done: Unpacked) -> None:
    """tarfile takes a damaged header for the end of the archive; the true end is a block of 0."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(BLOCK) != bytes(BLOCK):
        done.faults.append(f"{where}: truncated or damaged after {archive.offset} bytes")


def write(source: BinaryIO, size: int, path: Path, limits: Limits, done: Unpacked) -> None:
    """Write one file, unless it is there already, under a name of its own until it is complete."""
    done.seen += size
    if done.seen > limits.total:
        raise DatasetError([*done.faults, f"{path}: more than {limits.total} bytes in all"])
    if path.is_file() and path.stat().st_size == size:
        done.kept += 1
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    done.written += 1


def unpack_tar(path: Path, folder: Path, names: Names, limits: Limits, done: Unpacked) -> None:
    """Unpack a tar, compressed or not, below a folder."""
    with tarfile.open(path, "r:*") as archive:
        found = members(archive, str(path), names, limits.file, done)
        for member, name in tqdm(found, path.name, unit="file", leave=False, delay=2):
            write(archive.extractfile(member), member.size, folder / name, limits, done)


Step = Callable[[Path, Path, Limits, Unpacked], None]  # an archive, the root of the data set, ...


def unpack_present(
    archives: str | Path, root: str | Path, steps: Mapping[str, Step], limits: Limits | None
) -> Unpacked:
    """Unpack those of the named archives that lie in a folder into the root of the data set.

    Raises DatasetError with everything that was refused, once all the rest is unpacked, or at once
    when the files are more than `limits.total` bytes together, or when there is no archive.
    """
    archives, root, limits, done = Path(archives), Path(root), limits or Limits(), Unpacked()
    present = [name for name in steps if (archives / name).is_file()]
    if not present:
        raise DatasetError([f"{archives}: none of the archives {', '.join(steps)} is here"])
    for name in present:
        try:
            steps[name](archives / name, root, limits, done)
        except BROKEN as error:
            done.faults.append(f"{archives / name}: not unpacked to its end: {error}")
    if done.faults:
        raise DatasetError(done.faults)
    return done
