"""Score maps, boxes and IoU: hand-drawn maps, a loop over all thresholds, the peer's vectors."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kinds_of_maps import KINDS
from reference_loop import NO_BOX, contour_boxes

from wsol.evaluation import boxes
from wsol.evaluation.boxes import (
    TAUS,
    best_iou,
    box_iou,
    contours,
    largest_box,
    largest_boxes,
    level_iou,
    levels_of,
    quantize,
    resize_boxes,
    score_map,
)
from wsol.evaluation.contours import LABELS

PEER = Path(__file__).parent / "data" / "peer_vectors.npz"


@pytest.fixture(scope="module")
def peer() -> dict[str, np.ndarray]:
    with np.load(PEER) as vectors:
        return dict(vectors)


def drawing(*pieces: tuple[slice, slice], size: int = 224) -> np.ndarray:
    """A score map that is 1 on some rectangles and 0 elsewhere."""
    score = np.zeros((size, size))
    for piece in pieces:
        score[piece] = 1.0
    return score


def loop_over_taus(score: np.ndarray, truth: np.ndarray, taus: np.ndarray) -> tuple[list, list]:
    """The protocol as it is told: one threshold after the other, nothing shared."""
    grey = (255 * score).astype(np.uint8)
    height, width = grey.shape
    largest, every = [], []
    for tau in taus:
        binary = np.where(grey > int(tau * float(grey.max())), 255, 0).astype(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        answers = []
        for contour in sorted(contours, key=cv2.contourArea, reverse=True):
            x, y, w, h = cv2.boundingRect(contour)
            answers.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
        scores = []
        for a in answers or [(0, 0, 0, 0)]:
            for b in truth:
                shared = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1) for i in (0, 1)]
                areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
                scores.append(shared[0] * shared[1] / (sum(areas) - shared[0] * shared[1]))
        largest.append(max(scores[: len(truth)]))
        every.append(max(scores))
    return largest, every


def test_a_flat_map_scores_zero_everywhere():
    for value in (0.0, 0.1, -3.0, np.nan, np.inf):
        assert not score_map(np.full((7, 7), value)).any()


def test_one_bad_pixel_makes_the_whole_map_zero():
    cam = np.arange(49.0).reshape(7, 7)
    cam[3, 3] = np.nan
    assert not score_map(cam).any()


def test_a_score_map_fills_its_range_after_the_resize():
    score = score_map(np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32))
    assert score.shape == (224, 224)
    assert score.dtype == np.float64
    assert (score.min(), score.max()) == (0, 1)


def test_a_map_has_two_dimensions():
    with pytest.raises(ValueError, match="two dimensions"):
        score_map(np.zeros((1, 7, 7)))


@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan, np.inf])
def test_maps_outside_of_0_to_1_have_no_contours(score):
    maps = np.full((9, 9), 0.5)
    maps[4, 4] = score
    for function in (contours, partial(best_iou, truth=[[1, 1, 5, 5]]), largest_boxes):
        with pytest.raises(ValueError, match="is in"):
            function(maps)


@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f8", list])
def test_maps_of_any_type_have_the_contours_of_their_values(kind):
    maps = np.random.default_rng(0).random((20, 30)).round(2).astype(np.float16)
    converted = maps.tolist() if kind is list else maps.astype(kind)
    assert (best_iou(converted, [[2, 3, 9, 15]])[0] == best_iou(maps, [[2, 3, 9, 15]])[0]).all()
    with pytest.raises(ValueError, match="score map is"):
        best_iou(maps[None], [[2, 3, 9, 15]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: resize_boxes([[0, 1, np.nan, 3]], (9, 9)),
        lambda: resize_boxes([[0, 1, 2, 3]], (0, 9)),
        lambda: resize_boxes([[3, 1, 2, 3]], (9, 9)),
        lambda: resize_boxes([[0, 1, 2, 3, 4]], (9, 9)),
        lambda: best_iou(np.eye(9), [[np.nan] * 4]),
        lambda: best_iou(np.eye(9), [[0, 1, 2, 3]], taus=[1.0]),
        lambda: best_iou(np.eye(9), [[0, 1, 2, 3]], taus=[-0.1]),
    ],
)
def test_boxes_and_taus_that_are_none_are_refused(call):
    with pytest.raises(ValueError, match="boxes"):
        call()


def test_boxes_are_scaled_and_truncated():
    assert resize_boxes([60, 27, 385, 331], (500, 335)).tolist() == [[26, 18, 172, 221]]
    assert resize_boxes([3, 3, 9, 9], (9, 9)).tolist() == [[74, 74, 224, 224]]


def test_a_corner_on_a_pixel_stays_on_it():
    corners = np.arange(98)
    boxes = np.stack([corners] * 4, axis=1)
    assert (resize_boxes(boxes, (98, 98), size=49)[:, 0] == corners // 2).all()


def test_iou_counts_both_corners():
    pixel, square, far = [0, 0, 0, 0], [0, 0, 9, 9], [50, 50, 59, 59]
    iou = box_iou(np.array([pixel, square]), np.array([pixel, square, far]))
    assert iou.tolist() == [[1, 0.01, 0], [0.01, 1, 0]]


def test_a_blob_gets_a_box_one_pixel_too_wide():
    score = drawing(np.s_[5:10, 5:10])
    assert largest_box(score, 0.5).tolist() == [5, 5, 10, 10]


def test_a_box_ends_at_the_frame():
    assert largest_box(drawing(np.s_[200:, 210:]), 0.5).tolist() == [210, 200, 223, 223]


def test_an_empty_map_gives_the_pixel_at_the_origin():
    score = np.zeros((224, 224))
    assert largest_box(score, 0.5).tolist() == [0, 0, 0, 0]
    assert best_iou(score, np.array([[0, 0, 1, 1]]), [0.0, 0.9])[0].tolist() == [0.25, 0.25]


def test_the_largest_contour_is_not_that_of_most_pixels():
    line, block = np.s_[50, 10:200], np.s_[100:104, 100:104]
    assert largest_box(drawing(line, block), 0.5).tolist() == [100, 100, 104, 104]


def test_a_ring_gives_the_box_of_its_hole_too():
    ring = drawing(np.s_[50:150, 50:150])
    ring[60:140, 60:140] = 0
    boxes, largest = contour_boxes(ring.astype(np.uint8))
    assert sorted(boxes) == [(50, 50, 150, 150), (59, 59, 141, 141)]
    assert boxes[largest] == (50, 50, 150, 150)


def test_diagonal_neighbours_are_one_object():
    touching = drawing(np.s_[10:20, 10:20], np.s_[20:30, 20:30])
    assert largest_box(touching, 0.5).tolist() == [10, 10, 30, 30]


def test_the_threshold_is_strict_and_relative_to_the_maximum():
    score = drawing(np.s_[10:20, 10:20]) * 0.5
    score[12:14, 12:14] = 0.25
    assert largest_box(score, 0.0).tolist() == [10, 10, 20, 20]
    boxes, _ = contour_boxes((quantize(score) > 63).astype(np.uint8))
    assert len(boxes) == 2  # 0.25 is the grey level 63: at a cut of 63 it is background


def test_without_ground_truth_nothing_is_right():
    largest, every = best_iou(drawing(np.s_[3:9, 3:9]), np.zeros((0, 4), int))
    assert not largest.any()
    assert not every.any()


def test_each_threshold_knows_its_level():
    assert levels_of([0.0, 0.001, 0.004, 0.999], 255).tolist() == [1, 1, 2, 255]
    assert levels_of([0.0, 0.5, 0.999], 0).tolist() == [1, 1, 1]


def assert_contours_are_opencvs(levels: np.ndarray) -> None:
    result = contours(levels)
    last = 0
    for v in np.unique(levels[levels > 0]).tolist():  # between two of them nothing changes
        boxes, best = contour_boxes((levels >= v).astype(np.uint8))
        assert (result.largest[last + 1 : v + 1] == boxes[best]).all()
        for level in {last + 1, v}:
            there = (result.low <= level) & (level <= result.high)
            assert sorted(map(tuple, result.boxes[there].tolist())) == sorted(boxes)
        last = v
    assert not result.largest[last + 1 :].any()
    assert not (result.high > last).any()


def made_maps(seed: int, count: int, sizes: tuple[int, int], most_levels: int) -> list[np.ndarray]:
    """8-bit maps of many kinds: noise, smooth hills, thin lines, sparse dots, nested rings."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(count):
        H, W = rng.integers(*sizes, 2)
        kind, grey = rng.integers(5), rng.integers(2, most_levels + 1)
        field = rng.random((H, W))
        if kind == 1:
            small = rng.random(tuple(rng.integers(2, 8, 2)))
            field = np.clip(
                cv2.resize(small, (int(W), int(H)), interpolation=cv2.INTER_CUBIC), 0, 1
            )
        elif kind == 2:
            field = np.where((field < 0.4).cumsum(axis=rng.integers(2)) % 3 == 0, field, 0)
        elif kind == 3:
            field = np.where(field < rng.uniform(0.05, 0.6), rng.random((H, W)), 0)
        elif kind == 4:
            y, x = np.mgrid[:H, :W]
            field = 0.5 + 0.5 * np.cos(np.hypot(y - rng.integers(H), x - rng.integers(W)))
        maps.append((field * (grey - 1)).round() * (255 // (grey - 1)))
    return [levels.astype(np.uint8) for levels in maps]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 3, 5, 9]))
