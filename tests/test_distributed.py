"""Several processes do what one does: the same losses and gradients, the same maps."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from spawning import run_in_processes
from torch import nn

from wsol import backbones as models
from wsol.datasets.birds import BirdsConfig
from wsol.datasets.images import ArrayImages
from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.datasets.prepare import prepare_birds
from wsol.evaluation.predict import predict_split
from wsol.evaluation.run import evaluate_run
from wsol.evaluation.table import LocalizationTable
from wsol.methods.base import global_mean, mean_over_all
from wsol.training import runs
from wsol.training.batches import TrainData, epoch_batches
from wsol.training.checkpoint import Checkpoint, Progress
from wsol.training.config import Execution, TrainConfig
from wsol.training.distributed import choose_device, process_group, rank, world_size
from wsol.training.loop import state_path, train, train_from_disk
from wsol.training.optimizer import build_optimizer

pytestmark = pytest.mark.slow
K, N, SIDE = 3, 40, 36
CONFIG = TrainConfig(
    method="background",
    backbone="small8",
    input_size=32,
    epochs=2,
    batch_size=8,
    background_batch=7,  # of 2 or 3 processes one has an image more
    optimizer="sgd",
    learning_rate=0.05,
    threads=1,
)


def data() -> TrainData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % K
    images = torch.randint(0, 120, (N, 3, SIDE, SIDE), generator=generator)
    images = (images + 40 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    background = torch.randint(0, 255, (10, 3, SIDE, SIDE), generator=generator)
    return TrainData(ArrayImages(images), labels, K, ArrayImages(background.to(torch.uint8)))


# --- means and gradients


def means(folder: str) -> None:
    """Write this process's view of a mean over 10 values of which each holds some, maybe none."""
    with process_group(torch.device("cpu")):
        w = torch.tensor(1.5, requires_grad=True)
        mine = torch.arange(10.0)[rank() * 6 : (rank() + 1) * 6]  # 6, 4, 0, 0 values
        mean = mean_over_all(w * mine**2).clamp_min(0) ** 2
        mean.backward()
        result = [mean.item(), w.grad.item()]
    (Path(folder) / f"{rank()}.json").write_text(json.dumps(result))


@pytest.mark.parametrize("processes", [2, 4])
def test_a_mean_has_the_denominator_of_all_processes_and_its_gradient(tmp_path, processes):
    run_in_processes("test_distributed", f"means({str(tmp_path)!r})", processes)
    squares = torch.arange(10.0) ** 2
    w = torch.tensor(1.5, requires_grad=True)
    expected = (w * squares).mean() ** 2
    expected.backward()
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    assert len(results) == processes
    assert [value for value, _ in results] == pytest.approx([expected.item()] * processes)
    # DDP averages: the mean of the processes' gradients is the gradient.
    gradient = sum(grad for _, grad in results) / processes
    assert gradient == pytest.approx(w.grad.item())


def test_one_process_has_its_own_mean():
    assert (rank(), world_size()) == (0, 1)
    value = torch.tensor(2.5)
    assert global_mean(value, 7) is value


