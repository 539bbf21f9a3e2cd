"""Habitats: what may be seen behind the birds, and what background sets show beside it.

A habitat is a row of a table: a palette and the elements that may stand in it, by the names of
:data:`wsol.datasets.birds.scenes.ELEMENTS`, with the fewest and the most that are drawn.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Habitat:
    """One kind of scene: colours from far to near, and how often each element is drawn."""

    name: str
    palette: tuple[tuple[int, int, int], ...]
    elements: tuple[tuple[str, int, int], ...]


HABITATS = (
    Habitat(
        "forest",
        ((58, 74, 48), (84, 104, 60), (104, 84, 60), (136, 116, 84), (72, 60, 46), (150, 160, 96)),
        (("bokeh", 6, 14), ("trunk", 1, 3), ("leaves", 2, 5), ("branch", 1, 3), ("cones", 0, 5)),
    ),
    Habitat(
        "marsh",
        (
            (122, 132, 128),
            (92, 108, 98),
            (140, 128, 88),
            (96, 88, 58),
            (66, 72, 52),
            (172, 168, 138),
        ),
        (("ripples", 12, 26), ("reeds", 20, 46), ("stones", 0, 4), ("branch", 0, 2)),
    ),
    Habitat(
        "meadow",
        (
            (124, 142, 84),
            (94, 116, 58),
            (150, 150, 92),
            (116, 96, 64),
            (186, 172, 112),
            (76, 88, 50),
        ),
        (
            ("bokeh", 4, 10),
            ("reeds", 24, 60),
            ("flowers", 4, 16),
            ("stones", 0, 4),
            ("leaves", 0, 2),
        ),
    ),
    Habitat(
        "shore",
        (
            (150, 152, 148),
            (116, 112, 104),
            (138, 124, 104),
            (92, 86, 80),
            (176, 166, 146),
            (82, 94, 98),
        ),
        (("ripples", 4, 12), ("stones", 8, 22), ("pebbles", 20, 60), ("branch", 0, 2)),
    ),
    Habitat(
        "orchard",
        (
            (150, 168, 176),
            (112, 134, 82),
            (86, 106, 62),
            (122, 98, 74),
            (164, 92, 64),
            (94, 76, 62),
        ),
        (("bokeh", 4, 12), ("branch", 2, 5), ("leaves", 3, 6), ("fruit", 3, 10)),
    ),
    Habitat(
        "winter",
        (
            (196, 202, 208),
            (168, 172, 176),
            (118, 112, 108),
            (92, 80, 72),
            (138, 126, 114),
            (84, 92, 88),
        ),
        (("bokeh", 3, 8), ("trunk", 0, 2), ("branch", 4, 9), ("cones", 0, 6), ("stones", 0, 4)),
    ),
)

FOREIGN = (
    Habitat(
        "street",
        (
            (150, 140, 136),
            (124, 88, 74),
            (104, 104, 112),
            (176, 168, 156),
            (72, 76, 84),
            (60, 98, 130),
        ),
        (("bricks", 1, 1), ("windows", 2, 6), ("lamps", 0, 4), ("stones", 0, 2)),
    ),
    Habitat(
        "desert",
        (
            (214, 188, 142),
            (192, 152, 104),
            (168, 122, 82),
            (138, 98, 70),
            (224, 206, 168),
            (120, 132, 88),
        ),
        (("dunes", 3, 7), ("pebbles", 10, 40), ("stones", 0, 6), ("reeds", 0, 8)),
    ),
    Habitat(
        "indoors",
        (
            (188, 176, 158),
            (142, 104, 76),
            (112, 74, 60),
            (92, 108, 122),
            (206, 196, 184),
            (124, 58, 58),
        ),
        (("shelves", 2, 4), ("windows", 1, 5), ("fruit", 0, 6), ("lamps", 0, 3)),
    ),
    Habitat(
        "seabed",
        (
            (46, 98, 122),
            (32, 74, 98),
            (98, 128, 122),
            (152, 118, 104),
            (172, 148, 98),
            (70, 58, 92),
        ),
        (("bokeh", 4, 10), ("stones", 3, 9), ("weeds", 8, 20), ("pebbles", 10, 40)),
    ),
    Habitat(
        "night",
        ((26, 30, 46), (40, 46, 66), (62, 58, 70), (84, 76, 74), (150, 126, 72), (34, 44, 42)),
        (("bokeh", 6, 16), ("lamps", 3, 9), ("windows", 0, 4), ("trunk", 0, 2)),
    ),
)

FOLIAGE = {"forest": "leaves", "orchard": "leaves", "marsh": "reeds", "meadow": "reeds"}
