"""The presets, each beside the code of its source told again in plain loops."""

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from wsol.evaluation import protocols
from wsol.evaluation.boxes import best_iou, resize_boxes, score_map
from wsol.evaluation.protocols import (
    BAS2022,
    CAM2016,
    CHOE2020,
    PSOL2020,
    TSCAM2021,
    frame_boxes,
    frame_score,
)

ALL = list(protocols.PROTOCOLS.values())
maps = arrays(np.float64, st.tuples(*[st.integers(2, 9)] * 2), elements=st.floats(-3, 3, width=16))
seeds = st.integers(0, 2**32 - 1)


def random_boxes(seed: int, size: tuple[int, int], count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    near = rng.integers(0, size, (count, 2))
    far = rng.integers(near + 1, np.array(size) + 1)  # inside the image, and of some size
    return np.hstack([near, far]).astype(float)


@settings(max_examples=30, deadline=None)
@given(maps, seeds)
def test_choe2020_is_the_evaluation_of_this_repository(cam, seed):
    boxes = random_boxes(seed, (500, 335))
    score = protocols.frame_score(cam, CHOE2020)
    assert score == pytest.approx(score_map(cam), abs=1e-12)
    truth = protocols.frame_truth(boxes, (500, 335), CHOE2020)
    iou = protocols.frame_iou(protocols.frame_boxes(score, CHOE2020), truth, CHOE2020)
    assert (iou == best_iou(score, resize_boxes(boxes, (500, 335)))[0]).all()


def tscam_box(score: np.ndarray, tau: float) -> list[int]:
    """As TS-CAM finds it: 8 bits, everything up to the threshold becomes zero, largest contour."""
    grey = (score * 255.0).astype(np.uint8)
    _, kept = cv2.threshold(grey, int(tau * np.max(grey)), 255, cv2.THRESH_TOZERO)
    outlines, _ = cv2.findContours(kept, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return [0, 0, 1, 1]
    x, y, w, h = cv2.boundingRect(max(outlines, key=cv2.contourArea))
    return [x, y, x + w, y + h]


@settings(max_examples=30, deadline=None)
@given(maps, st.integers(0, 999))
def test_a_tscam_box_is_that_of_its_source(cam, place):
    score = protocols.frame_score(cam, TSCAM2021)
    tau = TSCAM2021.taus[place]
    assert protocols.frame_boxes(score, TSCAM2021)[place].tolist() == tscam_box(score, tau)


def test_a_tscam_box_may_pass_the_frame_by_one():
    score = np.ones((224, 224))
    assert protocols.frame_boxes(score, TSCAM2021)[0].tolist() == [0, 0, 224, 224]
    assert protocols.frame_boxes(score, CHOE2020)[0].tolist() == [0, 0, 223, 223]
    assert protocols.frame_boxes(0 * score, TSCAM2021)[0].tolist() == [0, 0, 1, 1]


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(40, 700), st.integers(40, 700))
def test_tscam_truncates_and_clips_the_ground_truth(seed, width, height):
    for box in random_boxes(seed, (width, height)):
        near = [int(max(box[0] / width * 224, 0)), int(max(box[1] / height * 224, 0))]
        far = [int(min(box[2] / width * 224, 223)), int(min(box[3] / height * 224, 223))]
        framed = protocols.frame_truth(box, (width, height), TSCAM2021)
        assert framed.tolist() == [near + far]


@settings(max_examples=30, deadline=None)
@given(maps, st.integers(0, 99))
def test_a_bas_box_is_that_of_the_component_of_most_pixels(cam, place):
    score = protocols.frame_score(cam, BAS2022)
    labels, n = ndimage.label(score > BAS2022.taus[place], structure=np.ones((3, 3)))
    framed = protocols.frame_boxes(score, BAS2022)[place].tolist()
    if n == 0:
        assert framed == [0, 0, 224, 224]
        return
    sizes = np.bincount(labels.ravel())[1:]
    ties = [ndimage.find_objects(labels)[i] for i in np.flatnonzero(sizes == sizes.max())]
    assert framed in [[x.start, y.start, x.stop, y.stop] for y, x in ties]


def test_bas_normalizes_before_it_resizes_and_tscam_after():
    cam = np.array([[0.0, 4.0], [2.0, 1.0]])
    resized = cv2.resize(cam, (224, 224))
    assert protocols.frame_score(cam, TSCAM2021).max() == 1
    assert protocols.frame_score(cam, BAS2022) == pytest.approx(cv2.resize(cam / 4, (224, 224)))
    assert protocols.frame_score(cam, TSCAM2021) == pytest.approx(
        (resized - resized.min()) / (resized.max() - resized.min())
    )


def test_bas_sees_the_central_part_of_the_image():
    whole = protocols.frame_truth([[0, 0, 512, 256]], (512, 256), BAS2022)
    assert whole.tolist() == [[0, 0, 224, 224]]
    inner = protocols.frame_truth([[32, 32, 101, 99]], (512, 256), BAS2022)
    assert inner.tolist() == [[0, 16, 34.5, 83]]


@pytest.mark.parametrize(
    ("protocol", "iou"), [(BAS2022, 11 * 11 / (13.5 * 11)), (PSOL2020, 10 * 10 / (12.5 * 10))]
)
def test_bas_counts_both_corners_and_psol_does_not(protocol, iou):
    pair = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[0.0, 0.0, 12.5, 10.0]])
    assert protocols.frame_iou(*pair, protocol) == pytest.approx([iou])


