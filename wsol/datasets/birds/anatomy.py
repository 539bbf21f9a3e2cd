"""Birds: one body plan in many poses; the twenty classes differ in the head only.

The body is a tube of varying radius around a spine from tail to head, with wings, belly, legs and
feathers on it. Plumage is drawn per image, half of the time from the very colours of the scene. A
:class:`Species` fixes nothing but the head: its two colours, their pattern, the crest and the bill.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from wsol.datasets.birds.canvas import (
    ellipse,
    fill,
    jitter,
    noise,
    rotation,
    shade,
    stroke,
    strokes,
    tube,
)

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

_PLUMAGE = np.array(
    [[112, 88, 64], [138, 132, 124], [96, 104, 74], [88, 98, 112], [150, 104, 70], [188, 170, 138],
     [74, 66, 60], [160, 150, 96], [124, 110, 104], [96, 76, 82]]
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """How a bird holds itself. Lengths in body lengths, angles in radians, y pointing down."""

    spine: np.ndarray  # (P, 2) from the tip of the tail to the centre of the head
    radii: np.ndarray  # (P,)
    head: np.ndarray  # (2,) centre of the head
    head_radius: float
    gaze: float  # angle of the bill; 0 looks along +x
    tilt: float  # angle of the body axis, negative = chest up
    flying: bool
    wingbeat: float  # span of a spread wing, 1 = straight up
    facing: int  # +1 looks right, -1 looks left

    def extent(self) -> np.ndarray:
        """Return the (2, 2) corners (low, high) of body, head and spread wings."""
        ahead = self.head + [self.facing * self.head_radius, 0]  # room for the bill
        points = [tube(self.spine, self.radii)]
        points += [ellipse(c, (1.1 * self.head_radius,) * 2) for c in (self.head, ahead)]
        if self.flying:
            points += [w * [self.facing, 1] for w in _wing_tips(self)]
        points = np.concatenate(points)
        return np.stack([points.min(axis=0), points.max(axis=0)])


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose: perched, standing, stretching or flying, looking left or right."""
    flying = rng.random() < 0.18
    tilt = rng.uniform(-0.35, 0.25) if flying else rng.uniform(-1.15, 0.1)
    neck = (
        0.05
        if flying
        else rng.choice([0.04, 0.12, 0.3], p=[0.45, 0.35, 0.2]) * rng.uniform(0.7, 1.3)
    )
    plump, tail = rng.uniform(0.24, 0.33), rng.uniform(0.35, 0.8)
    axis = np.array([np.cos(tilt), np.sin(tilt)])
    rise = tilt - rng.uniform(0.1, 0.9) if not flying else tilt - rng.uniform(0, 0.4)
    head_radius = rng.uniform(0.21, 0.265)
    chest = 0.42 * axis
    head = chest + (0.2 + neck) * np.array([np.cos(rise), np.sin(rise)])
    droop = rotation(rng.normal(0, 0.15)) @ -axis
    knots = np.stack(
        [-0.45 * axis + tail * droop, -0.45 * axis, -0.12 * axis, 0.2 * axis, chest, head]
    )
    width = np.array(
        [rng.uniform(0.05, 0.1), 0.1, 0.88 * plump, plump, 0.8 * plump, 0.8 * head_radius]
    )
    s = np.linspace(0, 5, 41)
    radii = np.maximum(CubicSpline(range(6), width)(s), 0.03)
    gaze = rng.normal(0.05, 0.3) + (tilt * 0.3 if flying else 0)
    spine, facing = CubicSpline(range(6), knots)(s), int(rng.choice([-1, 1]))
    flip = np.array([facing, 1])
    beat = rng.uniform(0.6, 1.05)
    return Pose(spine * flip, radii, head * flip, head_radius, gaze, tilt, flying, beat, facing)


def _wing_tips(pose: Pose) -> list[np.ndarray]:
    """Return the two (P, 2) outlines of spread wings, looking right."""
    leading = [[0.3, 0.02], [0.34, -0.38], [0.2, -0.75], [-0.12, -1.12], [-0.5, -1.3]]
    trailing = [[-0.42, -1.0], [-0.5, -0.92], [-0.38, -0.66], [-0.46, -0.52], [-0.32, -0.2]]
    root = np.array(leading + trailing + [[-0.32, 0.06]]) * [1, pose.wingbeat]
    far = root * [0.8, 0.75] + [0.12, -0.06]
    return [wing @ rotation(pose.tilt).T for wing in (far, root)]


