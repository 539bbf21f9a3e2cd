"""The twenty classes, which differ in crest, bill, colours and pattern of the head only."""

from dataclasses import dataclass

import numpy as np

from wsol.datasets.birds.canvas import Rng, ellipse, fill, fill_both, jitter, rotation
from wsol.datasets.birds.pose import Sitter

RED, YELLOW, BLUE = (186, 52, 44), (226, 190, 64), (64, 92, 170)
WHITE, BLACK, ORANGE = (236, 234, 226), (38, 36, 38), (208, 120, 48)
GREEN, VIOLET = (64, 126, 78), (122, 70, 132)


@dataclass(frozen=True)
class Species:
    """The head that makes a class: colours in RGB 0-255, pattern, crest and bill by name."""

    name: str
    main: tuple[int, int, int]
    second: tuple[int, int, int]
    pattern: str  # cap, mask, throat, nape, face, stripes
    crest: str  # none, spike, fan
    bill: str  # cone, long, hook, flat
    bill_colour: tuple[int, int, int]


SPECIES = (
    Species("Red_capped_Finch", WHITE, RED, "cap", "none", "cone", YELLOW),
    Species("Red_capped_Curlew", BLACK, RED, "cap", "none", "long", ORANGE),
    Species("Black_masked_Shrike", WHITE, BLACK, "mask", "none", "hook", BLACK),
    Species("Black_masked_Bunting", YELLOW, BLACK, "mask", "none", "cone", BLACK),
    Species("Black_masked_Kingfisher", BLUE, BLACK, "mask", "spike", "long", BLACK),
    Species("Yellow_throated_Duck", GREEN, YELLOW, "throat", "none", "flat", YELLOW),
    Species("Yellow_throated_Warbler", BLACK, YELLOW, "throat", "none", "cone", WHITE),
    Species("White_throated_Hawk", RED, WHITE, "throat", "none", "hook", YELLOW),
    Species("White_faced_Jay", BLUE, WHITE, "face", "fan", "cone", BLACK),
    Species("White_faced_Cardinal", RED, WHITE, "face", "fan", "cone", ORANGE),
    Species("Orange_faced_Starling", VIOLET, ORANGE, "face", "none", "long", YELLOW),
    Species("Orange_naped_Plover", WHITE, ORANGE, "nape", "none", "long", BLACK),
    Species("Orange_naped_Cockatoo", WHITE, ORANGE, "nape", "fan", "hook", BLACK),
    Species("Blue_naped_Parrot", GREEN, BLUE, "nape", "none", "hook", RED),
    Species("Blue_capped_Oriole", ORANGE, BLUE, "cap", "none", "long", WHITE),
    Species("Blue_capped_Tanager", YELLOW, BLUE, "cap", "spike", "cone", BLACK),
    Species("Striped_Grebe", WHITE, BLACK, "stripes", "spike", "long", RED),
    Species("Striped_Merganser", BLACK, GREEN, "stripes", "fan", "flat", RED),
    Species("Violet_striped_Sunbird", YELLOW, VIOLET, "stripes", "none", "long", BLACK),
    Species("Violet_capped_Goose", ORANGE, VIOLET, "cap", "none", "flat", BLACK),
)

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
    rng: Rng, layer: np.ndarray, mask: np.ndarray, sitter: Sitter, species: Species
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
