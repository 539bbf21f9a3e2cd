"""Unpacking the archives of ILSVRC 2012 as its authors pack them, into the layout of `ilsvrc`.

    ILSVRC2012_img_train.tar      a tar of 1,000 tars, one per class
    ILSVRC2012_img_val.tar        the images of `val`
    ILSVRC2012_bbox_val_v3.tgz    val/*.xml, their annotations

An archive is a stranger's: a member is written only if it is a plain file whose name is the very
one that ILSVRC gives its files, and of a bounded size, so that nothing can leave the target. The
archive within the archive is read where it lies. A file appears under its name only when it is
complete, and one that is there already with the right size is passed over, so that an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from wsol.datasets.faults import DatasetError, parse_path
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES

TRAIN, VAL, BOXES = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_bbox_val_v3.tgz",
)
SYNSET = re.compile(r"(n\d{8})\.tar")
VAL_IMAGE = re.compile(r"(ILSVRC2012_val_\d{8}\.JPEG)")
VAL_BOXES = re.compile(r"(?:val/)?(ILSVRC2012_val_\d{8}\.xml)")
BLOCK = 512  # bytes; a tar ends with two blocks of zeros


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


def _refusal(member: tarfile.TarInfo, name: str, pattern: re.Pattern, limit: int) -> str | None:
    """Why a member is not unpacked, if so."""
    try:
        parse_path(name)
    except ValueError:
        return "leads out of the target"
    if not member.isreg() or member.issparse():
        return "is no plain file"
    if not pattern.fullmatch(name):
        return "is not named as ILSVRC names its files"
    if member.size > limit:
        return f"has {member.size} bytes, more than {limit}"
    return None


def _members(
    archive: tarfile.TarFile, where: str, pattern: re.Pattern, limit: int, done: Unpacked
) -> list[tuple[tarfile.TarInfo, str]]:
    """The acceptable members of an archive with the part of their name that the pattern keeps."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if member.isdir():
            continue
        name = member.name.removeprefix("./")
        fault = _refusal(member, name, pattern, limit)
        kept = "" if fault else pattern.fullmatch(name)[1]
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


def _write(source: BinaryIO, size: int, path: Path, limits: Limits, done: Unpacked) -> None:
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


def _unpack_flat(
    path: Path, folder: Path, pattern: re.Pattern, limits: Limits, done: Unpacked
) -> None:
    with tarfile.open(path, "r:*") as archive:
        for member, name in _members(archive, str(path), pattern, limits.file, done):
            _write(archive.extractfile(member), member.size, folder / name, limits, done)


def _unpack_train(path: Path, folder: Path, limits: Limits, done: Unpacked) -> None:
    """Each class's archive is opened inside the large one; a bad one does not stop the others."""
    with tarfile.open(path, "r:") as archive:
        for synset, wnid in _members(archive, str(path), SYNSET, limits.synset, done):
            where, image = f"{path}/{synset.name}", re.compile(rf"({wnid}_\d+\.JPEG)")
            try:
                with tarfile.open(fileobj=archive.extractfile(synset), mode="r:") as inner:
                    for member, name in _members(inner, where, image, limits.file, done):
                        source = inner.extractfile(member)
                        _write(source, member.size, folder / wnid / name, limits, done)
            except (tarfile.TarError, EOFError) as error:
                done.faults.append(f"{where}: not unpacked to its end: {error}")


def unpack_ilsvrc(archives: str | Path, root: str | Path, limits: Limits | None = None) -> Unpacked:
    """Unpack those of the three archives that lie in a folder into root/ILSVRC.

    Raises DatasetError with everything that was refused, once all the rest is unpacked, or at once
    when the files are more than `limits.total` bytes together.
    """
    archives, root, limits, done = Path(archives), Path(root), limits or Limits(), Unpacked()
    steps = {
        TRAIN: lambda path: _unpack_train(path, root / IMAGES / "train", limits, done),
        VAL: lambda path: _unpack_flat(path, root / IMAGES / "val", VAL_IMAGE, limits, done),
        BOXES: lambda path: _unpack_flat(path, root / ANNOTATIONS / "val", VAL_BOXES, limits, done),
    }
    present = [name for name in steps if (archives / name).is_file()]
    if not present:
        raise DatasetError([f"{archives}: none of the archives {', '.join(steps)} is here"])
    for name in present:
        try:
            steps[name](archives / name)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            done.faults.append(f"{archives / name}: not unpacked to its end: {error}")
    if done.faults:
        raise DatasetError(done.faults)
    return done