def test_ten_thousand_small_maps_have_the_contours_of_opencv(seed, most_levels):
    for levels in made_maps(seed, 100, (8, 33), most_levels):
        assert_contours_are_opencvs(levels)


@settings(max_examples=300, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))
)
def test_maps_drawn_pixel_by_pixel_have_the_contours_of_opencv(levels):
    assert_contours_are_opencvs(levels)


def test_all_binary_maps_of_four_by_four_have_the_contours_of_opencv():
    pixels = np.arange(16).reshape(4, 4)
    for number in range(1 << 16):
        levels = (number >> pixels & 1).astype(np.uint8)
        result = contours(levels)
        boxes, best = contour_boxes(levels)
        there = result.low == 1
        assert sorted(map(tuple, result.boxes[there].tolist())) == sorted(boxes), number
        assert result.largest[1].tolist() == list(boxes[best] if boxes else NO_BOX), number


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_every_kind_have_the_contours_of_opencv(kind):
    """`make bench` does the same with 5,040 maps of full size."""
    rng = np.random.default_rng(len(kind))
    for _ in range(5):
        score = KINDS[kind](rng, 64)
        assert_contours_are_opencvs(quantize(score))
        assert contours(score).largest.tolist() == contours(quantize(score)).largest.tolist()
    assert_contours_are_opencvs(quantize(1 - score))


