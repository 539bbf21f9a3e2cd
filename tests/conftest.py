"""Tiny data and runs that several test files share, made once per session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # machines are shared
settings.load_profile("untimed")

TINY_BIRDS = dict(n_train=40, n_fullsup=20, n_test=20, n_background=12)
TINY_TRAIN = dict(
    epochs=1, batch_size=20, background_batch=10, input_size=64, threads=1, backbone="small8"
)


@pytest.fixture(scope="session")
def tiny_birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 92 drawn images with index.csv."""
    from wsol.datasets.birds import BirdsConfig
    from wsol.datasets.prepare import prepare_birds

    folder = tmp_path_factory.mktemp("tiny") / "birds"
    prepare_birds(folder, BirdsConfig(**TINY_BIRDS), workers=1)
    return folder


@pytest.fixture(scope="session")
def tiny_runs(tiny_birds: Path) -> Path:
    """Folder with train/KEY and evaluate/KEY of one epoch; KEY: cam-0, background-0."""
    from wsol.datasets.index import INDEX, read_index
    from wsol.evaluation.run import evaluate_run
    from wsol.training.config import config_from
    from wsol.training.loop import train_from_disk

    folder = tiny_birds.parent
    index = read_index(tiny_birds / INDEX)
    for method in ("cam", "background"):
        key = f"{method}-0"
        run, out = folder / "train" / key, folder / "evaluate" / key
        train_from_disk(config_from(TINY_TRAIN | {"method": method}), tiny_birds, run)
        meta = {"dataset": "birds"}
        weights = run / "weights.safetensors"
        evaluated = evaluate_run(weights, index, tiny_birds, meta=meta, maps=out / "maps")
        evaluated.save_tables(out / "localization", key)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _torch_settings_restored() -> Iterator[None]:
    """Training sets threads and determinism for its whole process."""
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
