"""Scenes without birds: the habitats behind the birds and the foreign scenes of background sets.

A scene is a row of a table: a palette and the elements that may stand in it. Birds and background
images are drawn from the same elements, with the same light and grain; what differs between the
two image sets is only *which* scenes, palettes and scales occur (see :func:`background_scene`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsol.datasets.birds.canvas import (
    Canvas,
    blob,
    ellipse,
    fill,
    jitter,
    noise,
    rotation,
    shaded_shape,
    stroke,
    tube,
)


@dataclass(frozen=True)
class Habitat:
    """One kind of scene: colours from far to near, and how often each element is drawn."""

    name: str
    palette: tuple[tuple[int, int, int], ...]
    elements: tuple[tuple[str, int, int], ...]


@dataclass
class Scene:
    """A picture in the making: the canvas and what all its layers share."""

    canvas: Canvas  # (H, W, 3) uint8
    palette: np.ndarray  # (P, 3) float, 0-255
    light: np.ndarray  # (2,) direction of the light
    grain: np.ndarray  # (H, W) float32, unit variance: the roughness of every surface
    scale: float  # size of the elements, 1 = as in the birds' habitats
    foliage: str  # element that grows in front of everything


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


def _colour(scene: Scene, rng: np.random.Generator, amount: float = 14) -> np.ndarray:
    return jitter(rng, scene.palette[rng.integers(len(scene.palette))], amount)


def _anywhere(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    h, w = scene.canvas.shape[:2]
    return rng.uniform([-0.05 * w, -0.05 * h], [1.05 * w, 1.05 * h])


def _unit(scene: Scene) -> float:
    return scene.scale * min(scene.canvas.shape[:2]) / 100


def bokeh(scene: Scene, rng: np.random.Generator) -> None:
    """One far, flat disc of colour."""
    radius = rng.uniform(6, 26) * _unit(scene)
    fill(scene.canvas, blob(rng, _anywhere(scene, rng), radius, 0.08), _colour(scene, rng))


def trunk(scene: Scene, rng: np.random.Generator) -> None:
    """A lit trunk across the picture with streaks of bark."""
    h, w = scene.canvas.shape[:2]
    x, lean, radius = rng.uniform(0, w), rng.normal(0, 0.15) * w, rng.uniform(3, 13) * _unit(scene)
    t = np.linspace(-0.1, 1.1, 8)
    spine = np.stack([x + lean * t + rng.normal(0, radius / 5, 8), h * t], axis=1)
    colour = _colour(scene, rng)
    outline = tube(spine, radius * rng.uniform(0.85, 1.15, 8))
    shaded_shape(scene.canvas, outline, colour, scene.light, scene.grain, radius)
    for _ in range(rng.integers(6, 16)):
        start = spine[rng.integers(1, 7)] + [rng.uniform(-0.8, 0.8) * radius, rng.normal(0, h / 9)]
        line = start + np.stack(
            [rng.normal(0, 1, 3), np.linspace(0, rng.uniform(3, 12), 3)], axis=1
        )
        stroke(
            scene.canvas, line, jitter(rng, colour * rng.uniform(0.6, 1.2), 6), 0.8 * _unit(scene)
        )


def branch(scene: Scene, rng: np.random.Generator) -> None:
    """A bent, tapering branch with a few twigs."""
    unit, start, angle = _unit(scene), _anywhere(scene, rng), rng.uniform(0, 2 * np.pi)
    paint_branch(
        scene, rng, start, angle, rng.uniform(40, 120) * unit, rng.uniform(0.8, 3.4) * unit
    )


def paint_branch(
    scene: Scene,
    rng: np.random.Generator,
    start: np.ndarray,
    angle: float,
    length: float,
    radius: float,
) -> None:
    """Paint one branch from a start point (x, y) in a direction in radians."""
    t = np.linspace(0, 1, 7)
    bend = np.cumsum(rng.normal(0, 0.03, 7)) * length
    spine = start + np.stack([t * length, bend], axis=1) @ rotation(angle).T
    colour = _colour(scene, rng)
    outline = tube(spine, radius * (1.05 - 0.6 * t))
    shaded_shape(scene.canvas, outline, colour, scene.light, scene.grain, radius)
    for _ in range(rng.integers(0, 4)):
        twig = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        reach = rng.uniform(0.1, 0.35) * length * np.array([np.cos(twig), np.sin(twig)])
        begin = spine[rng.integers(1, 6)]
        stroke(scene.canvas, np.stack([begin, begin + reach]), jitter(rng, colour, 8), radius * 0.7)


def leaves(scene: Scene, rng: np.random.Generator) -> None:
    """A spray of leaves along a twig."""
    paint_leaves(scene, rng, _anywhere(scene, rng), rng.uniform(10, 34) * _unit(scene))


def paint_leaves(
    scene: Scene, rng: np.random.Generator, centre: np.ndarray, spread: float
) -> np.ndarray:
    """Paint one spray of leaves around a centre; return the (H, W) uint8 mask it covers."""
    covered = np.zeros(scene.canvas.shape[:2], np.uint8)
    base, size, lean = _colour(scene, rng), rng.uniform(2.2, 5.5) * _unit(scene), rng.uniform(0, 7)
    for _ in range(rng.integers(8, 26)):
        at = centre + rng.normal(0, 0.5, 2) * spread
        angle = lean + rng.normal(0, 0.7)
        outline = ellipse(
            at, (size * rng.uniform(0.8, 1.4), size * rng.uniform(0.3, 0.5)), angle, 10
        )
        fill(scene.canvas, outline, jitter(rng, base * rng.uniform(0.65, 1.25), 9))
        fill(covered, outline, 255)
        tip = size * np.array([np.cos(angle), np.sin(angle)])
        stroke(scene.canvas, np.stack([at - tip, at + tip]), base * 0.7, 0.4 * _unit(scene))
    return covered


def reeds(scene: Scene, rng: np.random.Generator) -> None:
    """One blade of reed or grass."""
    h, w = scene.canvas.shape[:2]
    foot = np.array([rng.uniform(-0.1, 1.1) * w, rng.uniform(0.5, 1.2) * h])
    paint_blade(scene, rng, foot, rng.uniform(20, 75) * _unit(scene))


def paint_blade(
    scene: Scene, rng: np.random.Generator, foot: np.ndarray, length: float
) -> np.ndarray:
    """Paint one blade growing from its foot; return its (2P, 2) outline."""
    t = np.linspace(0, 1, 6)
    spine = foot + np.stack([rng.normal(0, 0.3) * t**2, -t], axis=1) * length
    outline = tube(spine, rng.uniform(0.5, 1.7) * _unit(scene) * (1.05 - t))
    fill(scene.canvas, outline, jitter(rng, _colour(scene, rng) * rng.uniform(0.7, 1.2), 8))
    return outline


def ripples(scene: Scene, rng: np.random.Generator) -> None:
    """One horizontal streak of water."""
    unit, at = _unit(scene), _anywhere(scene, rng)
    outline = ellipse(at, (rng.uniform(8, 32) * unit, rng.uniform(0.4, 2.2) * unit), 0.0)
    fill(scene.canvas, outline, _colour(scene, rng))


def stones(scene: Scene, rng: np.random.Generator) -> None:
    """One rounded, lit stone: as smooth and as large as a bird's body."""
    radius = rng.uniform(4, 17) * _unit(scene)
    outline = blob(rng, _anywhere(scene, rng), radius, 0.09)
    shaded_shape(scene.canvas, outline, _colour(scene, rng), scene.light, scene.grain, radius)


