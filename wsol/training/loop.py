"""Training: one loop for every method, reproducible to the last bit and resumable at any step.

Everything random in step s of epoch e follows from (seed, e, s), so a run that is killed and goes
on ends with the very weights of an unbroken one. With several processes each takes its part of
every step, and losses and gradients are those of the whole step.

    python -m wsol.training.loop --data data/birds --out runs/mine --set method=cam --set epochs=3
    torchrun --nproc-per-node 4 -m wsol.training.loop --data data/cub --out runs/cub/background-0         --params-file params/cub.yaml --section train --section background --set seed=0
"""

import hashlib
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from wsol.backbones import parameter_count
from wsol.methods import Batch, get_method
from wsol.training.batches import TrainData, epoch_batches, load_training_data
from wsol.training.checkpoint import Checkpoint, Progress, checkpoint_path
from wsol.training.config import Execution, TrainConfig
from wsol.training.distributed import (
    agree,
    choose_device,
    launch,
    process_group,
    rank,
    set_precision,
    wait_for_all,
    world_size,
)
from wsol.training.optimizer import build_optimizer, set_rate
from wsol.training.runs import WEIGHTS, build_network, code_digest, load_network, write_run


def train(
    config: TrainConfig,
    data: TrainData,
    run_dir: str | Path,
    resume_dir: str | Path | None = None,
    execution: Execution | None = None,
) -> nn.Module:
    """Train and write a run.

    With ``resume_dir`` the state is kept there under the digest of configuration and data, and a
    run that was killed goes on from it. Under `torchrun` every process calls this and the first
    writes. Returns the trained network.

    Raises ValueError when the method needs background images and there are none, when the batch
    is larger than the set or smaller than the number of processes, and FloatingPointError when the
    loss is not finite.
    """
    execution = execution or Execution()
    _check(config, data)
    device = choose_device(execution.device)
    set_precision(execution.precision)
    path = state_path(config, data, execution, resume_dir)
    with process_group(device), _only_one(path):
        return _train(config, data, Path(run_dir), path, execution, device)


def _check(config: TrainConfig, data: TrainData) -> None:
    """Refuse what cannot be trained."""
    if get_method(config.method).USES_BACKGROUND and not data.background:
        raise ValueError(f"method {config.method!r} needs background images and got none")
    if len(data.images) < config.batch_size:
        raise ValueError(
            f"{len(data.images)} images are fewer than one batch of {config.batch_size}"
        )
    if config.batch_size < world_size():
        raise ValueError(f"batch_size {config.batch_size} is less than {world_size()} processes")
    if data.images.size < config.input_size:
        raise ValueError(f"images of {data.images.size} px are smaller than {config.input_size}")


def state_path(
    config: TrainConfig, data: TrainData, execution: Execution, resume_dir: str | Path | None
) -> Path | None:
    """Where the state is kept: named after settings, data, code and pretrained weights."""
    if resume_dir is None:
        return None
    own = config.weights if config.weights and Path(config.weights).is_file() else None
    weights = hashlib.sha256(Path(own).read_bytes()).hexdigest() if own else ""
    parts = (config.digest(), data.digest(), code_digest(), weights, execution.precision)
    return checkpoint_path(resume_dir, *parts)


@contextmanager
def _only_one(path: Path | None) -> Iterator[None]:
    """Refuse a second training that would write the same state."""
    if path is None or rank() > 0:
        yield
        return
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise RuntimeError(f"this very training is running already (it holds {path})") from None


def _train(
    config: TrainConfig,
    data: TrainData,
    run_dir: Path,
    path: Path | None,
    execution: Execution,
    device: torch.device,
) -> nn.Module:
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(execution.deterministic, warn_only=True)
    network = build_network(config, data.num_classes).to(device)
    optimizer = build_optimizer(network, config)
    checkpoint = Checkpoint(path, network, optimizer, execution.checkpoint_seconds, rank() == 0)
    progress = checkpoint.restore()
    agree([progress.epoch, progress.step], "the step to go on from")
    steps = len(data.images) // config.batch_size
    resumed = progress.epoch * steps + progress.step
    runner = _wrapped(network, execution, device)
    epochs = range(progress.epoch, config.epochs)
    for epoch in (bar := tqdm(epochs, desc=f"{config.method}-{config.seed}", disable=rank() > 0)):
        batches = epoch_batches(
            *(config, data, epoch),
            first_step=progress.step,
            part=(rank(), world_size()),
            device=device,
            execution=execution,
        )
        row = _train_epoch(config, runner, optimizer, batches, progress, checkpoint, execution)
        rate = progress.epoch * steps * config.batch_size / progress.elapsed()
        bar.set_postfix(loss=f"{row['loss']:.3f}", images_per_s=f"{rate:.0f}")
    if rank() == 0:
        cost = {
            "seconds": round(progress.seconds, 2),
            "images_per_second": round(
                config.epochs * steps * config.batch_size / progress.seconds, 1
            ),
            "resumed_after_step": resumed,
            "parameters": parameter_count(network),
        }
        about = _about(data, execution, device) | {"cost": cost}
        write_run(run_dir, config, network, data.num_classes, progress.history, about)
    wait_for_all()
    checkpoint.remove()
    return network.eval()


