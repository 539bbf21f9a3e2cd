"""All methods side by side: what stands beside the headline's columns, and two more questions.

Which class with which box (one network's class with another one's box), and how the error depends
on the size of the object.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.boxes import FRAME
from wsol.localization_table import LocalizationTable
from wsol.metrics import choose_tau, column_of
from wsol.names import METHODS
from wsol.report import in_order, localization_error, read_pair, read_pairs
from wsol.stats import wrong_images

ANSWERS = ["prediction", "rank"]
CROSSED = "cam+foreground"  # CAM's class with the box of the background method's foreground map
N_BINS = 4  # of object sizes, each with as many images


def crossed(boxes: LocalizationTable, classes: LocalizationTable) -> LocalizationTable:
    """The boxes of one network with the classes that another one says.

    Raises ValueError if the tables are not about the same images in the same order.
    """
    if list(boxes.rows["image_id"]) != list(classes.rows["image_id"]):
        raise ValueError("the tables are not about the same images in the same order")
    rows = boxes.rows.assign(**classes.rows[ANSWERS].to_dict("list"))
    return replace(boxes, rows=rows, meta=boxes.meta | {"method": CROSSED})


def write_crossed(folder: Path, seeds: list[int]) -> None:
    """Add the crossed tables of each seed to a folder that has both networks' tables."""
    for seed in seeds:
        boxes = read_pair(folder, f"background-{seed}-foreground")
        classes = read_pair(folder, f"cam-{seed}-class")
        for box, label, split in zip(boxes, classes, ("test", "train-fullsup"), strict=True):
            crossed(box, label).save(folder / f"{CROSSED}-{seed}-foreground-{split}.npz")


def methods_table(
    runs: pd.DataFrame, search_trials: Mapping[str, int], parameters: Mapping[str, int]
) -> pd.DataFrame:
    """The headline's table of all methods with two more columns.

    search_trials : trainings behind the settings, by the row's name
    parameters : trainable parameters of the network, by the row's name

    Both are missing (NaN) where a row has no settings to search or no network.
    """
    table = localization_error(runs)
    for name, values in (("search_trials", search_trials), ("parameters", parameters)):
        table[name] = table["method"].map(values).astype("Int64")
    return table


def error_by_size(folder: Path) -> pd.DataFrame:
    """GT-known error on `test` by the size of the object, in % of the images of that size.

    Sizes are shares of the frame that the ground-truth box covers, cut into `N_BINS` ranges of
    equally many images. Columns: dataset, method, size_low, size_high (%), n_images,
    gt_known_loc_error, mean over the seeds. Takes the folder that the report's tables lie in.
    """
    rows = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        if test.level_boxes is None:
            continue
        size = 100 * _shares(test)
        wrong = wrong_images(test)[:, column_of(test, choose_tau(fullsup))]
        edges = np.quantile(size, np.linspace(0, 1, N_BINS + 1))
        bins = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, N_BINS - 1)
        about = {"dataset": test.meta["dataset"]}
        about |= {"method": METHODS[test.meta["method"], test.meta["map"]]}
        for b in range(N_BINS):
            here = bins == b
            row = {"size_low": edges[b], "size_high": edges[b + 1], "n_images": int(here.sum())}
            rows.append(about | row | {"gt_known_loc_error": 100 * wrong[here].mean()})
    keys = ["dataset", "method", "size_low", "size_high", "n_images"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)["gt_known_loc_error"].mean()
    return in_order(table.reset_index())


def _shares(table: LocalizationTable) -> np.ndarray:
    """Share of the frame that the (largest) ground-truth box of each image covers, (N,)."""
    boxes = table.level_boxes.ground_truth()
    return np.array([(box[:, 2:] - box[:, :2]).prod(axis=1).max() for box in boxes]) / FRAME**2