def result(protocol: protocols.Protocol, iou, labels, ranks) -> protocols.ProtocolResult:
    curve = np.tile(np.array(iou, float)[:, None], (1, len(protocol.taus)))
    return protocols.ProtocolResult(protocol, np.array(labels), np.array(ranks), curve)


def test_an_iou_of_exactly_one_half_is_right_or_wrong_by_protocol():
    for protocol, known, top1 in ((CHOE2020, 0, 0), (TSCAM2021, 0, 100), (BAS2022, 100, 100)):
        errors = result(protocol, [0.5], [0], [0]).at(0.1)
        assert (errors["gt_known_loc_error"], errors["top1_loc_error"]) == (known, top1)


def test_bas_averages_over_classes_and_the_others_over_images():
    args = [0.9, 0.9, 0.9, 0.1], [0, 0, 0, 1], [0, 0, 0, 0]
    assert result(CHOE2020, *args).at(0.1)["gt_known_loc_error"] == 25
    assert result(BAS2022, *args).at(0.1)["gt_known_loc_error"] == 50


def test_top_k_needs_the_label_among_the_first_k():
    errors = result(CHOE2020, [0.9] * 4, [0] * 4, [0, 1, 4, 5]).at(0.5)
    assert list(errors.values()) == [75, 25, 0]


def index_of(*boxes: str) -> pd.DataFrame:
    table = pd.DataFrame({"image_id": list("abcdef")[: len(boxes)], "label": 0, "boxes": boxes})
    return table.assign(width=224, height=224)


@pytest.mark.parametrize("protocol", ALL, ids=lambda p: p.name)
def test_a_map_of_its_own_box_is_right_under_every_protocol(protocol):
    for value in (0.0, 1.0, np.nan):  # and one without information is zero
        assert not protocols.frame_score(np.full((7, 7), value), protocol).any()
    cam = np.zeros((224, 224))
    cam[60:160, 70:150] = 1
    table = protocols.evaluate_under(protocol, [cam], index_of("70 60 150 160"), [0])
    assert table.at(0.5)["top1_loc_error"] == 0
    assert table.best_tau() == 0


def test_what_does_not_fit_is_refused():
    for count, box, message in ((2, "0 0 9 9", "2 maps for 1 images"), (1, "", "no box")):
        with pytest.raises(ValueError, match=message):
            protocols.evaluate_under(CHOE2020, np.zeros((count, 4, 4)), index_of(box))
    with pytest.raises(ValueError, match=r"none of the thresholds of bas2022"):
        result(BAS2022, [0.5], [0], [0]).at(0.001)
    with pytest.raises(ValueError, match="there are choe2020"):
        protocols.get_protocol("choe")


def test_cam2016_divides_by_the_maximum_and_takes_a_fifth_of_it():
    cam = np.full((224, 224), -1.0)
    cam[20:120, 30:130] = 1.0  # a fifth of the maximum, and not more
    cam[40:100, 50:110] = 5.0
    cam[150:155, 150:155] = 4.0  # a smaller component
    score = frame_score(cam, CAM2016)
    assert (score.min(), score.max()) == (0, 1)
    place = np.flatnonzero(np.isclose(CAM2016.taus, CAM2016.published_tau))
    assert frame_boxes(score, CAM2016)[place].tolist() == [[50, 40, 110, 100]]
    assert frame_boxes(score, CAM2016)[place - 1].tolist() == [[30, 20, 130, 120]]
    assert not frame_score(-np.eye(224) - 1, CAM2016).any()  # nothing speaks for the class
