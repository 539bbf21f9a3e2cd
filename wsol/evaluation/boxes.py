"""From a localization map to boxes and their IoU, by the reference protocol.

The protocol is that of Choe et al., "Evaluating Weakly Supervised Object Localization Methods
Right" (CVPR 2020): resize to a square frame, normalize, quantize to 8 bits, binarize at 1,000
thresholds, take the box of the largest contour (MaxBoxAcc) or of every contour (MaxBoxAccV2).

A map of 8 bits has at most 255 binarizations that are not empty, and they are nested, so one sweep
over its grey levels (`wsol.evaluation.contours`) gives the boxes of all of them. The numbers equal
those of the plain loop over the thresholds, which the tests compare.

A binary map is named by its *level* v of 1 to 255: the pixels of at least v.

Shapes: H W frame, h w map, T thresholds, M boxes, G ground-truth boxes.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsol.evaluation.contours import HIGH, PLACE, components
from wsol.evaluation.levels import boxes_of_rows, iou_of_rows
from wsol.evaluation.patterns import JOINS, KINDS

FRAME = 224  # side of the square frame in which maps and ground truth are compared, pixels
TAUS = np.arange(0, 1, 0.001)  # (T,) score-map thresholds of the protocol
LEVELS = 256  # of an 8-bit map

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_LOCAL = threading.local()  # a workspace for each thread


def score_map(cam: NDArray[np.floating], size: int = FRAME) -> Floats:
    """Resize a (h, w) map to (size, size) and normalize it to [0, 1].

    The minimum is subtracted and the maximum divided out *after* the cubic resize, whose overshoot
    would leave [0, 1] otherwise. A map that is constant or not finite becomes all zeros. Raises
    ValueError if it has not two dimensions.
    """
    cam = np.asarray(cam, dtype=np.float64)
    if cam.ndim != 2:
        raise ValueError(f"a map has two dimensions, this one has the shape {cam.shape}")
    # Asked of the map itself: resizing a constant leaves rounding errors that would be blown up.
    if not np.isfinite(cam).all() or cam.min() == cam.max():
        return np.zeros((size, size))
    score = cv2.resize(cam, (size, size), interpolation=cv2.INTER_CUBIC)
    score -= score.min()
    return score / score.max()


def resize_boxes(boxes: ArrayLike, image_size: tuple[int, int], size: int = FRAME) -> Ints:
    """Squash (G, 4) boxes of an image of (width, height) into the frame, truncating to int.

    Raises ValueError for boxes of another shape, not finite or with corners in the wrong order,
    and for an image without area.
    """
    width, height = image_size
    boxes = _four(np.asarray(boxes, dtype=np.float64))
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all()  # which NaN is not
    if not (ordered and np.isfinite(boxes).all() and width > 0 and height > 0):
        raise ValueError(f"boxes {boxes.tolist()} in an image of {width} x {height} pixels")
    # Multiply first: a corner that falls on a pixel must not be truncated to the one before it.
    return (boxes * size / np.array([width, height, width, height])).astype(np.int64)


def _four(boxes: NDArray) -> NDArray:
    if boxes.size and boxes.shape[-1] != 4:
        raise ValueError(f"boxes are (G, 4), these {boxes.shape}")
    return boxes.reshape(-1, 4)


def box_areas(boxes: ArrayLike, plus: float = 1) -> NDArray:
    """Areas (...) of boxes (..., 4); `plus` as in `box_iou`. 0 where a corner passes the other."""
    boxes = _wide(boxes)
    return np.maximum(boxes[..., 2:] - boxes[..., :2] + plus, 0).prod(axis=-1)


def box_overlap(boxes: ArrayLike, others: ArrayLike, plus: float = 1) -> NDArray:
    """Areas (...) that boxes (..., 4) share with others, which broadcast."""
    a, b = _wide(boxes), _wide(others)
    near, far = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return box_areas(np.concatenate([near, far], axis=-1), plus)


def box_iou(boxes: ArrayLike, others: ArrayLike, plus: float = 1) -> Floats:
    """IoU (M, G) of boxes (M, 4) with others (G, 4), x0 y0 x1 y1.

    plus : 1 where both corners belong to a box, as in the reference code; 0 where the far one does
        not
    """
    overlap = box_overlap(_wide(boxes)[:, None], _wide(others)[None], plus)
    union = box_areas(boxes, plus)[:, None] + box_areas(others, plus)[None] - overlap
    return np.divide(overlap, union, out=np.zeros(overlap.shape), where=union > 0)


def _wide(boxes: ArrayLike) -> NDArray:
    """Boxes (..., 4) in a type that sums of pixels do not overflow."""
    boxes = np.asarray(boxes)
    return boxes.astype(np.int64 if boxes.dtype.kind in "iub" else np.float64, copy=False).reshape(
        *(boxes.shape[:-1] if boxes.size else (0,)), 4
    )


def quantize(score: Floats) -> Bytes:
    """Score map in [0, 1] to 8 bits, rounding down."""
    return np.floor(255 * score).astype(np.uint8)


def levels_of(taus: ArrayLike, peak: ArrayLike) -> Ints:
    """Level v of the binary map ``levels > int(tau * peak)``, for maps whose maximum is `peak`."""
    return (np.asarray(taus, dtype=np.float64) * peak).astype(np.int64) + 1


class Contours(NamedTuple):
    """Boxes of a map's contours at all levels, with both corners, as the protocol clips them."""

    largest: Ints  # (256, 4) box of the largest contour at each level, zeros where there is none
    boxes: Ints  # (M, 4) boxes of all contours, holes' included, and
    low: Ints  # (M,) the lowest and
    high: Ints  # (M,) the highest level at which each is there


