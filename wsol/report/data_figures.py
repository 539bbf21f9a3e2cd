"""Figures of a data set: contact sheets, sizes, positions and colours of the objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsol.datasets.image_files import load_image
from wsol.datasets.images import load_images
from wsol.datasets.index import parse_boxes
from wsol.evaluation.boxes import FRAME, resize_boxes
from wsol.evaluation.masks import MaskReader
from wsol.report.style import BLUE, GREY, ORANGE, RED, YELLOW, style

HISTOGRAM = dict(stat="percent", element="step", fill=False)
TITLE = 22  # characters of a file name that fit above its image


def contact_sheet(
    images: NDArray[np.uint8], boxes: Sequence[NDArray] | None = None, columns: int = 12
) -> Figure:
    """Draw images (N, 3, L, L) in rows, each with its boxes (G, 4) in units of the image's side."""
    N, _, L, _ = images.shape
    rows, gap = -(-N // columns), max(2, L // 24)
    step = L + gap
    sheet = np.full((rows * step - gap, columns * step - gap, 3), 255, np.uint8)
    with style():
        figure, axes = plt.subplots(figsize=(10, 10 * sheet.shape[0] / sheet.shape[1]))
        for i, image in enumerate(images):
            y, x = (i // columns) * step, (i % columns) * step
            sheet[y : y + L, x : x + L] = image.transpose(1, 2, 0)
            for x0, y0, x1, y1 in [] if boxes is None else L * boxes[i]:
                frame = dict(fill=False, edgecolor=YELLOW, linewidth=1)
                axes.add_patch(Rectangle((x + x0, y + y0), x1 - x0, y1 - y0, **frame))
        axes.imshow(sheet, extent=(0, sheet.shape[1], sheet.shape[0], 0))
        axes.axis("off")
    return figure


def unit_boxes(index: pd.DataFrame) -> list[NDArray[np.float64]]:
    """Return the boxes (G, 4) of each row in units of the image's width and height."""
    sides = index[["width", "height", "width", "height"]].to_numpy()
    return [parse_boxes(text) / side for text, side in zip(index["boxes"], sides, strict=True)]


def object_pixels(rows: pd.DataFrame, root: Path, size: int) -> NDArray[np.bool_]:
    """Pixels (N, size, size) of the objects: of the masks, or in the boxes of what has no mask."""
    objects, read_mask = np.zeros((len(rows), size, size), np.bool_), MaskReader(root, size)
    for i, row in enumerate(rows.itertuples()):
        if row.mask:
            objects[i] = read_mask(row) == 1
            continue
        for x0, y0, x1, y1 in resize_boxes(parse_boxes(row.boxes), (row.width, row.height), size):
            objects[i, y0:y1, x0:x1] = True
    return objects


def object_sizes(index: pd.DataFrame) -> Figure:
    """Draw the histogram of the share of the image inside each box, in %, for each split."""
    boxes = index[["split"]].assign(box=unit_boxes(index)).explode("box", ignore_index=True)
    boxes = boxes.dropna(subset="box")  # images of `train-weaksup` may have none
    x0, y0, x1, y1 = np.stack(boxes["box"]).T
    boxes["share"] = 100 * (x1 - x0) * (y1 - y0)
    look = dict(zip(boxes["split"].unique(), (BLUE, ORANGE, GREY), strict=False))
    with style():
        figure, axes = plt.subplots(figsize=(6, 3.2))
        sns.histplot(
            boxes, x="share", hue="split", palette=look, hue_order=[*look], ax=axes,
            bins=np.arange(0, 101, 5), common_norm=False, **HISTOGRAM,
        )  # fmt: skip
        axes.set(xlabel="share of the image inside the box (%)", ylabel="boxes (%)", xlim=(0, 100))
        axes.get_legend().set_title(None)
    return figure


def centre_bias(index: pd.DataFrame) -> tuple[Figure, NDArray[np.float64]]:
    """Draw the share of the images whose box covers each pixel of the frame.

    Returns the figure and the share (H, W) in %; H = W = FRAME.
    """
    share = np.zeros((FRAME, FRAME))
    for row in index.itertuples():
        covered = np.zeros_like(share)
        for x0, y0, x1, y1 in resize_boxes(parse_boxes(row.boxes), (row.width, row.height)):
            covered[y0 : y1 + 1, x0 : x1 + 1] = 1
        share += 100 * covered / len(index)
    with style():
        figure, axes = plt.subplots(figsize=(4.4, 3.6))
        heat = axes.imshow(share, cmap="magma", vmin=0, vmax=100, extent=(0, 1, 1, 0))
        axes.set(xlabel="x / width", ylabel="y / height")
        axes.grid(False)
        figure.colorbar(heat, label="images whose box covers this pixel (%)")
    return figure, share


def colour_histograms(pixels: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Draw histograms of red, green and blue, in % of the pixels, for sets of pixels (n, 3)."""
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True)
        for channel, (axes, title) in enumerate(zip(panels, ("red", "green", "blue"), strict=True)):
            for (name, values), colour in zip(pixels.items(), (BLUE, ORANGE, GREY), strict=False):
                bins, x = np.arange(0, 257, 8), values[:, channel]
                sns.histplot(x=x, bins=bins, color=colour, label=name, ax=axes, **HISTOGRAM)
            axes.set(title=title, xlabel="value (0 to 255)", ylabel="pixels (%)", xlim=(0, 256))
        panels[0].legend(fontsize=8)
    return figure


def spread(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return at most n of the rows, at equal distances from the first to the last."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def boxed_sheet(index: pd.DataFrame, root: Path, split: str, n: int, size: int) -> Figure:
    """Draw n images of a split with their boxes, squashed to squares of `size` pixels.

    Paths of the table start from `root`. Raises ValueError if the split is empty.
    """
    rows = spread(index[index["split"] == split], n)
    if rows.empty:
        raise ValueError(f"no image of the split {split!r} in this index table")
    images = np.stack([load_image(root / path, size) for path in rows["path"]])
    return contact_sheet(images, unit_boxes(rows), columns=min(n, 8))


def ranked_sheet(
    folder: str | Path, ranked: pd.DataFrame, count: int, columns: int = 6, side: int = 160
) -> Figure:
    """Draw the first `count` images of an audit in its order, with score and name.

    ranked : of `wsol.inference.audit.audit`; names of dropped images are red
    side : of the squashed images, pixels
    """
    rows = ranked.head(count)
    images = load_images([Path(folder) / file for file in rows["file"]], side)
    lines = -(-len(rows) // columns)
    with style():
        size = (1.75 * columns, 2.1 * lines)
        figure, panels = plt.subplots(lines, columns, figsize=size, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for axes, image, row in zip(panels.flat, images, rows.itertuples(), strict=False):
            axes.imshow(image.permute(1, 2, 0).numpy())
            name = row.file.rsplit("/", 1)[-1]
            name = name if len(name) <= TITLE else f"…{name[1 - TITLE :]}"
            colour = RED if row.decision == "drop" else "black"
            axes.set_title(f"{row.score:.2f}\n{name}", fontsize=8, color=colour)
    return figure
