"""Tables of the study beside the report: controls (another data set), trials (another setting).

A *trial* trains with one setting changed; it is judged on `train-fullsup` alone, and the tables of
`test` that it leaves are not read.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from wsol.localization_table import LocalizationTable
from wsol.metrics import choose_tau, localization_errors
from wsol.names import METHODS
from wsol.report import localization_error, per_run
from wsol.tables import rounded

ERRORS = ["gt_known_loc_error", "top1_loc_error", "cls_error"]  # %


def control_table(folders: Mapping[str, Path]) -> pd.DataFrame:
    """The headline's columns, one row per control and map, from the folder of each control.

    ``gt_known_ratio`` and ``top1_ratio`` are the error over that of CAM on the same set.
    """
    tables = [localization_error(per_run(folder)) for folder in folders.values()]
    table = pd.concat(tables, ignore_index=True)
    cam = table[table["method"] == "CAM"].set_index("dataset")
    for name, error in (("gt_known_ratio", "gt_known_loc_error"), ("top1_ratio", "top1_loc_error")):
        reference = table["dataset"].map(cam[f"{error}_mean"])
        table[name] = table[f"{error}_mean"] / reference
    return table


def readable_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that a person compares, as text, with names in words."""
    columns = {
        "gt_known_loc_error_mean": ("GT-known loc.", 1),
        "top1_loc_error_mean": ("Top-1 loc.", 1),
        "cls_error_mean": ("Classification", 1),
        "gt_known_ratio": ("GT-known / CAM's", 2),
        "top1_ratio": ("Top-1 / CAM's", 2),
    }
    shown = table[["dataset", "method", "n_seeds"]].set_axis(["Set", "Method", "Seeds"], axis=1)
    for name, (header, digits) in columns.items():
        shown[header] = [rounded(value, digits) for value in table[name]]
    return shown


def trial_table(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Errors of each trial's class map on `train-fullsup`, %, at that split's best tau.

    Takes the folder of localization tables of each trial. Columns: trial, map (as a reader says
    it), read_out, tau, ERRORS; in the order given.
    """
    rows = []
    for name, folder in folders.items():
        (file,) = folder.glob("*-class-train-fullsup.npz")
        table = LocalizationTable.load(file)
        tau = choose_tau(table)
        errors = localization_errors(table, tau)
        about = {"trial": name, "map": METHODS[table.meta["method"], table.meta["map"]]}
        about |= {"read_out": table.meta["read_out"], "tau": tau}
        rows.append(about | {error: errors[error] for error in ERRORS})
    return pd.DataFrame(rows)
