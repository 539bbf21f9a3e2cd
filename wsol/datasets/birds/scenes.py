"""Scenes without birds: the habitats behind the birds and the foreign scenes of background sets.

Birds and background images are drawn from the same elements, with the same light and grain; what
differs between the two image sets is only *which* scenes, palettes and scales occur (see
:func:`background_scene`).
"""

from collections.abc import Callable

import numpy as np

from wsol.datasets.birds.buildings import bricks, lamps, shelves, windows
from wsol.datasets.birds.canvas import Canvas, fill, noise
from wsol.datasets.birds.habitats import FOLIAGE, FOREIGN, HABITATS, Habitat
from wsol.datasets.birds.nature import (
    bokeh,
    branch,
    cones,
    dunes,
    flowers,
    fruit,
    leaves,
    paint_blade,
    paint_branch,
    paint_leaves,
    pebbles,
    reeds,
    ripples,
    stones,
    trunk,
    weeds,
)
from wsol.datasets.birds.painting import Scene

ELEMENTS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    f.__name__: f
    for f in (
        bokeh, trunk, branch, leaves, reeds, ripples, stones, pebbles, flowers, fruit, cones,
        bricks, windows, lamps, dunes, shelves, weeds,
    )
}  # fmt: skip


def paint_scene(
    rng: np.random.Generator,
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


def _backdrop(rng: np.random.Generator, palette: np.ndarray, shape: tuple[int, int]) -> Canvas:
    far, near = palette[rng.permutation(len(palette))[:2]]
    slope = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None] + 0.25 * noise(rng, shape, 40)
    slope = np.clip(slope, 0, 1)[..., None]
    texture = 9 * noise(rng, shape, 5)[..., None] + 7 * noise(rng, shape, 16)[..., None]
    return np.clip(far * (1 - slope) + near * slope + texture, 0, 255).astype(np.uint8)


def foliage(scene: Scene, rng: np.random.Generator, near: np.ndarray | None = None) -> np.ndarray:
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


def habitat_scene(rng: np.random.Generator, shape: tuple[int, int]) -> Scene:
    """Paint a scene in which birds live."""
    return paint_scene(rng, HABITATS[rng.integers(len(HABITATS))], shape)


def background_scene(rng: np.random.Generator, shape: tuple[int, int], gap: float) -> Scene:
    """Paint a scene of a background image set, as an Internet search would return it.

    ``gap`` in [0, 1] is the distance from the birds' own habitats: that share of the pictures is of
    foreign scenes, one sixth to all of the habitats are missing, and palette and scale of the rest
    drift. 0 draws exactly what stands behind the birds, 1 only what never does.
    """
    if rng.random() < gap:
        return paint_scene(rng, FOREIGN[rng.integers(len(FOREIGN))], shape)
    present = HABITATS[: len(HABITATS) - round(4 * gap)]
    habitat = present[rng.integers(len(present))]
    scale = float(np.exp(rng.normal(0, 0.5 * gap)))
    return paint_scene(rng, habitat, shape, scale=scale, palette_shift=24 * gap)
