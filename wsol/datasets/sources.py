"""What each data set consists of, where its authors publish it, and which parts are present.

One table for the notebooks, the commands and data/README.md, which a test compares with it. Bytes
and MD5s are given where they are published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ARCHIVES, RAW, FULLSUP, IMAGES, METADATA = "archives", "raw", "fullsup", "images", "metadata"


class Origin(NamedTuple):
    """The page that a part of a data set is available from, and its licence."""

    page: str
    licence: str


class Source(NamedTuple):
    """One file or folder of a data set.

    folder : which of the user's folders it belongs in: `archives`, `raw`, ...
    path : its name below that folder, "" for the folder itself
    becomes : of an archive, what lies below `raw` once it is unpacked
    size, md5 : bytes and checksum, where they are published
    """

    folder: str
    path: str
    what: str
    origin: Origin
    becomes: str = ""
    size: int | None = None
    md5: str = ""
    optional: bool = False


_RESEARCH = "non-commercial research and education; terms to be accepted"
_OWNERS = "terms on the page; the images remain their owners'"
_WSOL = "https://github.com/clovaai/wsolevaluation"

CUB = Origin("https://data.caltech.edu/records/65de6-vp158", _OWNERS)
CUB_MASKS = Origin("https://data.caltech.edu/records/w9d68-gec53", _OWNERS)
CUB_V2 = Origin(_WSOL, "of each image its own, see the page")
IMAGENET = Origin("https://image-net.org/challenges/LSVRC/2012/", _RESEARCH)
KAGGLE = Origin("https://www.kaggle.com/c/imagenet-object-localization-challenge", _RESEARCH)
IMAGENET_V2 = Origin("https://github.com/modestyachts/ImageNetV2", "see the page")
OPEN_IMAGES = Origin(_WSOL, "CC BY 2.0 as listed, to be verified for each image")
NAVER = Origin(_WSOL, "CC BY 2.0, NAVER Corp.")
GOOGLE = Origin(_WSOL, "CC BY 4.0, Google LLC")

_LISTS = "beside image_ids.txt, class_labels.txt, image_sizes.txt; from metadata"
_V2 = "10,000 images: the folder in imagenetv2-threshold0.7.tar.gz, renamed"

SOURCES = {
    "cub": (
        Source(
            ARCHIVES,
            "CUB_200_2011.tgz",
            "images, classes, splits, boxes",
            CUB,
            becomes="images.txt",
            size=1_150_585_339,
            md5="97eceeb196236b17998738112f37df78",
        ),
        Source(
            ARCHIVES,
            "segmentations.tgz",
            "masks, for PxAP",
            CUB_MASKS,
            becomes="segmentations",
            size=39_272_883,
            md5="4d47ba1228eae64f2fa547c47bc65255",
            optional=True,
        ),
        Source(FULLSUP, "localization.txt", f"{_LISTS}/CUB/val", NAVER),
        Source(IMAGES, "", "class folders of CUBV2, 1,000 images (CUBV2.tar unpacked)", CUB_V2),
    ),
    "ilsvrc": (
        Source(
            ARCHIVES,
            "ILSVRC2012_img_train.tar",
            "images for training",
            IMAGENET,
            becomes="ILSVRC/Data/CLS-LOC/train",
            size=147_897_477_120,
            md5="1d675b47d978889d74fa0da5fadfb00e",
        ),
        Source(
            ARCHIVES,
            "ILSVRC2012_img_val.tar",
            "images for the test",
            IMAGENET,
            becomes="ILSVRC/Data/CLS-LOC/val",
            size=6_744_924_160,
            md5="29b22e2961454d5413ddabcf34fc5622",
        ),
        Source(
            ARCHIVES,
            "ILSVRC2012_bbox_val_v3.tgz",
            "their boxes, 2.2 MB",
            IMAGENET,
            becomes="ILSVRC/Annotations/CLS-LOC/val",
            md5="f4cd18b5ea29fe6bbea62ec9c20d80f0",
        ),
        Source(RAW, "LOC_synset_mapping.txt", "names of the classes", KAGGLE, optional=True),
        Source(FULLSUP, "localization.txt", f"{_LISTS}/ILSVRC/val", NAVER),
        Source(IMAGES, "val2", _V2, IMAGENET_V2),
    ),
    "openimages": (
        Source(RAW, "train", "29,819 images (OpenImages_images.zip unpacked)", OPEN_IMAGES),
        Source(RAW, "val", "2,500 images, and masks (OpenImages_annotations.zip)", OPEN_IMAGES),
        Source(RAW, "test", "5,000 images, and masks", OPEN_IMAGES),
        Source(METADATA, "train", "image_ids.txt, class_labels.txt", GOOGLE),
        Source(METADATA, "val", "the same and localization.txt", GOOGLE),
        Source(METADATA, "test", "the same and localization.txt", GOOGLE),
    ),
}

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
}


def published(dataset: str) -> dict[str, Source]:
    """The archives of a data set that have a published checksum, by name."""
    return {source.path: source for source in SOURCES[dataset] if source.md5}


def _is_there(path: Path) -> bool:
    """Whether there is a file, or a folder with something in it."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _state(source: Source, path: Path, raw: Path | None) -> str:
    """What is there of a source, in words; `raw` is where it would be unpacked to."""
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
        place = Path(used[source.folder], source.path) if source.folder in used else None
        if place is None and not (raw and source.becomes):
            continue
        state = _state(source, root / (place or source.path), raw)
        rows.append(
            {"put it at": place.as_posix() if place else source.path, "there": state}
            | _published_columns(source)
        )
    return pd.DataFrame(rows)


def _published_columns(source: Source) -> dict[str, str]:
    return {
        "what": source.what,
        "bytes": f"{source.size:,}" if source.size else "",
        "MD5": source.md5,
        "licence": source.origin.licence,
        "page": source.origin.page,
    }


def markdown(dataset: str) -> str:
    """The table of a data set in data/README.md, with the folders that are used there."""
    rows = [
        {"put it at": f"`{Path(FOLDERS[dataset][source.folder], source.path).as_posix()}`"}
        | _published_columns(source)
        for source in SOURCES[dataset]
    ]
    return pd.DataFrame(rows).to_markdown(index=False, tablefmt="pipe")
