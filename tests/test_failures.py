"""Why images fail: boxes drawn by hand, pixels counted one by one, and what must always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.evaluation.boxes import box_iou
from wsol.evaluation.failures import REASONS, failure_reasons, failure_shares

OBJECT = (10, 10, 29, 29)  # 20 x 20 pixels


@st.composite
def box(draw, size: int = 16) -> tuple[int, int, int, int]:
    x, y = (sorted(draw(st.tuples(*[st.integers(0, size - 1)] * 2))) for _ in range(2))
    return x[0], y[0], x[1], y[1]


def pixels(of: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = of
    return {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


def by_pixels(predicted, truth) -> str:
    """The reasons as they are told, on sets of pixels."""
    own, others = pixels(predicted), [pixels(gt) for gt in truth]
    best = max(others, key=lambda gt: len(own & gt) / len(own | gt))
    if len(own & best) / len(own | best) >= 0.5:
        return "right"
    if sum(len(own & gt) / len(gt) > 0.3 for gt in others) >= 2:
        return "multiple instances"
    if len(own & best) / len(own) > 0.5:
        return "too small"
    return "too large" if len(own & best) / len(best) >= 0.7 else "elsewhere"


@pytest.mark.parametrize(
    ("predicted", "truth", "reason"),
    [
        (OBJECT, [OBJECT], "right"),
        ((10, 10, 29, 19), [OBJECT], "right"),  # the upper half, an IoU of .5 exactly
        ((10, 10, 29, 18), [OBJECT], "too small"),
        ((12, 12, 17, 17), [OBJECT], "too small"),  # a head
        ((0, 0, 223, 223), [OBJECT], "too large"),
        ((0, 0, 23, 29), [OBJECT], "too large"),  # 14 of 20 columns, .7 exactly
        ((0, 0, 22, 29), [OBJECT], "elsewhere"),
        ((100, 100, 120, 120), [OBJECT], "elsewhere"),
        ((10, 10, 59, 29), [OBJECT, (40, 10, 59, 29)], "multiple instances"),
        ((24, 10, 45, 29), [OBJECT, (40, 10, 59, 29)], "elsewhere"),  # .3 of each, not more
        ((23, 10, 46, 29), [OBJECT, (40, 10, 59, 29)], "multiple instances"),
    ],
)
def test_drawn_boxes_have_the_reason_that_one_sees(predicted, truth, reason):
    assert failure_reasons([predicted], [truth]) == reason


@given(box(), st.lists(box(), min_size=1, max_size=4))
def test_the_reason_is_that_of_counting_pixels(predicted, truth):
    assert failure_reasons([predicted], [truth]) == by_pixels(predicted, truth)


IMAGES = st.lists(
    st.tuples(box(), st.lists(box(), min_size=1, max_size=3), st.integers(0, 3)), min_size=1
)


@given(IMAGES)
def test_every_image_has_one_reason_and_right_means_an_iou_of_half(images):
    boxes, truth, ranks = zip(*images, strict=True)
    known, top1 = failure_reasons(boxes, truth), failure_reasons(boxes, truth, ranks)
    assert set(known) | set(top1) <= set(REASONS)
    for i, (predicted, gts, rank) in enumerate(images):
        hit = box_iou(np.array([predicted]), np.array(gts)).max() >= 0.5
        assert (known[i] == "right") == hit
        assert (top1[i] == "right") == (hit and rank == 0)
        assert (top1[i] == "wrong class") == (rank > 0)
        assert known[i] != "wrong class"
    shares = failure_shares(boxes, truth, ranks)
    assert shares.columns.tolist() == ["top1_loc_error", "gt_known_loc_error"]
    for column, reasons in (("gt_known_loc_error", known), ("top1_loc_error", top1)):
        expected = [100 * (reasons == reason).mean() for reason in REASONS]
        assert shares[column].tolist() == pytest.approx(expected)
    assert failure_shares(boxes, truth).columns.tolist() == ["gt_known_loc_error"]


@pytest.mark.parametrize(
    ("boxes", "truth", "ranks", "message"),
    [
        ([OBJECT], [[]], None, "neither right nor wrong"),
        ([OBJECT], [[OBJECT]] * 2, None, "1 boxes, 2 ground truths"),
        ([OBJECT], [[OBJECT]], [-1], "rank of a label is unknown"),
        ([], [], None, "no image"),
    ],
)
def test_what_cannot_be_judged_is_refused(boxes, truth, ranks, message):
    with pytest.raises(ValueError, match=message):
        failure_shares(boxes, truth, ranks)
