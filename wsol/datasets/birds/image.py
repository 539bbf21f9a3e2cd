"""Finished images: a bird in a scene behind foliage, or a scene alone, through one camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from wsol.datasets.birds.bird import paint_bird
from wsol.datasets.birds.canvas import SUPERSAMPLING, Canvas, Rng, composite
from wsol.datasets.birds.elements import Scene, paint_branch
from wsol.datasets.birds.head import Species
from wsol.datasets.birds.pose import Sitter, draw_pose
from wsol.datasets.birds.scenes import background_scene, foliage, habitat_scene

SHAPES = ((108, 144), (144, 108), (128, 128), (116, 140), (140, 116))  # (H, W) of the images
MIN_MASK_SHARE, MAX_BOX_SHARE = 0.08, 0.60  # visible object, as share of the image
MIN_HEAD_SHARE = 13 / 96  # width of the head, as share of the image's longer side
FOLIAGE_PROBABILITY = 0.5


@dataclass(frozen=True)
class DrawnImage:
    """One finished image; mask and box hold the visible bird only."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) bool
    box: tuple[int, int, int, int]  # x, y, width, height in pixels; zeros without a bird


def bird_image(rng: Rng, species: Species, cue: str = "head") -> DrawnImage:
    """Draw one image of a bird, again until the visible bird has a fair size and shows its head.

    ``cue`` is ``"head"`` or ``"body"``, see :func:`wsol.datasets.birds.bird.paint_bird`.
    """
    while True:
        image = _try_bird_image(rng, species, cue)
        if image is not None:
            return image


def background_image(rng: Rng, gap: float) -> DrawnImage:
    """Draw one background image, ``gap`` in [0, 1] away from the habitats of the birds."""
    shape = _canvas_shape(rng)
    scene = background_scene(rng, shape, gap)
    if rng.random() < FOLIAGE_PROBABILITY:
        foliage(scene, rng)
    image = _photograph(rng, scene.canvas)
    return DrawnImage(image, np.zeros(image.shape[:2], bool), (0, 0, 0, 0))


def noise_image(rng: Rng) -> DrawnImage:
    """An image of independent uniform pixels: it has no object, nor anything that scenes have."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return DrawnImage(image, np.zeros(shape, bool), (0, 0, 0, 0))


def _canvas_shape(rng: Rng) -> tuple[int, int]:
    h, w = SHAPES[rng.integers(len(SHAPES))]
    return h * SUPERSAMPLING, w * SUPERSAMPLING


def _try_bird_image(rng: Rng, species: Species, cue: str) -> DrawnImage | None:
    shape = _canvas_shape(rng)
    sitter = _place_sitter(rng, shape)
    if sitter is None:
        return None
    scene = habitat_scene(rng, shape)
    if not sitter.pose.flying and rng.random() < 0.6:
        _paint_perch(scene, rng, sitter)
    layer, mask = paint_bird(rng, sitter, species, scene.palette, scene.light, scene.grain, cue)
    composite(scene.canvas, layer, mask)
    if rng.random() < FOLIAGE_PROBABILITY:
        mask = _occlude(scene, rng, sitter, mask)
    small = _shrink(mask) > 127
    box = _bounding_box(small)
    if small.mean() < MIN_MASK_SHARE or box[2] * box[3] > MAX_BOX_SHARE * small.size:
        return None
    return DrawnImage(_photograph(rng, scene.canvas), small, box)


def _place_sitter(rng: Rng, shape: tuple[int, int]) -> Sitter | None:
    canvas = np.array(shape[::-1], float)  # width, height
    pose = draw_pose(rng)
    low, high = pose.extent()
    share = np.exp(rng.uniform(np.log(0.13), np.log(0.62)))  # of the box in the image
    size = np.sqrt(share * canvas.prod() / (high - low).prod())
    margin = 0.3 * (high - low) * size * (rng.random() < 0.35)  # how far it may be cut off
    start, stop = -low * size - margin, canvas - high * size + margin
    if (start > stop).any():
        return None
    at = rng.beta(0.7, 0.7, 2)  # birds are rather beside the centre than in it
    sitter = Sitter(pose, size, start + at * (stop - start))
    inside = (sitter.head > sitter.head_radius) & (sitter.head < canvas - sitter.head_radius)
    if 2 * sitter.head_radius < MIN_HEAD_SHARE * canvas.max() or not inside.all():
        return None
    return sitter


def _paint_perch(scene: Scene, rng: Rng, sitter: Sitter) -> None:
    feet = sitter.origin + np.array([0, 0.42]) * sitter.size
    angle, length = rng.normal(0, 0.25), scene.canvas.shape[1] * rng.uniform(0.6, 1.6)
    start = feet - length * rng.uniform(0.3, 0.7) * np.array([np.cos(angle), np.sin(angle)])
    paint_branch(scene, rng, start, angle, length, rng.uniform(0.03, 0.09) * sitter.size)


def _occlude(scene: Scene, rng: Rng, sitter: Sitter, mask: np.ndarray) -> np.ndarray:
    yy, xx = np.nonzero(mask)
    head = np.zeros_like(mask)
    cv2.circle(head, tuple(int(v) for v in sitter.head), round(sitter.head_radius), 255, -1)
    for _ in range(rng.integers(1, 4)):
        i = rng.integers(len(xx))
        before = scene.canvas.copy()
        covered = foliage(scene, rng, near=np.array([xx[i], yy[i]], float))
        left = np.where(covered > 127, 0, mask).astype(np.uint8)
        hidden_head = ((covered > 127) & (head > 0)).sum() / (head > 0).sum()
        if hidden_head > 0.15 or (left > 127).sum() < 0.7 * len(xx):
            scene.canvas[:] = before
        else:
            mask = left
    return mask


def _shrink(canvas: np.ndarray) -> np.ndarray:
    return cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    if not mask.any():
        return (0, 0, 0, 0)
    y, x = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)


def _photograph(rng: Rng, canvas: Canvas) -> np.ndarray:
    image = _shrink(canvas).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.7))
    tint = rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.12)
    contrast = rng.uniform(0.85, 1.15)
    image = (image * tint - 120) * contrast + 120
    image += rng.normal(0, rng.uniform(2, 5), image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
