"""Contact sheets of background pictures, for a person who looks for objects in them."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from wsol.images import load_images
from wsol.plots import RED, style

TITLE = 22  # characters of a file's name that fit above its picture


def ranked_sheet(
    folder: str | Path, ranked: pd.DataFrame, count: int, columns: int = 6, side: int = 160
) -> Figure:
    """The first `count` pictures of an audit in its order, line by line, with score and name.

    ranked : what `wsol.background_audit.audit` returns; names of dropped pictures are red
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
