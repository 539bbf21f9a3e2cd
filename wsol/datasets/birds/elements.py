"""Elements of scenes: plants, stones, water, sand and buildings; each function paints one of them.

Foliage is painted by functions of its own, which say where it goes, so that it can also grow in
front of a bird and serve as its perch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsol.datasets.birds.canvas import (
    Canvas,
    Rng,
    blob,
    ellipse,
    fill,
    jitter,
    rotation,
    shaded_shape,
    stroke,
    tube,
)  # fmt: skip

_VIVID = np.array(
    [[196, 52, 44], [232, 196, 60], [70, 96, 176], [238, 236, 226], [34, 32, 34], [214, 122, 46]]
)


@dataclass
class Scene:
    """An image in the making: the canvas and what all its layers share."""

    canvas: Canvas  # (H, W, 3) uint8
    palette: np.ndarray  # (P, 3) float, 0-255
    light: np.ndarray  # (2,) direction of the light
    grain: np.ndarray  # (H, W) float32, unit variance: the roughness of every surface
    scale: float  # size of the elements, 1 = as in the birds' habitats
    foliage: str  # element that grows in front of everything

    @property
    def unit(self) -> float:
        """Length in canvas pixels that all sizes are multiples of: a hundredth of the image."""
        return self.scale * min(self.canvas.shape[:2]) / 100

    def colour(self, rng: Rng, amount: float = 14) -> np.ndarray:
        """Draw a colour of the palette, (3,) float in 0-255, jittered by an amount."""
        return jitter(rng, self.palette[rng.integers(len(self.palette))], amount)

    def lit(self, outline: np.ndarray, colour: np.ndarray, depth: float) -> None:
        """Paint a (P, 2) outline as a body in the light of the scene."""
        shaded_shape(self.canvas, outline, colour, self.light, self.grain, depth)

    def anywhere(self, rng: Rng) -> np.ndarray:
        """Draw a place (x, y) in canvas pixels, in the image or a little outside."""
        h, w = self.canvas.shape[:2]
        return rng.uniform([-0.05 * w, -0.05 * h], [1.05 * w, 1.05 * h])


def bokeh(scene: Scene, rng: Rng) -> None:
    """One far, flat disc of colour."""
    radius = rng.uniform(6, 26) * scene.unit
    fill(scene.canvas, blob(rng, scene.anywhere(rng), radius, 0.08), scene.colour(rng))


def trunk(scene: Scene, rng: Rng) -> None:
    """A lit trunk across the image with streaks of bark."""
    h, w = scene.canvas.shape[:2]
    x, lean, radius = rng.uniform(0, w), rng.normal(0, 0.15) * w, rng.uniform(3, 13) * scene.unit
    t = np.linspace(-0.1, 1.1, 8)
    spine = np.stack([x + lean * t + rng.normal(0, radius / 5, 8), h * t], axis=1)
    colour = scene.colour(rng)
    outline = tube(spine, radius * rng.uniform(0.85, 1.15, 8))
    scene.lit(outline, colour, radius)
    for _ in range(rng.integers(6, 16)):
        start = spine[rng.integers(1, 7)] + [rng.uniform(-0.8, 0.8) * radius, rng.normal(0, h / 9)]
        across, down = rng.normal(0, 1, 3), np.linspace(0, rng.uniform(3, 12), 3)
        line = start + np.stack([across, down], axis=1)
        stroke(scene.canvas, line, jitter(rng, colour * rng.uniform(0.6, 1.2), 6), 0.8 * scene.unit)


def branch(scene: Scene, rng: Rng) -> None:
    """A bent, tapering branch with a few twigs."""
    unit, start, angle = scene.unit, scene.anywhere(rng), rng.uniform(0, 2 * np.pi)
    length, radius = rng.uniform(40, 120) * unit, rng.uniform(0.8, 3.4) * unit
    paint_branch(scene, rng, start, angle, length, radius)


def paint_branch(
    scene: Scene, rng: Rng, start: np.ndarray, angle: float, length: float, radius: float
) -> None:
    """Paint one branch from a start point (x, y) in a direction in radians."""
    t = np.linspace(0, 1, 7)
    bend = np.cumsum(rng.normal(0, 0.03, 7)) * length
    spine = start + np.stack([t * length, bend], axis=1) @ rotation(angle).T
    colour = scene.colour(rng)
    outline = tube(spine, radius * (1.05 - 0.6 * t))
    scene.lit(outline, colour, radius)
    for _ in range(rng.integers(0, 4)):
        twig = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        reach = rng.uniform(0.1, 0.35) * length * np.array([np.cos(twig), np.sin(twig)])
        begin = spine[rng.integers(1, 6)]
        stroke(scene.canvas, np.stack([begin, begin + reach]), jitter(rng, colour, 8), radius * 0.7)


def leaves(scene: Scene, rng: Rng) -> None:
    """A spray of leaves along a twig."""
    paint_leaves(scene, rng, scene.anywhere(rng), rng.uniform(10, 34) * scene.unit)


def paint_leaves(scene: Scene, rng: Rng, centre: np.ndarray, spread: float) -> np.ndarray:
    """Paint one spray of leaves around a centre; return the (H, W) uint8 mask it covers."""
    covered = np.zeros(scene.canvas.shape[:2], np.uint8)
    base, size, lean = scene.colour(rng), rng.uniform(2.2, 5.5) * scene.unit, rng.uniform(0, 7)
    for _ in range(rng.integers(8, 26)):
        at = centre + rng.normal(0, 0.5, 2) * spread
        angle = lean + rng.normal(0, 0.7)
        radii = size * rng.uniform(0.8, 1.4), size * rng.uniform(0.3, 0.5)
        outline = ellipse(at, radii, angle, 10)
        fill(scene.canvas, outline, jitter(rng, base * rng.uniform(0.65, 1.25), 9))
        fill(covered, outline, 255)
        tip = size * np.array([np.cos(angle), np.sin(angle)])
        stroke(scene.canvas, np.stack([at - tip, at + tip]), base * 0.7, 0.4 * scene.unit)
    return covered


def reeds(scene: Scene, rng: Rng) -> None:
    """One blade of reed or grass."""
    h, w = scene.canvas.shape[:2]
    foot = np.array([rng.uniform(-0.1, 1.1) * w, rng.uniform(0.5, 1.2) * h])
    paint_blade(scene, rng, foot, rng.uniform(20, 75) * scene.unit)


def paint_blade(scene: Scene, rng: Rng, foot: np.ndarray, length: float) -> np.ndarray:
    """Paint one blade growing from its foot; return its (2P, 2) outline."""
    t = np.linspace(0, 1, 6)
    spine = foot + np.stack([rng.normal(0, 0.3) * t**2, -t], axis=1) * length
    outline = tube(spine, rng.uniform(0.5, 1.7) * scene.unit * (1.05 - t))
    fill(scene.canvas, outline, jitter(rng, scene.colour(rng) * rng.uniform(0.7, 1.2), 8))
    return outline


def ripples(scene: Scene, rng: Rng) -> None:
    """One horizontal streak of water."""
    unit, at = scene.unit, scene.anywhere(rng)
    outline = ellipse(at, (rng.uniform(8, 32) * unit, rng.uniform(0.4, 2.2) * unit), 0.0)
    fill(scene.canvas, outline, scene.colour(rng))


def stones(scene: Scene, rng: Rng) -> None:
    """One rounded, lit stone: as smooth and as large as a bird's body."""
    radius = rng.uniform(4, 17) * scene.unit
    outline = blob(rng, scene.anywhere(rng), radius, 0.09)
    scene.lit(outline, scene.colour(rng), radius)


