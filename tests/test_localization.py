"""The localization table: built from maps, written, read, and the same after it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsol.evaluation import metrics
from wsol.evaluation.boxes import TAUS, best_iou, largest_boxes, resize_boxes, score_map
from wsol.evaluation.localize import localize, rank_labels
from wsol.evaluation.masks import MaskReader, pixel_histogram
from wsol.evaluation.table import LocalizationTable, in_steps

THRESHOLDS = np.arange(0, 1, 0.1)


def index_of(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    corners = np.sort(rng.integers(1, 90, size=(n, 2, 2)), axis=1).reshape(n, 4)
    return pd.DataFrame(
        {
            "image_id": [f"001.Crested/x_{i:04d}.jpg" for i in range(n)],
            "label": rng.integers(0, 7, size=n),
            "boxes": [f"{a} {b} {c + 1} {d + 1}" for a, b, c, d in corners],
            "width": 96,
            "height": 92,
            "mask": "",
            "ignore": "",
        }
    )


@pytest.fixture
def made_up() -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 5, 5)).astype(np.float32), index_of(6), rng.normal(size=(6, 7))


def left_half(row: object) -> np.ndarray:
    mask = np.zeros((224, 224), dtype=np.uint8)
    mask[:, :112] = 1
    return mask


def test_ranks_are_places_in_the_sorted_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(30, 8)), rng.integers(0, 8, size=30)
    predictions, ranks = rank_labels(logits, labels)
    order = np.argsort(-logits, axis=1)
    assert (order[np.arange(30), ranks] == labels).all()
    assert (predictions == order[:, 0]).all()


def test_the_predicted_class_and_no_other_has_rank_zero():
    predictions, ranks = rank_labels(np.zeros((3, 4)), np.array([0, 1, 3]))
    assert predictions.tolist() == [0, 0, 0]
    assert ranks.tolist() == [0, 1, 3]


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        rank_labels([[0.0, np.nan]], [0])


def test_each_row_is_the_evaluation_of_its_own_image(made_up):
    maps, index, logits = made_up
    table = localize(maps, index, logits, masks=left_half)
    histogram = 0
    for i, row in enumerate(index.itertuples()):
        score = score_map(maps[i])
        truth = resize_boxes([float(x) for x in row.boxes.split()], (96, 92))
        largest, every = best_iou(score, truth)
        assert (table.steps_largest[i] == in_steps(largest)).all()
        assert (table.steps_all[i] == in_steps(every)).all()
        assert (table.level_boxes.ground_truth()[i] == truth).all()
        for tau in (0.0, 0.3, 0.999):
            assert (table.level_boxes.at(tau)[i] == largest_boxes(score, [tau])[0]).all()
        histogram = histogram + pixel_histogram(score, left_half(row), TAUS)
    assert (table.pixel_histogram == histogram).all()
    assert table.pixel_histogram.sum() == 6 * 224 * 224
    assert table.rows["image_id"].tolist() == index["image_id"].tolist()
    assert (table.rows["prediction"] == logits.argmax(axis=1)).all()


def test_more_threads_give_the_same_table(made_up):
    maps, index, logits = made_up
    one, two = (
        localize(maps, index, logits, thresholds=THRESHOLDS, masks=left_half, workers=n)
        for n in (1, 2)
    )
    for name in ("iou_largest", "iou_all", "pixel_histogram"):
        assert (getattr(one, name) == getattr(two, name)).all()


class Counted:
    """Maps that know how many of them were asked for and not yet answered for."""

    def __init__(self, maps: np.ndarray) -> None:
        self.maps, self.asked = maps, []

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, i: int) -> np.ndarray:
        self.asked.append(i)
        return self.maps[i]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_map_is_read_once_when_its_turn_comes(workers):
    maps = Counted(np.random.default_rng(0).normal(size=(100, 4, 4)))
    table = localize(maps, index_of(100), thresholds=THRESHOLDS, workers=workers)
    assert sorted(maps.asked) == list(range(100))
    plain = localize(list(maps.maps), index_of(100), thresholds=THRESHOLDS)
    assert (table.steps_all == plain.steps_all).all()


def test_an_error_in_a_worker_is_raised():
    maps = [np.zeros((4, 4))] * 99 + [np.zeros(4)]
    with pytest.raises(ValueError, match="two dimensions"):
        localize(maps, index_of(100), thresholds=THRESHOLDS, workers=2)


def test_score_maps_that_are_ready_are_not_normalized_again():
    dim = np.zeros((224, 224))
    dim[50:100, 50:100] = 0.5
    table = localize([dim], index_of(1), score_of=lambda score: score)
    assert table.level_boxes.peaks.tolist() == [127]


def test_numbers_that_differ_are_refused(made_up):
    maps, index, logits = made_up
    with pytest.raises(ValueError, match="5 maps and 6 logits for 6 images"):
        localize(maps[:5], index, logits)
    with pytest.raises(ValueError, match="6 maps and 5 logits"):
        localize(maps, index, logits[:5])


def test_an_image_without_a_box_is_refused(made_up):
    maps, index, _ = made_up
    index.loc[2, "boxes"] = ""
    with pytest.raises(ValueError, match=r"1 images have no box.*x_0002"):
        localize(maps, index)


def test_a_table_comes_back_as_it_went(made_up, tmp_path):
    maps, index, logits = made_up
    table = localize(maps, index, logits, masks=left_half, meta={"method": "cam", "seed": "0"})
    table.save(tmp_path / "new" / "table.npz")
    back = LocalizationTable.load(tmp_path / "new" / "table.npz")
    pd.testing.assert_frame_equal(back.rows, table.rows)
    assert back.meta == {"method": "cam", "seed": "0"}
    assert (back.thresholds == table.thresholds).all()
    assert (back.pixel_histogram == table.pixel_histogram).all()
    assert (back.steps_largest == table.steps_largest).all()
    assert all((a == b).all() for a, b in zip(back.level_boxes, table.level_boxes, strict=True))
    assert metrics.evaluate(back, back) == metrics.evaluate(table, table)
    back.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "new/table.npz").read_bytes()


def test_a_table_without_masks_comes_back_without(made_up, tmp_path):
    maps, index, _ = made_up
    localize(maps, index, thresholds=THRESHOLDS).save(tmp_path / "table.npz")
    back = LocalizationTable.load(tmp_path / "table.npz")
    assert back.pixel_histogram is None
    assert (back.rows["rank"] == -1).all()


def test_every_ratio_of_pixels_keeps_its_side_on_disk(tmp_path):
    """All fractions near .3, .5 and .7 with a denominator that two boxes in the frame can have."""
    union = np.arange(1, 2 * 225**2)
    for delta in metrics.DELTAS:
        near = np.floor(union * delta)[:, None] + [-1, 0, 1, 2]
        iou = np.clip(near / union[:, None], 0, 1)
        rows = pd.DataFrame({"image_id": "x", "label": 0, "prediction": 0, "rank": 0}, union)
        LocalizationTable(rows, np.arange(4.0), iou, iou).save(tmp_path / "table.npz")
        back = LocalizationTable.load(tmp_path / "table.npz")
        assert ((back.steps_largest >= in_steps(delta)) == (iou >= delta)).all()
        assert ((back.iou_all >= delta) == (iou >= delta)).all()


def test_shapes_that_do_not_fit_are_refused():
    rows = pd.DataFrame({"image_id": ["x"], "label": 0, "prediction": 0, "rank": 0})
    with pytest.raises(ValueError, match="steps_all"):
        LocalizationTable(rows, np.arange(3), np.zeros((1, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="pixel_histogram"):
        LocalizationTable(rows, np.arange(3), *np.zeros((2, 1, 3)), np.zeros((2, 3), int))


def test_the_maximum_has_a_bin_of_its_own():
    score, mask = np.array([[0.0, 0.5, 1.0]]), np.array([[0, 1, 1]], dtype=np.uint8)
    counts = pixel_histogram(score, mask, np.array([0.0, 0.5]))
    assert counts.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("thresholds", [TAUS, THRESHOLDS, np.array([0.25, 0.3, 0.9])])
def test_pixels_are_counted_as_numpy_counts_them(thresholds):
    rng = np.random.default_rng(0)
    on_edges = rng.choice(np.concatenate([thresholds, [1.0]]), (40, 50))
    score = np.where(rng.random((40, 50)) < 0.5, on_edges, rng.random((40, 50)))
    mask = rng.choice(np.array([0, 1, 255], np.uint8), score.shape)
    edges = np.concatenate([thresholds, [1.0, 2.0, 3.0]])
    expected = [np.histogram(score[mask == kind], edges)[0] for kind in (0, 1)]
    assert (pixel_histogram(score, mask, thresholds) == expected).all()


def test_ignored_pixels_count_nowhere():
    counts = pixel_histogram(np.zeros((2, 2)), np.full((2, 2), 255, np.uint8), THRESHOLDS)
    assert not counts.any()


def test_a_mask_is_the_majority_and_wins_over_the_ignored_region(tmp_path):
    grey = np.array([[0, 127], [128, 255]], dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.png")
    Image.fromarray(np.array([[255, 0], [255, 0]], dtype=np.uint8)).save(tmp_path / "ignore.png")
    row = SimpleNamespace(image_id="a", mask="mask.png", ignore="ignore.png", width=2, height=2)
    assert MaskReader(tmp_path, size=2)(row).tolist() == [[255, 0], [1, 1]]
    row.ignore = ""
    assert MaskReader(tmp_path, size=4)(row)[::2, ::2].tolist() == [[0, 0], [1, 1]]
    row.mask = ""
    with pytest.raises(ValueError, match="image a has no mask"):
        MaskReader(tmp_path)(row)
