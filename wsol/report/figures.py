"""Figures of the report and the study; the same tables give the same bytes.

Tables are those of `wsol.report.tables` and `wsol.report.study`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wsol.datasets.files import written_whole
from wsol.evaluation.failures import ELSEWHERE, MULTIPLE, TOO_LARGE, TOO_SMALL
from wsol.report.style import BLUE, DASHES, GREY, ORANGE, RED, SKY, by_method, style

REASON_COLOURS = {TOO_SMALL: RED, TOO_LARGE: SKY, MULTIPLE: ORANGE, ELSEWHERE: GREY}
MARKERS = "osD^v<>PXph*8d"  # one per method: several share a colour
LOC_ERROR = "GT-known localization error (%)"


def save(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure as PDF where `path` ends so, else as PNG, without times and versions."""
    kind = "pdf" if Path(path).suffix == ".pdf" else "png"
    about = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}[kind]
    # Fonts as TrueType: publishers refuse Matplotlib's own kind.
    with plt.rc_context({"pdf.fonttype": 42}), written_whole(path) as partial:
        figure.savefig(partial, format=kind, metadata=dict.fromkeys(about), dpi=dpi)


def _legend_outside(axes: Axes, **settings: object) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.get_legend().remove()
    axes.figure.legend(handles, labels, **{"loc": "outside right upper"} | settings)


def error_against_tau(runs: Sequence[tuple[str, pd.DataFrame, float]]) -> Figure:
    """GT-known error on `test` against the threshold, one line per run and map.

    runs : method, its `wsol.evaluation.metrics.error_curve`, and its tau chosen on
        `train-fullsup`, which a dot marks; each has its own scale, so they are not averaged
    """
    names, error = [name for name, _, _ in runs], "gt_known_loc_error"
    curves = [c[["tau", error]].assign(method=n, run=i) for i, (n, c, _) in enumerate(runs)]
    chosen = pd.DataFrame(
        [(n, tau, np.interp(tau, c["tau"], c[error])) for n, c, tau in runs if n != "Constant box"],
        columns=["method", "tau", error],
    )  # a constant box has the same error at every threshold
    look = by_method(names)
    with style():
        figure, axes = plt.subplots(figsize=(9, 4.4))
        lines = dict(units="run", estimator=None, linewidth=1.2)
        sns.lineplot(pd.concat(curves), x="tau", y=error, ax=axes, **lines, **look)
        dots = dict(s=36, edgecolor="white", legend=False, zorder=3)
        sns.scatterplot(
            chosen, x="tau", y=error, hue="method", palette=look["palette"], ax=axes, **dots
        )
        axes.set(xlim=(0, 1), xlabel="score-map threshold tau (dot: chosen on train-fullsup)")
        axes.set(ylim=(0, 102), ylabel=LOC_ERROR)  # a line at 100 shows as a whole
        _legend_outside(axes)
    return figure


def error_against_background_images(table: pd.DataFrame) -> Figure:
    """Errors on `test` against the number of background images; 0 is CAM."""
    names = {"gt_known_loc_error": "GT-known localization", "top1_loc_error": "Top-1 localization"}
    names |= {"cls_error": "classification"}
    x = [str(n) if n else "0\n(CAM)" for n in table["n_background"]]
    errors = table[[*names]].rename(columns=names).assign(x=x).melt("x")
    with style():
        figure, axes = plt.subplots(figsize=(7.5, 4))
        look = dict(hue="variable", palette=[BLUE, ORANGE, GREY], style="variable", marker="o")
        dashes = ["", DASHES["--"], DASHES[":"]]
        sns.lineplot(
            errors, x="x", y="value", dashes=dashes, markeredgecolor="none", ax=axes, **look
        )
        axes.set(xlabel="background images", ylim=(0, 102), ylabel="error on test (%)")
        seeds = ", ".join(map(str, sorted(set(table["seed"]))))
        _legend_outside(axes, title=f"seed {seeds}")
    return figure