class Workspace(NamedTuple):
    """Arrays that the kernel fills for maps of one size; one for each thread."""

    grey: NDArray[np.uint16]  # (H + 2, S) inside a frame of 0, which is darker than everything
    patterns: NDArray[np.uint8]  # (H + 2, S) which neighbours come before, clockwise from NW
    label: NDArray[np.int32]  # ((H + 2) S,) component of a pixel, plus the base of its sweep
    base: NDArray[np.int64]  # (1,) larger than all labels
    bright: NDArray[np.uint32]  # (H W + 1,) items of bright components in reading order
    dark: NDArray[np.uint32]  # (H W + 1,) the same of dark ones
    items: NDArray[np.uint32]  # (H W + 1,) items in the order of the sweep
    rows: NDArray[np.int32]  # (2 H W, 7)
    kinds: NDArray[np.uint8]  # tables of `wsol.evaluation.patterns`
    joins: NDArray[np.int8]


def workspace(H: int, W: int) -> Workspace:
    """Arrays for maps (H, W), about 80 bytes a pixel. Raises ValueError for 16 million pixels."""
    S = 8  # of a power of two, x and y of a place cost no division
    while W + 2 > S:
        S *= 2
    if (H + 2) * S > PLACE:
        raise ValueError(f"a map of {H} x {W} pixels is too large for the evaluation")
    inside, items = (H + 2, S), (np.empty(H * W + 1, np.uint32) for _ in range(3))
    grey, patterns = np.zeros(inside, np.uint16), np.zeros(inside, np.uint8)
    rows = np.empty((2 * H * W, 7), np.int32)
    label, base = np.zeros((H + 2) * S, np.int32), np.ones(1, np.int64)
    return Workspace(grey, patterns, label, base, *items, rows, KINDS, JOINS)


def contours(score: Floats | Bytes) -> Contours:
    """Boxes of the contours of a score map (H, W) in [0, 1], or its 8-bit levels, at all levels.

    Raises ValueError for other maps.
    """
    return Contours(*boxes_of_rows(*_rows(_checked(score))))


def _checked(score: ArrayLike) -> NDArray:
    """The map in one of the two types of the kernel, which does not look whether it is in range."""
    score = np.asarray(score)
    score = np.ascontiguousarray(score, None if score.dtype == np.uint8 else np.float64)
    if score.ndim != 2 or score.size == 0:
        raise ValueError(f"a score map is (H, W), this one {score.shape}")
    if score.dtype != np.uint8 and not (score.min() >= 0 and score.max() <= 1):  # NaN is neither
        raise ValueError(f"a score map is in [0, 1], this one in [{score.min()}, {score.max()}]")
    return score


def level_iou(score: Floats | Bytes, truth: Ints) -> tuple[int, Ints, Floats, Floats]:
    """Largest level of a score map, or of its 8-bit levels; at each level the box of the largest
    contour, (256, 4), its best IoU over boxes (G, 4), and that of any contour, each (256,).
    """
    rows, bright, *others = _rows(score)
    peak = int(rows[0, HIGH]) if bright else 0  # the sweep begins at the brightest pixel
    truth = np.asarray(truth, np.int64).reshape(-1, 4)
    return peak, *iou_of_rows(rows, bright, *others, truth)


def _rows(score: NDArray) -> tuple[NDArray, int, NDArray, int, int]:
    work = _workspace(*score.shape)
    scale = 256 if score.dtype == np.uint8 else 255.0 * 256
    bright, holes, best = components(score, scale, work)
    return work.rows[: bright + holes], bright, best, *score.shape


def _workspace(H: int, W: int) -> Workspace:
    if getattr(_LOCAL, "shape", None) != (H, W):
        _LOCAL.shape, _LOCAL.work = (H, W), workspace(H, W)
    return _LOCAL.work


def best_iou(score: Floats, truth: Ints, taus: ArrayLike = TAUS) -> tuple[Floats, Floats]:
    """Best IoU over the ground truth at each threshold, in both modes of the protocol.

    Takes a (H, W) score map in [0, 1] and (G, 4) integer boxes in its frame. Returns (T,) for the
    box of the largest contour and (T,) for the best of the boxes of all contours; zeros where
    G = 0. Raises ValueError for other maps and boxes, and taus outside [0, 1).
    """
    truth, taus = _four(np.asarray(truth)), np.asarray(taus, np.float64)
    if not (np.isfinite(truth).all() and ((taus >= 0) & (taus < 1)).all()):
        raise ValueError("boxes are finite, and taus in [0, 1)")
    peak, _, largest, every = level_iou(_checked(score), truth)
    v = levels_of(taus, peak)
    return largest[v], every[v]


def largest_boxes(score: Floats, taus: ArrayLike = TAUS) -> Ints:
    """Box of the largest contour at each threshold, (T, 4), in the frame of the score map."""
    return contours(score).largest[levels_of(taus, int(255 * score.max()))]


def largest_box(score: Floats, tau: float) -> Ints:
    """Box (4,) of the largest contour at one threshold, for drawing."""
    return largest_boxes(score, [tau])[0]