def test_two_hundred_full_maps_have_the_iou_of_opencv():
    rng = np.random.default_rng(0)
    truth = np.array([[40, 50, 150, 180], [10, 10, 60, 40]])
    for i in range(200):
        grid = (7, 14, 28, 56, 224)[i % 5]
        score = score_map(rng.random((grid, grid)) + (0, 0.5, 1)[i % 3] * np.eye(grid))
        levels = quantize(score)
        chosen = np.unique(rng.integers(1, 256, 2 if grid > 28 else 12))
        _, _, largest, every = level_iou(levels, truth)
        for v in chosen:
            boxes, best = contour_boxes((levels >= v).astype(np.uint8))
            iou = box_iou(np.array(boxes), truth).max(axis=1)
            assert largest[v] == iou[best]
            assert every[v] == iou.max()


def test_a_holed_square_beats_a_solid_one_of_less_polygon_area():
    levels = np.zeros((64, 64), np.uint8)
    levels[5:25, 5:25] = 200
    levels[7:23, 7:23] = 0  # 144 pixels are left, their polygon is 19 x 19
    levels[40:58, 40:58] = 200  # 324 pixels, 17 x 17
    assert contours(levels).largest[100].tolist() == [5, 5, 25, 25]


def test_of_equal_contours_opencvs_first_is_taken():
    levels = np.zeros((40, 40), np.uint8)
    levels[2:8, 20:26] = levels[10:16, 2:8] = levels[30:36, 30:36] = 255
    boxes, best = contour_boxes((levels > 0).astype(np.uint8))
    assert contours(levels).largest[255].tolist() == list(boxes[best])


