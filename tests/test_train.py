"""Training: the same weights from the same seed, also after a kill; what a run leaves behind."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from wsol.datasets.files import locked
from wsol.datasets.images import ArrayImages, to_float
from wsol.training import loop as training
from wsol.training.batches import TrainData, epoch_batches
from wsol.training.checkpoint import Progress
from wsol.training.config import Execution, TrainConfig
from wsol.training.loop import train
from wsol.training.optimizer import build_optimizer, rate_factor
from wsol.training.runs import build_network, load_network, write_run

K, N, SIDE = 3, 24, 36
CONFIG = TrainConfig(
    method="background",
    backbone="small4",
    input_size=32,
    epochs=3,
    batch_size=8,
    background_batch=4,
    threads=1,
)


def arrays() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels and background images: noise, brighter with the label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % K
    images = torch.randint(0, 120, (N, 3, SIDE, SIDE), generator=generator)
    images += 40 * labels.view(-1, 1, 1, 1)
    background = torch.randint(0, 255, (10, 3, SIDE, SIDE), generator=generator)
    return images.to(torch.uint8), labels, background.to(torch.uint8)


def data() -> TrainData:
    return train_data(*arrays())


def train_data(images, labels, background) -> TrainData:
    extra = None if background is None else ArrayImages(background)
    return TrainData(ArrayImages(images), labels, K, extra)


def batches_of(config, epoch, images, labels, background):
    return epoch_batches(config, train_data(images, labels, background), epoch)


@pytest.fixture(autouse=True)
def _torch_settings_restored():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def weights_of(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The run of CONFIG, trained without a break."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    train(CONFIG, data(), run)
    return run


# --- reproducible


def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    torch.rand(17)  # whatever was drawn before
    train(CONFIG, data(), tmp_path / "again")
    for name in ("weights.safetensors", "history.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_another_seed_gives_other_weights(finished, tmp_path):
    train(replace(CONFIG, seed=1), data(), tmp_path)
    ours, others = (load_file(run / "weights.safetensors") for run in (finished, tmp_path))
    assert not torch.equal(ours["class_head.weight"], others["class_head.weight"])


def test_initial_weights_follow_from_the_seed():
    first, again, other = (
        build_network(replace(CONFIG, seed=seed), K).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["class_head.weight"], other["class_head.weight"])


def test_building_a_network_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    build_network(CONFIG, K)
    assert torch.equal(torch.rand(3), undisturbed)


def test_plain_sgd_without_momentum_and_decay_is_allowed():
    config = replace(CONFIG, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    (group,) = build_optimizer(build_network(config, K), config).param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0, False, 0)


def test_training_lowers_the_loss(finished):
    losses = pd.read_csv(finished / "history.csv")["class_loss"]
    assert losses.iloc[-1] < losses.iloc[0]


# --- killed and resumed


class Killed(Exception):
    """Stands for a kill in the middle of an epoch."""


def break_after(monkeypatch, steps: int) -> None:
    """Let training fail at its step number `steps`."""
    done, batches = [], training.epoch_batches

    def breaking(*args, **options):
        for batch in batches(*args, **options):
            done.append(1)
            if len(done) > steps:
                raise Killed
            yield batch

    monkeypatch.setattr(training, "epoch_batches", breaking)


@pytest.mark.parametrize("steps", [4, 8])  # in the second and in the third epoch of three steps
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    finished, tmp_path, monkeypatch, steps
):
    with monkeypatch.context() as patch:
        break_after(patch, steps)
        with pytest.raises(Killed):
            train(CONFIG, data(), tmp_path / "run", tmp_path / "resume")
    assert not (tmp_path / "run").exists()  # half a run leaves no weights
    train(CONFIG, data(), tmp_path / "run", tmp_path / "resume")
    assert weights_of(tmp_path / "run") == weights_of(finished)
    history = "history.csv"
    assert (tmp_path / "run" / history).read_bytes() == (finished / history).read_bytes()
    cost = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert cost["resumed_after_step"] == steps // 3 * 3


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_a_run_goes_on_from_its_last_step(finished, tmp_path, monkeypatch, steps):
    execution = Execution(checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        break_after(patch, steps)
        with pytest.raises(Killed):
            train(CONFIG, data(), tmp_path / "run", tmp_path / "resume", execution)
    train(CONFIG, data(), tmp_path / "run", tmp_path / "resume", execution)
    assert weights_of(tmp_path / "run") == weights_of(finished)
    assert (tmp_path / "run/history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    cost = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert cost["resumed_after_step"] == steps


def test_what_a_method_draws_follows_from_the_step(tmp_path, monkeypatch):
    """Recolouring draws in the loss: a resumed run must draw the same again."""
    config = replace(CONFIG, method_config={"match_colours": True})
    execution = Execution(checkpoint_seconds=0)
    train(config, data(), tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        break_after(patch, 5)
        with pytest.raises(Killed):
            train(config, data(), tmp_path / "run", tmp_path / "resume", execution)
    torch.rand(5)
    train(config, data(), tmp_path / "run", tmp_path / "resume", execution)
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "unbroken")


@pytest.mark.parametrize("change", [{"loader_workers": 2}, {"checkpoint_seconds": 0.0}])
def test_how_it_runs_does_not_change_the_weights(finished, tmp_path, change):
    train(CONFIG, data(), tmp_path / "run", tmp_path / "r", Execution(**change))
    assert weights_of(tmp_path / "run") == weights_of(finished)


def test_bf16_is_near_fp32_and_leaves_float32_weights(finished, tmp_path):
    train(CONFIG, data(), tmp_path / "run", execution=Execution(precision="bf16"))
    ours, theirs = (load_file(run / "weights.safetensors") for run in (tmp_path / "run", finished))
    name = "class_head.weight"
    assert {value.dtype for value in ours.values()} <= {torch.float32, torch.int64}
    assert not torch.equal(ours[name], theirs[name])
    assert torch.allclose(ours[name], theirs[name], atol=0.05)
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert record["execution"]["precision"] == "bf16"


@pytest.mark.slow
@pytest.mark.skipif(" " in sys.prefix, reason="PyTorch compiles in no folder with a space")
def test_a_compiled_network_trains_the_same_within_rounding(finished, tmp_path):
    train(CONFIG, data(), tmp_path / "run", execution=Execution(compile=True))
    ours, theirs = (load_file(run / "weights.safetensors") for run in (tmp_path / "run", finished))
    assert ours.keys() == theirs.keys()
    assert torch.allclose(ours["class_head.weight"], theirs["class_head.weight"], atol=1e-3)


def test_a_run_of_the_other_optimizer_resumes_too(tmp_path, monkeypatch):
    config = replace(CONFIG, optimizer="adamw", learning_rate=0.001)
    train(config, data(), tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        break_after(patch, 4)
        with pytest.raises(Killed):
            train(config, data(), tmp_path / "run", tmp_path / "resume")
    train(config, data(), tmp_path / "run", tmp_path / "resume")
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "unbroken")


def test_a_finished_run_leaves_no_checkpoint(tmp_path):
    train(CONFIG, data(), tmp_path / "run", tmp_path / "resume")
    assert list((tmp_path / "resume").iterdir()) == []


@pytest.mark.parametrize("changed", ["config", "images", "labels", "background"])
def test_a_checkpoint_serves_only_the_run_that_wrote_it(tmp_path, monkeypatch, changed):
    images, labels, background = arrays()
    with monkeypatch.context() as patch:
        break_after(patch, 4)
        with pytest.raises(Killed):
            train(CONFIG, train_data(images, labels, background), tmp_path / "run", tmp_path / "r")
    config = replace(CONFIG, weight_decay=0.0) if changed == "config" else CONFIG
    if changed == "labels":
        labels = labels.flip(0)
    elif changed != "config":
        (images if changed == "images" else background)[0, 0, 0, 0] += 1
    train(config, train_data(images, labels, background), tmp_path / "run", tmp_path / "r")
    cost = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert cost["resumed_after_step"] == 0


def test_a_state_of_other_code_or_other_pretrained_weights_is_left_alone(tmp_path, monkeypatch):
    def place(config=CONFIG) -> Path:
        return training.state_path(config, data(), Execution(), tmp_path)

    before = place()
    assert place() == before
    assert training.state_path(CONFIG, data(), Execution(), None) is None
    with monkeypatch.context() as patch:
        patch.setattr(training, "code_digest", lambda *_: "other")
        assert place() != before
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    one = place(replace(CONFIG, weights=str(weights)))
    weights.write_bytes(b"two")
    assert place(replace(CONFIG, weights=str(weights))) != one


def test_the_same_training_twice_at_once_is_refused(tmp_path):
    path = training.state_path(CONFIG, data(), Execution(), tmp_path)
    with locked(path.with_suffix(".lock")):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
            "import test_train as t; "
            f"t.train(t.CONFIG, t.data(), {str(tmp_path / 'run')!r}, {str(tmp_path)!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "this training is running already" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_tells_the_seconds_of_all_its_sittings(tmp_path, monkeypatch):
    execution = Execution(checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        break_after(patch, 7)
        patch.setattr(Progress, "elapsed", lambda self: 100.0)
        with pytest.raises(Killed):
            train(CONFIG, data(), tmp_path / "run", tmp_path / "r", execution)
    train(CONFIG, data(), tmp_path / "run", tmp_path / "r", execution)
    cost = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert 100 < cost["seconds"] < 200


def test_a_trained_network_is_handed_over_in_evaluation_mode(tmp_path):
    assert not train(replace(CONFIG, epochs=1), data(), tmp_path / "run").training


_CHILD = """
import sys
import time
sys.path.insert(0, sys.argv[1])
import test_train as t
from wsol.training import loop as training
step = training.epoch_batches
def slow(*args, **options):
    for batch in step(*args, **options):
        time.sleep(0.3)
        yield batch
