"""Figures of the study: all methods beside each other."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wsol.failures import ELSEWHERE, MULTIPLE, TOO_LARGE, TOO_SMALL
from wsol.plots import GREY, METHOD_STYLE, ORANGE, RED, SKY, style

_MARKERS = "osD^v<>PXph*8d"  # one per method: several share a colour
REASON_COLOURS = {TOO_SMALL: RED, TOO_LARGE: SKY, MULTIPLE: ORANGE, ELSEWHERE: GREY}


def failure_bars(failures: pd.DataFrame) -> Figure:
    """Why boxes are wrong, one bar per row of the report, stacked by reason.

    failures : method, reason, gt_known_loc_error (% of the images), as
        `wsol.report_details.failures` gives them
    """
    shares = failures.pivot_table("gt_known_loc_error", "method", "reason", sort=False).fillna(0)
    with style():
        figure, axes = plt.subplots(figsize=(9, 0.34 * len(shares) + 1.4))
        left = np.zeros(len(shares))
        for reason, colour in REASON_COLOURS.items():
            values = shares.get(reason, pd.Series(0.0, index=shares.index)).to_numpy()
            axes.barh(shares.index, values, left=left, color=colour, label=reason)
            left += values
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 100), xlabel="images of test whose box is wrong (%), by reason")
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def error_by_size(sizes: pd.DataFrame, shown: list[str]) -> Figure:
    """GT-known error against the size of the object, one line per row of the report in `shown`."""
    with style():
        figure, axes = plt.subplots(figsize=(9, 4.2))
        for name in shown:
            line = sizes[sizes["method"] == name]
            colour, dashes = METHOD_STYLE[name]
            places = np.arange(len(line))
            error = line["gt_known_loc_error"]
            axes.plot(places, error, color=colour, linestyle=dashes, marker="o", label=name)
        ends = zip(line["size_low"], line["size_high"], strict=True)
        axes.set_xticks(places, [f"{low:.0f} to {high:.0f} %" for low, high in ends])
        axes.set(ylim=(0, 102), ylabel="GT-known localization error (%)")
        axes.set_xlabel("share of the picture that the object's box covers")
        figure.legend(loc="outside right upper")
    return figure


def cost_against_error(table: pd.DataFrame, step: Mapping[str, float]) -> Figure:
    """GT-known error against the time of a training step, over that of CAM.

    table : method, gt_known_loc_error_mean
    step : time of a step over CAM's, by method
    """
    known = table[table["method"].isin(step)]
    errors = zip(known["method"], known["gt_known_loc_error_mean"], strict=True)
    with style():
        figure, axes = plt.subplots(figsize=(8.5, 4.4))
        for marker, (name, error) in zip(_MARKERS, errors, strict=False):
            look = dict(color=METHOD_STYLE[name][0], markeredgecolor="black", markersize=9)
            axes.plot(step[name], error, marker, label=name, **look)
        axes.set(ylim=(0, 102), xlim=(0.8, 1.1 * max(step.values())))
        axes.set_ylabel("GT-known localization error (%)")
        axes.set_xlabel("time of a training step over CAM's")
        figure.legend(loc="outside right upper")
    return figure
