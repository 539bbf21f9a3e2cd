"""Palette and style of the figures of this repository; colour and dashes of each method."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt

from wsol.report.names import POSTHOC

# Okabe and Ito (2008)
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PURPLE, GREY, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#777777", "#000000"

# Post-hoc maps, of which there are many: the colour says the method, the dashes the layer.
POSTHOC_COLOURS = (ORANGE, YELLOW, SKY, PURPLE, GREEN)  # in the order of `POSTHOC`
LAYERDASHES = {"early": "-", "middle": "--", "late": ":"}


class Styles(dict[str, tuple[str, str]]):
    """Colour and dashes by row; black and dash-dotted for a row without a style."""

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
            for layer, dashes in LAYERDASHES.items()
            for method, colour in zip(POSTHOC.values(), POSTHOC_COLOURS, strict=True)
        },
        "Background images in batch statistics": (GREY, "-"),
        "Background images as a class": (GREEN, ":"),
        "Background images as a class: all but it": (GREEN, "-."),
        "Background images as a class: product": (YELLOW, "-."),
        "CAM's class, box of the foreground map": (RED, "--"),
        "Background images": (BLUE, "-"),
        "Background images: foreground map": (GREEN, "--"),
        "Background images: product": (PURPLE, "-."),
        "Background images and negatives": (BLACK, "-"),
        "Background images and negatives: foreground map": (GREEN, "-"),
        "Background images and negatives: product": (YELLOW, "--"),
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
    "text.parse_math": False,  # a class name may hold a dollar sign
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
DASHES = {"-": "", "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65)}  # for seaborn

# Loaded now: loading turns interactive drawing on in a notebook, which `rc_context` would undo.
plt.switch_backend(plt.get_backend())


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of this repository."""
    with plt.rc_context(STYLE):
        yield


def by_method(names: Sequence[str]) -> dict[str, object]:
    """Return keyword arguments for seaborn's line plots: colour and dashes of each method."""
    order = list(METHOD_STYLE)
    names = sorted(set(names), key=lambda n: order.index(n) if n in order else len(order))
    return {
        "hue": "method",
        "style": "method",
        "hue_order": names,
        "style_order": names,
        "palette": {name: METHOD_STYLE[name][0] for name in names},
        "dashes": {name: DASHES[METHOD_STYLE[name][1]] for name in names},
    }