def _about(data: TrainData, execution: Execution, device: torch.device) -> dict[str, object]:
    """What run.json says of the circumstances; where the cache lies is this machine's business."""
    found = {"device": device.type, "world_size": world_size()}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return {
        "execution": asdict(execution) | {"cache": execution.cache is not None} | found,
        "class_names": list(data.class_names),
    }


def _wrapped(network: nn.Module, execution: Execution, device: torch.device) -> nn.Module:
    """The network as it is run: compiled and spread over processes, sharing the parameters."""
    runner = network
    if world_size() > 1:
        if device.type == "cuda":  # statistics of the whole step; gloo cannot
            runner = nn.SyncBatchNorm.convert_sync_batchnorm(runner)
        runner = DistributedDataParallel(
            runner, device_ids=[device.index] if device.type == "cuda" else None
        )
    return torch.compile(runner) if execution.compile else runner


def _train_epoch(
    config: TrainConfig,
    runner: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    progress: Progress,
    checkpoint: Checkpoint,
    execution: Execution,
) -> dict[str, float]:
    """Run the rest of one epoch; return and note the mean of each loss, a row of the history."""
    sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in progress.sums.items()}
    runner.train()
    for batch in batches:
        parts = _train_step(config, runner, optimizer, batch, progress, execution)
        for name, value in parts.items():  # added up on the device, which need not wait for us
            value = value.detach().double() * config.batch_size
            sums[name] = sums[name].to(value.device) + value if name in sums else value
        progress.step += 1
        if checkpoint.due():
            progress.sums = {name: value.item() for name, value in sums.items()}
            progress.seconds = progress.elapsed()
            checkpoint.save(progress)
    seen = progress.step * config.batch_size
    means = {name: value.item() / seen for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(f"the loss is {means['loss']}; try a smaller learning_rate")
    row = {"epoch": progress.epoch + 1} | means
    progress.history.append(row)
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
    progress.seconds = progress.elapsed()
    checkpoint.save(progress)
    return row


def _train_step(
    config: TrainConfig,
    runner: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    progress: Progress,
    execution: Execution,
) -> dict[str, torch.Tensor]:
    """One step of the optimizer; returns the losses, scalars, of the whole step."""
    method = get_method(config.method)
    # What a method draws (dropout, recolouring) follows from the step, and differs between the
    # processes, which hold different images.
    step = f"{config.seed} {progress.epoch} {progress.step} {rank()}"
    torch.manual_seed(zlib.crc32(step.encode()))  # the generator takes 32 bits
    set_rate(optimizer, config, batch.progress)
    kind = batch.images.device.type
    bf16 = torch.autocast(kind, torch.bfloat16) if execution.precision == "bf16" else nullcontext()
    with bf16:
        parts = method.losses(runner, batch, method.Config(**config.method_config))
    optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    optimizer.step()
    return parts


def train_from_disk(
    config: TrainConfig,
    data: str | Path,
    run_dir: str | Path,
    n_background: int | None = None,
    resume_dir: str | Path | None = None,
    execution: Execution | None = None,
) -> nn.Module:
    """Train on data/index.csv with the first n images, or all, of data/background; write a run.

    With ``execution.processes`` above 1 the training runs in child processes started by `torchrun`.
    """
    execution = execution or Execution()
    if execution.processes > 1 and world_size() == 1:
        _train_in_processes(config, data, run_dir, n_background, resume_dir, execution)
        return load_network(Path(run_dir) / WEIGHTS)[0]
    loaded = load_training_data(config, data, n_background, execution)
    return train(config, loaded, run_dir, resume_dir, execution)


def _train_in_processes(
    config: TrainConfig,
    data: str | Path,
    run_dir: str | Path,
    n_background: int | None,
    resume_dir: str | Path | None,
    execution: Execution,
) -> None:
    words = ["--data", str(data), "--out", str(run_dir)]
    words += [] if resume_dir is None else ["--resume", str(resume_dir)]
    words += [] if n_background is None else ["--n-background", str(n_background)]
    settings = asdict(config) | asdict(execution)
    settings |= settings.pop("method_config")
    settings |= settings.pop("combine_config", {})
    launch("wsol.training.loop", words, settings, execution.processes)