def pebbles(scene: Scene, rng: Rng) -> None:
    """One small flat stone."""
    radius = rng.uniform(1, 3.5) * scene.unit
    fill(scene.canvas, blob(rng, scene.anywhere(rng), radius, 0.1), scene.colour(rng, 22))


def flowers(scene: Scene, rng: Rng) -> None:
    """One vivid blossom with an eye: head colours occur here too."""
    at, radius = scene.anywhere(rng), rng.uniform(1.5, 5) * scene.unit
    petals, heart = (jitter(rng, _VIVID[rng.integers(6)], 10) for _ in range(2))
    fill(scene.canvas, blob(rng, at, radius, 0.14), petals)
    fill(scene.canvas, ellipse(at, (radius / 3, radius / 3)), heart)


def fruit(scene: Scene, rng: Rng) -> None:
    """One lit berry, apple or plum in a vivid colour."""
    radius = rng.uniform(2, 7) * scene.unit
    colour, at = jitter(rng, _VIVID[rng.integers(6)], 12), scene.anywhere(rng)
    outline = ellipse(at, (radius, radius * rng.uniform(0.8, 1)), rng.uniform(0, 3))
    scene.lit(outline, colour, radius)


def cones(scene: Scene, rng: Rng) -> None:
    """A lit cone, drop-shaped and scaled like plumage."""
    unit, at, angle = scene.unit, scene.anywhere(rng), rng.uniform(0, 2 * np.pi)
    length, colour = rng.uniform(9, 26) * unit, scene.colour(rng)
    t = np.linspace(0, 1, 9)
    spine = at + np.stack([t * length, np.zeros(9)], axis=1) @ rotation(angle).T
    radii = 0.3 * length * np.sin(np.pi * np.clip(0.12 + 0.86 * t, 0, 1)) ** 0.7
    scene.lit(tube(spine, radii), colour, length / 4)
    for i in range(1, 8):
        for side in np.linspace(-0.7, 0.7, 5):
            centre = spine[i] + side * radii[i] * np.array([-np.sin(angle), np.cos(angle)])
            arc = ellipse(centre, (length / 16, length / 20), angle)[6:19]
            stroke(scene.canvas, arc, jitter(rng, colour * 0.72, 6), 0.5 * unit)


