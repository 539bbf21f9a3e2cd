"""One network under every protocol: the frame it is shown, and errors that follow from it."""

import numpy as np
import pytest
import torch

from wsol.datasets.images import load_split
from wsol.datasets.index import INDEX, read_index
from wsol.evaluation.compare import evaluate_protocols, frame_images
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.protocols import BAS2022, CHOE2020, PROTOCOLS
from wsol.evaluation.run import evaluate_run


def test_the_frame_is_the_centre_of_the_squashed_image(tiny_birds) -> None:
    index = read_index(tiny_birds / INDEX)
    whole, labels = load_split(index, tiny_birds, "test", 73)  # 64 * 256 / 224
    images, _ = frame_images(index, tiny_birds, "test", 64, BAS2022)
    assert images.shape == (20, 3, 64, 64)
    assert torch.equal(images, whole[:, :, 4:68, 4:68])
    same, again = frame_images(index, tiny_birds, "test", 64, CHOE2020)
    assert torch.equal(same, load_split(index, tiny_birds, "test", 64)[0])
    assert torch.equal(again, labels)


def test_choe2020_gives_the_numbers_of_the_main_evaluation(tiny_birds, tiny_runs) -> None:
    weights = tiny_runs / "train" / "cam-0" / "weights.safetensors"
    index = read_index(tiny_birds / INDEX)
    table = evaluate_protocols(weights, index, tiny_birds)
    assert list(table["protocol"]) == list(PROTOCOLS)
    tables = evaluate_run(weights, index, tiny_birds, kinds=("class",)).tables
    numbers = evaluate(tables["class", "test"], tables["class", "train-fullsup"])
    row = table.set_index("protocol").loc["choe2020"]
    for name in ("tau", "top1_loc_error", "gt_known_loc_error", "gt_known_loc_error_oracle"):
        assert row[name] == pytest.approx(numbers[name])
    assert row["cls_error"] == pytest.approx(numbers["cls_error"])
    errors = table[["top1_loc_error", "top5_loc_error", "gt_known_loc_error"]].to_numpy()
    assert (np.diff(errors, axis=1) <= 1e-9).all()
