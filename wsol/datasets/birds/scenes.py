"""Scenes without birds: the habitats behind the birds and the foreign scenes of background sets.

Birds and background images are drawn from the same elements, with the same light and grain; what
differs between the two image sets is only *which* scenes, palettes and scales occur (see
:func:`background_scene`).
"""

from dataclasses import dataclass

import numpy as np

from wsol.datasets.birds.canvas import Canvas, Rng, fill, noise
from wsol.datasets.birds.elements import ELEMENTS, Scene, paint_blade, paint_branch, paint_leaves


@dataclass(frozen=True)
class Habitat:
    """One kind of scene: colours from far to near, and how often each element is drawn."""

    name: str
    palette: tuple[tuple[int, int, int], ...]
    elements: tuple[tuple[str, int, int], ...]


# fmt: off
HABITATS = (
    Habitat("forest", ((58, 74, 48), (84, 104, 60), (104, 84, 60), (136, 116, 84), (72, 60, 46),
        (150, 160, 96)), (
        ("bokeh", 6, 14), ("trunk", 1, 3), ("leaves", 2, 5), ("branch", 1, 3), ("cones", 0, 5))),
    Habitat("marsh", ((122, 132, 128), (92, 108, 98), (140, 128, 88), (96, 88, 58), (66, 72, 52),
        (172, 168, 138)), (
        ("ripples", 12, 26), ("reeds", 20, 46), ("stones", 0, 4), ("branch", 0, 2))),
    Habitat("meadow", ((124, 142, 84), (94, 116, 58), (150, 150, 92), (116, 96, 64),
        (186, 172, 112), (76, 88, 50)), (
        ("bokeh", 4, 10), ("reeds", 24, 60), ("flowers", 4, 16), ("stones", 0, 4),
        ("leaves", 0, 2))),
    Habitat("shore", ((150, 152, 148), (116, 112, 104), (138, 124, 104), (92, 86, 80),
        (176, 166, 146), (82, 94, 98)), (
        ("ripples", 4, 12), ("stones", 8, 22), ("pebbles", 20, 60), ("branch", 0, 2))),
    Habitat("orchard", ((150, 168, 176), (112, 134, 82), (86, 106, 62), (122, 98, 74),
        (164, 92, 64), (94, 76, 62)), (
        ("bokeh", 4, 12), ("branch", 2, 5), ("leaves", 3, 6), ("fruit", 3, 10))),
    Habitat("winter", ((196, 202, 208), (168, 172, 176), (118, 112, 108), (92, 80, 72),
        (138, 126, 114), (84, 92, 88)), (
        ("bokeh", 3, 8), ("trunk", 0, 2), ("branch", 4, 9), ("cones", 0, 6), ("stones", 0, 4))),
)
FOREIGN = (
    Habitat("street", ((150, 140, 136), (124, 88, 74), (104, 104, 112), (176, 168, 156),
        (72, 76, 84), (60, 98, 130)), (
        ("bricks", 1, 1), ("windows", 2, 6), ("lamps", 0, 4), ("stones", 0, 2))),
    Habitat("desert", ((214, 188, 142), (192, 152, 104), (168, 122, 82), (138, 98, 70),
        (224, 206, 168), (120, 132, 88)), (
        ("dunes", 3, 7), ("pebbles", 10, 40), ("stones", 0, 6), ("reeds", 0, 8))),
    Habitat("indoors", ((188, 176, 158), (142, 104, 76), (112, 74, 60), (92, 108, 122),
        (206, 196, 184), (124, 58, 58)), (
        ("shelves", 2, 4), ("windows", 1, 5), ("fruit", 0, 6), ("lamps", 0, 3))),
    Habitat("seabed", ((46, 98, 122), (32, 74, 98), (98, 128, 122), (152, 118, 104), (172, 148, 98),
        (70, 58, 92)), (
        ("bokeh", 4, 10), ("stones", 3, 9), ("weeds", 8, 20), ("pebbles", 10, 40))),
    Habitat("night", ((26, 30, 46), (40, 46, 66), (62, 58, 70), (84, 76, 74), (150, 126, 72),
        (34, 44, 42)), (
        ("bokeh", 6, 16), ("lamps", 3, 9), ("windows", 0, 4), ("trunk", 0, 2))),
)
# fmt: on
FOLIAGE = {"forest": "leaves", "orchard": "leaves", "marsh": "reeds", "meadow": "reeds"}


