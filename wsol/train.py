"""Training: one loop for every method, reproducible to the last bit and resumable.

A run is a folder with ``weights.safetensors`` (the last epoch's, always), ``history.csv`` (losses
per epoch) and ``run.json`` (configuration, versions, times). Everything random in epoch e follows
from (seed, e), so an interrupted run that resumes at an epoch ends with the very weights of an
unbroken one.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from wsol.checkpoints import checkpoint_path, restore, save_state
from wsol.images import to_float, train_transform
from wsol.methods import Batch, get_method
from wsol.models import build_backbone, parameter_count
from wsol.provenance import provenance


@dataclass(frozen=True)
class TrainConfig:
    """One training. ``method_config`` holds the fields of the method's own ``Config``."""

    method: str
    seed: int = 0
    backbone: str = "small16"
    weights: str | None = None  # None, "DEFAULT" or a file
    input_size: int = 96  # pixels, the side of the square that the network sees
    epochs: int = 10
    batch_size: int = 32  # object images per step
    background_batch: int = 16  # background images per step, where the method uses them
    learning_rate: float = 0.005  # peak; linear warm-up over the first epoch, then cosine to 0
    optimizer: str = "adamw"  # or "sgd"
    momentum: float = 0.9  # of SGD, Nesterov's
    weight_decay: float = 0.01
    threads: int = 2  # CPU threads; fixed because sums depend on them
    method_config: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        get_method(self.method).Config(**self.method_config)  # refuses unknown or bad values
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f"optimizer is {self.optimizer!r}; known: sgd, adamw")
        for name in ("epochs", "batch_size", "background_batch", "input_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must be at least 0 and below 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must not be negative")

    def digest(self) -> str:
        """Return a short name that changes with any setting."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_network(config: TrainConfig, num_classes: int) -> nn.Module:
    """Build the untrained network of a configuration; its weights follow from the seed.

    The global random state is left as it was.
    """
    method = get_method(config.method)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        backbone = build_backbone(config.backbone, config.weights)
        network = method.build(backbone, num_classes, method.Config(**config.method_config))
    return network.to(memory_format=torch.channels_last)


def train(
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    background: Tensor | None,
    run_dir: str | Path,
    resume_dir: str | Path | None = None,
) -> nn.Module:
    """Train and write a run.

    ``images`` (N, 3, L, L) uint8 with L >= input_size, ``labels`` (N,) int64, ``background``
    (N', 3, L, L) uint8 or None. With ``resume_dir`` the state after each epoch is kept there under
    the digest of configuration and data, and a run that was killed goes on from it. Returns the
    trained network.

    Raises ValueError when the method needs background images and there are none, or when the batch
    is larger than the set, and FloatingPointError when the loss is not finite.
    """
    if get_method(config.method).USES_BACKGROUND and (background is None or not len(background)):
        raise ValueError(f"method {config.method!r} needs background images and got none")
    if len(images) < config.batch_size:
        raise ValueError(f"{len(images)} images are fewer than one batch of {config.batch_size}")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = build_network(config, num_classes)
    optimizer = build_optimizer(network, config)
    checkpoint = checkpoint_path(resume_dir, config.digest(), images, labels, background)
    history = restore(checkpoint, network, optimizer)
    started, resumed = time.perf_counter(), len(history)
    epochs = tqdm(range(resumed, config.epochs), desc=f"{config.method}-{config.seed}")
    for epoch in epochs:
        batches = _batches(config, epoch, images, labels, background)
        row = {"epoch": epoch + 1} | _train_epoch(config, network, optimizer, batches)
        history.append(row)
        save_state(checkpoint, network, optimizer, history)
        rate = (epoch + 1 - resumed) * len(images) / (time.perf_counter() - started)
        epochs.set_postfix(loss=f"{row['loss']:.3f}", images_per_s=f"{rate:.0f}")
    seconds = time.perf_counter() - started
    cost = {
        "seconds": round(seconds, 2),
        "images_per_second": round((config.epochs - resumed) * len(images) / seconds, 1),
        "resumed_after_epoch": resumed,
        "parameters": parameter_count(network),
    }
    _write_run(Path(run_dir), config, network, num_classes, history, cost)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return network


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build AdamW, or SGD with Nesterov momentum as in Choe et al. (CVPR 2020)."""
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), **settings)
    momentum = {"momentum": config.momentum, "nesterov": config.momentum > 0}
    return torch.optim.SGD(network.parameters(), **settings, **momentum)


def _train_epoch(
    config: TrainConfig,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
) -> dict[str, float]:
    """Run one epoch; return the mean of each loss, weighted by batch size."""
    method = get_method(config.method)
    method_config = method.Config(**config.method_config)
    sums: dict[str, float] = {}
    seen = 0
    network.train()
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(batch.progress, config.epochs)
        parts = method.losses(network, batch, method_config)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()
        seen += len(batch.images)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(batch.images)
    means = {name: value / seen for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(f"the loss is {means['loss']}; try a smaller learning_rate")
    return means


def _schedule(progress: float, epochs: int) -> float:
    """Linear warm-up over the first epoch from a tenth, then half a cosine to 0."""
    warm = 1 / epochs
    if progress < warm:
        return 0.1 + 0.9 * progress / warm
    return 0.5 * (1 + math.cos(math.pi * (progress - warm) / max(1 - warm, 1e-9)))


def _batches(
    config: TrainConfig, epoch: int, images: Tensor, labels: Tensor, background: Tensor | None
) -> Iterator[Batch]:
    """Yield one epoch of augmented batches; order and augmentation follow from (seed, epoch)."""
    torch.manual_seed(1_000_003 * config.seed + epoch + 1)
    transform = train_transform(config.input_size)
    uses_background = get_method(config.method).USES_BACKGROUND
    B, steps = config.batch_size, len(images) // config.batch_size
    order = torch.randperm(len(images))

    def augment(source: Tensor, rows: Tensor) -> Tensor:
        batch = torch.stack([transform(source[i]) for i in rows])
        return to_float(batch).contiguous(memory_format=torch.channels_last)

    for step in range(steps):
        rows = order[step * B : (step + 1) * B]
        extra = None
        if uses_background:
            extra = augment(background, torch.randint(len(background), (config.background_batch,)))
        progress = (epoch + step / steps) / config.epochs
        yield Batch(augment(images, rows), labels[rows], extra, progress)


def _write_run(
    run_dir: Path,
    config: TrainConfig,
    network: nn.Module,
    num_classes: int,
    history: list[dict[str, float]],
    cost: dict[str, float],
) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    # The configuration travels inside the weights, so that one file is enough to use a network.
    settings = asdict(config) | {"num_classes": num_classes}
    tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
    metadata = {"config": json.dumps(settings, sort_keys=True)}
    save_file(tensors, run_dir / "weights.safetensors", metadata=metadata)
    pd.DataFrame(history).round(6).to_csv(run_dir / "history.csv", index=False)
    record = {"config": settings, "cost": cost} | provenance()
    (run_dir / "run.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def load_network(weights: str | Path) -> tuple[nn.Module, TrainConfig]:
    """Load a trained network, in evaluation mode, and its configuration from one weights file."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        settings = json.loads(file.metadata()["config"])
    num_classes = settings.pop("num_classes")
    config = TrainConfig(**settings)
    network = build_network(TrainConfig(**(settings | {"weights": None})), num_classes)
    network.load_state_dict(load_file(weights))
    return network.eval(), config