def training_curves(histories: pd.DataFrame) -> Figure:
    """Losses per epoch, a panel each, one line per method and seed.

    histories : of `wsol.report.tables.histories`: method, seed, epoch, loss, <name>_loss
    """
    losses = {c: c.replace("_", " ") for c in histories.columns if c.endswith("_loss")}
    losses = {"loss": "total loss"} | losses
    keys = ["method", "seed", "epoch"]
    long = histories[[*keys, *losses]].rename(columns=losses).melt(keys, var_name="loss").dropna()
    methods = long["method"].unique()
    markers = {"marker": "o"} if long["epoch"].max() == 1 else {}
    with style(), plt.rc_context({"figure.constrained_layout.use": False}):
        grid = sns.relplot(
            long, x="epoch", y="value", col="loss", kind="line", units="seed", estimator=None,
            linewidth=1.2, height=3.4, aspect=0.95, facet_kws={"sharey": False},
            **by_method(methods), **markers,
        )  # fmt: skip
        grid.set_titles("{col_name}").set_ylabels("")
        highest = long.groupby("loss")["value"].max()
        for loss, axes in grid.axes_dict.items():
            axes.set_ylim(0, 1.08 * highest[loss])
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        grid.figure.set_layout_engine("constrained")
        sns.move_legend(grid, "outside lower center", ncols=len(methods), title=None)
    return grid.figure


def image_rows(rows: Mapping[str, NDArray], count: int) -> Figure:
    """The first `count` of images (N, H, W, 3) or of maps (N, h, w), one row for each name."""
    with style():
        size = (1.25 * count + 1.2, 1.3 * len(rows))
        figure, panels = plt.subplots(len(rows), count, figsize=size, squeeze=False)
        for axes, (name, images) in zip(panels, rows.items(), strict=True):
            for panel, image in zip(axes, images, strict=False):
                panel.imshow(image, cmap="magma")
            axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for panel in panels.flat:
            panel.set(xticks=[], yticks=[])
    return figure


def failure_bars(failures: pd.DataFrame) -> Figure:
    """Reasons of wrong boxes, one stacked bar per method.

    failures : of `wsol.report.tables.failures`: method, reason, gt_known_loc_error (%)
    """
    shares = failures.pivot_table("gt_known_loc_error", "method", "reason", sort=False)
    shares = shares.reindex(columns=list(REASON_COLOURS)).fillna(0)
    with style():
        figure, axes = plt.subplots(figsize=(9, 0.34 * len(shares) + 1.4))
        shares.plot.barh(stacked=True, width=0.8, color=REASON_COLOURS, ax=axes)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 100), ylabel="")
        axes.set_xlabel("wrong boxes, by reason (% of the images of test)")
        _legend_outside(axes, loc="outside lower center", ncols=4)
    return figure


def error_by_size(sizes: pd.DataFrame, methods: list[str]) -> Figure:
    """GT-known error against the size of the object, one line for each of the methods.

    sizes : of `wsol.report.study.error_by_size`
    """
    sizes = sizes[sizes["method"].isin(methods)]
    ends = zip(sizes["size_low"], sizes["size_high"], strict=True)
    sizes = sizes.assign(size=[f"{low:.0f} to {high:.0f} %" for low, high in ends])
    with style():
        figure, axes = plt.subplots(figsize=(9, 4.2))
        look = dict(marker="o", markersize=6, markeredgecolor="none") | by_method(methods)
        sns.lineplot(sizes, x="size", y="gt_known_loc_error", ax=axes, **look)
        axes.set(ylim=(0, 102), ylabel=LOC_ERROR)
        axes.set_xlabel("share of the image that the ground-truth box covers")
        _legend_outside(axes)
    return figure


def cost_against_error(table: pd.DataFrame, step: Mapping[str, float]) -> Figure:
    """GT-known error against the time of a training step over CAM's, `step`, by method.

    table : method, gt_known_loc_error_mean
    """
    table = table[table["method"].isin(step)].assign(step=lambda t: t["method"].map(step))
    names = list(table["method"])
    with style():
        figure, axes = plt.subplots(figsize=(8.5, 4.4))
        look = {key: value for key, value in by_method(names).items() if key != "dashes"}
        look |= dict(markers=dict(zip(names, MARKERS, strict=False)), s=90, edgecolor="black")
        sns.scatterplot(table, x="step", y="gt_known_loc_error_mean", ax=axes, linewidth=1, **look)
        axes.set(ylim=(0, 102), ylabel=LOC_ERROR, xlim=(0.8, 1.1 * max(step.values())))
        axes.set_xlabel("time of a training step, relative to CAM")
        _legend_outside(axes)
    return figure
