"""Settings of a training: those that decide the weights, and those that decide where it runs.

:class:`TrainConfig` is stored inside the weights file. :class:`Execution` is not: on one machine
the same TrainConfig gives the same weights whatever the workers, the cache and the interruptions.
Precision, compilation, device and number of processes change the last bits; provenance.json
records them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from wsol.datasets.images import load_size
from wsol.methods import get_method
from wsol.methods.base import check_choices, check_range


@dataclass(frozen=True)
class TrainConfig:
    """One training. ``method_config`` holds the fields of the method's own ``Config``.

    Raises ValueError for an unknown method or a value out of range.
    """

    method: str
    seed: int = 0
    backbone: str = "small16"
    weights: str | None = None  # None, "DEFAULT" or a file
    input_size: int = 96  # side of the square input of the network, pixels
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
    freeze: str = "none"  # part of the backbone that is not trained: "none", "early" or "all"
    crop_grid: int = 0  # crops start at g x g places, 1: the whole image; 0: anywhere
    method_config: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        get_method(self.method).Config(**self.method_config)  # refuses unknown or bad values
        check_choices(self, optimizer=("sgd", "adamw"), schedule=("cosine", "step"))
        check_choices(self, freeze=("none", "early", "all"))
        check_range(self, "crop_grid", low=int(self.freeze != "none"))
        counts = ("epochs", "batch_size", "background_batch", "input_size", "threads")
        check_range(self, *counts, "decay_epochs", low=1)
        check_range(self, "learning_rate", "new_layer_factor", low=0, ends="(]")
        check_range(self, "momentum", low=0, high=1, ends="[)")
        check_range(self, "weight_decay", low=0)

    def settings(self) -> dict[str, Any]:
        """All fields; `freeze` and `crop_grid` only where they are not the default."""
        values = asdict(self)
        for name, default in (("freeze", "none"), ("crop_grid", 0)):
            if values[name] == default:
                del values[name]
        return values

    def load_size(self) -> int:
        """Side at which images are loaded before they are cropped, pixels."""
        return self.input_size if self.crop_grid == 1 else load_size(self.input_size)

    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any setting."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Execution:
    """Where and how a training or a prediction runs."""

    device: str = "auto"  # "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"
    processes: int = 1  # on this machine, one per GPU; more nodes by torchrun itself
    precision: str = "fp32"  # "tf32", or "bf16": autocast, which needs no loss scaling
    compile: bool = False  # torch.compile, which pays off after minutes
    deterministic: bool = True  # choose repeatable operations, refuse none
    loader_workers: int = 0  # processes that make batches; 0 for the training process itself
    cache: str | None = None  # folder for decoded images; None decodes them each time
    cache_gb: float = 32.0  # a larger data set is decoded each time
    checkpoint_seconds: float = 60.0  # between two checkpoints, beside one after each epoch

    def __post_init__(self) -> None:
        check_choices(self, precision=("fp32", "tf32", "bf16"))
        check_range(self, "processes", low=1)
        check_range(self, "loader_workers", "cache_gb", "checkpoint_seconds", low=0)


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """Build a TrainConfig from flat names: its own fields and those of the method's ``Config``.

    With ``combine``, the fields of the combined method's Config count too. Other names are ignored,
    so that a notebook can hand over all its parameters: ``config_from(globals())``. Raises
    ValueError where TrainConfig does.
    """
    method_config = _fields_of(get_method(values["method"]).Config, values)
    if method_config.get("combine"):
        combined = get_method(method_config["combine"]).Config
        method_config["combine_config"] = _fields_of(combined, values)
    own = _fields_of(TrainConfig, values)
    return TrainConfig(**own | {"method_config": method_config})


def _fields_of(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: values[f.name] for f in fields(config) if f.name in values}


def execution_from(values: Mapping[str, Any], root: Path | None = None) -> Execution:
    """Build an Execution from flat names, as `config_from` does; the cache lies below `root`."""
    own = _fields_of(Execution, values)
    if root is not None and own.get("cache"):
        own["cache"] = str(root / own["cache"])
    return Execution(**own)


def defaults_of(method: str, combine: str | None = None) -> dict[str, Any]:
    """All settings of a training with their defaults, None where there is none."""
    methods = [method, combine] if combine else [method]
    configs = (TrainConfig, Execution, *(get_method(name).Config for name in methods))
    nested = {"method_config", "combine_config"}
    own = [f for config in configs for f in fields(config) if f.name not in nested]
    return {f.name: None if f.default is MISSING else f.default for f in own}
