"""LocalizationMetric: the numbers of the evaluation, whatever the batches."""

import cv2
import numpy as np
import pytest
import torch

from wsol.datasets.index import format_boxes, index_table
from wsol.evaluation.localize import localize
from wsol.evaluation.metric import LocalizationMetric
from wsol.evaluation.metrics import evaluate

N, K = 10, 7


@pytest.fixture(scope="module")
def images() -> dict:
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 90, (N, 2, 2, 2)), axis=2) + [[[0, 0], [9, 9]]]
    return {
        "maps": rng.normal(size=(N, 7, 7)).astype(np.float32),
        "boxes": [c.reshape(2, 4)[: 1 + i % 2] for i, c in enumerate(corners)],
        "sizes": np.tile([100, 120], (N, 1)),
        "labels": rng.integers(0, K, N),
        "logits": rng.normal(size=(N, K)).astype(np.float32),
        "masks": rng.integers(0, 2, (N, 30, 40)),
    }


def batch(images: dict, part: slice, kind=np.asarray) -> dict:
    arrays = {k: kind(v[part]) for k, v in images.items() if k != "boxes"}
    return arrays | {"boxes": [kind(box) for box in images["boxes"][part]]}


@pytest.mark.parametrize("kind", [np.asarray, lambda a: torch.as_tensor(a).clone()])
@pytest.mark.parametrize("sizes", [[N], [1] * N, [3, 4, 3]])
def test_batches_give_the_numbers_of_the_evaluation(images, kind, sizes):
    rows = [
        {"image_id": str(i), "label": images["labels"][i], "width": 100, "height": 120,
         "boxes": format_boxes(images["boxes"][i])} for i in range(N)
    ]  # fmt: skip
    frames = [cv2.resize(m.astype(np.uint8), (224, 224), interpolation=0) for m in images["masks"]]
    expected = localize(
        images["maps"],
        index_table(rows),
        images["logits"],
        masks=lambda row: frames[int(row.image_id)],
    )
    metric, start = LocalizationMetric(), 0
    for size in sizes:
        metric.update(**batch(images, slice(start, start + size), kind))
        start += size
    assert metric.compute() == evaluate(expected, expected)


def test_processes_merge_their_states_and_tau_comes_from_other_images(images):
    whole, halves = LocalizationMetric(), [LocalizationMetric(), LocalizationMetric()]
    whole.update(**batch(images, slice(0, N)))
    for half, part in zip(halves, (slice(0, 4), slice(4, N)), strict=True):
        half.update(**batch(images, part))
    tau = halves[1].compute()["tau"]
    assert whole.compute(fullsup=halves[1])["tau"] == tau
    halves[0].merge_state(halves[1:])
    assert halves[0].compute() == whole.compute()
    whole.reset()
    with pytest.raises(ValueError, match="call update first"):
        whole.compute()


def test_maps_of_a_training_step_may_be_half_precision_with_a_gradient():
    box = [torch.tensor([[0.0, 0, 112, 224]])]
    maps = torch.zeros(1, 14, 14, dtype=torch.bfloat16, requires_grad=True)
    metric = LocalizationMetric()
    metric.update(maps + torch.tensor([1.0] * 7 + [0] * 7).bfloat16(), box)
    numbers = metric.compute()
    assert numbers["gt_known_loc_error"] == 0
    assert np.isnan([numbers["top1_loc_error"], numbers["cls_error"], numbers["pxap"]]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": None}, "belong together"),
        ({"maps": np.zeros((N - 1, 7, 7))}, "10 lists of boxes, but"),
        ({"maps": np.zeros((N, 1, 7, 7))}, "10 lists of boxes, but"),
        ({"labels": np.zeros(3, int)}, r"\(3,\)"),
        ({"masks": np.full((N, 4, 4), 255)}, "of 0 and 1"),
        ({"masks": np.zeros((N, 1, 4, 4), int)}, "masks of the shape"),
        ({"maps": np.full((N, 7, 7), np.nan)}, "finite"),
        ({"labels": np.full(N, -1)}, "whole numbers of 0 to 6"),
        ({"labels": np.full(N, K)}, "whole numbers of 0 to 6"),
        ({"labels": np.full(N, 0.5)}, "whole numbers"),
        ({"logits": np.zeros(N)}, "not .N, K."),
        ({"sizes": np.zeros((N, 2), int)}, "outside the image of 0 x 0"),
        ({"boxes": [np.zeros((0, 4))] * N}, "no box"),
        ({"boxes": [np.array([[9, 9, 80, 80, 1]])] * N}, r"\(1, 5\)"),
        ({"boxes": [np.array([[9, 9, 80, 80], [0, 0, 0, 0]])] * N}, "image 0: .* zero size: 0 0"),
        ({"boxes": [np.array([[80, 9, 9, 80]])] * N}, "zero size"),
        ({"boxes": [np.array([[9, 9, 800, 80]])] * N}, "outside the image of 100 x 120"),
        ({"boxes": [np.array([[0.1, 0.1, 0.8, 0.9]])] * N}, "pixels are expected"),
        ({"boxes": [np.array([[9, 9, np.nan, 80]])] * N}, "infinite"),
    ],
)
def test_what_does_not_belong_together_is_refused(images, change, words):
    metric = LocalizationMetric()
    with pytest.raises(ValueError, match=words):
        metric.update(**batch(images, slice(0, N)) | change)
    assert metric.tables == []


@pytest.mark.parametrize("without", [["masks"], ["labels", "logits"]])
def test_masks_and_logits_come_with_all_images_or_none(images, without):
    metric, own = LocalizationMetric(), batch(images, slice(0, N))
    metric.update(**own)
    metric.update(**{name: own[name] for name in own if name not in without})
    with pytest.raises(ValueError, match="and some without"):
        metric.compute()


def test_an_empty_batch_counts_for_nothing(images):
    metric, empty = LocalizationMetric(), batch(images, slice(0, 0))
    metric.update(**empty)
    with pytest.raises(ValueError, match="call update first"):
        metric.compute()
    metric.update(**batch(images, slice(0, N)))
    numbers = metric.compute()
    metric.update(**empty)
    assert metric.compute() == numbers
