"""One training from the folders on disk, as the notebooks and the smoke run need it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from wsol.data import load_background, load_split
from wsol.datasets.index import INDEX, read_index
from wsol.images import load_size
from wsol.methods import get_method
from wsol.train import TrainConfig, train


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Build a TrainConfig from flat names: its own fields and those of the method's ``Config``.

    What belongs to neither is left alone, so that a notebook can hand over all its parameters:
    ``config_from(globals())``. Raises ValueError where TrainConfig does.
    """
    own = {f.name for f in fields(TrainConfig)} - {"method_config"}
    of_method = {f.name for f in fields(get_method(values["method"]).Config)}
    return TrainConfig(
        **{name: values[name] for name in own if name in values},
        method_config={name: values[name] for name in sorted(of_method) if name in values},
    )


def train_from_disk(
    config: TrainConfig,
    data: str | Path,
    run_dir: str | Path,
    n_background: int | None = None,
    resume_dir: str | Path | None = None,
) -> nn.Module:
    """Train on data/index.csv with the first n images, or all, of data/background; write a run."""
    index = read_index(Path(data) / INDEX)
    size = load_size(config.input_size)
    images, labels = load_split(index, data, "train-weaksup", size)
    background = None
    if get_method(config.method).USES_BACKGROUND:
        background = load_background(data, n_background, size)
    classes = int(index["label"].max()) + 1
    return train(config, images, labels, classes, background, run_dir, resume_dir)
