"""Beside the headline: why images fail, and how sure the difference from CAM is."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsol.failures import failure_shares
from wsol.localization_table import LocalizationTable
from wsol.metrics import choose_tau
from wsol.names import METHODS
from wsol.report import in_order, read_pairs
from wsol.stats import paired_bootstrap

COMPARED = ("gt_known_loc_error", "top1_loc_error")
Pair = tuple[LocalizationTable, LocalizationTable]  # of test and of train-fullsup


def _name(table: LocalizationTable) -> str:
    return METHODS[table.meta["method"], table.meta["map"]]


def failures(folder: Path) -> pd.DataFrame:
    """Share of images per reason at tau, %, mean over the seeds, from committed tables.

    Columns: dataset, method, reason, top1_loc_error, gt_known_loc_error (the share of "right" is
    100 less the error); Top-1 is NaN for a map without a classifier. Rows in the order of the
    report and of `wsol.failures.REASONS`.
    """
    parts = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        tau, found = choose_tau(fullsup), test.level_boxes
        ranks = test.rows["rank"].to_numpy()
        shares = failure_shares(
            found.at(tau), found.ground_truth(), None if (ranks < 0).any() else ranks
        )
        about = {"dataset": test.meta["dataset"], "method": _name(test)}
        parts.append(shares.reset_index().assign(**about))
    keys = ["dataset", "method", "reason"]
    means = pd.concat(parts).groupby(keys, sort=False)[["top1_loc_error", "gt_known_loc_error"]]
    return in_order(means.mean().reset_index())


def differences(folder: Path, resamples: int = 2000) -> pd.DataFrame:
    """Error of each run less that of CAM with the same seed, in points, with 95 % intervals.

    A paired bootstrap over the images of `test`; tau is fixed (chosen on `train-fullsup`), or the
    oracle, maximized again in each resample. Columns: dataset, method, seed, error, tau,
    difference, low, high.
    """
    pairs = read_pairs(folder / "evaluate")
    cam = {test.meta["seed"]: (test, fullsup) for test, fullsup in pairs if _name(test) == "CAM"}
    rows = []
    for test, fullsup in pairs:
        if _name(test) == "CAM" or test.meta["seed"] not in cam:
            continue
        for error in COMPARED:
            rows += _compared((test, fullsup), cam[test.meta["seed"]], error, resamples)
    return in_order(pd.DataFrame(rows))


def _compared(pair: Pair, cam: Pair, error: str, resamples: int) -> Sequence[dict]:
    """Two rows: at fixed tau and at the oracle."""
    tests, taus = (pair[0], cam[0]), tuple(choose_tau(fullsup) for _, fullsup in (pair, cam))
    meta = pair[0].meta
    about = {"dataset": meta["dataset"], "method": _name(pair[0]), "seed": int(meta["seed"])}
    found = []
    for fixed in (taus, None):
        d = paired_bootstrap(*tests, error, taus=fixed, resamples=resamples)
        values = {"tau": d.tau, "difference": d.difference, "low": d.low, "high": d.high}
        found.append(about | {"error": error} | values)
    return found
