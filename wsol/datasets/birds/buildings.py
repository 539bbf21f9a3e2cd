"""Elements of buildings: walls, panes, lamps and shelves; each function paints one of them."""

import numpy as np

from wsol.datasets.birds.canvas import ellipse, fill, jitter
from wsol.datasets.birds.painting import Scene


def bricks(scene: Scene, rng: np.random.Generator) -> None:
    """A wall of bricks over the whole picture."""
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


def windows(scene: Scene, rng: np.random.Generator) -> None:
    """A framed pane: a window, a picture, a book."""
    unit, corner = scene.unit, scene.anywhere(rng)
    size = rng.uniform(6, 30, 2) * unit
    paint_rectangle(scene, corner, tuple(size), scene.colour(rng, 20))
    paint_rectangle(scene, corner + 0.12 * size, tuple(0.76 * size), scene.colour(rng, 20))


def lamps(scene: Scene, rng: np.random.Generator) -> None:
    """A bright disc with a halo."""
    at, radius = scene.anywhere(rng), rng.uniform(2, 7) * scene.unit
    for share, colour in ((1.0, [180, 150, 90]), (0.6, [230, 200, 130]), (0.3, [250, 240, 210])):
        fill(scene.canvas, ellipse(at, (radius * share, radius * share)), jitter(rng, colour, 8))


def shelves(scene: Scene, rng: np.random.Generator) -> None:
    """A shelf with a row of books."""
    h, w = scene.canvas.shape[:2]
    unit, floor, x = scene.unit, rng.uniform(0.2, 1.0) * h, rng.uniform(0, 0.5) * w
    paint_rectangle(scene, np.array([0, floor]), (w, 2.5 * unit), scene.colour(rng))
    for _ in range(rng.integers(3, 14)):
        width, high = rng.uniform(2, 6) * unit, rng.uniform(10, 24) * unit
        paint_rectangle(scene, np.array([x, floor - high]), (width, high), scene.colour(rng, 24))
        x += width * 1.08
