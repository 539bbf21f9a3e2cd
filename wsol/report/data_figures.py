"""Contact sheets of background pictures, for a person who looks for objects in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsol.datasets.images import load_image, load_images
from wsol.datasets.index import parse_boxes
from wsol.evaluation.boxes import FRAME, resize_boxes
from wsol.report.figures import BLUE, GREY, ORANGE, RED, YELLOW, style

# Pictures of a data set: contact sheets, sizes, places and colours of the objects.


def contact_sheet(
    images: NDArray[np.uint8], boxes: Sequence[NDArray] | None = None, columns: int = 12
) -> Figure:
    """N images (N, 3, L, L) in rows, each with its boxes (G, 4) in units of the image's side."""
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
    """Boxes (G, 4) of each row in units of the image's width and height."""
    sides = index[["width", "height", "width", "height"]].to_numpy()
    return [parse_boxes(text) / side for text, side in zip(index["boxes"], sides, strict=True)]


def object_sizes(index: pd.DataFrame) -> Figure:
    """Histogram of the share of the image that the boxes of each split cover, %."""
    bins = np.arange(0, 101, 5)
    with style():
        figure, axes = plt.subplots(figsize=(6, 3.2))
        for (split, rows), colour in zip(
            index.groupby("split", sort=False), (BLUE, ORANGE, GREY), strict=False
        ):
            boxes = np.concatenate(unit_boxes(rows))
            area = 100 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
            weights = np.full(len(area), 100 / len(area))
            style_of = dict(histtype="step", linewidth=1.8, color=colour, label=split)
            axes.hist(area, bins, weights=weights, **style_of)
        axes.set(xlabel="share of the image inside the box (%)", ylabel="boxes (%)", xlim=(0, 100))
        axes.legend()
    return figure


def centre_bias(index: pd.DataFrame) -> tuple[Figure, NDArray[np.float64]]:
    """Share of the images, %, whose box covers each pixel of the frame; figure and (H, W) share."""
    share = np.zeros((FRAME, FRAME))
    for row in index.itertuples():
        covered = np.zeros_like(share)
        for x0, y0, x1, y1 in resize_boxes(parse_boxes(row.boxes), (row.width, row.height)):
            covered[y0 : y1 + 1, x0 : x1 + 1] = 1
        share += 100 * covered / len(index)
    with style():
        figure, axes = plt.subplots(figsize=(4.4, 3.6))
        drawn = axes.imshow(share, cmap="magma", vmin=0, vmax=100, extent=(0, 1, 1, 0))
        axes.set(xlabel="x / width", ylabel="y / height")
        axes.grid(False)
        figure.colorbar(drawn, label="images whose box covers this place (%)")
    return figure, share


def colour_histograms(pixels: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Histograms of red, green and blue for sets of pixels, each (n, 3), as shares in %."""
    bins = np.arange(0, 257, 8)
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True)
        for channel, (axes, title) in enumerate(zip(panels, ("red", "green", "blue"), strict=True)):
            for (name, values), colour in zip(pixels.items(), (BLUE, ORANGE, GREY), strict=False):
                weights = np.full(len(values), 100 / len(values))
                style_of = dict(histtype="step", linewidth=1.5, color=colour, label=name)
                axes.hist(values[:, channel], bins, weights=weights, **style_of)
            axes.set(title=title, xlabel="value (0 to 255)", xlim=(0, 256))
        panels[0].set_ylabel("pixels (%)")
        panels[0].legend(fontsize=8)
    return figure


# Pictures of an index table, whatever data set it is of.


def spread(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most n of the rows, evenly from the first to the last, so that many classes are shown."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def boxed_sheet(index: pd.DataFrame, root: Path, split: str, n: int, size: int) -> Figure:
    """n pictures of a split with their boxes, squashed to squares of `size` pixels.

    `root` is what the paths of the table start from. Raises ValueError if the split is empty.
    """
    rows = spread(index[index["split"] == split], n)
    if rows.empty:
        raise ValueError(f"no image of the split {split!r} in this index table")
    images = np.stack([load_image(root / path, size) for path in rows["path"]])
    return contact_sheet(images, unit_boxes(rows), columns=min(n, 8))


TITLE = 22  # characters of a file's name that fit above its picture


def ranked_sheet(
    folder: str | Path, ranked: pd.DataFrame, count: int, columns: int = 6, side: int = 160
) -> Figure:
    """The first `count` pictures of an audit in its order, line by line, with score and name.

    ranked : what `wsol.inference.audit.audit` returns; names of dropped pictures are red
    side : to which pictures are squashed, pixels
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
