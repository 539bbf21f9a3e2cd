"""From the user's CUB-200-2011, ILSVRC or OpenImages30k to a folder that the notebooks work in.

Such a folder holds index.csv, whose paths start from it, and for OpenImages masks/, one mask per
image. Beside them lie what can be interrupted and goes on where it stopped: the MD5s of the
archives, and the journal of the images that decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from wsol.datasets.archives import Unpacked
from wsol.datasets.checksums import check_archives
from wsol.datasets.cub import read_cub
from wsol.datasets.ilsvrc import read_ilsvrc
from wsol.datasets.image_check import JOURNAL, ImageCheck
from wsol.datasets.openimages import read_openimages
from wsol.datasets.outcome import faults_kept, index_or_faults
from wsol.datasets.sources import published
from wsol.datasets.unpack import unpack_cub, unpack_ilsvrc

MASKS = "masks"  # folder of united masks in a prepared folder
MEMORY = "archives.json"  # the MD5s that were worked out

UNPACK = {"cub": unpack_cub, "ilsvrc": unpack_ilsvrc}
KINDS = (*UNPACK, "openimages")


@dataclass(frozen=True)
class Plan:
    """One data set to prepare.

    kind : "cub", "ilsvrc" or "openimages"
    raw : folder of the data set
    out : folder to prepare, the notebooks' parameter `data`
    fullsup : metadata of `train-fullsup`; those of CUB and ILSVRC are data sets of their own
    fullsup_images : its images, by default fullsup/images
    metadata : text files of OpenImages30k, by default raw/metadata
    archives : folder of archives to unpack into raw
    checksums : file of md5sum for archives that are not the published ones
    check : how images are looked at; without a journal of its own, out/images.jsonl is used
    """

    kind: str
    raw: Path
    out: Path
    fullsup: Path | None = None
    fullsup_images: Path | None = None
    metadata: Path | None = None
    archives: Path | None = None
    checksums: Path | None = None
    check: ImageCheck = field(default_factory=ImageCheck)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; there are {', '.join(KINDS)}")
        if self.archives and self.kind not in UNPACK:
            raise ValueError(f"the archives of {self.kind} have no published checksum: unpack them")
        if self.check.journal is None:
            check = replace(self.check, journal=self.out / JOURNAL)
            object.__setattr__(self, "check", check)

    def has_archives(self) -> bool:
        """Whether an archive of the data set lies in the folder of archives."""
        names = published(self.kind) if self.archives else ()
        return any((self.archives / name).is_file() for name in names)


def unpack(plan: Plan) -> Unpacked:
    """Check the archives of a plan and unpack them into its raw folder; other files stay there.

    Raises DatasetError, and writes out/faults.csv, if an archive is not what it should be: then
    nothing is unpacked.
    """
    with faults_kept(plan.out):
        check_archives(
            plan.archives, published(plan.kind), plan.out / MEMORY, checksums=plan.checksums
        )
        return UNPACK[plan.kind](plan.archives, plan.raw)


def prepare(plan: Plan) -> pd.DataFrame:
    """Check a data set and write out/index.csv, or out/faults.csv; returns the table of faults."""
    return index_or_faults(lambda: _read(plan), plan.raw, plan.out)


def _read(plan: Plan) -> pd.DataFrame:
    """The index table of a data set, paths from its folder."""
    if plan.kind == "openimages":
        metadata = plan.metadata or plan.raw / "metadata"
        return read_openimages(plan.raw, metadata, plan.out / MASKS, plan.check)
    read = {"cub": read_cub, "ilsvrc": read_ilsvrc}[plan.kind]
    return read(plan.raw, plan.fullsup, plan.check, plan.fullsup_images)