training.epoch_batches = slow
t.train(t.CONFIG, t.data(), sys.argv[2] + "/run", sys.argv[2] + "/resume")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_was_really_killed_goes_on(finished, tmp_path):
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(tmp_path)]
    child = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "resume").glob("*.pt")):
        assert child.poll() is None, "the child ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    train(CONFIG, data(), tmp_path / "run", tmp_path / "resume")
    assert weights_of(tmp_path / "run") == weights_of(finished)
    cost = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert cost["resumed_after_step"] >= 3


# --- what a run leaves


def test_the_history_has_a_row_per_epoch_and_a_column_per_loss(finished):
    history = pd.read_csv(finished / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3]
    assert {"loss", "class_loss", "foreground_loss", "mask_loss"} < set(history.columns)
    assert history.notna().all(axis=None)


def test_run_json_has_what_follows_from_the_settings_and_provenance_the_rest(finished):
    record, provenance = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("run", "provenance")
    )
    assert set(record) == {"config", "class_names", "parameters"}
    settings = record["config"]
    assert settings.pop("num_classes") == K
    assert TrainConfig(**settings) == CONFIG
    network = build_network(CONFIG, K)
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    assert min(provenance["seconds"], provenance["images_per_second"]) > 0
    assert provenance["packages"]["torch"]
    assert provenance["git_commit"]
    assert str(Path.home()) not in (finished / "provenance.json").read_text()


