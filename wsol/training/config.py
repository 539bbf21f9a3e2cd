"""The settings of a training: what decides the weights, and what only decides where and how fast.

:class:`TrainConfig` travels inside the weights file. :class:`Execution` does not: on one machine
the same TrainConfig gives the same weights whatever the workers, the cache and the interruptions.
Precision, compilation, device and number of processes change the last bits, and run.json says
which they were.
"""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from wsol.methods import get_method


@dataclass(frozen=True)
class TrainConfig:
    """One training. ``method_config`` holds the fields of the method's own ``Config``."""

    method: str
    seed: int = 0
    backbone: str = "small16"
    weights: str | None = None  # None, "DEFAULT" or a file
    input_size: int = 96  # pixels, the side of the square that the network sees
    epochs: int = 10
    batch_size: int = 32  # object images per step, over all processes
    background_batch: int = 16  # background images per step, where the method uses them
    learning_rate: float = 0.005  # peak
    schedule: str = "cosine"  # warm-up over the first epoch, then cosine to 0; or "step"
    decay_epochs: int = 15  # "step" multiplies the rate by 0.1 every so many epochs
    new_layer_factor: float = 1.0  # times the rate, for heads and other layers without weights
    optimizer: str = "adamw"  # or "sgd"
    momentum: float = 0.9  # of SGD, Nesterov's
    weight_decay: float = 0.01
    threads: int = 2  # CPU threads; fixed because sums depend on them
    method_config: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        get_method(self.method).Config(**self.method_config)  # refuses unknown or bad values
        _known("optimizer", self.optimizer, ("sgd", "adamw"))
        _known("schedule", self.schedule, ("cosine", "step"))
        for name in (
            *("epochs", "batch_size", "background_batch", "input_size", "threads"),
            "decay_epochs",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "new_layer_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must be at least 0 and below 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must not be negative")

    def digest(self) -> str:
        """Return a short name that changes with any setting."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Execution:
    """Where and how a training or a prediction runs."""

    device: str = "auto"  # "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"
    processes: int = 1  # on this machine, one per GPU; more nodes by torchrun itself
    precision: str = "fp32"  # "tf32", or "bf16": autocast, which needs no loss scaling
    compile: bool = False  # torch.compile, which pays off after minutes
    deterministic: bool = True  # refuse no operation, but choose the repeatable one
    loader_workers: int = 0  # processes that make batches; 0 for none beside the training
    cache: str | None = None  # folder for decoded images; None decodes them each time
    cache_gb: float = 32.0  # a data set that takes more is decoded each time after all
    checkpoint_seconds: float = 60.0  # between two states to resume from, beside each epoch's

    def __post_init__(self) -> None:
        _known("precision", self.precision, ("fp32", "tf32", "bf16"))
        if self.processes < 1:
            raise ValueError(f"processes is {self.processes}; it must be at least 1")
        for name in ("loader_workers", "cache_gb", "checkpoint_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; known: {', '.join(known)}")


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Build a TrainConfig from flat names: its own fields and those of the method's ``Config``.

    Where the method is combined with another one, ``combine``, fields of that one's Config count
    too. What belongs to none is left alone, so that a notebook can hand over all its parameters:
    ``config_from(globals())``. Raises ValueError where TrainConfig does.
    """
    own = {f.name for f in fields(TrainConfig)} - {"method_config"}
    method_config = _given(values, values["method"])
    if method_config.get("combine"):
        method_config["combine_config"] = _given(values, method_config["combine"])
    given = {name: values[name] for name in own if name in values}
    return TrainConfig(**given, method_config=method_config)


def _given(values: dict[str, Any], method: str) -> dict[str, Any]:
    """Those of the values that are fields of a method's Config."""
    names = sorted(f.name for f in fields(get_method(method).Config))
    return {name: values[name] for name in names if name in values}


def execution_from(values: dict[str, Any], root: Path | None = None) -> Execution:
    """Build an Execution from flat names, as `config_from` does; the cache lies below `root`."""
    own = {name: values[name] for name in (f.name for f in fields(Execution)) if name in values}
    if root is not None and own.get("cache"):
        own["cache"] = str(root / own["cache"])
    return Execution(**own)


def defaults_of(method: str, combine: str | None) -> dict[str, Any]:
    """All settings of a training with their defaults, None where there is none."""
    methods = [method, combine] if combine else [method]
    configs = (TrainConfig, Execution, *(get_method(name).Config for name in methods))
    nested = {"method_config", "combine_config"}
    own = [f for config in configs for f in fields(config) if f.name not in nested]
    return {f.name: None if f.default is MISSING else f.default for f in own}
