"""Folders that the notebooks can work in, for the user's ILSVRC or OpenImages30k.

    python -m wsol.datasets.prepare_real ilsvrc data/raw/ILSVRC2012 data/ilsvrc \
        --archives ~/Downloads --fullsup data/raw/ImageNetV2
    python -m wsol.datasets.prepare_real openimages data/raw/OpenImages data/openimages

As for CUB (`prepare`) such a folder holds index.csv, whose paths start from it, and background/, a
set with a manifest. For OpenImages it also holds masks/, one mask per image.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol.datasets.backgrounds import read_background_set, write_manifest
from wsol.datasets.faults import DatasetError
from wsol.datasets.ilsvrc import read_ilsvrc
from wsol.datasets.index import SPLITS
from wsol.datasets.openimages import read_openimages
from wsol.datasets.pictures import write_rebased
from wsol.datasets.unpack import unpack_ilsvrc

MASKS = "masks"  # folder of united masks in a prepared folder


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("raw", type=Path, help="folder of the data set")
    common.add_argument("out", type=Path, help="folder for the notebooks' parameter `data`")
    common.add_argument(
        "--headers-only", action="store_true", help="do not decode every image, which takes long"
    )
    common.add_argument("--source", help="where all the pictures in out/background are from")
    common.add_argument("--licence", help="what they may be used under")
    parser = argparse.ArgumentParser(
        prog="wsol.datasets.prepare_real", description="Check and index a data set."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    ilsvrc = kinds.add_parser("ilsvrc", parents=[common], help="ILSVRC CLS-LOC")
    ilsvrc.add_argument("--archives", type=Path, help="unpack the archives of 2012 into RAW")
    ilsvrc.add_argument("--fullsup", type=Path, required=True, help="metadata of train-fullsup")
    ilsvrc.add_argument("--fullsup-images", type=Path, help="its images; FULLSUP/images by default")
    openimages = kinds.add_parser("openimages", parents=[common], help="OpenImages30k")
    openimages.add_argument("--metadata", type=Path, help="RAW/metadata by default")
    return parser


def _read(arguments: argparse.Namespace) -> pd.DataFrame:
    """The index table of what the arguments name, paths from its folder."""
    raw, decode = arguments.raw, not arguments.headers_only
    if arguments.kind == "openimages":
        metadata = arguments.metadata or raw / "metadata"
        return read_openimages(raw, metadata, arguments.out / MASKS, decode)
    if arguments.archives:
        done = unpack_ilsvrc(arguments.archives, raw)
        print(f"{done.written} files unpacked, {done.kept} were there")
    return read_ilsvrc(raw, arguments.fullsup, decode, arguments.fullsup_images)


def main(words: Sequence[str] | None = None) -> int:
    """Index a data set and account for the pictures in out/background, if there are any."""
    arguments = _parser().parse_args(words)
    try:
        index = _read(arguments)
        print(write_rebased(index, arguments.raw, arguments.out))
        print(", ".join(f"{split} {(index['split'] == split).sum()}" for split in SPLITS))
        background = arguments.out / "background"
        if arguments.source and arguments.licence:
            write_manifest(background, arguments.source, arguments.licence)
        print(f"{len(read_background_set(background))} background images")
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