def pebbles(scene: Scene, rng: np.random.Generator) -> None:
    """One small flat stone."""
    radius = rng.uniform(1, 3.5) * _unit(scene)
    fill(scene.canvas, blob(rng, _anywhere(scene, rng), radius, 0.1), _colour(scene, rng, 22))


_VIVID = np.array(
    [[196, 52, 44], [232, 196, 60], [70, 96, 176], [238, 236, 226], [34, 32, 34], [214, 122, 46]]
)


def flowers(scene: Scene, rng: np.random.Generator) -> None:
    """One vivid blossom with an eye: head colours occur here too."""
    at, radius = _anywhere(scene, rng), rng.uniform(1.5, 5) * _unit(scene)
    petals, heart = (
        jitter(rng, _VIVID[rng.integers(6)], 10),
        jitter(rng, _VIVID[rng.integers(6)], 10),
    )
    fill(scene.canvas, blob(rng, at, radius, 0.14), petals)
    fill(scene.canvas, ellipse(at, (radius / 3, radius / 3)), heart)


def fruit(scene: Scene, rng: np.random.Generator) -> None:
    """One lit berry, apple or plum in a vivid colour."""
    radius = rng.uniform(2, 7) * _unit(scene)
    colour, at = jitter(rng, _VIVID[rng.integers(6)], 12), _anywhere(scene, rng)
    outline = ellipse(at, (radius, radius * rng.uniform(0.8, 1)), rng.uniform(0, 3))
    shaded_shape(scene.canvas, outline, colour, scene.light, scene.grain, radius)


