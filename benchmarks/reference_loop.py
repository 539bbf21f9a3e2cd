"""The evaluation as the reference protocol tells it: 1,000 thresholds, one OpenCV call each.

Written to be as fast as such a loop honestly is: nothing is computed twice for one threshold, the
IoU of all boxes is one vectorized call, and the best box per threshold one `reduceat`.
"""

import cv2
import numpy as np

from wsol.evaluation.boxes import TAUS, box_iou

NO_BOX = (0, 0, 0, 0)  # what the protocol answers without any contour: one pixel at the origin


def contour_boxes(binary: np.ndarray) -> tuple[list[tuple[int, int, int, int]], int]:
    """Boxes of all contours of a (H, W) map of 0 and 1, and which of them is the largest.

    Contours of holes count like the others. The largest contour is the one of largest polygon
    area, which runs through pixel centres: a line has the area 0. The first of equals is taken.
    Without a contour the list is empty and the number 0.
    """
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    largest = 0 if len(contours) < 2 else int(np.argmax([cv2.contourArea(c) for c in contours]))
    return _rectangles(contours, binary.shape), largest


def _rectangles(contours, shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    # The far corner is clipped to the frame's last pixel but otherwise one past the object's:
    # together with the + 1 of `box_iou` the protocol's boxes are a pixel wide of the mark.
    right, bottom = shape[1] - 1, shape[0] - 1
    rectangles = map(cv2.boundingRect, contours)
    return [(x, y, min(x + w, right), min(y + h, bottom)) for x, y, w, h in rectangles]


def _boxes(binary: np.ndarray, every: bool) -> list[tuple[int, int, int, int]]:
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return [NO_BOX]
    if not every:
        contours = [max(contours, key=cv2.contourArea)]
    return _rectangles(contours, binary.shape)


def iou_curve(score: np.ndarray, truth: np.ndarray, every: bool, cuts=None) -> np.ndarray:
    """Best IoU at each threshold, (T,), of the largest contour or of every contour."""
    grey = (255 * score).astype(np.uint8)
    if cuts is None:
        cuts = (TAUS * float(grey.max())).astype(int)
    boxes, starts = [], []
    for cut in cuts:
        _, binary = cv2.threshold(grey, int(cut), 255, cv2.THRESH_BINARY)
        starts.append(len(boxes))
        boxes += _boxes(binary, every)
    best = box_iou(np.array(boxes), truth).max(axis=1)
    return np.maximum.reduceat(best, starts)


def iou_curve_of_distinct_levels(score: np.ndarray, truth: np.ndarray, every: bool) -> np.ndarray:
    """The same with each of the at most 255 different binary maps looked at once."""
    grey = (255 * score).astype(np.uint8)
    cuts, inverse = np.unique((TAUS * float(grey.max())).astype(int), return_inverse=True)
    return iou_curve(score, truth, every, cuts)[inverse]
