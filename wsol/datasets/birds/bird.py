"""Birds: one body plan in many poses, on which only the head says which class it is.

The body is a tube of varying radius around a spine from tail to head, with wings, belly, legs and
feathers on it. Plumage is drawn per image, half of the time from the very colours of the scene.
"""

import numpy as np

from wsol.datasets.birds.canvas import (
    Rng,
    ellipse,
    fill,
    fill_both,
    jitter,
    noise,
    rotation,
    shade,
    stroke,
    strokes,
    tube,
)  # fmt: skip
from wsol.datasets.birds.head import Species, paint_eye, paint_head
from wsol.datasets.birds.pose import Sitter, wing_tips

_PLUMAGE = np.array(
    [[112, 88, 64], [138, 132, 124], [96, 104, 74], [88, 98, 112], [150, 104, 70], [188, 170, 138],
     [74, 66, 60], [160, 150, 96], [124, 110, 104], [96, 76, 82]]
)  # fmt: skip


def paint_bird(
    rng: Rng,
    sitter: Sitter,
    species: Species,
    scene_palette: np.ndarray,
    light: np.ndarray,
    grain: np.ndarray,
    cue: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a bird on an empty layer.

    ``cue`` says where the class shows: ``"head"``, or ``"body"`` for the control in which the
    species' colours cover the whole plumage as well. Returns the (H, W, 3) uint8 layer and the
    (H, W) uint8 mask of the bird.
    """
    shape = grain.shape
    layer, mask = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
    if cue == "body":
        coat, wing = jitter(rng, species.main, 10), jitter(rng, species.second, 10)
    else:
        source = scene_palette if rng.random() < 0.5 else _PLUMAGE
        coat, wing = (jitter(rng, source[rng.integers(len(source))], 12) for _ in range(2))
    _paint_body(rng, layer, mask, sitter, coat, wing)
    paint_head(rng, layer, mask, sitter, species)
    shade(layer, mask, light, 0.22 * sitter.size, grain + 0.6 * noise(rng, shape, 2.5))
    paint_eye(layer, sitter)
    return layer, mask


def _paint_body(
    rng: Rng,
    layer: np.ndarray,
    mask: np.ndarray,
    sitter: Sitter,
    coat: np.ndarray,
    wing: np.ndarray,
) -> None:
    pose = sitter.pose
    if pose.flying:
        far, near = (sitter.mirrored(w) for w in wing_tips(pose))
        fill_both(layer, mask, far, wing * 0.75)
    else:
        _paint_legs(rng, layer, mask, sitter)
    outline = tube(pose.spine, pose.radii)
    torso = np.zeros_like(mask)
    fill(torso, sitter.place(outline), 255)
    fill_both(layer, mask, sitter.place(outline), coat)
    _paint_belly(rng, layer, torso, sitter, coat)
    scales = rng.uniform(0.085, 0.125)
    _paint_scallops(layer, torso, sitter, coat * 0.62, scales)
    if pose.flying:
        fill_both(layer, mask, near, wing)
        feathered = near
    else:
        axis = rotation(pose.tilt + rng.normal(0, 0.08))
        fold = ellipse(np.array([-0.12, -0.04]), (0.42, rng.uniform(0.14, 0.2)), 0.06)
        feathered = sitter.mirrored(fold @ axis.T)
        fill_both(layer, mask, feathered, wing)
    covert = np.zeros_like(mask)
    fill(covert, feathered, 255)
    _paint_scallops(layer, covert, sitter, wing * 0.55, 1.25 * scales)
    _paint_feathers(rng, layer, sitter, feathered, wing)


def _paint_legs(rng: Rng, layer: np.ndarray, mask: np.ndarray, sitter: Sitter) -> None:
    colour = jitter(rng, np.array([92, 74, 56]), 18)
    for hip in (-0.06, 0.06):
        down = np.array([[hip, 0.15], [hip + rng.normal(0, 0.04), 0.3 + rng.uniform(0.05, 0.12)]])
        leg = sitter.mirrored(down)
        stroke(layer, leg, colour, 0.05 * sitter.size)
        stroke(mask, leg, 255, 0.05 * sitter.size)


def _paint_belly(
    rng: Rng, layer: np.ndarray, torso: np.ndarray, sitter: Sitter, coat: np.ndarray
) -> None:
    axis = rotation(sitter.pose.tilt)
    under = ellipse(np.array([0.12, 0.17]), (0.4, 0.17)) @ axis.T
    painted = layer.copy()
    fill(painted, sitter.mirrored(under), np.clip(coat * rng.uniform(1.05, 1.6), 0, 245))
    if rng.random() < 0.45:
        spots = rng.uniform([-0.2, 0.02], [0.45, 0.32], (rng.integers(6, 18), 2)) @ axis.T
        for spot in sitter.mirrored(spots):
            fill(painted, ellipse(spot, (0.025 * sitter.size, 0.018 * sitter.size)), coat * 0.6)
    layer[torso > 127] = painted[torso > 127]


def _paint_scallops(
    layer: np.ndarray, region: np.ndarray, sitter: Sitter, colour: np.ndarray, spacing: float
) -> None:
    rows = np.arange(-1.3, 0.7, spacing)
    columns = np.arange(-1.2, 0.6, spacing)
    x, y = np.meshgrid(rows, columns, indexing="ij")
    y = y + 0.5 * spacing * (np.arange(len(rows)) % 2)[:, None]
    t = np.linspace(0.5 * np.pi, 1.5 * np.pi, 6)  # a tip points to the tail
    tip = 0.55 * spacing * np.stack([np.cos(t), np.sin(t)], axis=1)
    arcs = np.stack([x, y], axis=-1).reshape(-1, 1, 2) + tip  # (R, 6, 2)
    arcs = sitter.mirrored(arcs @ rotation(sitter.pose.tilt).T)
    painted = layer.copy()
    strokes(painted, arcs, colour, 0.022 * sitter.size)
    layer[region > 127] = painted[region > 127]


def _paint_feathers(
    rng: Rng, layer: np.ndarray, sitter: Sitter, region: np.ndarray, wing: np.ndarray
) -> None:
    centre = region.mean(axis=0)
    along = rotation(sitter.pose.tilt)[:, 0] * [sitter.pose.facing, 1]
    for _ in range(rng.integers(5, 13)):
        corner = region[rng.integers(len(region))]
        start = centre + rng.uniform(0.2, 0.85) * (corner - centre)
        quill = np.stack([start, start - along * rng.uniform(0.06, 0.2) * sitter.size])
        stroke(layer, quill, jitter(rng, wing * rng.uniform(0.6, 0.85), 6), 0.022 * sitter.size)
    if rng.random() < 0.35:
        bar = centre + 0.55 * (region[[2, 9 % len(region)]] - centre)
        stroke(layer, bar, np.clip(wing * 1.5, 0, 240), 0.04 * sitter.size)
