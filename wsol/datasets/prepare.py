"""A folder that the notebooks can work in, for the drawn birds.

It holds index.csv, whose paths start from it, and background/, a set with a manifest. Those of real
data sets are made by `prepare_real`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from wsol.datasets.archives import Unpacked, check_archives, unpack_cub, unpack_ilsvrc
from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.checks import JOURNAL, DatasetError, ImageCheck
from wsol.datasets.cub import read_cub
from wsol.datasets.ilsvrc import read_ilsvrc
from wsol.datasets.index import INDEX, SPLITS, parse_boxes, read_index, write_index
from wsol.datasets.metadata import write_rebased
from wsol.datasets.openimages import read_openimages
from wsol.datasets.sources import published

# What the preparation of a data set leaves: index.csv if it is sound, otherwise faults.csv.

FAULTS = "faults.csv"
COLUMNS = ("place", "fault")


def fault_table(faults: Sequence[str]) -> pd.DataFrame:
    """Faults as a table: place, a file or file:line, and fault, what is wrong there."""
    rows = [re.fullmatch(r"(?:(.*?): )?(.*)", fault, re.DOTALL).groups("") for fault in faults]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


def _write_faults(faults: Sequence[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    fault_table(faults).to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    partial.replace(path)


@contextmanager
def faults_kept(out: Path) -> Iterator[None]:
    """Write out/faults.csv when a DatasetError passes, and remove an earlier one otherwise."""
    path = Path(out) / FAULTS
    try:
        yield
    except DatasetError as error:
        _write_faults(error.faults, path)
        error.table = path
        raise
    path.unlink(missing_ok=True)


def index_or_faults(read: Callable[[], pd.DataFrame], raw: Path, out: Path) -> pd.DataFrame:
    """Write out/index.csv, or out/faults.csv if `read` raises DatasetError.

    read : gives an index table whose paths start from `raw`; in out/index.csv they start from `out`

    Returns the table of the faults, without rows if there are none; an earlier index.csv stays
    when there are some.
    """
    try:
        with faults_kept(out):
            write_rebased(read(), Path(raw), Path(out))
    except DatasetError as error:
        return fault_table(error.faults)
    return fault_table([])


def prepared_index(out: Path) -> pd.DataFrame:
    """The index table of a prepared folder. Raises DatasetError if its data set has faults."""
    path = Path(out) / FAULTS
    if path.is_file():
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8")
        raise DatasetError([": ".join(filter(None, row)) for row in table.to_numpy()], path)
    return read_index(Path(out) / INDEX)


def counts(index: pd.DataFrame) -> pd.DataFrame:
    """Per split: images, classes, boxes, most boxes of an image, masks; sizes in pixels."""
    boxes = index["boxes"].map(lambda text: len(parse_boxes(text)))
    splits = index.assign(boxes=boxes, mask=index["mask"] != "").groupby("split")
    table = splits.agg(
        images=("image_id", "size"),
        classes=("label", "nunique"),
        boxes=("boxes", "sum"),
        most_boxes=("boxes", "max"),
        masks=("mask", "sum"),
        min_width=("width", "min"),
        max_width=("width", "max"),
    )
    return _in_order(table)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the splits that there are, in the order in which they are used."""
    return table.loc[[split for split in SPLITS if split in table.index]]


def boxes_per_image(index: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """Images of each split by their number of boxes, those with `most` or more together."""
    numbers = index["boxes"].map(lambda text: len(parse_boxes(text)))
    names = numbers.map(lambda n: f"{most} or more" if n >= most else str(n))
    return _in_order(pd.crosstab(index["split"], names.rename("boxes")))


# From the user's CUB-200-2011, ILSVRC or OpenImages30k to a folder that the notebooks work in.

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


RECORD = "birds.json"  # what was drawn; marks a folder as ours to replace


def prepare_birds(root: str | Path, config: BirdsConfig, workers: int = 2) -> pd.DataFrame:
    """Draw birds and background set into `root`, check both, write and return the index table.

    An earlier drawing in `root` is replaced, and only when the new one is complete.

    Raises FileExistsError if `root` holds anything else, DatasetError if the check finds faults.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()) and not (root / RECORD).is_file():
        raise FileExistsError(f"{root} is not empty and no drawing of birds: name another folder")
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    draw_birds(partial, config, workers)
    read_background_set(partial / "background")
    index = read_cub(partial, partial / "fullsup")
    write_index(index, partial / INDEX)
    record = json.dumps(asdict(config), indent=2, sort_keys=True) + "\n"
    (partial / RECORD).write_text(record, encoding="utf-8", newline="\n")
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)
    return index
