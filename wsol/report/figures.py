"""Figures of the study: all methods beside each other."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsol.evaluation.boxes import FRAME
from wsol.evaluation.failures import ELSEWHERE, MULTIPLE, TOO_LARGE, TOO_SMALL

# Figures of the report: one palette, one style, the same bytes whenever they are drawn again.

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"
BLACK = "#000000"
TRUTH = "#FFFFFF"  # ground-truth boxes, on pictures

# Post-hoc maps, of which there are many: the colour says the method, the dashes the layer.
POSTHOC_COLOURS = {
    "Grad-CAM": ORANGE,
    "Grad-CAM++": YELLOW,
    "XGrad-CAM": SKY,
    "LayerCAM": PURPLE,
    "Score-CAM": GREEN,
}
LAYER_DASHES = {"early": "-", "middle": "--", "late": ":"}


class Styles(dict[str, tuple[str, str]]):
    """Colour and dashes by row; a row that has none yet is black and dash-dotted."""

    def __missing__(self, row: str) -> tuple[str, str]:
        return BLACK, "-."


# Colour and dashes of every row of the report.
METHOD_STYLE = Styles(
    {
        "CAM": (RED, "-"),
        "HaS": (SKY, "-"),
        "ACoL": (SKY, "--"),
        "SPG": (PURPLE, "-"),
        "ADL": (PURPLE, "--"),
        "CutMix": (YELLOW, "-"),
        "BAS": (ORANGE, "-"),
        **{
            f"{method}, {layer} layer": (colour, dashes)
            for layer, dashes in LAYER_DASHES.items()
            for method, colour in POSTHOC_COLOURS.items()
        },
        "Background images in batch statistics": (GREY, "-"),
        "Background images as a class": (GREEN, ":"),
        "Background images as a class: all but it": (GREEN, "-."),
        "Background images as a class: product": (YELLOW, "-."),
        "CAM's class, box of the foreground map": (RED, "--"),
        "Background images": (BLUE, "-"),
        "Background images: foreground map": (GREEN, "--"),
        "Background images: product": (PURPLE, "-."),
        "Background images and HaS": (SKY, "-."),
        "Background images and ADL": (PURPLE, ":"),
        "Background images and CutMix": (YELLOW, ":"),
        "Few-shot supervised": (BLACK, "--"),
        "Constant box": (GREY, ":"),
        "Centre Gaussian": (GREY, "--"),
        "Colour-distance saliency": (ORANGE, ":"),
        "5x5 patch classifier": (SKY, ":"),
    }
)
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


# Loaded now: a notebook's backend turns interactive drawing on when it loads, and `rc_context`
# would turn it off again, so that a notebook's second figure would not show.
plt.switch_backend(plt.get_backend())


@contextmanager
def style():
    """Draw in the style of this repository."""
    with plt.rc_context(STYLE):
        yield


def save(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure as PNG, without a trace of when and by what."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None}, dpi=dpi)


def _place(row: str) -> int:
    """Where a row stands in the report; one without a style comes last."""
    order = list(METHOD_STYLE)
    return order.index(row) if row in order else len(order)


def _percent_axis(axes: Axes, label: str) -> None:
    axes.set(ylim=(0, 102), ylabel=label)  # a line at 100 shows as a whole


def error_against_tau(runs: Sequence[tuple[str, pd.DataFrame, float]]) -> Figure:
    """GT-known error on `test` against the threshold, one line per run and map.

    runs : row of the report, its `wsol.evaluation.metrics.error_curve`, and its tau chosen on `train-fullsup`,
    which a dot marks. Runs are not averaged: each has its own read-out, and with it another scale.
    """
    with style():
        figure, axes = plt.subplots(figsize=(9, 4.4))
        drawn: dict[str, object] = {}
        for name, curve, tau in sorted(runs, key=lambda run: _place(run[0])):
            colour, dashes = METHOD_STYLE[name]
            error = curve["gt_known_loc_error"]
            (line,) = axes.plot(curve["tau"], error, color=colour, linestyle=dashes, linewidth=1.2)
            drawn.setdefault(name, line)
            if name != "Constant box":  # which is the same at every threshold
                at = np.interp(tau, curve["tau"], error)
                axes.plot(tau, at, "o", color=colour, markeredgecolor="white")
        _percent_axis(axes, "GT-known localization error (%)")
        axes.set(xlim=(0, 1), xlabel="score-map threshold tau (dot: chosen on train-fullsup)")
        figure.legend(drawn.values(), drawn.keys(), loc="outside right upper")
    return figure


def error_against_background_images(table: pd.DataFrame) -> Figure:
    """Errors on `test` against the number of background images; 0 is CAM."""
    lines = (
        ("gt_known_loc_error", "GT-known localization", BLUE, "-"),
        ("top1_loc_error", "Top-1 localization", ORANGE, "--"),
        ("cls_error", "classification", GREY, ":"),
    )
    with style():
        figure, axes = plt.subplots(figsize=(7.5, 4))
        places = np.arange(len(table))
        for column, label, colour, dashes in lines:
            axes.plot(
                places, table[column], color=colour, linestyle=dashes, marker="o", label=label
            )
        names = [str(n) if n else "0\n(CAM)" for n in table["n_background"]]
        axes.set_xticks(places, names)
        axes.set_xlabel("background images")
        _percent_axis(axes, "error on test (%)")
        seeds = ", ".join(map(str, sorted(set(table["seed"]))))
        figure.legend(title=f"seed {seeds}", loc="outside right upper")
    return figure


def training_curves(histories: pd.DataFrame) -> Figure:
    """Losses per epoch, a panel each; thin lines are seeds.

    histories : method (as in the report), seed, epoch, and the losses of `history.csv`
    """
    losses = [c for c in histories.columns if c == "loss" or c.endswith("_loss")]
    with style():
        width = 3.2 * len(losses) + 0.4
        figure, panels = plt.subplots(1, len(losses), figsize=(width, 3.4), squeeze=False)
        for axes, loss in zip(panels[0], losses, strict=True):
            for (method, seed), run in histories.groupby(["method", "seed"], sort=False):
                if run[loss].isna().all():
                    continue
                colour, dashes = METHOD_STYLE[method]
                label = method if seed == histories["seed"].min() else None
                marker = "o" if len(run) == 1 else None
                axes.plot(
                    run["epoch"],
                    run[loss],
                    color=colour,
                    linestyle=dashes,
                    linewidth=1.2,
                    marker=marker,
                    label=label,
                )
            axes.set(title=loss.replace("_", " "), xlabel="epoch")
            axes.set_ylim(0, 1.08 * histories[loss].max())
            axes.set_xticks(_whole(histories["epoch"].max()))
        panels[0][0].set_title("total loss")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _whole(last: int, most: int = 8) -> list[int]:
    """Ticks at whole epochs from 1 to `last`, no more than `most`."""
    step = -(-last // most)
    return list(range(step, last + 1, step)) if step > 1 else list(range(1, last + 1))


def picture_rows(rows: Mapping[str, NDArray], count: int) -> Figure:
    """The first `count` of images (N, H, W, 3) or of maps (N, h, w), one row for each name."""
    with style():
        size = (1.25 * count + 1.2, 1.3 * len(rows))
        figure, panels = plt.subplots(len(rows), count, figsize=size, squeeze=False)
        for axes, (name, pictures) in zip(panels, rows.items(), strict=True):
            for panel, picture in zip(axes, pictures, strict=False):
                panel.imshow(picture, cmap="magma")
            axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for panel in panels.flat:
            panel.set(xticks=[], yticks=[])
    return figure


class MapAndBox(NamedTuple):
    """One map of one image, ready to be drawn in the protocol's frame."""

    score: NDArray[np.float64]  # (FRAME, FRAME) in [0, 1]
    box: NDArray[np.int64]  # (4,) at the chosen tau
    iou: float  # with the ground truth


