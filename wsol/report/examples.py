"""Examples for figures, selected by rule: images at fixed places of the ranking by IoU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsol.datasets.image_files import load_image
from wsol.datasets.index import TEST, parse_boxes, rows_of
from wsol.evaluation.boxes import FRAME, box_iou, largest_box, resize_boxes, score_map
from wsol.evaluation.metrics import choose_tau, column_of
from wsol.evaluation.predict import load_maps, read_out_map
from wsol.evaluation.table import LocalizationTable
from wsol.report.style import METHOD_STYLE, style

PLACES = ("best", "upper quarter", "median", "lower quarter", "worst")  # of the ranking

# Of one row of the figure: folder of maps, name of the map, tables of `test` and `train-fullsup`.
Source = tuple[Path, str, LocalizationTable, LocalizationTable]
TRUTH = "#FFFFFF"  # ground-truth boxes


class MapAndBox(NamedTuple):
    """One map of one image in the protocol's frame."""

    score: NDArray[np.float64]  # (FRAME, FRAME) in [0, 1]
    box: NDArray[np.int64]  # (4,) at the chosen tau
    iou: float  # with the ground truth


class Example(NamedTuple):
    """One column of the figure of examples."""

    title: str
    image: NDArray[np.uint8]  # (FRAME, FRAME, 3)
    truth: NDArray[np.int64]  # (G, 4)
    maps: Mapping[str, MapAndBox]  # by method


def rank_by_iou(test: LocalizationTable, fullsup: LocalizationTable) -> np.ndarray:
    """Rank the images of `test` by IoU at the tau of `train-fullsup`, the best first, (N,).

    Images of equal IoU come in the order of their names.
    """
    column = column_of(test, choose_tau(fullsup))
    names = test.rows["image_id"].to_numpy(dtype=np.str_)
    return np.lexsort((names, -test.iou_largest[:, column]))


def true_boxes(row: pd.Series) -> NDArray[np.int64]:
    """Ground-truth boxes (G, 4) of an index row, in the frame."""
    return resize_boxes(parse_boxes(row["boxes"]), (row["width"], row["height"]))


def load_frame(root: Path, row: pd.Series) -> NDArray[np.uint8]:
    """Load the image of an index row, RGB (H, W, 3) in the frame; root : of the data set."""
    return load_image(root / row["path"], FRAME).transpose(1, 2, 0)


def map_and_box(source: Source, row: pd.Series, number: int, tau: float) -> MapAndBox:
    """Score map, box and IoU at tau, as evaluated, of image `number` of `test`, with its row."""
    folder, kind, test, _ = source
    maps = {name: maps[number : number + 1] for name, maps in load_maps(folder).items()}
    score = score_map(read_out_map(maps, kind, test.meta["read_out"])[0])
    box = largest_box(score, tau)
    return MapAndBox(score, box, float(box_iou(box[None], true_boxes(row)).max()))


def load_examples(
    index: pd.DataFrame,
    root: Path,
    sources: Mapping[str, Source],
    rule: str,
    titles: Sequence[str] = PLACES,
) -> list[Example]:
    """Load images of `test` at equal distances in the ranking by IoU of the map `rule`."""
    rows, examples = rows_of(index, TEST), []
    ranked = rank_by_iou(*sources[rule][2:])
    places = np.linspace(0, len(ranked) - 1, len(titles))
    for place, title in zip(places, titles, strict=True):
        number = int(ranked[round(place)])
        row = rows.iloc[number]
        maps = {n: map_and_box(s, row, number, choose_tau(s[3])) for n, s in sources.items()}
        examples.append(Example(title, load_frame(root, row), true_boxes(row), maps))
    return examples


def draw_examples(columns: Sequence[Example], row_names: Mapping[str, str]) -> Figure:
    """Draw images, their maps and boxes: a column per image, a row per map (with its label)."""
    rim = 5  # pixels around the frame, so that a box on its border is visible
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
                one, extent = example.maps[name], (0, FRAME, FRAME, 0)
                grey = example.image.mean(axis=2)
                axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
                axes.imshow(one.score, cmap="magma", vmin=0, vmax=1, alpha=0.6, extent=extent)
                _boxes(axes, example.truth, TRUTH, "--")
                _boxes(axes, one.box[None], METHOD_STYLE[name][0], "-")
                axes.set_xlabel(f"IoU {one.iou:.2f}", labelpad=2)
        for axes, name in zip(panels[:, 0], ["image", *row_names.values()], strict=True):
            axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        figure.supxlabel("dashed: ground truth; solid: box of the map at tau", fontsize=10)
    return figure


def _boxes(axes: Axes, boxes: NDArray, colour: str, dashes: str) -> None:
    for x0, y0, x1, y1 in boxes:
        for edge, width, line in (("black", 3.4, "-"), (colour, 1.8, dashes)):
            frame = dict(fill=False, edgecolor=edge, linewidth=width, linestyle=line)
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **frame))
