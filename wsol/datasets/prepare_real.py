"""Folders that the notebooks can work in, for the user's CUB, ILSVRC or OpenImages30k.

    python -m wsol.datasets.prepare_real cub data/raw/CUB_200_2011 data/cub \
        --archives data/raw/archives --fullsup data/raw/CUBV2
    python -m wsol.datasets.prepare_real ilsvrc data/raw/ILSVRC2012 data/ilsvrc \
        --archives data/raw/archives --fullsup data/raw/ImageNetV2
    python -m wsol.datasets.prepare_real openimages data/raw/OpenImages data/openimages

What such a folder holds is said in `preparation`. It also gets background/, the user's pictures
without objects, which are accounted for by a manifest. Whatever is interrupted goes on where it
stopped when the command is given again. Faults are counted, the first are shown, all are written to
faults.csv there, and the exit status is 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wsol.datasets.backgrounds.manifest import read_background_set, write_manifest
from wsol.datasets.check_options import add_check_options, check_of
from wsol.datasets.checks import DatasetError
from wsol.datasets.index import INDEX, SPLITS
from wsol.datasets.prepare import Plan, prepare, prepared_index, unpack


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("raw", type=Path, help="folder of the data set")
    common.add_argument("out", type=Path, help="folder for the notebooks' parameter `data`")
    add_check_options(common)
    common.add_argument("--source", help="where all the pictures in out/background are from")
    common.add_argument("--licence", help="what they may be used under")
    parser = argparse.ArgumentParser(
        prog="wsol.datasets.prepare_real", description="Check and index a data set."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, name in (("cub", "CUB-200-2011"), ("ilsvrc", "ILSVRC CLS-LOC")):
        one = kinds.add_parser(kind, parents=[common], help=name)
        one.add_argument("--archives", type=Path, help="unpack the archives here into RAW")
        one.add_argument("--checksums", type=Path, help="md5sum's file, if they are not published")
        one.add_argument("--fullsup", type=Path, required=True, help="metadata of train-fullsup")
        one.add_argument("--fullsup-images", type=Path, help="FULLSUP/images by default")
    openimages = kinds.add_parser("openimages", parents=[common], help="OpenImages30k")
    openimages.add_argument("--metadata", type=Path, help="RAW/metadata by default")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    names = ("fullsup", "fullsup_images", "metadata", "archives", "checksums")
    given = {name: getattr(arguments, name, None) for name in names}
    return Plan(arguments.kind, arguments.raw, arguments.out, **given, check=check_of(arguments))


def _prepare(plan: Plan, source: str | None, licence: str | None) -> None:
    """Unpack, check, index, account for the pictures in out/background; say what was done."""
    if plan.archives:
        done = unpack(plan)
        print(f"{done.written} files unpacked, {done.kept} were there")
    prepare(plan)
    index = prepared_index(plan.out)
    print(plan.out / INDEX)
    print(", ".join(f"{split} {(index['split'] == split).sum()}" for split in SPLITS))
    background = plan.out / "background"
    if source and licence:
        write_manifest(background, source, licence)
    print(f"{len(read_background_set(background))} background images")


def main(words: Sequence[str] | None = None) -> int:
    """Prepare a data set; the exit status is 1 if it has faults."""
    arguments = _parser().parse_args(words)
    try:
        _prepare(_plan(arguments), arguments.source, arguments.licence)
    except DatasetError as error:
        print(error.summary(), file=sys.stderr)
    except (ValueError, OSError) as error:  # of what was given, and they say what is wrong
        print(error, file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
