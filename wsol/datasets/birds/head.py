"""Heads: the crest, bill, skull and pattern that tell species apart."""

import numpy as np

from wsol.datasets.birds.canvas import ellipse, fill, fill_both, jitter, rotation
from wsol.datasets.birds.pose import Sitter
from wsol.datasets.birds.species import Species

# Shapes in the frame of a head of radius 1 that looks along +x, y pointing down.
_CRESTS: dict[str, list[np.ndarray]] = {
    "none": [],
    "spike": [np.array([[0.1, -0.85], [-0.7, -0.55], [-1.75, -1.25]])],
    "fan": [
        np.array([[0.35, -0.7], [-0.25, -0.8], [0.15, -1.75]]),
        np.array([[0.05, -0.8], [-0.55, -0.7], [-0.45, -1.75]]),
        np.array([[-0.3, -0.8], [-0.85, -0.4], [-1.1, -1.45]]),
    ],
}
_BILLS: dict[str, np.ndarray] = {
    "cone": np.array([[0.8, -0.32], [1.6, 0.08], [0.8, 0.42]]),
    "long": np.array([[0.85, -0.2], [2.3, 0.12], [2.3, 0.2], [0.85, 0.26]]),
    "hook": np.array(
        [[0.8, -0.38], [1.35, -0.28], [1.6, 0.1], [1.5, 0.5], [1.25, 0.2], [0.8, 0.4]]
    ),
    "flat": np.array(
        [[0.8, -0.1], [1.4, 0.02], [1.9, 0.06], [1.95, 0.34], [1.3, 0.46], [0.8, 0.44]]
    ),
}
_PATTERNS: dict[str, list[np.ndarray]] = {
    "cap": [np.array([[-1.3, -0.12], [1.3, -0.3], [1.3, -1.3], [-1.3, -1.3]])],
    "mask": [np.array([[-0.9, -0.3], [1.3, -0.45], [1.3, 0.18], [-0.9, 0.12]])],
    "throat": [np.array([[-0.35, 0.18], [1.3, 0.12], [1.3, 1.3], [-0.35, 1.3]])],
    "nape": [np.array([[-0.15, -1.3], [-0.3, 1.3], [-1.3, 1.3], [-1.3, -1.3]])],
    "face": [np.array([[0.12, -0.75], [1.3, -0.9], [1.3, 0.9], [0.12, 0.75]])],
    "stripes": [
        np.array([[-1.3, -0.62], [1.3, -0.72], [1.3, -0.3], [-1.3, -0.22]]),
        np.array([[-1.3, 0.2], [1.3, 0.1], [1.3, 0.5], [-1.3, 0.62]]),
    ],
}


def paint_head(
    rng: np.random.Generator,
    layer: np.ndarray,
    mask: np.ndarray,
    sitter: Sitter,
    species: Species,
) -> None:
    """Crest, bill, skull and the pattern clipped to the skull, in the frame of the gaze."""
    radius, turn = sitter.head_radius, rotation(sitter.pose.gaze)

    def place(points: np.ndarray) -> np.ndarray:
        flip = np.array([sitter.pose.facing, 1])
        return (np.asarray(points) @ turn.T) * flip * radius + sitter.head

    main, second = jitter(rng, species.main, 7), jitter(rng, species.second, 7)
    for feather in _CRESTS[species.crest]:
        fill_both(layer, mask, place(feather), second)
    fill_both(layer, mask, place(_BILLS[species.bill]), jitter(rng, species.bill_colour, 7))
    skull = place(ellipse(np.zeros(2), (1.06, 0.98)))
    inside = np.zeros_like(mask)
    fill(inside, skull, 255)
    fill_both(layer, mask, skull, main)
    painted = layer.copy()
    for patch in _PATTERNS[species.pattern]:
        fill(painted, place(patch), second)
    layer[inside > 127] = painted[inside > 127]


def paint_eye(layer: np.ndarray, sitter: Sitter) -> None:
    """A dark pupil in a pale eye, the same for every species."""
    offset = rotation(sitter.pose.gaze) @ np.array([0.32, -0.18]) * [sitter.pose.facing, 1]
    centre = sitter.head + offset * sitter.head_radius
    fill(layer, ellipse(centre, (0.2 * sitter.head_radius,) * 2), np.array([228, 222, 206]))
    fill(layer, ellipse(centre, (0.14 * sitter.head_radius,) * 2), np.array([16, 14, 14]))
