"""Unpacking the archives of CUB-200-2011 and of ILSVRC 2012 as their authors pack them.

    CUB_200_2011.tgz              CUB_200_2011/: five text files, images/, attributes/, parts/
    segmentations.tgz             segmentations/<class>/*.png, the masks of CUB-200-2011

    ILSVRC2012_img_train.tar      a tar of 1,000 tars, one per class
    ILSVRC2012_img_val.tar        the images of `val`
    ILSVRC2012_bbox_val_v3.tgz    val/*.xml, their annotations

into the layouts that `cub` and `ilsvrc` read. An archive within an archive is read where it lies.
What is accepted and how it is written is in `archives`.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from tqdm.auto import tqdm

from wsol.datasets.archives import (
    Limits,
    Names,
    Unpacked,
    members,
    unpack_present,
    unpack_tar,
    write,
)
from wsol.datasets.ilsvrc import ANNOTATIONS, IMAGES

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
