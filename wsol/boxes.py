"""From a localization map to boxes and their IoU, by the reference protocol.

The protocol is that of Choe et al., "Evaluating Weakly Supervised Object Localization Methods
Right" (CVPR 2020): resize to a square frame, normalize, quantize to 8 bits, binarize at 1,000
thresholds, take the box of the largest contour (MaxBoxAcc) or of every contour (MaxBoxAccV2).

A map of 8 bits has at most 256 different binarizations, so each is worked out once and its answer
handed to all the thresholds that share it. One call of `findContours` per binarization serves both
modes. The numbers are those of the plain loop over the thresholds, which the tests hold beside it.

Shapes: H W frame, h w map, T thresholds, L binarizations, M boxes, G ground-truth boxes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

FRAME = 224  # side of the square frame in which maps and ground truth are compared, pixels
TAUS = np.arange(0, 1, 0.001)  # (T,) score-map thresholds of the protocol

NO_BOX = (0, 0, 0, 0)  # what the protocol answers without any contour: one pixel at the origin

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def score_map(cam: NDArray[np.floating], size: int = FRAME) -> Floats:
    """Resize a (h, w) map to (size, size) and normalize it to [0, 1].

    The minimum is subtracted and the maximum divided out *after* the cubic resize, whose overshoot
    would leave [0, 1] otherwise. A map that is constant or not finite becomes all zeros.
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
    """Squash (G, 4) boxes of an image of (width, height) into the frame, truncating to int."""
    width, height = image_size
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    # Multiply first: a corner that falls on a pixel must not be truncated to the one before it.
    return (boxes * size / np.array([width, height, width, height])).astype(np.int64)


def box_iou(boxes: NDArray[np.integer], others: NDArray[np.integer]) -> Floats:
    """IoU of (M, 4) with (G, 4) integer boxes, (M, G).

    Both corners belong to the box (hence + 1), as in the reference code.
    """
    a, b = np.asarray(boxes, np.int64)[:, None], np.asarray(others, np.int64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    overlap = np.maximum(sides, 0).prod(axis=-1)
    area_a, area_b = ((c[..., 2:] - c[..., :2] + 1).prod(axis=-1) for c in (a, b))
    union = area_a + area_b - overlap
    return np.where(union > 0, overlap / np.maximum(union, 1), 0.0)


def contour_boxes(binary: Bytes) -> tuple[list[tuple[int, int, int, int]], int]:
    """Boxes of all contours of a (H, W) map of 0 and 1, and which of them is the largest.

    Contours of holes count like the others. The largest contour is the one of largest polygon
    area, which runs through pixel centres: a line has the area 0. The first of equals is taken.
    Without a contour the list is empty and the number 0.
    """
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    # The far corner is clipped to the frame's last pixel but otherwise one past the object's:
    # together with the + 1 of `box_iou` the protocol's boxes are a pixel wide of the mark.
    right, bottom = binary.shape[1] - 1, binary.shape[0] - 1
    boxes = [
        (x, y, min(x + w, right), min(y + h, bottom))
        for x, y, w, h in map(cv2.boundingRect, contours)
    ]
    largest = 0 if len(boxes) < 2 else int(np.argmax([cv2.contourArea(c) for c in contours]))
    return boxes, largest


def quantize(score: Floats) -> Bytes:
    """Score map in [0, 1] to 8 bits, rounding down."""
    return np.floor(255 * score).astype(np.uint8)


def distinct_cuts(levels: Bytes, taus: ArrayLike) -> tuple[Ints, Ints]:
    """The grey levels at which the binary maps `levels > int(tau * max)` really differ.

    Returns (L,) grey levels, and for each of the (T,) taus the place of its own among them.
    """
    cuts = (np.asarray(taus, dtype=np.float64) * int(levels.max())).astype(np.int64)
    # Nested sets of equal size are equal: two cuts with as many pixels below them are the same.
    below = np.cumsum(np.bincount(levels.ravel(), minlength=256))[cuts]
    _, first, inverse = np.unique(below, return_index=True, return_inverse=True)
    return cuts[first], inverse


def boxes_per_cut(levels: Bytes, cuts: Ints) -> tuple[Ints, Ints, Ints]:
    """Boxes of all contours at each of L cuts, one after the other.

    Returns (M, 4) boxes, the (L,) places where each cut's boxes begin (each has at least one), and
    the (L,) places of the boxes of the largest contours.
    """
    boxes: list[tuple[int, int, int, int]] = []
    starts, largest = np.zeros((2, len(cuts)), dtype=np.int64)
    binary = np.empty_like(levels)
    for i, cut in enumerate(cuts):
        cv2.threshold(levels, float(cut), 1, cv2.THRESH_BINARY, dst=binary)  # strict: above the cut
        found, best = contour_boxes(binary)
        starts[i], largest[i] = len(boxes), len(boxes) + best
        boxes.extend(found or [NO_BOX])
    return np.array(boxes, dtype=np.int64), starts, largest


def best_iou(score: Floats, truth: Ints, taus: ArrayLike = TAUS) -> tuple[Floats, Floats]:
    """Best IoU over the ground truth at each threshold, in both modes of the protocol.

    Takes a (H, W) score map in [0, 1] and (G, 4) integer boxes in its frame. Returns (T,) for the
    box of the largest contour and (T,) for the best of the boxes of all contours; zeros where
    G = 0.
    """
    levels = quantize(score)
    cuts, inverse = distinct_cuts(levels, taus)
    boxes, starts, largest = boxes_per_cut(levels, cuts)
    iou = box_iou(boxes, np.asarray(truth).reshape(-1, 4)).max(axis=1, initial=0.0)
    return iou[largest][inverse], np.maximum.reduceat(iou, starts)[inverse]


def largest_boxes(score: Floats, taus: ArrayLike = TAUS) -> Ints:
    """Box of the largest contour at each threshold, (T, 4), in the frame of the score map."""
    levels = quantize(score)
    cuts, inverse = distinct_cuts(levels, taus)
    boxes, _, largest = boxes_per_cut(levels, cuts)
    return boxes[largest][inverse]


def largest_box(score: Floats, tau: float) -> Ints:
    """Box (4,) of the largest contour at one threshold, for drawing."""
    return largest_boxes(score, [tau])[0]
