"""Folders that the notebooks can work in: one for the birds, one for the user's CUB-200-2011.

    python -m wsol.datasets.prepare data/raw/CUB_200_2011 data/cub --fullsup data/raw/CUBV2

Such a folder holds index.csv, whose paths start from it, and background/, a set with a manifest.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from wsol.datasets.backgrounds import read_background_set, write_manifest
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.cub import read_cub
from wsol.datasets.faults import DatasetError
from wsol.datasets.index import INDEX, write_index

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


def index_cub(raw: Path, out: Path, fullsup: Path, fullsup_images: Path | None = None) -> Path:
    """Check a CUB-200-2011 that lies elsewhere and write its index table into `out`.

    `raw` is only read; the paths of the table lead there. Returns the path of the table. Raises
    DatasetError with all faults.
    """
    index = read_cub(raw, fullsup, fullsup_images=fullsup_images)
    for column in ("path", "mask", "ignore"):
        index[column] = [_from(out, raw / path) if path else "" for path in index[column]]
    write_index(index, out / INDEX)
    return out / INDEX


def _from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def main(words: Sequence[str] | None = None) -> int:
    """Index CUB-200-2011 and account for the pictures in out/background, if there are any."""
    parser = argparse.ArgumentParser(prog="wsol.datasets.prepare", description="Index CUB.")
    parser.add_argument("raw", type=Path, help="unpacked CUB_200_2011")
    parser.add_argument("out", type=Path, help="folder for the notebooks' parameter `data`")
    parser.add_argument("--fullsup", type=Path, required=True, help="metadata of train-fullsup")
    parser.add_argument("--fullsup-images", type=Path, help="its images; FULLSUP/images by default")
    parser.add_argument("--source", help="where all the pictures in out/background are from")
    parser.add_argument("--licence", help="what they may be used under")
    arguments = parser.parse_args(words)
    try:
        print(index_cub(arguments.raw, arguments.out, arguments.fullsup, arguments.fullsup_images))
        if arguments.source and arguments.licence:
            write_manifest(arguments.out / "background", arguments.source, arguments.licence)
        print(f"{len(read_background_set(arguments.out / 'background'))} background images")
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