def paint_scene(
    rng: Rng,
    habitat: Habitat,
    shape: tuple[int, int],
    scale: float = 1.0,
    palette_shift: float = 0.0,
) -> Scene:
    """Paint one empty scene on a canvas of the given (H, W).

    ``scale`` multiplies the size of all elements; ``palette_shift`` (0-255) moves every palette
    colour at random, which gives the same habitat in another season or another camera.
    """
    palette = np.array(habitat.palette, float)
    palette = np.clip(palette + rng.normal(0, 1 + palette_shift, palette.shape), 0, 255)
    palette *= rng.uniform(0.75, 1.2)
    angle = rng.uniform(-2.6, -0.5)  # the light comes from above
    scene = Scene(
        canvas=_backdrop(rng, palette, shape),
        palette=np.clip(palette, 0, 255),
        light=np.array([np.cos(angle), np.sin(angle)]),
        grain=0.7 * noise(rng, shape, 3.5) + 0.7 * noise(rng, shape, 12),
        scale=scale * rng.uniform(0.8, 1.25),
        foliage=FOLIAGE.get(habitat.name, "branch"),
    )
    for name, low, high in habitat.elements:
        for _ in range(rng.integers(low, high + 1)):
            ELEMENTS[name](scene, rng)
    return scene


def _backdrop(rng: Rng, palette: np.ndarray, shape: tuple[int, int]) -> Canvas:
    far, near = palette[rng.permutation(len(palette))[:2]]
    slope = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None] + 0.25 * noise(rng, shape, 40)
    slope = np.clip(slope, 0, 1)[..., None]
    texture = 9 * noise(rng, shape, 5)[..., None] + 7 * noise(rng, shape, 16)[..., None]
    return np.clip(far * (1 - slope) + near * slope + texture, 0, 255).astype(np.uint8)


def foliage(scene: Scene, rng: Rng, near: np.ndarray | None = None) -> np.ndarray:
    """Paint something in front of everything; return the (H, W) uint8 mask that it covers.

    It grows near a point (x, y) if one is given, else anywhere: background images have foliage in
    front too, so that it does not announce a bird.
    """
    unit, at = scene.unit, scene.anywhere(rng) if near is None else near
    covered = np.zeros(scene.canvas.shape[:2], np.uint8)
    if scene.foliage == "leaves":
        return paint_leaves(scene, rng, at, rng.uniform(8, 16) * unit)
    if scene.foliage == "reeds":
        for _ in range(rng.integers(3, 9)):
            foot = at + np.array([rng.normal(0, 9), rng.uniform(8, 30)]) * unit
            fill(covered, paint_blade(scene, rng, foot, rng.uniform(25, 60) * unit), 255)
        return covered
    before = scene.canvas.copy()
    angle = rng.uniform(0, 2 * np.pi)
    length = rng.uniform(50, 110) * unit
    start = at - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    paint_branch(scene, rng, start, angle, length, rng.uniform(0.8, 2.2) * unit)
    covered[(before != scene.canvas).any(axis=2)] = 255
    return covered


def habitat_scene(rng: Rng, shape: tuple[int, int]) -> Scene:
    """Paint a scene in which birds live."""
    return paint_scene(rng, HABITATS[rng.integers(len(HABITATS))], shape)


def background_scene(rng: Rng, shape: tuple[int, int], gap: float) -> Scene:
    """Paint a scene of a background image set, as an Internet search would return it.

    ``gap`` in [0, 1] is the distance from the birds' own habitats: that share of the images is of
    foreign scenes, one sixth to all of the habitats are missing, and palette and scale of the rest
    drift. 0 draws exactly what stands behind the birds, 1 only what never does.
    """
    if rng.random() < gap:
        return paint_scene(rng, FOREIGN[rng.integers(len(FOREIGN))], shape)
    present = HABITATS[: len(HABITATS) - round(4 * gap)]
    habitat = present[rng.integers(len(present))]
    scale = float(np.exp(rng.normal(0, 0.5 * gap)))
    return paint_scene(rng, habitat, shape, scale=scale, palette_shift=24 * gap)
