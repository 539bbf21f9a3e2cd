"""Trivial localizers: right answers in plain cases, and a plain search beside the fast one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol.baselines.patch_classifier import patch_map, train_patch_classifier
from wsol.baselines.references import (
    FRAME,
    centre_gaussian_map,
    centre_gaussian_maps,
    choose_sigma,
    colour_distance_map,
    constant_box,
    constant_box_map,
    reference_tables,
    smooth,
)
from wsol.datasets.index import parse_boxes
from wsol.evaluation.boxes import TAUS, box_iou, largest_boxes, resize_boxes, score_map
from wsol.evaluation.localize import localize
from wsol.report.names import METHODS


def index_of(boxes: list[str]) -> pd.DataFrame:
    rows = pd.DataFrame({"image_id": [f"x_{i}.jpg" for i in range(len(boxes))], "boxes": boxes})
    return rows.assign(label=0, width=100, height=80, mask="", ignore="")


def share_hit(box: np.ndarray, index: pd.DataFrame) -> float:
    """Share of images on which a box in the frame is right, image by image."""
    truth = [resize_boxes(parse_boxes(r.boxes), (r.width, r.height)) for r in index.itertuples()]
    return np.mean([max(box_iou(box[None], boxes)[0]) >= 0.5 for boxes in truth])


def in_frame(index: pd.DataFrame) -> np.ndarray:
    return np.round(constant_box(index) * FRAME).astype(int)


def test_the_constant_box_goes_where_most_objects_are():
    # Any box of an image counts.
    index = index_of(["0 0 20 20;50 40 90 75", "50 40 90 75", "0 0 5 5;52 41 91 76"])
    assert share_hit(in_frame(index), index) == 1
    index = index_of(["10 10 40 40"] * 3 + ["60 50 95 78"] * 2)
    table = localize([constant_box_map(constant_box(index))] * 5, index)
    assert (table.iou_largest[:3] >= 0.5).all()
    assert (table.iou_largest[3:] < 0.5).all()
    with pytest.raises(ValueError, match="all images have a box"):
        constant_box(index_of(["1 2 3 4", ""]))


def test_no_random_box_beats_the_constant_box():
    rng = np.random.default_rng(3)
    low = rng.integers(0, 50, size=(12, 2))
    high = low + rng.integers(10, 30, size=(12, 2))
    index = index_of([f"{a} {b} {c} {d}" for (a, b), (c, d) in zip(low, high, strict=True)])
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, FRAME, size=(400, 2, 2)), axis=1).reshape(-1, 4)
    assert share_hit(in_frame(index), index) >= max(share_hit(box, index) for box in corners)


corner = st.integers(0, FRAME - 2)


@settings(max_examples=60, deadline=None)
@given(st.tuples(corner, corner, st.integers(2, FRAME), st.integers(2, FRAME)))
def test_every_tau_gives_the_constant_box_itself(drawn):
    x0, y0, width, height = drawn
    box = np.array([x0, y0, min(x0 + width, FRAME - 1), min(y0 + height, FRAME - 1)])
    assert (largest_boxes(score_map(constant_box_map(box / FRAME)), TAUS) == box).all()


def test_the_centre_gaussian_is_isotropic_and_highest_in_the_middle():
    score = centre_gaussian_map()
    y, x = np.mgrid[:FRAME, :FRAME] - (FRAME - 1) / 2
    np.testing.assert_allclose(score, np.exp(-(x**2 + y**2) / (2 * 56**2)), rtol=1e-9)


def test_the_boxes_of_the_centre_gaussian_are_centred_squares_that_shrink_with_tau():
    x0, y0, x1, y1 = largest_boxes(score_map(centre_gaussian_map()), TAUS).T
    assert (x0 == y0).all()
    assert (x1 == y1).all()
    inside, sides = x0 > 0, x1 - x0
    assert (x0 + x1 == FRAME)[inside].all()  # the far corner is one past the object
    assert (np.diff(sides) <= 0).all()
    assert sides.min() < 0.1 * FRAME
    assert sides.max() == FRAME - 1
    assert np.abs(np.diff(sides[inside])).max() <= 8  # no gap in what tau can choose from
    table = localize([centre_gaussian_map()] * 2, index_of(["35 28 65 52", "0 0 30 24"]))
    assert table.iou_largest[0].max() > 0.95  # an object in the middle
    assert table.iou_largest[1].max() < 0.5


def test_the_same_gaussian_is_the_map_of_every_image():
    counts = {"train-fullsup": 3, "test": 5}
    index = pd.concat([index_of(["1 2 30 40"] * n).assign(split=s) for s, n in counts.items()])
    maps, text = centre_gaussian_maps(index)
    assert {split: len(values) for split, values in maps.items()} == counts
    assert (maps["test"][4] == centre_gaussian_map()).all()
    assert text == "deviation 0.25"
    meta = reference_tables("centre-gaussian", maps, text, index, ".")["test"].meta
    assert meta["method"] == "centre-gaussian"
    assert ("centre-gaussian", meta["map"]) in METHODS


def test_colour_distance_is_high_for_the_colour_that_the_border_lacks():
    rng = np.random.default_rng(0)
    image = np.empty((3, 60, 80), dtype=np.uint8)
    image[:, :, :40], image[:, :, 40:] = 60, 180  # a border of two colours, neither their mean
    image[:, 20:40, 30:50] = np.array([200, 40, 40])[:, None, None]
    image += rng.integers(0, 6, size=image.shape, dtype=np.uint8)
    inside = np.zeros((60, 80), dtype=bool)
    inside[20:40, 30:50] = True
    distance = colour_distance_map(image)
    assert distance[inside].min() > 5 * distance[~inside].max()
    assert colour_distance_map(np.full((3, 30, 40), 77, dtype=np.uint8)).max() < 0.1


def test_patches_that_only_object_images_have_score_higher():
    """Object images with a red square on noise, background images of the noise alone."""
    rng = np.random.default_rng(0)
    objects, background = rng.integers(60, 120, size=(2, 20, 3, 24, 24), dtype=np.uint8)
    objects[:, 0, 6:18, 6:18] += 100
    probability = patch_map(train_patch_classifier(objects, background, count=8000), objects[0])
    assert probability.shape == (12, 12)
    assert probability[4:8, 4:8].min() > 0.8
    assert probability[[0, 1, -2, -1]].mean() < 0.5
    first, again, other = (
        patch_map(train_patch_classifier(objects, background, seed, count=1000), objects[0])
        for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_smoothing_is_chosen_where_it_makes_the_boxes_right_and_not_elsewhere():
    rng = np.random.default_rng(1)
    index = index_of(["25 20 75 60"] * 6)
    maps = (rng.random((6, 40, 40)) < 0.02).astype(np.float32)
    maps[:, 10:30, 10:30] += rng.random((6, 20, 20)) < 0.15  # specks that do not touch
    assert (smooth(maps, 0) == maps).all()
    noise = np.random.default_rng(0).random((3, 20, 20)).astype(np.float32)
    assert smooth(noise, 2).std() < 0.3 * noise.std()
    sigma = choose_sigma(list(maps), index)
    assert sigma > 0
    none, some = (
        (localize(smooth(maps, s), index).iou_largest >= 0.5).mean(axis=0).max()
        for s in (0.0, sigma)
    )
    assert some > none
    maps = np.zeros((2, 40, 50), dtype=np.float32)
    maps[:, 10:30, 10:30] = 1
    assert choose_sigma(list(maps), index_of(["20 20 60 60"] * 2)) == 0
