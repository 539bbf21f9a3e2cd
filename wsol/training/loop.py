"""Training: one loop for every method, reproducible to the last bit and resumable at any step.

Everything random in step s of epoch e follows from (seed, e, s), so a run that is killed and
resumed ends with the weights of an uninterrupted one. With several processes each takes its part
of every step, and losses and gradients are those of the whole step.
"""

import hashlib
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch
from filelock import Timeout
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsol import project_root
from wsol.datasets.files import check_writable, file_sha256, locked
from wsol.datasets.progress import ProgressBar
from wsol.methods import Batch, get_method
from wsol.training import WEIGHTS
from wsol.training.batches import TrainData, epoch_batches, load_training_data, with_features
from wsol.training.checkpoint import Checkpoint, Progress
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
from wsol.training.runs import build_network, code_digest, load_network, write_run


def train_from_disk(
    config: TrainConfig,
    data: str | Path,
    run_dir: str | Path,
    n_background: int | None = None,
    resume_dir: str | Path | None = None,
    execution: Execution | None = None,
) -> nn.Module:
    """Train on a prepared data set and write a run.

    Parameters
    ----------
    data : folder of index.csv, and of background/ where the method uses background images
    run_dir : folder of the run, see `wsol.training.runs`
    n_background : take the first n background images; None for all
    resume_dir : folder of checkpoints; None keeps none
    execution : with ``processes`` above 1 the training runs in child processes of `torchrun`

    Returns the trained network. Raises what `train` and the readers of the data raise.
    """
    execution = execution or Execution()
    if rank() == 0:  # loading the data takes long too
        check_writable(Path(run_dir) / WEIGHTS)
    if execution.processes == 1 or world_size() > 1:
        loaded = load_training_data(config, data, n_background, execution)
        return train(config, loaded, run_dir, resume_dir, execution)
    options = {"--data": data, "--out": run_dir, "--resume": resume_dir}
    options |= {"--n-background": n_background}
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    settings = asdict(config) | asdict(execution)
    settings |= settings.pop("method_config")
    settings |= settings.pop("combine_config", {})
    launch("train", words, settings, execution.processes)
    return load_network(Path(run_dir) / WEIGHTS)[0]


def train(
    config: TrainConfig,
    data: TrainData,
    run_dir: str | Path,
    resume_dir: str | Path | None = None,
    execution: Execution | None = None,
) -> nn.Module:
    """Train on loaded data and write a run.

    With ``resume_dir`` a checkpoint is kept there under the digest of configuration and data, and a
    run that was killed resumes from it. Under `torchrun` every process calls this and the first
    writes. Returns the trained network.

    Raises ValueError when the method needs background images and there are none, or when the batch
    is larger than the set or smaller than the number of processes; FloatingPointError when the loss
    is not finite; RuntimeError when the same training is running already.
    """
    execution = execution or Execution()
    _check(config, data)
    if rank() == 0:
        check_writable(Path(run_dir) / WEIGHTS)
    device = choose_device(execution.device)
    set_precision(execution.precision)
    path = state_path(config, data, execution, resume_dir)
    with process_group(device), _locked(path):
        return _train(config, data, Path(run_dir), path, execution, device)


def _check(config: TrainConfig, data: TrainData) -> None:
    if get_method(config.method).USES_BACKGROUND and not data.background:
        raise ValueError(f"method {config.method!r} needs background images and got none")
    if len(data.images) < config.batch_size:
        raise ValueError(
            f"{len(data.images)} images are fewer than one batch of {config.batch_size}: "
            "set a smaller batch_size"
        )
    if config.batch_size < world_size():
        raise ValueError(f"batch_size {config.batch_size} is less than {world_size()} processes")
    if data.images.size < config.input_size:
        raise ValueError(f"images of {data.images.size} px are smaller than {config.input_size}")


def state_path(
    config: TrainConfig, data: TrainData, execution: Execution, resume_dir: str | Path | None
) -> Path | None:
    """File of the checkpoint, named after settings, data, code and pretrained weights."""
    if resume_dir is None:
        return None
    own = config.weights if config.weights and Path(config.weights).is_file() else None
    weights = file_sha256(own) if own else ""
    parts = (config.digest(), data.digest(), code_digest(), weights, execution.precision)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Path(resume_dir) / f"{digest}.pt"


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None or rank() > 0:
        yield
        return
    try:
        with locked(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise RuntimeError(f"this training is running already: it holds {path}") from None


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
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a fifth of a step
    network = build_network(config, data.num_classes).to(device)
    data = with_features(config, data, network.backbone, execution)
    optimizer = build_optimizer(network, config)
    checkpoint = Checkpoint(path, network, optimizer, execution.checkpoint_seconds, rank() == 0)
    progress = checkpoint.restore()
    agree([progress.epoch, progress.step], "the step to resume from")
    steps = len(data.images) // config.batch_size
    resumed = progress.epoch * steps + progress.step
    runner, teacher = _wrapped(network, execution, device), _teacher(config, device)
    epochs = range(progress.epoch, config.epochs)
    batches = epoch_batches(
        *(config, data, *epochs),
        first_step=progress.step,
        part=(rank(), world_size()),
        device=device,
        execution=execution,
    )
    if teacher is not None:
        batches = (replace(batch, teacher=teacher) for batch in batches)
    name = f"{config.method}-{config.seed}"
    for epoch in (bar := ProgressBar(epochs, desc=name, show=rank() == 0)):
        rest = islice(batches, steps - progress.step)
        row = _train_epoch(config, runner, optimizer, rest, progress, checkpoint, execution)
        rate = progress.epoch * steps * config.batch_size / progress.elapsed()
        bar.report(f"epoch {epoch + 1}: loss {row['loss']:.3f}, {rate:.0f} images/s")
    if rank() == 0:
        images = config.epochs * steps * config.batch_size
        about = {
            "execution": _describe(execution, device),
            "seconds": round(progress.seconds, 2),
            "images_per_second": round(images / progress.seconds, 1),
            "resumed_after_step": resumed,
        }
        write_run(run_dir, config, network, data, progress.history, about)
    wait_for_all()
    checkpoint.remove()
    return network.eval()


def _teacher(config: TrainConfig, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """The foreground map of another run, which is not trained here; None without one."""
    weights = config.method_config.get("teacher")
    if not weights:
        return None
    network, trained = load_network(project_root() / weights)
    network = network.to(device)
    size = trained.input_size
    with torch.no_grad():
        if network(torch.zeros(1, 3, size, size, device=device)).foreground is None:
            raise ValueError(f"teacher: {weights} has no foreground map")

    @torch.no_grad()
    def foreground(images: Tensor) -> Tensor:
        return network(images).foreground

    return foreground


def _describe(execution: Execution, device: torch.device) -> dict[str, object]:
    described = asdict(execution) | {"cache": execution.cache is not None}  # a path is local
    described |= {"device": device.type, "world_size": world_size()}
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _wrapped(network: nn.Module, execution: Execution, device: torch.device) -> nn.Module:
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
    sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in progress.sums.items()}
    runner.train()
    for batch in batches:
        parts = _train_step(config, runner, optimizer, batch, progress, execution)
        for name, value in parts.items():  # summed on the device, without synchronization
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
) -> dict[str, Tensor]:
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