def cones(scene: Scene, rng: np.random.Generator) -> None:
    """A lit cone, drop-shaped and scaled like plumage."""
    unit, at, angle = _unit(scene), _anywhere(scene, rng), rng.uniform(0, 2 * np.pi)
    length, colour = rng.uniform(9, 26) * unit, _colour(scene, rng)
    t = np.linspace(0, 1, 9)
    spine = at + np.stack([t * length, np.zeros(9)], axis=1) @ rotation(angle).T
    radii = 0.3 * length * np.sin(np.pi * np.clip(0.12 + 0.86 * t, 0, 1)) ** 0.7
    shaded_shape(scene.canvas, tube(spine, radii), colour, scene.light, scene.grain, length / 4)
    for i in range(1, 8):
        for side in np.linspace(-0.7, 0.7, 5):
            centre = spine[i] + side * radii[i] * np.array([-np.sin(angle), np.cos(angle)])
            arc = ellipse(centre, (length / 16, length / 20), angle)[6:19]
            stroke(scene.canvas, arc, jitter(rng, colour * 0.72, 6), 0.5 * unit)


def bricks(scene: Scene, rng: np.random.Generator) -> None:
    """A wall of bricks over the whole picture."""
    h, w = scene.canvas.shape[:2]
    unit, colour, mortar = _unit(scene), _colour(scene, rng), _colour(scene, rng)
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
    unit, corner = _unit(scene), _anywhere(scene, rng)
    size = rng.uniform(6, 30, 2) * unit
    paint_rectangle(scene, corner, tuple(size), _colour(scene, rng, 20))
    paint_rectangle(scene, corner + 0.12 * size, tuple(0.76 * size), _colour(scene, rng, 20))


def lamps(scene: Scene, rng: np.random.Generator) -> None:
    """A bright disc with a halo."""
    at, radius = _anywhere(scene, rng), rng.uniform(2, 7) * _unit(scene)
    for share, colour in ((1.0, [180, 150, 90]), (0.6, [230, 200, 130]), (0.3, [250, 240, 210])):
        fill(scene.canvas, ellipse(at, (radius * share, radius * share)), jitter(rng, colour, 8))


def dunes(scene: Scene, rng: np.random.Generator) -> None:
    """A rolling band of sand from some height down to the lower border."""
    h, w = scene.canvas.shape[:2]
    x = np.linspace(-0.1 * w, 1.1 * w, 24)
    top = rng.uniform(0.15, 0.95) * h
    y = top + rng.uniform(2, 10) * _unit(scene) * np.sin(
        x / w * rng.uniform(3, 9) + rng.uniform(0, 6)
    )
    outline = np.concatenate([np.stack([x, y], 1), [[1.1 * w, 1.1 * h], [-0.1 * w, 1.1 * h]]])
    shaded_shape(
        scene.canvas, outline, _colour(scene, rng), scene.light, scene.grain, 14 * _unit(scene)
    )


def shelves(scene: Scene, rng: np.random.Generator) -> None:
    """A shelf with a row of books."""
    h, w = scene.canvas.shape[:2]
    unit, floor, x = _unit(scene), rng.uniform(0.2, 1.0) * h, rng.uniform(0, 0.5) * w
    paint_rectangle(scene, np.array([0, floor]), (w, 2.5 * unit), _colour(scene, rng))
    for _ in range(rng.integers(3, 14)):
        width, high = rng.uniform(2, 6) * unit, rng.uniform(10, 24) * unit
        paint_rectangle(scene, np.array([x, floor - high]), (width, high), _colour(scene, rng, 24))
        x += width * 1.08


def weeds(scene: Scene, rng: np.random.Generator) -> None:
    """One waving ribbon of seaweed."""
    h, w = scene.canvas.shape[:2]
    t = np.linspace(0, 1, 12)
    wave = 3 * _unit(scene) * np.sin(t * rng.uniform(4, 12) + rng.uniform(0, 6))
    foot, length = np.array([rng.uniform(0, 1) * w, 1.02 * h]), rng.uniform(20, 80) * _unit(scene)
    spine = foot + np.stack([wave, -t * length], axis=1)
    fill(scene.canvas, tube(spine, 1.8 * _unit(scene) * (1.1 - t)), _colour(scene, rng))


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
    unit, at = _unit(scene), _anywhere(scene, rng) if near is None else near
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
