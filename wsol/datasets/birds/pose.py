"""The body plan: how a bird holds itself, and where its parts are once it sits on a canvas."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from wsol.datasets.birds.canvas import Rng, ellipse, rotation, tube


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
            points += [w * [self.facing, 1] for w in wing_tips(self)]
        points = np.concatenate(points)
        return np.stack([points.min(axis=0), points.max(axis=0)])


def draw_pose(rng: Rng) -> Pose:
    """Draw a pose: perched, standing, stretching or flying, looking left or right."""
    flying = rng.random() < 0.18
    tilt = rng.uniform(-0.35, 0.25) if flying else rng.uniform(-1.15, 0.1)
    neck = 0.05
    if not flying:
        neck = rng.choice([0.04, 0.12, 0.3], p=[0.45, 0.35, 0.2]) * rng.uniform(0.7, 1.3)
    plump, tail = rng.uniform(0.24, 0.33), rng.uniform(0.35, 0.8)
    axis = np.array([np.cos(tilt), np.sin(tilt)])
    rise = tilt - rng.uniform(0.1, 0.9) if not flying else tilt - rng.uniform(0, 0.4)
    head_radius = rng.uniform(0.21, 0.265)
    chest = 0.42 * axis
    head = chest + (0.2 + neck) * np.array([np.cos(rise), np.sin(rise)])
    droop = rotation(rng.normal(0, 0.15)) @ -axis
    rump = -0.45 * axis
    knots = np.stack([rump + tail * droop, rump, -0.12 * axis, 0.2 * axis, chest, head])
    tip = rng.uniform(0.05, 0.1)
    width = np.array([tip, 0.1, 0.88 * plump, plump, 0.8 * plump, 0.8 * head_radius])
    s = np.linspace(0, 5, 41)
    radii = np.maximum(CubicSpline(range(6), width)(s), 0.03)
    gaze = rng.normal(0.05, 0.3) + (tilt * 0.3 if flying else 0)
    spine, facing = CubicSpline(range(6), knots)(s), int(rng.choice([-1, 1]))
    flip = np.array([facing, 1])
    beat = rng.uniform(0.6, 1.05)
    return Pose(spine * flip, radii, head * flip, head_radius, gaze, tilt, flying, beat, facing)


def wing_tips(pose: Pose) -> list[np.ndarray]:
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
