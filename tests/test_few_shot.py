"""The few-shot localizer: what it is trained on, what it leaves alone, and that it learns boxes."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wsol.baselines import few_shot
from wsol.baselines.few_shot import (
    FewShotConfig,
    box_mask,
    evaluate_few_shot,
    fit_localizer,
    foreground_loss,
    predict_few_shot,
    split_fullsup,
)
from wsol.datasets.images import ArrayImages
from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.evaluation.localize import localize
from wsol.evaluation.run import evaluate_run
from wsol.report.names import METHODS
from wsol.training.config import TrainConfig
from wsol.training.runs import build_network

QUICK = dict(epochs=1, batch_size=8)


def rows_with(labels: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(len(labels))], "label": labels})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=5, max_size=80), st.integers(0, 9))
def test_the_split_takes_every_image_once_and_a_fifth_of_each_class(labels, seed):
    rows = rows_with(labels)
    fitted, held_out = split_fullsup(rows, seed)
    ids = [*fitted["image_id"], *held_out["image_id"]]
    assert sorted(ids) == sorted(rows["image_id"])
    assert len(held_out) == len(labels) // 5
    for label in set(labels):
        assert abs((held_out["label"] == label).sum() - labels.count(label) / 5) < 1
    for part in (fitted, held_out):
        assert list(part.index) == list(range(len(part)))


def test_the_split_is_fixed_by_its_seed():
    splits = [list(split_fullsup(rows_with([0] * 40), s)[1]["image_id"]) for s in (3, 3, 4)]
    assert splits[0] == splits[1] != splits[2]
    with pytest.raises(ValueError, match="at least 5"):
        split_fullsup(rows_with([0] * 4), seed=0)


def test_a_mask_is_the_boxes_in_the_squashed_image():
    row = pd.DataFrame({"boxes": ["10 20 30 40;50 0 60 10"], "width": 100, "height": 40})
    mask = box_mask(next(row.itertuples()), 20)
    assert mask.dtype == np.uint8
    expected = np.zeros((20, 20))
    expected[10:20, 2:6] = 1  # a pixel is 5 wide and 2 high
    expected[0:5, 10:12] = 1
    assert (mask == expected).all()


def test_the_loss_compares_with_the_share_of_the_box_in_each_location():
    S, masks = torch.randn(2, 1, 3, 3), torch.zeros(2, 1, 6, 6)
    masks[0, 0, :3, :2] = 1
    target = torch.zeros(2, 1, 3, 3)
    target[0, 0, 0, 0], target[0, 0, 1, 0] = 1, 0.5
    expected = F.binary_cross_entropy(S.sigmoid(), target)
    assert float(foreground_loss(S, masks)) == pytest.approx(float(expected), rel=1e-5)


def test_an_image_and_its_mask_are_flipped_together():
    marked = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    marked[0, :, 2:4, 0:3] = 255
    rows = pd.DataFrame({"boxes": ["0 2 3 4"], "width": 8, "height": 8})
    pairs = few_shot._Pairs(ArrayImages(marked), rows)
    torch.manual_seed(0)
    pairs_drawn = [pairs[0] for _ in range(20)]
    assert all((image[0] == 255 * mask[0]).all() for image, mask in pairs_drawn)
    left = [bool(mask[0, 2, 0]) for _, mask in pairs_drawn]
    assert any(left)
    assert not all(left)


def squares(n: int) -> tuple[ArrayImages, pd.DataFrame]:
    """Images of 32 x 32 noise with a bright square of 12 x 12, and their rows."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (n, 3, 32, 32), dtype=np.uint8)
    corners = rng.integers(0, 20, (n, 2))
    for image, (x, y) in zip(images, corners, strict=True):
        image[:, y : y + 12, x : x + 12] += 120
    rows = rows_with([0] * n).assign(
        boxes=[f"{x} {y} {x + 12} {y + 12}" for x, y in corners], width=32, height=32
    )
    return ArrayImages(images), rows.assign(mask="", ignore="")


@pytest.fixture
def classifier():
    return build_network(TrainConfig("cam", backbone="small8", input_size=32), 3).eval()


