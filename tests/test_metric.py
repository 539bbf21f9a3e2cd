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
        ({"boxes": [np.zeros((0, 4))] * N}, "no box"),
    ],
)
def test_what_does_not_belong_together_is_refused(images, change, words):
    with pytest.raises(ValueError, match=words):
        LocalizationMetric().update(**batch(images, slice(0, N)) | change)
