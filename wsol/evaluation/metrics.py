"""Errors and accuracies from localization tables, all in percent.

Errors follow the papers on the subject (a lower number is better), MaxBoxAcc, MaxBoxAccV2 and PxAP
are accuracies as in Choe et al. 2020. "tau" is chosen on `train-fullsup` and then fixed; the best
tau of the evaluated split itself is the oracle, and labelled so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.evaluation.table import LocalizationTable, in_steps

DELTA = 0.5  # IoU from which a box counts as right
DELTAS = (0.3, 0.5, 0.7)  # those of MaxBoxAccV2
PARTS = ("30", "50", "70")  # their names in tables
GT_KNOWN = "gt_known_loc_error"
# Error -> how many of the first classes may hold the label; None where the class is given.
ERRORS = {"top1_loc_error": 1, "top5_loc_error": 5, GT_KNOWN: None}


def percentage(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of true values over the first axis of (N, ...), %; to the last bit the reference's."""
    return hits.sum(axis=0) * 100.0 / len(hits)


def box_accuracy(steps: NDArray[np.uint16], delta: float = DELTA) -> NDArray[np.float64]:
    """Share (T,) of N images whose IoU reaches delta, %; takes the (N, T) steps of a table."""
    return percentage(steps >= in_steps(delta))


def choose_tau(table: LocalizationTable) -> float:
    """The threshold of highest GT-known accuracy, the lowest of equals."""
    return float(table.thresholds[box_accuracy(table.steps_largest).argmax()])


def max_box_acc(table: LocalizationTable) -> float:
    """MaxBoxAcc, %: box of the largest contour, IoU of .5, best threshold of this split."""
    return float(box_accuracy(table.steps_largest).max())


def max_box_acc_v2(table: LocalizationTable) -> tuple[float, NDArray[np.float64]]:
    """MaxBoxAccV2, %: its mean and its parts (3,) at the IoU `DELTAS`.

    Any contour may give the box, and each part has its own best threshold.
    """
    parts = np.array([box_accuracy(table.steps_all, delta).max() for delta in DELTAS])
    return float(parts.mean()), parts


def pxap(table: LocalizationTable) -> float:
    """Average precision of the pixels of all images together, %; NaN without masks."""
    if table.pixel_histogram is None:
        return float("nan")
    # From the highest score down: pixels at or above each threshold.
    false, true = table.pixel_histogram[:, ::-1].cumsum(axis=1)
    if true[-1] == 0:
        return float("nan")
    precision = true / np.maximum(true + false, 1)
    recall = true / true[-1]
    return float(100 * (precision[1:] * np.diff(recall)).sum())


def column_of(table: LocalizationTable, tau: float) -> int:
    """Place of tau among the thresholds. Raises ValueError if it is none of them."""
    place = int(np.abs(table.thresholds - tau).argmin())
    if not np.isclose(table.thresholds[place], tau, rtol=0, atol=1e-9):
        raise ValueError(f"tau = {tau} is not among the thresholds of this table")
    return place


def pixel_iou(table: LocalizationTable, tau: float) -> float:
    """IoU of the pixels of at least tau with the masks, all images together, %; NaN without masks.

    The pixels are those of PxAP, of the score map itself: no box, no 8 bits.
    """
    if table.pixel_histogram is None:
        return float("nan")
    column = column_of(table, tau)
    background, objects = table.pixel_histogram
    union = objects.sum() + background[column:].sum()
    return float(100 * objects[column:].sum() / union) if union else float("nan")


def wrong_images(table: LocalizationTable, error: str = GT_KNOWN) -> NDArray[np.bool_]:
    """Which images count as errors at which threshold, (N, T).

    Raises ValueError if there is no such error, or it needs a class and nothing classifies.
    """
    if error not in ERRORS:
        raise ValueError(f"unknown error {error}; there are {', '.join(ERRORS)}")
    wrong = table.steps_largest < in_steps(DELTA)
    if ERRORS[error] is not None:
        rank = table.rows["rank"].to_numpy()
        if (rank < 0).any():
            raise ValueError(f"{error} needs the rank of the label, and this table has none")
        wrong |= (rank >= ERRORS[error])[:, None]
    return wrong


def _errors(table: LocalizationTable) -> dict[str, NDArray[np.float64]]:
    known = [n for n, k in ERRORS.items() if k is None or (table.rows["rank"] >= 0).all()]
    curves = {name: percentage(wrong_images(table, name)) for name in known}
    return {name: curves.get(name, np.full(len(table.thresholds), np.nan)) for name in ERRORS}


def cls_error(table: LocalizationTable) -> float:
    """Top-1 classification error, %; NaN where nothing classifies."""
    rank = table.rows["rank"]
    return float("nan") if (rank < 0).any() else float(percentage(rank.to_numpy() > 0))


def localization_errors(table: LocalizationTable, tau: float) -> dict[str, float]:
    """Top-1, Top-5 and GT-known localization error at tau, and classification error, %."""
    column = column_of(table, tau)
    errors = {name: float(curve[column]) for name, curve in _errors(table).items()}
    return errors | {"cls_error": cls_error(table)}


def error_curve(table: LocalizationTable) -> pd.DataFrame:
    """Localization errors against tau, one row per threshold, %."""
    return pd.DataFrame({"tau": table.thresholds} | _errors(table))


def evaluate(test: LocalizationTable, fullsup: LocalizationTable) -> dict[str, float]:
    """All numbers of a table on `test`, with tau from `train-fullsup`.

    Keys: tau and the four errors at it; tau_oracle and the localization errors at it, their names
    ending in _oracle; maxboxacc; maxboxacc_v2 and its parts maxboxacc_v2_30, _50, _70; pxap;
    pixel_iou, at tau.
    """
    tau, oracle = choose_tau(fullsup), choose_tau(test)
    at_oracle = localization_errors(test, oracle)
    del at_oracle["cls_error"]  # has no tau
    v2, parts = max_box_acc_v2(test)
    return {
        "tau": tau,
        **localization_errors(test, tau),
        "tau_oracle": oracle,
        **{f"{name}_oracle": error for name, error in at_oracle.items()},
        "maxboxacc": max_box_acc(test),
        "maxboxacc_v2": v2,
        **{f"maxboxacc_v2_{name}": float(part) for name, part in zip(PARTS, parts, strict=True)},
        "pxap": pxap(test),
        "pixel_iou": pixel_iou(test, tau),
    }
