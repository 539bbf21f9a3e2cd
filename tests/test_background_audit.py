"""The audit ranks images by a trained run, those with an object first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsol.datasets.backgrounds.manifest import decide, read_manifest, write_manifest
from wsol.datasets.images import ArrayImages
from wsol.inference.audit import SCORES, TOP, audit, object_scores
from wsol.methods import Outputs
from wsol.training.batches import TrainData
from wsol.training.config import TrainConfig
from wsol.training.loop import train

L, N, WITH_OBJECT = 32, 24, 4


def scene(seed: int, has_object: bool) -> np.ndarray:
    """(L, L, 3) uint8: dim noise, with a bright square of one of two colours if there is one."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 110, (L, L, 3), dtype=np.uint8)
    if has_object:
        y, x = rng.integers(2, L - 14, 2)
        image[y : y + 12, x : x + 12] = ((250, 40, 40), (40, 250, 40))[seed % 2]
    return image


@pytest.fixture(scope="module", params=["cam", "background"])
def run(request, tmp_path_factory) -> Path:
    """A run that tells red squares from green ones."""
    images = torch.from_numpy(np.stack([scene(i, True) for i in range(128)])).permute(0, 3, 1, 2)
    scenes = torch.from_numpy(np.stack([scene(1000 + i, False) for i in range(32)]))
    background = ArrayImages(scenes.permute(0, 3, 1, 2))
    data = TrainData(ArrayImages(images), torch.arange(128) % 2, 2, background)
    config = TrainConfig(
        request.param, backbone="small8", input_size=L, epochs=6, batch_size=16, threads=1
    )
    folder = tmp_path_factory.mktemp("run")
    train(config, data, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A background set of which the first images have an object."""
    for i in range(N):
        name = f"{i:02d}-{'object' if i < WITH_OBJECT else 'empty'}.png"
        Image.fromarray(scene(5000 + i, i < WITH_OBJECT)).save(tmp_path / name)
    write_manifest(tmp_path, "drawn", "MIT")
    return tmp_path


def test_images_with_an_object_come_first_and_decisions_stay(run: Path, folder: Path) -> None:
    decide(folder, drop=["00-object.png"], note="a red square")
    ranked = audit(folder, run)
    assert ranked["file"].head(WITH_OBJECT).str.contains("object").all()
    assert ranked["score"].is_monotonic_decreasing
    manifest = read_manifest(folder).set_index("file")
    scores = manifest["score"].astype(float)
    assert np.allclose(scores[ranked["file"]], ranked["score"], rtol=1e-3)
    row = manifest.loc["00-object.png"]
    assert row[["decision", "note"]].tolist() == ["drop", "a red square"]


def test_the_default_score_is_one_that_the_run_has(run: Path, folder: Path) -> None:
    paths = [folder / "00-object.png"]
    _, name = object_scores(paths, run)
    assert name in ("foreground", "class-map")
    if name == "class-map":
        with pytest.raises(ValueError, match="no foreground map"):
            object_scores(paths, run, "foreground")
    with pytest.raises(ValueError, match="score is 'beauty'"):
        object_scores(paths, run, "beauty")


def test_batches_do_not_show_in_the_scores(run: Path, folder: Path) -> None:
    paths = sorted(folder.glob("*.png"))
    whole, _ = object_scores(paths, run)
    parts, _ = object_scores(paths, run, batch_size=7)
    assert whole.shape == (N,)
    assert np.allclose(whole, parts, atol=1e-5)


def test_scores_are_what_they_are_called() -> None:
    torch.manual_seed(0)
    maps, S = torch.randn(3, 5, 4, 4), torch.randn(3, 1, 8, 8)
    outputs = Outputs(maps.mean((2, 3)), maps, S)
    highest = np.sort(S.flatten(1).numpy(), axis=1)[:, -round(TOP * 64) :]
    assert np.allclose(SCORES["foreground"](outputs), highest.mean(1), atol=1e-6)
    assert np.allclose(SCORES["class-map"](outputs), maps.numpy().max((1, 2, 3)))
    logits = maps.numpy().mean((2, 3))
    assert np.allclose(SCORES["max-logit"](outputs), logits.max(1), atol=1e-6)
    assert np.allclose(SCORES["energy"](outputs), np.log(np.exp(logits).sum(1)), atol=1e-6)
