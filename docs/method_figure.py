"""Figure that explains the method, with the maps of a published network for two images.

    python docs/method_figure.py

Writes method.png beside this file. Every map in it is the network's, none is drawn by hand.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from wsol.datasets.birds import SPECIES, background_image, bird_image
from wsol.evaluation.predict import READ_OUTS
from wsol.inference.published import published
from wsol.inference.settings import open_run
from wsol.report.figures import save
from wsol.report.style import BLUE, GREEN, GREY, RED, style

SIDE = 96  # of the network's input, pixels
SEED, SPECIES_SHOWN = 5, 0

# Width and height of the panels, and left and bottom of each, in shares of the figure.
SIZE = (0.15, 0.30)
PLACES = {
    "image": (0.02, 0.56),
    "background image": (0.02, 0.12),
    "S": (0.45, 0.56),
    "S of background": (0.45, 0.12),
    "M": (0.64, 0.56),
    "A": (0.83, 0.56),
}


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest square in the middle of an image (H, W, 3), as (SIDE, SIDE, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@torch.inference_mode()
def _maps() -> dict[str, NDArray]:
    """Both images and the maps of a published network, by their names in `PLACES`."""
    rng = np.random.default_rng(SEED)
    image = _square(bird_image(rng, SPECIES[SPECIES_SHOWN]).image)
    background = _square(background_image(rng, 0.3).image)
    network, _, _ = open_run(published("birds/background-0"), "foreground")
    batch = torch.from_numpy(np.stack([image, background])).permute(0, 3, 1, 2).float() / 255
    outputs = network(batch.contiguous(memory_format=torch.channels_last))
    foreground = outputs.foreground[:, 0].numpy()
    sigmoid = READ_OUTS["sigmoid"]
    return {
        "image": image,
        "background image": background,
        "S": foreground[0],
        "S of background": foreground[1],
        "M": sigmoid(foreground[0]),
        "A": sigmoid(outputs.class_maps[0, outputs.logits[0].argmax()].numpy()),
    }


def _arrow(axes: Axes, start: tuple, end: tuple, colour: str = GREY, dashes: str = "-") -> None:
    look: dict[str, Any] = dict(arrowstyle="-|>", color=colour, linewidth=1.6, linestyle=dashes)
    axes.annotate("", end, start, arrowprops=look)


def method_figure() -> Figure:
    """Draw images, maps and losses of the background method, from left to right."""
    maps = _maps()
    peak = float(max(abs(maps["S"]).max(), abs(maps["S of background"]).max()))
    with style():
        figure = plt.figure(figsize=(11, 5.2), layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.axis("off")
        for name, (x, y) in PLACES.items():
            panel = figure.add_axes((x, y, *SIZE))
            scale: dict[str, Any] = (
                dict(vmin=-peak, vmax=peak) if name.startswith("S") else dict(vmin=0, vmax=1)
            )
            panel.imshow(maps[name], **({} if "image" in name else dict(cmap="magma") | scale))
            panel.set(xticks=[], yticks=[])
        words: dict[str, Any] = dict(ha="center", fontsize=10)
        axes.text(0.095, 0.885, "object image, label known", **words)
        axes.text(0.1, 0.075, "background image: no object", **words)
        axes.text(0.525, 0.885, "foreground map S (logits)", **words)
        axes.text(0.715, 0.885, "mask M, S normalized", **words)
        axes.text(0.905, 0.885, "class map A of the label", **words)
        box: dict[str, Any] = dict(boxstyle="round,pad=0.6", facecolor="white", edgecolor=GREY)
        axes.text(0.31, 0.49, "one network\nfor both", va="center", bbox=box, **words)
        for y in (0.71, 0.27):
            _arrow(axes, (0.175, y), (0.262, 0.5 + (y - 0.49) * 0.3))
            _arrow(axes, (0.358, 0.5 + (y - 0.49) * 0.3), (0.448, y))
        _arrow(axes, (0.602, 0.71), (0.638, 0.71))
        _arrow(axes, (0.792, 0.71), (0.828, 0.71), BLUE)
        axes.text(0.525, 0.075, "every place: 0", color=GREEN, **words)
        axes.text(0.525, 0.505, "highest fifth: 1", color=GREEN, **words)
        axes.text(0.525, 0.02, "foreground loss", color=GREEN, weight="bold", **words)
        axes.text(0.735, 0.455, "mask loss: A follows M,\npixel by pixel", color=BLUE, **words)
        axes.text(0.905, 0.38, "pooled: class loss", color=RED, **words)
        axes.text(0.81, 0.24, "The class map alone would stay on the head,", **words)
        axes.text(0.81, 0.185, "which tells classes apart; the mask makes it", **words)
        axes.text(0.81, 0.13, "grow to the bird. No box is used anywhere.", **words)
        _arrow(axes, (0.905, 0.55), (0.905, 0.415), RED)
    return figure


if __name__ == "__main__":
    save(method_figure(), Path(__file__).with_name("method.png"))