def test_a_training_outside_a_project_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    train(replace(CONFIG, epochs=1), data(), "run")
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert record["git_commit"] == "unknown"
    assert load_network("run/weights.safetensors")[1].epochs == 1


def test_a_network_comes_back_from_its_weights_alone(finished, tmp_path):
    network = train(CONFIG, data(), tmp_path / "run").eval()
    loaded, config = load_network(tmp_path / "run" / "weights.safetensors")
    assert config == CONFIG
    assert not loaded.training
    x = to_float(torch.from_numpy(data().images.array[:5]))
    with torch.inference_mode():
        for ours, theirs in zip(network(x), loaded(x), strict=True):
            assert torch.equal(ours, theirs)


def test_loading_a_network_does_not_need_its_pretrained_weights(tmp_path):
    config = TrainConfig(
        method="cam", backbone="resnet50", weights=None, epochs=1, batch_size=2, input_size=32
    )
    network = build_network(config, K)
    write_run(tmp_path, replace(config, weights="gone.pth"), network, data(), [], {})
    loaded, restored = load_network(tmp_path / "weights.safetensors")
    assert restored.weights == "gone.pth"
    assert torch.equal(loaded.class_head.weight, network.class_head.weight)


# --- batches


def test_augmentation_keeps_each_image_with_its_label():
    """Images whose every pixel is their number: no crop or flip can change it."""
    numbers = torch.arange(N, dtype=torch.uint8)
    images = numbers.view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE).contiguous()
    labels = 100 + torch.arange(N)
    background = torch.full((2, 3, SIDE, SIDE), 250, dtype=torch.uint8)
    seen = []
    for batch in batches_of(CONFIG, 0, images, labels, background):
        assert batch.images.shape == (8, 3, 32, 32)
        values = (255 * batch.images).round().long()
        assert (values == (batch.labels - 100).view(-1, 1, 1, 1)).all()
        assert batch.background.shape == (4, 3, 32, 32)
        assert ((255 * batch.background).round() == 250).all()
        seen += batch.labels.tolist()
    assert sorted(seen) == labels.tolist()


