"""One training from the folders on disk, as notebooks, the smoke run and the command need it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsol.batches import TrainData
from wsol.config import Execution, TrainConfig
from wsol.data import rows_of
from wsol.datasets.backgrounds import background_paths
from wsol.datasets.index import INDEX, read_index
from wsol.distributed import rank, world_size
from wsol.image_store import open_images
from wsol.images import load_size
from wsol.launch import launch
from wsol.methods import get_method
from wsol.runs import WEIGHTS, load_network
from wsol.train import train


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


def load_training_data(
    config: TrainConfig, data: str | Path, n_background: int | None, execution: Execution
) -> TrainData:
    """Images and labels of `train-weaksup`, and the first n or all background images."""
    data = Path(data)
    index = read_index(data / INDEX)
    rows = rows_of(index, "train-weaksup")
    size, cache = load_size(config.input_size), (execution.cache, execution.cache_gb)
    images = open_images([data / path for path in rows["path"]], size, *cache)
    background = None
    if get_method(config.method).USES_BACKGROUND:
        background = open_images(background_paths(data / "background", n_background), size, *cache)
    labels = torch.from_numpy(rows["label"].to_numpy().copy())
    named = dict(zip(index["label"], index["class_name"], strict=True))
    names = tuple(named.get(label, str(label)) for label in range(int(index["label"].max()) + 1))
    return TrainData(images, labels, len(names), background, names)


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
    launch("wsol.train", words, settings, execution.processes)


def command(words: Sequence[str] | None) -> int:
    """The command line of `wsol.train`."""
    from wsol.run_notebook import Refusal, check_parameters, read_sections, read_settings

    given = _arguments(words)
    try:
        values = read_sections([given.params_file], given.section) | read_settings(given.set)
        if "method" not in values:
            raise Refusal('which method? give a section that says it, or "--set method=cam"')
        known = _defaults(values["method"], values.get("combine"))
        check_parameters({n: v for n, v in values.items() if n in known}, known)
        check_parameters(read_settings(given.set), known)  # a section may serve others too
        config, execution = config_from(values), execution_from(values)
        train_from_disk(config, given.data, given.out, given.n_background, given.resume, execution)
    except (Refusal, ValueError, OSError, RuntimeError, ImportError, ArithmeticError) as error:
        print(f"wsol.train: {error}", file=sys.stderr)
        return 2
    if rank() == 0:
        print(given.out / WEIGHTS)
    return 0


def _defaults(method: str, combine: str | None) -> dict[str, Any]:
    """All settings of a training with their defaults, None where there is none."""
    methods = [method, combine] if combine else [method]
    configs = (TrainConfig, Execution, *(get_method(name).Config for name in methods))
    nested = {"method_config", "combine_config"}
    own = [f for config in configs for f in fields(config) if f.name not in nested]
    return {f.name: None if f.default is MISSING else f.default for f in own}


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wsol.train", description="Train one network.")
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", type=Path, help="folder for states to go on from")
    parser.add_argument("--n-background", type=int, help="background images; all by default")
    parser.add_argument("--params-file", type=Path, default=Path("params.yaml"))
    parser.add_argument("--section", action="append", default=[], help="section of that file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args(words)
