"""A figure of boxes in anybody's pictures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsol.own_exports import overlay
from wsol.own_images import Found
from wsol.own_pictures import Source, read_picture
from wsol.own_settings import spoken
from wsol.plots import style

SHORT = 384  # pixels of the shorter side that pictures are enlarged to, at most


def found_rows(rows: Mapping[str, Sequence[Found]], pictures: Sequence[Source]) -> Figure:
    """One row per entry of `rows`, one column per picture: score map, box in green, class, score.

    rows : by what stands beside the row, one answer for each of the pictures
    """
    with style():
        size = (1.75 * len(pictures) + 1.4, 2.0 * len(rows))
        figure, panels = plt.subplots(len(rows), len(pictures), figsize=size, squeeze=False)
        for line, (name, found) in zip(panels, rows.items(), strict=True):
            for axes, picture, one in zip(line, pictures, found, strict=True):
                shown, times = _enlarged(read_picture(picture))
                if one.score_map is not None:
                    shown = overlay(shown, one.score_map, times * one.box)
                axes.imshow(shown)
                axes.set(xticks=[], yticks=[])
                axes.set_title(f"{spoken(one.class_name)}, {one.score:.2f}", fontsize=8)
                axes.grid(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def _enlarged(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """A small picture (H, W, 3) several times as large, so that lines in it are thin; how often."""
    times = max(1, SHORT // min(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1), times