@pytest.mark.parametrize("attach", ["early", "late"])
def test_it_learns_where_bright_squares_are(classifier, attach):
    images, rows = squares(40)
    config = FewShotConfig(attach=attach, epochs=15, batch_size=8, learning_rate=0.01)
    localizer, history = fit_localizer(classifier.backbone, images, rows, config)
    assert len(history) == 15
    assert history[-1] < 0.5 * history[0]
    maps = predict_few_shot(localizer, classifier, images)["foreground"]
    assert maps.shape == (40, *[32 // (4 if attach == "early" else 8)] * 2)
    assert (localize(maps, rows).iou_largest >= 0.5).mean(axis=0).max() > 0.9


@pytest.mark.parametrize("tune", [True, False])
def test_the_classifier_is_left_as_it_was(classifier, tune):
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    images, rows = squares(16)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    config = FewShotConfig(tune_backbone=tune, **QUICK)
    localizer, _ = fit_localizer(classifier.backbone, images, rows, config)
    assert (torch.random.get_rng_state() == before).all()
    assert all((value == state[name]).all() for name, value in classifier.state_dict().items())
    assert not classifier.training
    assert not localizer.training
    assert all(p.grad is None for p in classifier.parameters())
    own = localizer.backbone.state_dict()
    same = all((value == state[f"backbone.{name}"]).all() for name, value in own.items())
    assert same is not tune


def test_a_seed_fixes_the_localizer(classifier):
    images, rows = squares(16)
    configs = [FewShotConfig(seed=seed, **QUICK) for seed in (1, 1, 2)]
    losses = [fit_localizer(classifier.backbone, images, rows, config)[1] for config in configs]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("bad", ["attach=middle", "epochs=0", "learning_rate=0", "weight_decay=-1"])
def test_settings_that_make_no_sense_are_refused(bad):
    name, _, value = bad.partition("=")
    with pytest.raises(ValueError, match=name):
        FewShotConfig(**{name: value if name == "attach" else int(value)})


@pytest.fixture
def run(tiny_runs):
    """Index, root and weights of a CAM run of one epoch."""
    root = tiny_runs / "birds"
    return read_index(root / INDEX), root, tiny_runs / "train" / "cam-0" / "weights.safetensors"


def evaluated(run, index=None, **settings):
    own, root, weights = run
    index = own if index is None else index
    return evaluate_few_shot(weights, index, root, FewShotConfig(**QUICK | settings))


def test_no_image_trains_that_chooses_or_tests(run):
    index, result = run[0], evaluated(run)
    of_split = {s: table.rows["image_id"] for (_, s), table in result.evaluation.tables.items()}
    fitted, chosen = set(result.fitted["image_id"]), set(of_split["train-fullsup"])
    assert (len(fitted), len(chosen)) == (16, 4)
    assert fitted | chosen == set(rows_of(index, "train-fullsup")["image_id"])
    assert set(of_split["test"]) == set(rows_of(index, "test")["image_id"])
    # Other boxes of the images that choose or test change nothing of the training.
    for moved_rows in (index["split"] == "test", index["image_id"].isin(chosen)):
        moved = index.copy()
        moved.loc[moved_rows, "boxes"] = "0 0 3 3"
        other = evaluated(run, moved)
        assert result.history == other.history
        for split in ("train-fullsup", "test"):
            maps = [r.evaluation.maps[split]["foreground"] for r in (result, other)]
            assert (maps[0] == maps[1]).all()
        if "test" in set(moved.loc[moved_rows, "split"]):
            assert result.evaluation.choices.equals(other.evaluation.choices)
            tables = [r.evaluation.tables["foreground", "test"] for r in (result, other)]
            assert (tables[0].steps_largest != tables[1].steps_largest).any()


def test_classes_are_those_of_the_classifier_to_the_last_bit(run, tmp_path):
    index, root, weights = run
    config = FewShotConfig(seed=4, **QUICK)
    result = evaluate_few_shot(weights, index, root, config, meta={"dataset": "birds"}).evaluation
    plain = evaluate_run(weights, index, root, kinds=("class",))
    assert (result.maps["test"]["logits"] == plain.maps["test"]["logits"]).all()
    table, theirs = result.tables["foreground", "test"], plain.tables["class", "test"]
    assert table.rows.equals(theirs.rows)
    expected = dict(method="few-shot", map="foreground", seed="4", dataset="birds")
    expected |= {"backbone": "small8", "protocol": theirs.meta["protocol"]}
    assert expected.items() <= table.meta.items()
    assert ("few-shot", "foreground") in METHODS
    result.save_tables(tmp_path, "few-shot-4")
    assert len([*tmp_path.glob("few-shot-4-foreground-*.npz")]) == 2
