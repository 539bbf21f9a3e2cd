"""Check the archives of CUB-200-2011 and ILSVRC 2012, and unpack them as their authors pack them.

An archive is compared with its published size and MD5, which is kept in a memo: 138 GB take
minutes. MD5 detects a damaged download, not a forged archive, so members are not trusted: only
regular files with the names that the authors use are unpacked, within limits of size. Unpacking
resumes: a file that has its size already is left as it is.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wsol.datasets.checks import DatasetError, raise_errors, read_lines
from wsol.datasets.files import written_whole
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES
from wsol.datasets.memo import Memo
from wsol.datasets.progress import ProgressBar
from wsol.datasets.sources import Source

CUB, MASKS = "CUB_200_2011.tgz", "segmentations.tgz"
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
BOXES = "ILSVRC2012_bbox_val_v3.tgz"
BLOCK = 512  # bytes; a tar ends with two blocks of zeros

# Names of the files to unpack; the group is the path below the target.
CUB_FILES = (
    r"CUB_200_2011/(README|[a-z_]+\.txt|(?:parts|attributes)/[a-z_]+\.txt"
    r"|images/\d{3}\.[^/]+/[^/.][^/]*\.jpg)"
)
CUB_MASKS = r"(segmentations/\d{3}\.[^/]+/[^/.][^/]*\.png)"
SYNSET, VAL_IMAGE = r"(n\d{8})\.tar", r"(ILSVRC2012_val_\d{8}\.JPEG)"
VAL_BOXES = r"(?:val/)?(ILSVRC2012_val_\d{8}\.xml)"
# Files to skip: what macOS adds to archives, and a list of attributes beside CUB's folder.
SKIPPED = re.compile(r"(?:.*/)?\._[^/]*|(?:.*/)?\.DS_Store|attributes\.txt")


@dataclass(frozen=True)
class Limits:
    """Largest size of one file, of the archive of one class, and of all files together, in bytes.

    All of ILSVRC 2012 is about 145 GB in 1.3 million files.
    """

    file: int = 2**26
    synset: int = 2**31
    total: int = 2**38


# 12,000 images and a list of attributes of 3.7 million lines, 1.5 GB in all.
CUB_LIMITS = Limits(file=2**28, total=2**33)


@dataclass
class Unpacked:
    """Numbers of files that were written and that were there already, bytes, and errors."""

    limits: Limits
    written: int = 0
    kept: int = 0
    size: int = 0
    errors: list[str] = field(default_factory=list)

    def members(
        self, archive: tarfile.TarFile, where: str, pattern: str, limit: int
    ) -> Iterator[tuple[tarfile.TarInfo, str]]:
        """The acceptable members of an archive with their path below the target."""
        accepted: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir() or (member.isreg() and SKIPPED.fullmatch(name)):
                continue
            match = re.fullmatch(pattern, name)
            refusal = _refusal(member, match, limit)
            if refusal is None and match[1] in accepted:
                refusal = "is there twice"
            if refusal is None:
                accepted[match[1]] = member
            else:
                self.errors.append(f"{where}: member {name!r} {refusal}")
        # tarfile takes a damaged header for the end of the archive, which is a block of zeros.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(BLOCK) != bytes(BLOCK):
            self.errors.append(f"{where}: truncated or damaged after {archive.offset} bytes")
        shown = ProgressBar(accepted.items(), Path(where).name, unit="file", leave=False, delay=2)
        return ((member, path) for path, member in shown)

    def write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        """Write one member, unless it is there with its size."""
        self.size += member.size
        if self.size > self.limits.total:
            reason = f"{path}: more than {self.limits.total} bytes in all"
            raise DatasetError([*self.errors, reason])
        if path.is_file() and path.stat().st_size == member.size:
            self.kept += 1
            return
        with written_whole(path) as partial, partial.open("wb") as target:
            shutil.copyfileobj(archive.extractfile(member), target)
        self.written += 1

    @contextmanager
    def damage_noted(self, where: str) -> Iterator[None]:
        """A damaged archive is an error and does not stop the others."""
        try:
            yield
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            self.errors.append(f"{where}: not unpacked to its end: {error}")


def _refusal(member: tarfile.TarInfo, match: re.Match | None, limit: int) -> str | None:
    try:
        tarfile.data_filter(member, "/target")  # links, devices, paths that lead out
    except tarfile.FilterError as error:
        return f"is refused: {error}"
    if not member.isreg() or member.issparse():
        return "is no regular file"
    if match is None:
        return "has an unexpected name"
    return f"has {member.size} bytes, more than {limit}" if member.size > limit else None


def _unpack_tar(path: Path, folder: Path, pattern: str, done: Unpacked) -> None:
    with tarfile.open(path, "r:*") as archive:
        for member, name in done.members(archive, str(path), pattern, done.limits.file):
            done.write(archive, member, folder / name)


def _unpack_train(path: Path, folder: Path, pattern: str, done: Unpacked) -> None:
    with tarfile.open(path, "r:") as archive:
        for synset, wnid in done.members(archive, str(path), pattern, done.limits.synset):
            where, images = f"{path}/{synset.name}", rf"({wnid}_\d+\.JPEG)"
            with (
                done.damage_noted(where),
                tarfile.open(fileobj=archive.extractfile(synset), mode="r:") as inner,
            ):
                for member, name in done.members(inner, where, images, done.limits.file):
                    done.write(inner, member, folder / wnid / name)


def _unpack(
    archives: str | Path, steps: Mapping[str, tuple[Callable, Path, str]], limits: Limits
) -> Unpacked:
    archives, done = Path(archives), Unpacked(limits)
    present = [name for name in steps if (archives / name).is_file()]
    if not present:
        raise DatasetError([f"{archives}: none of the archives {', '.join(steps)} is here"])
    for name in present:
        unpack, folder, pattern = steps[name]
        with done.damage_noted(str(archives / name)):
            unpack(archives / name, folder, pattern, done)
    raise_errors(done.errors)
    return done


def unpack_cub(archives: str | Path, root: str | Path, limits: Limits = CUB_LIMITS) -> Unpacked:
    """Unpack the archive of CUB-200-2011, and that of its masks if it is there, into `root`.

    Raises DatasetError with everything that was refused, once the rest is unpacked; at once if the
    files are more than `limits.total` bytes, or if there is no archive.
    """
    root = Path(root)
    steps = {CUB: (_unpack_tar, root, CUB_FILES), MASKS: (_unpack_tar, root, CUB_MASKS)}
    return _unpack(archives, steps, limits)


def unpack_ilsvrc(archives: str | Path, root: str | Path, limits: Limits | None = None) -> Unpacked:
    """Unpack those of the three archives that are in a folder into root/ILSVRC.

    Raises as `unpack_cub` does.
    """
    images, annotations = Path(root) / IMAGES, Path(root) / ANNOTATIONS
    steps = {
        TRAIN: (_unpack_train, images / "train", SYNSET),
        VAL: (_unpack_tar, images / "val", VAL_IMAGE),
        BOXES: (_unpack_tar, annotations / "val", VAL_BOXES),
    }
    return _unpack(archives, steps, limits or Limits())


def md5_of(path: Path, memo: Path | None = None) -> str:
    """Hexadecimal MD5 of a file, from the memo if the file has not changed."""
    with Memo(memo) as known, path.open("rb") as file:
        state = known.state(path)
        if (value := known.get("md5", state)) is None:
            bar = dict(total=path.stat().st_size, unit="B", unit_scale=True, leave=False, delay=2)
            digest = hashlib.md5(usedforsecurity=False)
            with ProgressBar.wrapattr(file, "read", desc=path.name, **bar) as shown:
                while chunk := shown.read(2**20):
                    digest.update(chunk)
            value = digest.hexdigest()
            known.put("md5", state, value)
        return value


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, of a file as md5sum writes it: '<32 hexadecimal digits>  <name>'.

    Raises DatasetError with all lines that are not of this form.
    """
    errors: list[str] = []
    pattern = r"(?P<md5>[0-9a-fA-F]{32}) [ *]?(?P<name>.+)"
    table = read_lines(path, pattern, "<MD5>  <name>", errors)
    raise_errors(errors)
    return dict(zip(table["name"], table["md5"].str.lower(), strict=True))


def check_archives(
    folder: Path,
    sources: Mapping[str, Source],
    memo: Path | None = None,
    checksums: Path | None = None,
) -> list[Path]:
    """The archives of a data set that are in a folder, checked by size and MD5.

    sources : published archives by name, see `sources.published`
    memo : file that keeps the MD5s
    checksums : file of md5sum to compare with instead of the published sizes and MD5s

    Raises DatasetError with every archive that differs.
    """
    present = [folder / name for name in sources if (folder / name).is_file()]
    own = None if checksums is None else read_checksums(checksums)
    errors = []
    for path in present:
        source = sources[path.name]
        size, md5 = (source.size, source.md5) if own is None else (None, own.get(path.name))
        if md5 is None:
            errors.append(f"{path}: its checksum is unknown, so it cannot be checked")
        elif size not in (None, path.stat().st_size):
            errors.append(f"{path}: has {path.stat().st_size:,} bytes, and {size:,} are published")
        elif (actual := md5_of(path, memo)) != md5:
            errors.append(f"{path}: has the MD5 {actual}, not {md5}: download it again")
    raise_errors(errors)
    return present