@dataclass
class Sitter:
    """A bird placed on a canvas: where its parts are, in canvas pixels."""

    pose: Pose
    size: float  # canvas pixels per body length
    origin: np.ndarray  # (2,) canvas position of the body's centre

    def place(self, local: np.ndarray) -> np.ndarray:
        """Map (P, 2) points in body lengths to canvas pixels."""
        return np.asarray(local) * self.size + self.origin

    def mirrored(self, local: np.ndarray) -> np.ndarray:
        """Like :meth:`place`, for points given for a bird that looks right."""
        return self.place(np.asarray(local) * [self.pose.facing, 1])

    @property
    def head(self) -> np.ndarray:
        """Centre of the head (x, y)."""
        return self.place(self.pose.head)

    @property
    def head_radius(self) -> float:
        """Radius of the head in canvas pixels."""
        return self.pose.head_radius * self.size


def paint_bird(
    rng: np.random.Generator,
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
    _paint_head(rng, layer, mask, sitter, species)
    shade(layer, mask, light, 0.22 * sitter.size, grain + 0.6 * noise(rng, shape, 2.5))
    _paint_eye(layer, sitter)
    return layer, mask


def _both(layer: np.ndarray, mask: np.ndarray, outline: np.ndarray, colour: np.ndarray) -> None:
    fill(layer, outline, colour)
    fill(mask, outline, 255)


def _paint_body(
    rng: np.random.Generator,
    layer: np.ndarray,
    mask: np.ndarray,
    sitter: Sitter,
    coat: np.ndarray,
    wing: np.ndarray,
) -> None:
    pose = sitter.pose
    if pose.flying:
        far, near = (sitter.mirrored(w) for w in _wing_tips(pose))
        _both(layer, mask, far, wing * 0.75)
    else:
        _paint_legs(rng, layer, mask, sitter)
    outline = tube(pose.spine, pose.radii)
    torso = np.zeros_like(mask)
    fill(torso, sitter.place(outline), 255)
    _both(layer, mask, sitter.place(outline), coat)
    _paint_belly(rng, layer, torso, sitter, coat)
    scales = rng.uniform(0.085, 0.125)
    _paint_scallops(layer, torso, sitter, coat * 0.62, scales)
    if pose.flying:
        _both(layer, mask, near, wing)
        feathered = near
    else:
        axis = rotation(pose.tilt + rng.normal(0, 0.08))
        fold = ellipse(np.array([-0.12, -0.04]), (0.42, rng.uniform(0.14, 0.2)), 0.06)
        feathered = sitter.mirrored(fold @ axis.T)
        _both(layer, mask, feathered, wing)
    covert = np.zeros_like(mask)
    fill(covert, feathered, 255)
    _paint_scallops(layer, covert, sitter, wing * 0.55, 1.25 * scales)
    _paint_feathers(rng, layer, sitter, feathered, wing)


def _paint_legs(
    rng: np.random.Generator, layer: np.ndarray, mask: np.ndarray, sitter: Sitter
) -> None:
    colour = jitter(rng, np.array([92, 74, 56]), 18)
    for hip in (-0.06, 0.06):
        down = np.array([[hip, 0.15], [hip + rng.normal(0, 0.04), 0.3 + rng.uniform(0.05, 0.12)]])
        leg = sitter.mirrored(down)
        stroke(layer, leg, colour, 0.05 * sitter.size)
        stroke(mask, leg, 255, 0.05 * sitter.size)


def _paint_belly(
    rng: np.random.Generator,
    layer: np.ndarray,
    torso: np.ndarray,
    sitter: Sitter,
    coat: np.ndarray,
) -> None:
    """A lighter underside, sometimes spotted or barred; clipped to the torso."""
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
    """Overlapping rows of feather tips, ``spacing`` body lengths apart; clipped to a region."""
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
    rng: np.random.Generator,
    layer: np.ndarray,
    sitter: Sitter,
    region: np.ndarray,
    wing: np.ndarray,
) -> None:
    """Streaks along a wing: darker quills, and a bar on some birds."""
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


def _paint_head(
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
        _both(layer, mask, place(feather), second)
    _both(layer, mask, place(_BILLS[species.bill]), jitter(rng, species.bill_colour, 7))
    skull = place(ellipse(np.zeros(2), (1.06, 0.98)))
    inside = np.zeros_like(mask)
    fill(inside, skull, 255)
    _both(layer, mask, skull, main)
    painted = layer.copy()
    for patch in _PATTERNS[species.pattern]:
        fill(painted, place(patch), second)
    layer[inside > 127] = painted[inside > 127]


def _paint_eye(layer: np.ndarray, sitter: Sitter) -> None:
    offset = rotation(sitter.pose.gaze) @ np.array([0.32, -0.18]) * [sitter.pose.facing, 1]
    centre = sitter.head + offset * sitter.head_radius
    fill(layer, ellipse(centre, (0.2 * sitter.head_radius,) * 2), np.array([228, 222, 206]))
    fill(layer, ellipse(centre, (0.14 * sitter.head_radius,) * 2), np.array([16, 14, 14]))


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
