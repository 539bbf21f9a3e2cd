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


def index_of(boxes: list[str], size: tuple[int, int] = (100, 80)) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"x_{i}.jpg" for i in range(len(boxes))],
            "label": 0,
            "boxes": boxes,
            "width": size[0],
            "height": size[1],
            "mask": "",
            "ignore": "",
        }
    )


def share_hit(box: np.ndarray, index: pd.DataFrame) -> float:
    """Share of images on which a box in the frame is right, image by image."""
    hits = 0
    for row in index.itertuples():
        truth = resize_boxes(parse_boxes(row.boxes), (row.width, row.height))
        hits += max(box_iou(box[None], truth)[0]) >= 0.5
    return hits / len(index)


def random_index(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 50, size=(n, 2))
    high = low + rng.integers(10, 30, size=(n, 2))
    return index_of([f"{a} {b} {c} {d}" for (a, b), (c, d) in zip(low, high, strict=True)])


def test_the_constant_box_of_one_image_is_right_on_it():
    index = index_of(["10 20 60 70"])
    box = np.round(constant_box(index) * FRAME).astype(int)
    assert share_hit(box, index) == 1


def test_the_constant_box_goes_where_most_objects_are():
    index = index_of(["10 10 40 40"] * 3 + ["60 50 95 78"] * 2)
    table = localize([constant_box_map(constant_box(index))] * 5, index)
    assert (table.iou_largest[:3] >= 0.5).all()
    assert (table.iou_largest[3:] < 0.5).all()


def test_no_random_box_beats_the_constant_box():
    index = random_index(12, seed=3)
    best = share_hit(np.round(constant_box(index) * FRAME).astype(int), index)
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, FRAME, size=(400, 2, 2)), axis=1).reshape(-1, 4)
    assert best >= max(share_hit(box, index) for box in corners)


def test_any_box_of_an_image_counts_for_the_constant_box():
    index = index_of(["0 0 20 20;50 40 90 75", "50 40 90 75", "0 0 5 5;52 41 91 76"])
    box = np.round(constant_box(index) * FRAME).astype(int)
    assert share_hit(box, index) == 1


def test_a_constant_box_needs_a_box_on_every_image():
    with pytest.raises(ValueError, match="have a box"):
        constant_box(index_of(["1 2 3 4", ""]))


corner = st.integers(0, FRAME - 2)


@settings(max_examples=60, deadline=None)
@given(st.tuples(corner, corner, st.integers(2, FRAME), st.integers(2, FRAME)))
def test_every_tau_gives_the_constant_box_itself(drawn):
    x0, y0, width, height = drawn
    x1, y1 = min(x0 + width, FRAME - 1), min(y0 + height, FRAME - 1)
    box = np.array([x0, y0, x1, y1])
    found = largest_boxes(score_map(constant_box_map(box / FRAME)), TAUS)
    assert (found == box).all()


def test_the_centre_gaussian_is_isotropic_and_highest_in_the_middle():
    score = centre_gaussian_map()
    assert score.shape == (FRAME, FRAME)
    for other in (score.T, score[::-1], score[:, ::-1]):
        np.testing.assert_allclose(score, other, rtol=1e-12)
    middle = FRAME // 2
    assert (score.max() == score[middle - 1 : middle + 1, middle - 1 : middle + 1]).all()
    y, x = np.mgrid[:FRAME, :FRAME] - (FRAME - 1) / 2
    np.testing.assert_allclose(score, np.exp(-(x**2 + y**2) / (2 * 56**2)), rtol=1e-9)


def test_the_boxes_of_the_centre_gaussian_are_centred_squares_that_shrink_with_tau():
    x0, y0, x1, y1 = largest_boxes(score_map(centre_gaussian_map()), TAUS).T
    assert (x0 == y0).all()
    assert (x1 == y1).all()
    inside = x0 > 0
    assert (x0 + x1 == FRAME)[inside].all()  # the far corner is one past the object
    sides = x1 - x0
    assert (np.diff(sides) <= 0).all()
    assert sides.min() < 0.1 * FRAME
    assert sides.max() == FRAME - 1
    assert np.abs(np.diff(sides[inside])).max() <= 8  # no gap in what tau can choose from