def dunes(scene: Scene, rng: Rng) -> None:
    """A rolling band of sand from some height down to the lower border."""
    h, w = scene.canvas.shape[:2]
    x = np.linspace(-0.1 * w, 1.1 * w, 24)
    top = rng.uniform(0.15, 0.95) * h
    height = rng.uniform(2, 10) * scene.unit
    y = top + height * np.sin(x / w * rng.uniform(3, 9) + rng.uniform(0, 6))
    outline = np.concatenate([np.stack([x, y], 1), [[1.1 * w, 1.1 * h], [-0.1 * w, 1.1 * h]]])
    scene.lit(outline, scene.colour(rng), 14 * scene.unit)


def weeds(scene: Scene, rng: Rng) -> None:
    """One waving ribbon of seaweed."""
    h, w = scene.canvas.shape[:2]
    t = np.linspace(0, 1, 12)
    wave = 3 * scene.unit * np.sin(t * rng.uniform(4, 12) + rng.uniform(0, 6))
    foot, length = np.array([rng.uniform(0, 1) * w, 1.02 * h]), rng.uniform(20, 80) * scene.unit
    spine = foot + np.stack([wave, -t * length], axis=1)
    fill(scene.canvas, tube(spine, 1.8 * scene.unit * (1.1 - t)), scene.colour(rng))


def bricks(scene: Scene, rng: Rng) -> None:
    """A wall of bricks over the whole image."""
    h, w = scene.canvas.shape[:2]
    unit, colour, mortar = scene.unit, scene.colour(rng), scene.colour(rng)
    high, long = rng.uniform(4, 9) * unit, rng.uniform(10, 22) * unit
    scene.canvas[:] = np.round(mortar)
    for row in range(int(h / high) + 1):
        for column in range(-1, int(w / long) + 1):
            corner = np.array([(column + 0.5 * (row % 2)) * long, row * high])
            paint_rectangle(scene, corner, (0.92 * long, 0.86 * high), jitter(rng, colour, 9))


def paint_rectangle(
    scene: Scene, corner: np.ndarray, size: tuple[float, float], colour: np.ndarray
) -> None:
    """Fill an axis-aligned rectangle given its corner (x, y) and size (width, height)."""
    unit_square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    fill(scene.canvas, corner + unit_square * np.array(size), colour)


def windows(scene: Scene, rng: Rng) -> None:
    """A framed pane: a window, an image, a book."""
    unit, corner = scene.unit, scene.anywhere(rng)
    size = rng.uniform(6, 30, 2) * unit
    paint_rectangle(scene, corner, tuple(size), scene.colour(rng, 20))
    paint_rectangle(scene, corner + 0.12 * size, tuple(0.76 * size), scene.colour(rng, 20))


def lamps(scene: Scene, rng: Rng) -> None:
    """A bright disc with a halo."""
    at, radius = scene.anywhere(rng), rng.uniform(2, 7) * scene.unit
    for share, colour in ((1.0, [180, 150, 90]), (0.6, [230, 200, 130]), (0.3, [250, 240, 210])):
        fill(
            scene.canvas,
            ellipse(at, (radius * share, radius * share)),
            jitter(rng, np.array(colour), 8),
        )


def shelves(scene: Scene, rng: Rng) -> None:
    """A shelf with a row of books."""
    h, w = scene.canvas.shape[:2]
    unit, floor, x = scene.unit, rng.uniform(0.2, 1.0) * h, rng.uniform(0, 0.5) * w
    paint_rectangle(scene, np.array([0, floor]), (w, 2.5 * unit), scene.colour(rng))
    for _ in range(rng.integers(3, 14)):
        width, high = rng.uniform(2, 6) * unit, rng.uniform(10, 24) * unit
        paint_rectangle(scene, np.array([x, floor - high]), (width, high), scene.colour(rng, 24))
        x += width * 1.08


ELEMENTS: dict[str, Callable[[Scene, Rng], None]] = {
    f.__name__: f
    for f in (
        bokeh, trunk, branch, leaves, reeds, ripples, stones, pebbles, flowers, fruit, cones,
        bricks, windows, lamps, dunes, shelves, weeds,
    )
}  # fmt: skip
