"""Why the localization of an image failed, from its boxes.

The reasons and their thresholds are those of the public code of Pan et al., "Unveiling the
Potential of Structure Preserving for Weakly Supervised Object Localization" (SPA, CVPR 2021;
`get_badcase_detail`), which others report as Cls, M-Ins, Part, More and OT. They are tested in this
order; the first that holds is the reason:

    wrong class         the label is not the predicted class (Top-1 only)
    multiple instances  more than .3 of the area of each of two or more objects is in the box
    too small           more than half of the box is on the object: a part of it
    too large           at least .7 of the object is in the box
    elsewhere           none of these

"The object" is the ground-truth box of highest IoU. Two things differ from that code: an image
is right from an IoU of .5 on, as everywhere in this repository, and boxes are those of the frame.

Shapes: N images, G ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.evaluation.boxes import box_areas, box_overlap
from wsol.evaluation.metrics import DELTA

RIGHT, WRONG_CLASS, ELSEWHERE = "right", "wrong class", "elsewhere"
MULTIPLE, TOO_SMALL, TOO_LARGE = "multiple instances", "too small", "too large"
REASONS = (RIGHT, WRONG_CLASS, MULTIPLE, TOO_SMALL, TOO_LARGE, ELSEWHERE)

OF_SEVERAL = 0.3  # share of an object's area above which it counts among several
OF_BOX = 0.5  # share of the box's area above which the box is on the object
OF_OBJECT = 0.7  # share of the object's area from which the box covers it


def failure_reasons(
    boxes: ArrayLike, truth: Sequence[ArrayLike], ranks: ArrayLike | None = None
) -> NDArray[np.str_]:
    """One of `REASONS` for each of N images, (N,).

    boxes : (N, 4) predicted boxes in the frame, such as `wsol.evaluation.boxes.largest_box` gives
    truth : N arrays (G, 4) in the same frame, see `wsol.evaluation.boxes.resize_boxes`
    ranks : (N,) of the label, 0 if predicted; without, the class is given (GT-known)

    Raises ValueError if they differ in number, a rank is unknown or an image has no box.
    """
    boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
    ranks = np.zeros(len(boxes), np.int64) if ranks is None else np.asarray(ranks)
    if not len(boxes) == len(truth) == len(ranks):
        raise ValueError(f"{len(boxes)} boxes, {len(truth)} ground truths, {len(ranks)} ranks")
    if (ranks < 0).any():
        raise ValueError("the rank of a label is unknown: leave the ranks out for GT-known")
    counts = np.array([len(one) for one in truth], dtype=np.int64)
    if not counts.all():
        raise ValueError("an image without ground-truth box is neither right nor wrong")
    if not len(boxes):
        return np.array([], dtype=np.str_)
    image, start = np.repeat(np.arange(len(boxes)), counts), np.cumsum(counts) - counts
    objects, predicted = np.concatenate([*truth]), boxes[image]  # (sum of G, 4), a row an object
    shared, area, own = box_overlap(predicted, objects), box_areas(predicted), box_areas(objects)
    of_box, of_object, iou = shared / area, shared / own, shared / (area + own - shared)
    best = np.lexsort((-iou, image))[start]  # of each image the first object of highest IoU
    several = np.add.reduceat(of_object > OF_SEVERAL, start, dtype=np.int64) > 1
    holds = {
        WRONG_CLASS: ranks > 0,
        RIGHT: iou[best] >= DELTA,
        MULTIPLE: several,
        TOO_SMALL: of_box[best] > OF_BOX,
        TOO_LARGE: of_object[best] >= OF_OBJECT,
    }
    return np.select([*holds.values()], [*holds], ELSEWHERE)


def failure_shares(
    boxes: ArrayLike, truth: Sequence[ArrayLike], ranks: ArrayLike | None = None
) -> pd.DataFrame:
    """Share of images per reason, %: one row for each of `REASONS`, one column per error.

    Columns: top1_loc_error (with ranks only) and gt_known_loc_error; 100 less the share of "right"
    is that error. Takes and raises what `failure_reasons` does; ValueError if there is no image.
    """
    if len(boxes) == 0:
        raise ValueError("no image, so no share of images")
    columns = {"gt_known_loc_error": failure_reasons(boxes, truth)}
    if ranks is not None:
        columns = {"top1_loc_error": failure_reasons(boxes, truth, ranks)} | columns
    table = pd.DataFrame(columns).apply(lambda reasons: reasons.value_counts(normalize=True))
    return 100 * table.reindex(REASONS).fillna(0.0).rename_axis("reason")