def test_the_centre_gaussian_finds_the_object_in_the_middle_and_no_other():
    index = index_of(["35 28 65 52", "0 0 30 24"])
    table = localize([centre_gaussian_map()] * 2, index)
    assert table.iou_largest[0].max() > 0.95
    assert table.iou_largest[1].max() < 0.5


def test_the_same_gaussian_is_the_map_of_every_image():
    index = pd.concat(
        [
            index_of(["1 2 30 40"] * n).assign(split=s)
            for n, s in ((3, "train-fullsup"), (5, "test"))
        ]
    )
    maps, text = centre_gaussian_maps(index)
    assert {split: len(found) for split, found in maps.items()} == {"train-fullsup": 3, "test": 5}
    assert (maps["test"][4] == centre_gaussian_map()).all()
    assert text == "deviation 0.25"
    tables = reference_tables("centre-gaussian", maps, text, index, ".")
    assert tables["test"].meta["method"] == "centre-gaussian"
    assert ("centre-gaussian", tables["test"].meta["map"]) in METHODS


def test_colour_distance_finds_the_colour_that_the_border_lacks():
    rng = np.random.default_rng(0)
    image = np.empty((3, 60, 80), dtype=np.uint8)
    image[:, :, :40], image[:, :, 40:] = 60, 180  # a border of two colours, neither their mean
    image[:, 20:40, 30:50] = np.array([200, 40, 40])[:, None, None]
    image += rng.integers(0, 6, size=image.shape, dtype=np.uint8)
    found = colour_distance_map(image)
    assert found.shape == (60, 80)
    inside = np.zeros((60, 80), dtype=bool)
    inside[20:40, 30:50] = True
    assert found[inside].min() > 5 * found[~inside].max()


def test_an_image_of_one_colour_has_no_colour_distance():
    assert colour_distance_map(np.full((3, 30, 40), 77, dtype=np.uint8)).max() < 0.1


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(60, 120, size=(n, 3, 24, 24), dtype=np.uint8)


@pytest.fixture(scope="module")
def image_sets() -> tuple[np.ndarray, np.ndarray]:
    """Object images with a red square on noise, background images of the noise alone."""
    rng = np.random.default_rng(0)
    objects, background = noise(20, rng), noise(20, rng)
    objects[:, 0, 6:18, 6:18] += 100
    return objects, background


def test_patches_that_only_object_images_have_score_higher(image_sets):
    objects, background = image_sets
    classifier = train_patch_classifier(objects, background, count=8000)
    found = patch_map(classifier, objects[0])
    assert found.shape == (12, 12)
    assert found[4:8, 4:8].min() > 0.8
    assert found[[0, 1, -2, -1]].mean() < 0.5


def test_a_seed_fixes_the_patch_classifier(image_sets):
    objects, background = image_sets
    maps = [
        patch_map(train_patch_classifier(objects, background, seed, count=1000), objects[0])
        for seed in (5, 5, 6)
    ]
    assert (maps[0] == maps[1]).all()
    assert (maps[0] != maps[2]).any()


def test_smoothing_by_zero_changes_nothing_and_by_more_flattens():
    maps = np.random.default_rng(0).random((3, 20, 20)).astype(np.float32)
    assert (smooth(maps, 0) == maps).all()
    assert smooth(maps, 2).std() < 0.3 * maps.std()


def test_the_smoothing_chosen_is_the_one_that_makes_the_boxes_right():
    rng = np.random.default_rng(1)
    index = index_of(["25 20 75 60"] * 6)
    maps = (rng.random((6, 40, 40)) < 0.02).astype(np.float32)
    maps[:, 10:30, 10:30] += rng.random((6, 20, 20)) < 0.15  # specks that do not touch
    sigma = choose_sigma(list(maps), index)
    right = {
        s: (localize(smooth(maps, s), index).iou_largest >= 0.5).mean(axis=0).max()
        for s in (0.0, sigma)
    }
    assert sigma > 0
    assert right[sigma] > right[0.0]


def test_maps_that_need_no_smoothing_get_none():
    maps = np.zeros((2, 40, 50), dtype=np.float32)
    maps[:, 10:30, 10:30] = 1
    assert choose_sigma(list(maps), index_of(["20 20 60 60"] * 2)) == 0