@pytest.fixture(scope="module")
def birds(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("birds") / "birds"
    prepare_birds(root, BirdsConfig(n_train=40, n_fullsup=70, n_test=150, n_background=8), 1)
    config = replace(CONFIG, epochs=1, background_batch=4)
    train_from_disk(config, root, root / "run")
    return root


# --- training


def without_batch_statistics(
    inputs: int, outputs: int, stride: int = 1, size: int = 3
) -> nn.Sequential:
    """As `conv_block`, with group normalization, which looks at one image at a time."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


def train_one(out: str, resume: str, pooling: str, stop_after: int = 0) -> None:
    """Train CONFIG, on a network whose images do not see each other, maybe dying on the way."""
    import wsol.methods.background as method
    from wsol.training import loop as training

    models.conv_block = method.conv_block = without_batch_statistics
    if stop_after:
        step = training._train_step

        def dying(*args):
            progress = args[4]
            if progress.epoch * 5 + progress.step == stop_after:
                import os

                os._exit(0)  # as a kill: nothing is cleaned up
            return step(*args)

        training._train_step = dying
    config = replace(CONFIG, method_config={"pooling": pooling})
    execution = Execution(checkpoint_seconds=0)
    train(config, data(), out, resume, execution)


def trained(tmp_path: Path, processes: int, pooling: str, stop_after: int = 0) -> dict:
    out, resume = tmp_path / f"{processes}-{pooling}-{stop_after}", tmp_path / f"r{processes}"
    if stop_after:
        call = f"train_one({str(out)!r}, {str(resume)!r}, {pooling!r}, {stop_after})"
        run_in_processes("test_distributed", call, processes)
        assert not out.exists()
        assert len(list(resume.glob("*.pt"))) == 1
    call = f"train_one({str(out)!r}, {str(resume)!r}, {pooling!r})"
    run_in_processes("test_distributed", call, processes)
    record = json.loads((out / "provenance.json").read_text())
    assert record["execution"]["world_size"] == processes
    assert record["resumed_after_step"] == stop_after
    return load_file(out / runs.WEIGHTS)


@pytest.mark.parametrize("pooling", ["top", "prior"])  # "prior" cuts off a mean: not linear
def test_two_processes_train_the_network_that_one_trains(tmp_path, pooling):
    """Within 1e-5 after ten steps of weights of up to 1: sums are made in another order."""
    one, two = (trained(tmp_path, processes, pooling) for processes in (1, 2))
    start = runs.build_network(CONFIG, K).state_dict()
    moved = (one["class_head.weight"] - start["class_head.weight"]).abs().max()
    assert moved > 1e-2
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5, rtol=1e-4), name


def test_processes_with_uneven_parts_do_too(tmp_path):
    one, three = (trained(tmp_path, processes, "top") for processes in (1, 3))
    for name in one:
        assert torch.allclose(one[name], three[name], atol=1e-5, rtol=1e-4), name


def test_two_processes_that_were_killed_go_on_to_the_same_weights(tmp_path):
    unbroken = trained(tmp_path, 2, "top")
    resumed = trained(tmp_path, 2, "top", stop_after=7)  # in the second epoch
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_every_image_of_a_step_is_seen_by_one_process():
    whole = list(epoch_batches(CONFIG, data(), 1))
    parts = [list(epoch_batches(CONFIG, data(), 1, part=(r, 3))) for r in range(3)]
    for step, batch in enumerate(whole):
        for name, size in (("images", 8), ("background", 7)):
            joined = torch.cat([getattr(part[step], name) for part in parts])
            order = torch.cat([torch.arange(size)[r::3] for r in range(3)])
            assert torch.equal(joined, getattr(batch, name)[order])


def train_to_nan(out: str) -> None:
    """Must end in an exception in every process."""
    config = replace(CONFIG, method="cam", learning_rate=1e30)
    try:
        train(config, data(), out)
    except FloatingPointError as error:
        print(error)


def test_a_loss_that_is_not_finite_is_not_hidden_by_the_other_processes(tmp_path):
    call = f"train_to_nan({str(tmp_path / 'run')!r})"
    for said in run_in_processes("test_distributed", call, 2):
        assert "try a smaller learning_rate" in said
    assert not (tmp_path / "run").exists()


def resume_apart(folder: str) -> None:
    """Each process has a folder of its own to resume from, as on machines without a shared disk."""
    try:
        train(CONFIG, data(), folder + "/run", f"{folder}/{rank()}", Execution())
    except RuntimeError as error:
        print(error)


def test_processes_that_would_go_on_from_different_steps_are_refused(tmp_path):
    network = runs.build_network(CONFIG, K)
    optimizer = build_optimizer(network, CONFIG)
    path = state_path(CONFIG, data(), Execution(), tmp_path / "0")
    Checkpoint(path, network, optimizer, 0, keeps=True).save(Progress(epoch=1, step=2))
    for said in run_in_processes("test_distributed", f"resume_apart({str(tmp_path)!r})", 2):
        assert "the step to resume from differs between the processes: [[1, 2], [0, 0]]" in said


ORPHANS = """
import sys
from pathlib import Path
from wsol.training.config import Execution, TrainConfig
from wsol.training.loop import train_from_disk
config = TrainConfig(method="cam", backbone="small8", input_size=32, epochs=10_000, batch_size=8,
                     threads=1)
data, run = sys.argv[1:]
execution = Execution(processes=2, checkpoint_seconds=0)
train_from_disk(config, data, run, resume_dir=run + "-r", execution=execution)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_killed_notebook_leaves_no_training_behind(birds, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, str(birds), str(tmp_path / "run")])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run-r/*.pt")):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    parent.wait()

    def alive() -> bool:
        done = subprocess.run(["pgrep", "-f", str(tmp_path / "run")], stdout=subprocess.DEVNULL)
        return done.returncode == 0

    while alive():
        assert time.monotonic() < deadline, "the training goes on without its notebook"
        time.sleep(0.2)


# --- evaluation


def predict(root: str, out: str) -> None:
    index = read_index(Path(root) / INDEX)
    for split in ("train-fullsup", "test"):  # 2 and 3 batches, the last ones not full
        rows = rows_of(index, split)
        predict_split(Path(root) / "run" / runs.WEIGHTS, rows, root, Path(out) / split)


def test_one_two_and_four_processes_give_the_same_localization_table(birds, tmp_path):
    index, weights = read_index(birds / INDEX), birds / "run" / runs.WEIGHTS
    inside = evaluate_run(weights, index, birds)  # all in memory, without any files
    for processes in (1, 2, 4):
        out = tmp_path / f"{processes}"
        run_in_processes("test_distributed", f"predict({str(birds)!r}, {str(out)!r})", processes)
        for split, arrays in inside.maps.items():
            assert sorted(p.name for p in (out / split).iterdir()) == sorted(
                f"{name}.npy" for name in arrays
            )
            for name, array in arrays.items():
                assert np.array_equal(np.load(out / split / f"{name}.npy"), array)
        assert [path.name for path in out.iterdir() if path.suffix] == []  # nothing half


def test_a_notebooks_evaluation_starts_its_processes_itself(birds, tmp_path):
    index, weights = read_index(birds / INDEX), birds / "run" / runs.WEIGHTS
    tables = []
    for processes in (1, 2):
        execution = Execution(processes=processes)
        maps = tmp_path / f"maps {processes}"
        result = evaluate_run(weights, index, birds, maps=maps, execution=execution)
        result.save_tables(tmp_path / f"{processes}", "key")
        tables.append(sorted((tmp_path / f"{processes}").iterdir()))
    assert len(tables[0]) == 6
    for one, two in zip(*tables, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert LocalizationTable.load(one).rows["image_id"].is_unique


def test_a_notebooks_training_starts_its_processes_itself(birds, tmp_path):
    config = replace(CONFIG, epochs=1, background_batch=4)
    train_from_disk(config, birds, tmp_path / "run", execution=Execution(processes=2))
    execution = json.loads((tmp_path / "run" / "provenance.json").read_text())["execution"]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert execution["world_size"] == 2
    assert len(record["class_names"]) == 20
    assert record["config"]["method_config"] == {}


def test_what_fails_in_a_process_is_told(birds, tmp_path):
    config = replace(CONFIG, batch_size=64)
    with pytest.raises(RuntimeError, match="40 images are fewer than one batch of 64"):
        train_from_disk(config, birds, tmp_path / "run", execution=Execution(processes=2))


# --- devices


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="sees no CUDA device"):
        choose_device("cuda")
