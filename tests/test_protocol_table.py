"""One network under every protocol: the frame it is shown, and errors that follow from it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wsol.datasets.birds import BirdsConfig
from wsol.datasets.images import load_split
from wsol.datasets.index import INDEX, read_index
from wsol.datasets.prepare import prepare_birds
from wsol.evaluation.compare import evaluate_protocols, frame_images
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.protocols import BAS2022, CHOE2020, PROTOCOLS
from wsol.evaluation.run import evaluate_run
from wsol.training.config import config_from
from wsol.training.loop import train_from_disk


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> tuple[Path, Path]:
    """A tiny set of birds and a network that has seen them once."""
    root = tmp_path_factory.mktemp("birds")
    prepare_birds(
        root, BirdsConfig(n_train=40, n_fullsup=20, n_test=20, n_background=12), workers=1
    )
    settings = dict(method="cam", epochs=1, batch_size=20, input_size=64, threads=1)
    train_from_disk(config_from(settings), root, root / "run")
    return root, root / "run" / "weights.safetensors"


def test_the_frame_is_the_centre_of_the_squashed_image(smoke) -> None:
    root, _ = smoke
    index = read_index(root / INDEX)
    whole, labels = load_split(index, root, "test", 73)  # 64 * 256 / 224
    images, _ = frame_images(index, root, "test", 64, BAS2022)
    assert images.shape == (20, 3, 64, 64)
    assert torch.equal(images, whole[:, :, 4:68, 4:68])
    same, again = frame_images(index, root, "test", 64, CHOE2020)
    assert torch.equal(same, load_split(index, root, "test", 64)[0])
    assert torch.equal(again, labels)


def test_choe2020_gives_the_numbers_of_the_main_evaluation(smoke) -> None:
    root, weights = smoke
    index = read_index(root / INDEX)
    table = evaluate_protocols(weights, index, root)
    assert list(table["protocol"]) == list(PROTOCOLS)
    result = evaluate_run(weights, index, root, kinds=("class",))
    numbers = evaluate(result.tables["class", "test"], result.tables["class", "train-fullsup"])
    row = table.set_index("protocol").loc["choe2020"]
    for name in ("tau", "top1_loc_error", "gt_known_loc_error", "gt_known_loc_error_oracle"):
        assert row[name] == pytest.approx(numbers[name])
    assert row["cls_error"] == pytest.approx(numbers["cls_error"])
    errors = table[["top1_loc_error", "top5_loc_error", "gt_known_loc_error"]].to_numpy()
    assert (np.diff(errors, axis=1) <= 1e-9).all()
