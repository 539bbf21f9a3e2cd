"""Prepare a data set: a folder that the notebooks can work in, with index.csv or errors.csv.

`prepare` does it for CUB-200-2011, ILSVRC, OpenImages30k and any folder of images, `prepare_birds`
for the drawn birds. The paths in index.csv start from its folder. Its background/ is a background
set with a manifest. Whatever is interrupted resumes when it is called again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from wsol.datasets.archives import Unpacked, check_archives, unpack_cub, unpack_ilsvrc
from wsol.datasets.backgrounds.build import build_background_set, from_folder
from wsol.datasets.backgrounds.manifest import (
    MANIFEST,
    read_background_set,
    read_manifest,
    write_manifest,
)
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.checks import DatasetError, ImageCheck
from wsol.datasets.cub import read_cub
from wsol.datasets.files import (
    check_ours,
    check_writable,
    relative,
    write_table,
    write_text,
    written_folder,
)
from wsol.datasets.folder import SHARES, read_folder
from wsol.datasets.ilsvrc import read_ilsvrc
from wsol.datasets.image_files import list_images
from wsol.datasets.index import COLUMNS as INDEX_COLUMNS
from wsol.datasets.index import INDEX, SPLITS, parse_boxes, read_index, write_index
from wsol.datasets.memo import MEMO
from wsol.datasets.openimages import read_openimages
from wsol.datasets.pets import FULLSUP_COUNT, read_pets
from wsol.datasets.sources import published

ERRORS = "errors.csv"
COLUMNS = ("place", "error")
LEFT_OUT = "left_out.txt"  # images of pets that are not in the index, and why
MASKS = "masks"  # folder of united masks in a prepared folder
RECORD = "birds.json"  # what was drawn; marks a folder that may be replaced
UNPACK = {"cub": unpack_cub, "ilsvrc": unpack_ilsvrc}


def error_table(errors: Sequence[str]) -> pd.DataFrame:
    """Errors as a table: place, a file or file:line, and error, what is wrong there."""
    rows = [re.fullmatch(r"(?:(.*?): )?(.*)", error, re.DOTALL).groups("") for error in errors]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


@contextmanager
def errors_kept(out: Path) -> Iterator[None]:
    """Write out/errors.csv when a DatasetError passes, and remove an earlier one otherwise."""
    path = Path(out) / ERRORS
    try:
        yield
    except DatasetError as error:
        write_table(error_table(error.errors), path)
        error.table = path
        raise
    with suppress(OSError, ValueError):  # a file of somebody else stays
        if [*pd.read_csv(path, nrows=0)] == [*COLUMNS]:
            path.unlink()


def index_or_errors(read: Callable[[], pd.DataFrame], raw: Path, out: Path) -> pd.DataFrame:
    """Write out/index.csv, or out/errors.csv if `read` raises DatasetError.

    read : returns an index table whose paths start from `raw`; in out/index.csv they start from
        `out`

    Returns the table of errors, empty if there are none; otherwise an earlier index.csv stays.
    """
    check_writable(Path(out) / INDEX, Path(out) / ERRORS)
    check_ours(Path(out) / INDEX, ",".join(INDEX_COLUMNS))
    try:
        with errors_kept(out):
            index = read()
            for name in ("path", "mask", "ignore"):
                there = [relative(raw / path, out) if path else "" for path in index[name]]
                _check_leads(index[name], there, raw, Path(out))
                index[name] = there
            write_index(index, Path(out) / INDEX)
    except DatasetError as error:
        return error_table(error.errors)
    return error_table([])


def _check_leads(before: pd.Series, after: Sequence[str], raw: Path, out: Path) -> None:
    """Raise DatasetError if a path led to a file and does not any more; one a folder is tried."""
    pairs = pd.DataFrame({"before": list(before), "after": after}, dtype="str")
    folders = pairs["before"].str.rpartition("/")[0]
    for pair in pairs[~folders.duplicated()].itertuples():
        if pair.before and (raw / pair.before).exists() and not (out / pair.after).exists():
            reason = f"{pair.after} in {out / INDEX} would lead nowhere: name folders without links"
            raise DatasetError([f"{raw / pair.before}: {reason}"])


def prepared_index(out: Path) -> pd.DataFrame:
    """The index table of a prepared folder. Raises DatasetError if its data set has errors."""
    path = Path(out) / ERRORS
    if path.is_file():
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8")
        raise DatasetError([": ".join(filter(None, row)) for row in table.to_numpy()], path)
    return read_index(Path(out) / INDEX)


@dataclass(frozen=True)
class Plan:
    """One data set to prepare.

    kind : "cub", "ilsvrc", "openimages", "pets" or "folder"
    raw : folder of the data set
    out : folder to prepare, the notebooks' parameter `data`
    fullsup : metadata of `train-fullsup`; those of CUB and ILSVRC are data sets of their own
    fullsup_images : its images, by default fullsup/images
    metadata : text files of OpenImages30k, by default raw/metadata
    archives : folder of archives to unpack into raw
    checksums : file of md5sum for archives that are not the published ones
    classes : names of the classes of CUB or pets to read; all if empty
    fullsup_count : training images of each class of CUB or pets that become `train-fullsup`
    boxes, masks, shares, seed, leave : of a folder of images, see `folder.read_folder`
    check : how images are checked; without a memo of its own, out/memo.sqlite is used
    """

    kind: str
    raw: Path
    out: Path
    fullsup: Path | None = None
    fullsup_images: Path | None = None
    metadata: Path | None = None
    archives: Path | None = None
    checksums: Path | None = None
    classes: Sequence[str] = ()
    fullsup_count: int | None = None
    boxes: Path | None = None
    masks: Path | None = None
    shares: Sequence[float] = SHARES
    seed: int = 0
    leave: Sequence[Path] = ()
    check: ImageCheck = field(default_factory=ImageCheck)

    def __post_init__(self) -> None:
        if self.kind not in READERS:
            raise ValueError(f"kind is {self.kind!r}; there are {', '.join(READERS)}")
        if self.kind not in ("cub", "pets") and (self.classes or self.fullsup_count is not None):
            raise ValueError(f"{self.kind} takes neither classes nor fullsup_count")
        if self.archives and self.kind not in UNPACK:
            raise ValueError(f"the archives of {self.kind} have no published checksum: unpack them")
        if self.check.memo is None:
            object.__setattr__(self, "check", replace(self.check, memo=self.out / MEMO))

    def has_archives(self) -> bool:
        """Whether an archive of the data set is in the folder of archives."""
        names = published(self.kind) if self.archives else ()
        return any((self.archives / name).is_file() for name in names)


def unpack(plan: Plan) -> Unpacked:
    """Check the archives of a plan and unpack them into its raw folder; other files stay there.

    Raises DatasetError, and writes out/errors.csv, if an archive differs from what is expected:
    then nothing is unpacked.
    """
    with errors_kept(plan.out):
        check_archives(plan.archives, published(plan.kind), plan.out / MEMO, plan.checksums)
        return UNPACK[plan.kind](plan.archives, plan.raw)


def prepare(plan: Plan) -> pd.DataFrame:
    """Check a data set and write out/index.csv, or out/errors.csv; returns the table of errors."""
    return index_or_errors(lambda: READERS[plan.kind](plan), plan.raw, plan.out)


def _read_pets(plan: Plan) -> pd.DataFrame:
    count = FULLSUP_COUNT if plan.fullsup_count is None else plan.fullsup_count
    options = dict(classes=plan.classes, fullsup_count=count)
    index, left_out = read_pets(plan.raw, plan.out / MASKS, plan.check, **options)
    write_text(plan.out / LEFT_OUT, "".join(f"{line}\n" for line in left_out))
    return index


def _read_folder(plan: Plan) -> pd.DataFrame:
    _check_no_images(plan.out, plan.raw)
    draw = dict(shares=plan.shares, seed=plan.seed, leave=[plan.out, *plan.leave])
    return read_folder(plan.raw, plan.boxes, plan.masks, **draw, check_images=plan.check)


READERS: dict[str, Callable[[Plan], pd.DataFrame]] = {
    "cub": lambda p: read_cub(
        *(p.raw, p.fullsup, p.check, p.fullsup_images),
        classes=p.classes,
        fullsup_count=p.fullsup_count or 0,
    ),
    "ilsvrc": lambda p: read_ilsvrc(p.raw, p.fullsup, p.check, p.fullsup_images),
    "openimages": lambda p: read_openimages(
        *(p.raw, p.metadata or p.raw / "metadata", p.out / MASKS, p.check)
    ),
    "pets": _read_pets,
    "folder": _read_folder,
}


def _check_no_images(out: Path, raw: Path) -> None:
    """`out` below `raw` is left out: it may not be a class."""
    if raw.resolve() in out.resolve().parents:
        below = [path.relative_to(out) for path in list_images(out)]
        below = [path for path in below if path.parts[0] not in ("background", MASKS)]
        if below:
            reason = "is in the folder to prepare, which is left out: name another folder"
            raise DatasetError([f"{out / below[0]}: {reason}"])


def prepare_background(
    out: Path, folders: Sequence[Path] = (), source: str = "", licence: str = ""
) -> int:
    """Make and check the background set out/background; return the number of images in use.

    With `folders` their images are copied there, without copies of each other, in place of those of
    an earlier call. Otherwise, if source and licence are given, the manifest of the images that are
    there is written. Raises ValueError if source or licence is needed and blank, FileExistsError if
    there are images of elsewhere already, DatasetError if an image does not decode or the set is
    not what its manifest says.
    """
    background = Path(out) / "background"
    if folders:
        lists = [from_folder(one, source, licence, f"{n}") for n, one in enumerate(folders)]
        images, again = [image for images in lists for image in images], False
        if (background / MANIFEST).is_file():
            again = read_manifest(background)["file"].str.match(r"\d+/").all()
        build_background_set(images, background, replace=bool(again))
    elif source and licence:
        write_manifest(background, source, licence)
    return len(read_background_set(background))


def counts(index: pd.DataFrame) -> pd.DataFrame:
    """Per split: images, classes, boxes, most boxes of an image, masks; sizes in pixels."""
    splits = index.assign(boxes=_boxes(index), mask=index["mask"] != "").groupby("split")
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


def _boxes(index: pd.DataFrame) -> pd.Series:
    return index["boxes"].map(lambda text: len(parse_boxes(text)))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.loc[[split for split in SPLITS if split in table.index]]


def boxes_per_image(index: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """Images of each split by their number of boxes, those with `most` or more together."""
    names = _boxes(index).map(lambda n: f"{most} or more" if n >= most else str(n))
    return _in_order(pd.crosstab(index["split"], names.rename("boxes")))


def prepare_birds(root: str | Path, config: BirdsConfig, workers: int = 2) -> pd.DataFrame:
    """Draw birds and background set into `root`, check both, write and return the index table.

    An earlier drawing in `root` is replaced, and only when the new one is complete.

    Raises FileExistsError if `root` holds anything else, DatasetError if the check finds errors.
    """
    with written_folder(root, lambda folder: (folder / RECORD).is_file()) as partial:
        draw_birds(partial, config, workers)
        read_background_set(partial / "background")
        index = read_cub(partial, partial / "fullsup")
        write_index(index, partial / INDEX)
        write_text(partial / RECORD, json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")
    return index
