"""A folder that the notebooks can work in, for the drawn birds.

It holds index.csv, whose paths start from it, and background/, a set with a manifest. Those of real
data sets are made by `prepare_real`.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from wsol.datasets.backgrounds import read_background_set
from wsol.datasets.birds import BirdsConfig, draw_birds
from wsol.datasets.cub import read_cub
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