def test_each_epoch_has_an_order_of_its_own_and_always_the_same():
    images, labels, background = arrays()
    labels = torch.arange(N)

    def order(epoch: int) -> list[int]:
        batches = batches_of(CONFIG, epoch, images, labels, background)
        return torch.cat([batch.labels for batch in batches]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_augmentation_moves_and_flips():
    ramp = torch.arange(SIDE, dtype=torch.uint8).expand(1, 3, SIDE, SIDE).contiguous()
    images = ramp.expand(64, -1, -1, -1)
    config = replace(CONFIG, batch_size=64)
    batch = next(batches_of(config, 0, images, torch.zeros(64).long(), ramp))
    rows = (255 * batch.images[:, 0, 0]).round()
    assert {1.0, -1.0} == set((rows[:, 1] - rows[:, 0]).tolist())
    assert len(set(rows.amin(dim=1).tolist())) > 1


def test_progress_runs_from_0_towards_1():
    images, labels, background = arrays()
    progress = [
        batch.progress
        for epoch in range(CONFIG.epochs)
        for batch in batches_of(CONFIG, epoch, images, labels, background)
    ]
    assert progress == pytest.approx([i / 9 for i in range(9)])


def test_cam_gets_no_background_images():
    images, labels, background = arrays()
    config = replace(CONFIG, method="cam")
    assert next(batches_of(config, 0, images, labels, background)).background is None


def test_the_learning_rate_warms_up_and_ends_at_zero():
    values = [rate_factor(replace(CONFIG, epochs=10), p / 100) for p in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[10] == pytest.approx(1)
    assert values[-1] == pytest.approx(0, abs=1e-9)
    assert all(a < b for a, b in pairwise(values[:11]))
    assert all(a > b for a, b in pairwise(values[10:]))


# --- refusals


@pytest.mark.parametrize("background", [None, torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8)])
def test_a_missing_background_set_is_refused(background, tmp_path):
    images, labels, _ = arrays()
    with pytest.raises(ValueError, match="needs background images and got none"):
        train(CONFIG, train_data(images, labels, background), tmp_path)


def test_fewer_images_than_a_batch_are_refused(tmp_path):
    images, labels, background = arrays()
    with pytest.raises(ValueError, match="7 images are fewer than one batch of 8"):
        train(CONFIG, train_data(images[:7], labels[:7], background), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = replace(CONFIG, learning_rate=1e12, method="cam")
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        train(config, data(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "gradcam"}, "unknown method 'gradcam'"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"background_batch": -1}, "background_batch is -1"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; known: sgd, adamw"),
        ({"threads": 0}, "threads is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"schedule": "linear"}, "schedule is 'linear'; known: cosine, step"),
        ({"decay_epochs": 0}, "decay_epochs is 0"),
        ({"new_layer_factor": 0.0}, "new_layer_factor is 0.0; it must be above 0"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001; it must be at least 0"),
        ({"method_config": {"pooling": "max"}}, "pooling is 'max'"),
    ],
)
def test_contradictions_are_refused_in_plain_words(settings, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "fp16"}, "precision is 'fp16'; known: fp32, tf32, bf16"),
        ({"processes": 0}, "processes is 0; it must be at least 1"),
        ({"loader_workers": -1}, "loader_workers is -1; it must be at least 0"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds is -1.0"),
    ],
)
def test_an_impossible_execution_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Execution(**settings)


def test_images_smaller_than_the_crop_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images of 36 px are smaller than 48"):
        train(replace(CONFIG, input_size=48), data(), tmp_path)


def test_a_setting_that_the_method_does_not_have_is_refused():
    with pytest.raises(TypeError, match="pooling"):
        TrainConfig(method="cam", method_config={"pooling": "mean"})


def test_the_digest_changes_with_every_setting():
    variants = [
        CONFIG,
        replace(CONFIG, seed=1),
        replace(CONFIG, epochs=4),
        replace(CONFIG, method_config={"mask_weight": 1.0}),
        replace(CONFIG, method="cam"),
    ]
    assert len({config.digest() for config in variants}) == len(variants)
    assert replace(CONFIG).digest() == CONFIG.digest()