def test_a_constant_map_is_one_box_of_the_whole_frame():
    result = contours(np.full((9, 12), 7, np.uint8))
    assert result.largest[[1, 7, 8]].tolist() == [[0, 0, 11, 8], [0, 0, 11, 8], [0, 0, 0, 0]]


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1)),
    arrays(np.int64, st.tuples(st.integers(1, 3), st.just(4)), elements=st.integers(0, 8)),
)
def test_sharing_binarizations_changes_nothing(score, corners):
    truth = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), corners.max(1)[:, None],
                            corners.max(1)[:, None]], axis=1)  # fmt: skip
    largest, every = best_iou(score, truth)
    plain_largest, plain_every = loop_over_taus(score, truth, TAUS)
    assert every.tolist() == plain_every
    # Of contours of equal area the first is taken; the loop sorts, which keeps their order.
    assert largest.tolist() == plain_largest


@settings(max_examples=15, deadline=None)
@given(arrays(np.float32, (4, 4), elements=st.floats(-5, 5, width=32)), st.integers(0, 999))
def test_smooth_maps_agree_with_the_plain_loop(cam, number):
    score = score_map(cam, size=32)
    truth = np.array([[8, 8, 20, 24]])
    taus = TAUS[number : number + 1]
    assert [best.tolist() for best in best_iou(score, truth, taus)] == list(
        loop_over_taus(score, truth, taus)
    )


def test_every_box_is_the_peers(peer):
    assert (peer["tau"] == TAUS).all()
    ends = peer["gt_count"].cumsum()
    for i, (start, end) in enumerate(zip(ends - peer["gt_count"], ends, strict=True)):
        name, score = peer["image_id"][i], peer["scoremap_x1024"][i] / 1024.0
        truth = resize_boxes(peer["gt_boxes"][start:end], peer["size_wh"][i])
        assert (truth == peer["gt_boxes_224"][start:end]).all(), name
        assert (largest_boxes(score) == peer["box_largest"][i]).all(), name
        largest, every = best_iou(score, truth)
        assert (largest == peer["iou_largest"][i]).all(), name
        assert (every == peer["iou_all"][i]).all(), name


def test_the_contours_are_as_many_as_the_peers(peer):
    for scores, counted in zip(peer["scoremap_x1024"], peer["contours"], strict=True):
        levels = quantize(scores / 1024.0)
        result = contours(levels)
        v = levels_of(TAUS, levels.max())[:, None]
        counts = ((result.low <= v) & (v <= result.high)).sum(axis=1)
        # The peer counts the box (0, 0, 0, 0) that it takes where there is no contour.
        assert (np.maximum(counts, 1) == np.maximum(counted, 1)).all()


def test_labels_that_would_overflow_begin_anew() -> None:
    rng = np.random.default_rng(5)
    scores = [score_map(rng.random((7, 7)), 40) for _ in range(4)]
    expected = [contours(score) for score in scores]
    boxes._LOCAL.work.base[0] = LABELS - 1
    for score, before in zip(scores, expected, strict=True):
        assert all((a == b).all() for a, b in zip(contours(score), before, strict=True))
    assert boxes._LOCAL.work.base[0] < LABELS