class Example(NamedTuple):
    """One column of the figure of examples."""

    title: str
    image: NDArray[np.uint8]  # (FRAME, FRAME, 3)
    truth: NDArray[np.int64]  # (G, 4)
    maps: Mapping[str, MapAndBox]  # by method


def examples(columns: Sequence[Example], row_names: Mapping[str, str]) -> Figure:
    """Images with their maps and boxes: one column per image, one row per map.

    row_names : for each map of the examples, what to write beside its row
    """
    rim = 5  # pixels around the frame, where a box on the border still shows
    with style():
        shape = (1 + len(row_names), len(columns))
        size = (1.75 * shape[1] + 1.3, 1.85 * shape[0] + 0.4)
        figure, panels = plt.subplots(*shape, figsize=size, squeeze=False)
        for axes in panels.flat:
            axes.set(xticks=[], yticks=[], xlim=(-rim, FRAME + rim), ylim=(FRAME + rim, -rim))
            axes.grid(False)
            axes.spines[:].set_visible(False)
        for column, example in zip(panels.T, columns, strict=True):
            column[0].imshow(example.image, extent=(0, FRAME, FRAME, 0))
            column[0].set_title(example.title)
            _boxes(column[0], example.truth, TRUTH, "--")
            for axes, name in zip(column[1:], row_names, strict=True):
                _draw_map(axes, example, example.maps[name], METHOD_STYLE[name][0])
        for axes, name in zip(panels[:, 0], ["image", *row_names.values()], strict=True):
            axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        figure.supxlabel("dashed: ground truth; solid: box of the map at tau", fontsize=10)
    return figure


def _draw_map(axes: Axes, example: Example, drawn: MapAndBox, colour: str) -> None:
    """A map over the grey image, its box in the method's colour, the IoU below."""
    grey = example.image.mean(axis=2)
    extent = (0, FRAME, FRAME, 0)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
    axes.imshow(drawn.score, cmap="magma", vmin=0, vmax=1, alpha=0.6, extent=extent)
    _boxes(axes, example.truth, TRUTH, "--")
    _boxes(axes, drawn.box[None], colour, "-")
    axes.set_xlabel(f"IoU {drawn.iou:.2f}", labelpad=2)


def _boxes(axes: Axes, boxes: NDArray, colour: str, dashes: str) -> None:
    """Boxes (G, 4) with a dark rim, so that they show on any picture."""
    for x0, y0, x1, y1 in boxes:
        for edge, width, line in (("black", 3.4, "-"), (colour, 1.8, dashes)):
            frame = dict(fill=False, edgecolor=edge, linewidth=width, linestyle=line)
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **frame))


_MARKERS = "osD^v<>PXph*8d"  # one per method: several share a colour
REASON_COLOURS = {TOO_SMALL: RED, TOO_LARGE: SKY, MULTIPLE: ORANGE, ELSEWHERE: GREY}


def failure_bars(failures: pd.DataFrame) -> Figure:
    """Why boxes are wrong, one bar per row of the report, stacked by reason.

    failures : method, reason, gt_known_loc_error (% of the images), as
        `wsol.report.tables.failures` gives them
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
