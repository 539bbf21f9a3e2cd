"""Whether an archive is the one that its authors published, by its size and its MD5.

The MD5 of an archive that has not changed is not worked out again (138 GB take minutes): it is kept
in a small file elsewhere, with the archive's size and time. MD5 tells a damaged download; it is no
defence against a forged archive, which `archives` is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

from wsol.datasets.checks import DatasetError, parse_path
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES
from wsol.datasets.sources import Source

# Unpacking archives of strangers: nothing leaves the target, nothing is left half written.

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


# Unpacking the archives of CUB-200-2011 and of ILSVRC 2012 as their authors pack them.

CUB, MASKS = "CUB_200_2011.tgz", "segmentations.tgz"
TRAIN, VAL, BOXES = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_bbox_val_v3.tgz",
)

# What macOS adds to archives, and a list of attributes beside CUB's folder.
PASSED = re.compile(r"(?:.*/)?\._[^/]*|(?:.*/)?\.DS_Store|attributes\.txt")
CUB_FILES = Names(
    re.compile(
        r"CUB_200_2011/(README|[a-z_]+\.txt|(?:parts|attributes)/[a-z_]+\.txt"
        r"|images/\d{3}\.[^/]+/[^/.][^/]*\.jpg)"
    ),
    "CUB-200-2011",
    PASSED,
)
# 12,000 images and a list of attributes of 3.7 million lines, 1.5 GB in all.
CUB_LIMITS = Limits(file=2**28, total=2**33)
CUB_MASKS = Names(
    re.compile(r"(segmentations/\d{3}\.[^/]+/[^/.][^/]*\.png)"), "CUB-200-2011", PASSED
)
SYNSET = Names(re.compile(r"(n\d{8})\.tar"), "ILSVRC")
VAL_IMAGE = Names(re.compile(r"(ILSVRC2012_val_\d{8}\.JPEG)"), "ILSVRC")
VAL_BOXES = Names(re.compile(r"(?:val/)?(ILSVRC2012_val_\d{8}\.xml)"), "ILSVRC")


def unpack_cub(archives: str | Path, root: str | Path, limits: Limits | None = None) -> Unpacked:
    """Unpack the archive of CUB-200-2011, and that of its masks, from a folder into `root`.

    `root` holds images.txt and images/ then, and segmentations/. Raises as `unpack_present` does.
    """
    steps = {
        CUB: lambda path, root, *more: unpack_tar(path, root, CUB_FILES, *more),
        MASKS: lambda path, root, *more: unpack_tar(path, root, CUB_MASKS, *more),
    }
    return unpack_present(archives, root, steps, limits or CUB_LIMITS)


def unpack_ilsvrc(archives: str | Path, root: str | Path, limits: Limits | None = None) -> Unpacked:
    """Unpack those of the three archives that lie in a folder into root/ILSVRC.

    Raises as `unpack_present` does.
    """

    def val(path: Path, root: Path, *more) -> None:
        unpack_tar(path, root / IMAGES / "val", VAL_IMAGE, *more)

    def boxes(path: Path, root: Path, *more) -> None:
        unpack_tar(path, root / ANNOTATIONS / "val", VAL_BOXES, *more)

    return unpack_present(archives, root, {TRAIN: _unpack_train, VAL: val, BOXES: boxes}, limits)


def _unpack_train(path: Path, root: Path, limits: Limits, done: Unpacked) -> None:
    """Each class's archive is opened inside the large one; a bad one does not stop the others."""
    folder = root / IMAGES / "train"
    with tarfile.open(path, "r:") as archive:
        found = members(archive, str(path), SYNSET, limits.synset, done)
        for synset, wnid in tqdm(found, path.name, unit="class", leave=False, delay=2):
            where = f"{path}/{synset.name}"
            names = Names(re.compile(rf"({wnid}_\d+\.JPEG)"), "ILSVRC")
            try:
                with tarfile.open(fileobj=archive.extractfile(synset), mode="r:") as inner:
                    for member, name in members(inner, where, names, limits.file, done):
                        source = inner.extractfile(member)
                        write(source, member.size, folder / wnid / name, limits, done)
            except (tarfile.TarError, EOFError) as error:
                done.faults.append(f"{where}: not unpacked to its end: {error}")


CHUNK = 2**20  # bytes read at a time


def md5_of(path: Path, memory: Path | None = None) -> str:
    """MD5 of a file, in hexadecimal, with a progress bar if it takes long.

    `memory` is the file that keeps what was worked out, written anew after each file.
    """
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    kept = _kept(memory)
    entry = kept.get(os.path.abspath(path))
    if entry and entry[:2] == state:
        return entry[2]
    digest = hashlib.md5(usedforsecurity=False)
    bar = tqdm(desc=path.name, total=stat.st_size, unit="B", unit_scale=True, delay=2, leave=False)
    with path.open("rb") as file, bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if memory is not None:
        _keep(memory, kept | {os.path.abspath(path): [*state, digest.hexdigest()]})
    return digest.hexdigest()


def _kept(memory: Path | None) -> dict[str, list]:
    """What was worked out before; nothing if the file is not what was written here."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(memory: Path, content: dict[str, list]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    partial = memory.with_name(memory.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")
    partial.replace(memory)


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, of a file as md5sum writes it: '<32 hexadecimal digits>  <name>'.

    Raises DatasetError with all lines that are not of this form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError([f"{path}: cannot be read: {error}"]) from error
    found, faults = {}, []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        digest, _, name = line.strip().partition(" ")
        if len(digest) != 32 or set(digest.lower()) - set("0123456789abcdef") or not name.strip():
            faults.append(f"{path}:{number}: malformed line {line!r}, expected '<MD5>  <name>'")
        found[name.strip().removeprefix("*")] = digest.lower()
    if faults:
        raise DatasetError(faults)
    return found


def check_archives(
    folder: Path,
    sources: Mapping[str, Source],
    memory: Path | None = None,
    checksums: Path | None = None,
) -> list[Path]:
    """The archives of a data set that are in a folder, each of which is what it should be.

    sources : published archives by name, see `sources.published`
    memory : file that keeps the MD5s that were worked out
    checksums : file of other MD5s that they must have instead of the published ones

    Raises DatasetError with every archive that is another, with what was expected and what found.
    """
    present = [folder / name for name in sources if (folder / name).is_file()]
    sizes = {} if checksums else {name: source.size for name, source in sources.items()}
    expected = {name: source.md5 for name, source in sources.items()}
    if checksums is not None:
        expected = read_checksums(checksums)
    faults = list(_faults(present, sizes, expected, memory))
    if faults:
        raise DatasetError(faults)
    return present


def _faults(
    present: Iterable[Path],
    sizes: Mapping[str, int | None],
    expected: Mapping[str, str],
    memory: Path | None,
) -> Iterable[str]:
    for path in present:
        size, md5 = sizes.get(path.name), expected.get(path.name)
        if md5 is None:
            yield f"{path}: its checksum is unknown, so that it cannot be told to be whole"
        elif size not in (None, path.stat().st_size):
            yield f"{path}: has {path.stat().st_size:,} bytes, and {size:,} are published"
        elif (found := md5_of(path, memory)) != md5:
            yield f"{path}: has the MD5 {found}, and {md5} was expected: download it again"
