"""What each data set consists of, where its authors publish it, and which parts are present.

One table, sources.csv, for the notebooks, the commands and data/README.md, which a test compares
with it. Bytes and MD5s are given where they are published.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ARCHIVES, RAW, FULLSUP, IMAGES, METADATA = "archives", "raw", "fullsup", "images", "metadata"


class Source(NamedTuple):
    """One file or folder of a data set.

    folder : which of the user's folders it belongs in: `archives`, `raw`, ...
    path : its name below that folder, "" for the folder itself
    page, licence : where it is available, and under which terms
    becomes : of an archive, what lies below `raw` once it is unpacked
    size, md5 : bytes and checksum, where they are published
    """

    folder: str
    path: str
    what: str
    page: str
    licence: str
    becomes: str = ""
    size: int | None = None
    md5: str = ""
    optional: bool = False


def _read_sources() -> dict[str, tuple[Source, ...]]:
    sources: dict[str, tuple[Source, ...]] = {}
    with files("wsol.datasets").joinpath("sources.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            size = int(row["size"]) if row["size"] else None
            values = row | {"size": size, "optional": row["optional"] == "yes"}
            dataset = values.pop("dataset")
            sources[dataset] = (*sources.get(dataset, ()), Source(**values))
    return sources


SOURCES = _read_sources()  # by data set
FOLDERS = {  # where data/README.md and the commands there put them, from the root of the project
    "cub": {
        ARCHIVES: "data/raw/archives",
        RAW: "data/raw/CUB_200_2011",
        FULLSUP: "data/raw/CUBV2",
        IMAGES: "data/raw/CUBV2/images",
    },
    "ilsvrc": {
        ARCHIVES: "data/raw/archives",
        RAW: "data/raw/ILSVRC2012",
        FULLSUP: "data/raw/ImageNetV2",
        IMAGES: "data/raw/ImageNetV2/images",
    },
    "openimages": {RAW: "data/raw/OpenImages", METADATA: "data/raw/OpenImages/metadata"},
    "pets": {RAW: "data/raw"},
}


def published(dataset: str) -> dict[str, Source]:
    """The archives of a data set that have a published checksum, by name."""
    return {source.path: source for source in SOURCES[dataset] if source.md5}


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _state(source: Source, path: Path, raw: Path | None) -> str:
    unpacked = bool(raw and source.becomes and _is_there(raw / source.becomes))
    if not _is_there(path):
        missing = "no, it is optional" if source.optional else "no"
        return "unpacked already" if unpacked else missing
    size = path.stat().st_size
    other = f", but {size:,} bytes" if source.size not in (None, size) else ""
    return f"yes{other}{', unpacked already' if unpacked else ''}"


def overview(dataset: str, folders: Mapping[str, str | Path], root: Path = Path()) -> pd.DataFrame:
    """What of a data set is there, and where to get and to put the rest; one row per source.

    `folders` are the user's, by the names in `FOLDERS`, from `root`; a folder that is left out, or
    "", is not in use. Columns: put it at, there, what, bytes, MD5, licence, page.
    """
    used = {name: folder for name, folder in folders.items() if str(folder)}
    raw = root / used[RAW] if RAW in used else None
    rows = []
    for source in SOURCES[dataset]:
        in_use = source.folder in used
        if in_use or (raw and source.becomes):
            place = Path(used[source.folder] if in_use else "", source.path)
            row = {"put it at": place.as_posix(), "there": _state(source, root / place, raw)}
            row |= {"what": source.what, "bytes": f"{source.size:,}" if source.size else ""}
            rows.append(row | {"MD5": source.md5, "licence": source.licence, "page": source.page})
    return pd.DataFrame(rows)
