"""Boxes and their IoU at each level, from the rows of `wsol.evaluation.contours`, compiled."""

import numpy as np

from wsol.evaluation.contours import HIGH, LOW, X0, X1, Y0, Y1, inlined, kernel


@inlined
def _box(rows, i, is_bright, H, W):
    # The far corner is one past the contour, clipped to the last pixel: together with the + 1 of an
    # IoU the protocol's boxes are one pixel too large.
    margin = 1 if is_bright else 2  # the frame, and the contour of a hole runs around it
    right, bottom = min(rows[i, X1] + margin - 1, W - 1), min(rows[i, Y1] + margin - 1, H - 1)
    return rows[i, X0] - margin, rows[i, Y0] - margin, right, bottom


@inlined
def _best_iou(box, truth):
    x0, y0, x1, y1 = box
    best = 0.0
    for g in range(len(truth)):
        width = min(x1, truth[g, 2]) - max(x0, truth[g, 0]) + 1
        height = min(y1, truth[g, 3]) - max(y0, truth[g, 1]) + 1
        if width > 0 and height > 0:
            area = (x1 - x0 + 1) * (y1 - y0 + 1)
            other = (truth[g, 2] - truth[g, 0] + 1) * (truth[g, 3] - truth[g, 1] + 1)
            best = max(best, width * height / (area + other - width * height))
    return best


@kernel
def boxes_of_rows(rows, bright, best, H, W):
    """Rows, the first of them bright, as the fields of `wsol.evaluation.boxes.Contours`."""
    largest, boxes = np.zeros((256, 4), np.int64), np.empty((len(rows), 4), np.int64)
    for i in range(len(rows)):
        boxes[i] = _box(rows, i, i < bright, H, W)
    for v in range(256):
        if best[v] >= 0:
            largest[v] = boxes[best[v]]
    there = np.flatnonzero(rows[:, LOW] <= rows[:, HIGH])
    return largest, boxes[there], rows[there, LOW], rows[there, HIGH]


@kernel
def iou_of_rows(rows, bright, best, H, W, truth):
    """At each level the box of the largest contour, (256, 4), zeros where there is none, its best
    IoU over (G, 4) boxes, and that of any contour, each (256,); 0 where G = 0.
    """
    largest, of_all = np.zeros((256, 4), np.int64), np.full(256, -1.0)
    of_largest = np.full(256, _best_iou((0, 0, 0, 0), truth))  # of no contour
    iou = np.empty(len(rows))
    for i in range(len(rows)):
        low, high = rows[i, LOW], rows[i, HIGH]
        if low > high:
            continue
        iou[i] = value = _best_iou(_box(rows, i, i < bright, H, W), truth)
        for v in range(low, high + 1):
            of_all[v] = max(of_all[v], value)
    for v in range(256):
        if best[v] >= 0:
            largest[v], of_largest[v] = _box(rows, best[v], True, H, W), iou[best[v]]
    return largest, of_largest, np.where(of_all < 0, of_largest, of_all)
