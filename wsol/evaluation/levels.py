"""The largest component and the best IoU at each level, compiled."""

import numpy as np

from wsol.evaluation.contours import AREA2, HIGH, HOLED, LOW, X0, X1, Y0, Y1, kernel


@kernel
def largest_per_level(bright):
    """Row of the component of largest polygon area at each v, (256,), -1 where there is none.

    The second answer, (256,), tells where that is not certain: the areas of two components are
    equal, or holes, which count for the polygon around them, might make another one the largest.
    """
    best = np.full(256, -1, np.int32)  # of largest known area
    first, second = np.full(256, -1, np.int32), np.full(256, -1, np.int32)  # largest possible areas
    holder = np.full(256, -1, np.int32)  # whose possible area is the first
    for i in range(len(bright)):
        row = bright[i]
        bound = row[AREA2]
        if row[HOLED]:
            bound = 2 * (row[X1] - row[X0]) * (row[Y1] - row[Y0])
        for v in range(row[LOW], row[HIGH] + 1):
            if best[v] < 0 or row[AREA2] > bright[best[v], AREA2]:
                best[v] = i
            if bound > first[v]:
                first[v], second[v], holder[v] = bound, first[v], i
            elif bound > second[v]:
                second[v] = bound
    doubtful = np.zeros(256, np.bool_)
    for v in range(256):
        if best[v] >= 0:
            rival = second[v] if holder[v] == best[v] else first[v]
            doubtful[v] = rival >= bright[best[v], AREA2]
    return best, doubtful


@kernel
def _best_iou(box, truth):
    """Best IoU of one box with (G, 4) boxes, corners inclusive; 0 where G = 0."""
    x0, y0, x1, y1 = box[0], box[1], box[2], box[3]
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
def iou_of_levels(largest, boxes, low, high, truth):
    """Best IoU over (G, 4) boxes at each level, (256,): largest contour, any contour."""
    of_largest, of_all = np.zeros(256), np.full(256, -1.0)
    for v in range(256):
        of_largest[v] = _best_iou(largest[v], truth)
    for i in range(len(boxes)):
        iou = _best_iou(boxes[i], truth)
        for v in range(low[i], high[i] + 1):
            of_all[v] = max(of_all[v], iou)
    for v in range(256):
        if of_all[v] < 0:  # no contour
            of_all[v] = of_largest[v]
    return of_largest, of_all
