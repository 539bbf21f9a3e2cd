"""A run: the folder that a training leaves, and the network that comes back from it.

weights.safetensors   weights of the last epoch, with the configuration inside
history.csv           mean losses per epoch
run.json              configuration, class names, number of trainable parameters
provenance.json       time, hardware, package versions and git commit: what differs between two
                      executions that give the same weights
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import wsol
from wsol.backbones import build_backbone
from wsol.backbones.parts import damage, load_state
from wsol.datasets.files import read_json, written_whole
from wsol.methods import get_method
from wsol.training import WEIGHTS
from wsol.training.batches import TrainData
from wsol.training.config import TrainConfig

FILES = (WEIGHTS, "history.csv", "run.json", "provenance.json")  # the first is renamed last
_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pandas", "pillow", "scipy")


def build_network(config: TrainConfig, num_classes: int) -> nn.Module:
    """Build the untrained network of a configuration; its weights follow from the seed.

    The global random state is left as it was.
    """
    method = get_method(config.method)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        backbone = build_backbone(config.backbone, config.weights, config.input_size)
        network = method.build(backbone, num_classes, method.Config(**config.method_config))
    backbone.freeze(config.freeze)
    return network.to(memory_format=torch.channels_last)


def write_run(
    run_dir: Path,
    config: TrainConfig,
    network: nn.Module,
    data: TrainData,
    history: Sequence[Mapping[str, float]],
    about: Mapping[str, object],
) -> None:
    """Write a run; the weights come last, so that a folder with weights is complete.

    history : mean losses, one mapping per epoch
    about : of this execution, for provenance.json
    """
    # The configuration travels inside the weights, so that one file is enough to use a network.
    settings = config.settings() | {"num_classes": data.num_classes}
    record = {
        "config": settings,
        "class_names": list(data.class_names),
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    installed = _installed(network, config)
    state = {k: v for k, v in network.state_dict().items() if k not in installed}
    tensors = {k: v.cpu().contiguous() for k, v in state.items()}
    with ExitStack() as files:  # renamed in reverse when all are written: no half of a run
        path = {name: files.enter_context(written_whole(run_dir / name)) for name in FILES}
        _save(tensors, path[WEIGHTS], {"config": json.dumps(settings, sort_keys=True)})
        pd.DataFrame(history).round(6).to_csv(path["history.csv"], index=False)
        for name, content in (("run", record), ("provenance", dict(about) | provenance())):
            text = json.dumps(content, indent=2, sort_keys=True)
            path[f"{name}.json"].write_text(text + "\n", encoding="utf-8")
        (run_dir / WEIGHTS).unlink(missing_ok=True)  # which do not belong to the new record


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # of a full disk, which is no OSError there
        raise OSError(f"{path.parent / WEIGHTS} cannot be written: {error}") from error


def load_network(
    weights: str | Path, index: pd.DataFrame | None = None
) -> tuple[nn.Module, TrainConfig]:
    """Load a trained network, in evaluation mode, and its configuration from one weights file.

    index : index table of the data set that it is loaded for

    Raises FileNotFoundError if there is none, ValueError, one sentence with file and remedy,
    if it is damaged or not of a run, or the index table has another class under a label.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["config"])
        state, num_classes = load_file(weights), settings.pop("num_classes")
    except KeyError as error:
        reason = "has no configuration of a run: name a file that `wsol train` wrote"
        raise ValueError(f"{weights} {reason}") from error
    except (SafetensorError, ValueError) as error:
        raise ValueError(damage(weights, error)) from error
    if index is not None:
        check_classes(weights, num_classes, index)
    whole = any(name.startswith("backbone.early.") for name in state)
    try:
        config = TrainConfig(**settings)
        built = replace(config, weights=None) if whole else config
        network = build_network(built, num_classes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{weights} is damaged or of another version of wsol: {error}") from error
    name = f"{config.method} with {num_classes} classes"
    load_state(network, _installed(network, built) | state, weights, name)
    return network.eval(), config


def check_classes(weights: str | Path, num_classes: int, index: pd.DataFrame) -> list[str]:
    """Names of the classes by label: those that the run learned, else those of the index table.

    Raises ValueError if the index table has another class under a label, or more classes.
    """
    record = Path(weights).with_name("run.json")
    names = read_json(record).get("class_names") if record.is_file() else None
    if names and len(names) != num_classes:
        raise ValueError(f"{record} names {len(names)} classes, and {weights} has {num_classes}")
    learned = dict(enumerate(names or ()))
    for row in index.drop_duplicates("label").itertuples():
        name = learned.setdefault(row.label, row.class_name)
        if name != row.class_name or row.label >= num_classes:
            known = f"{name!r} under it" if row.label < num_classes else f"{num_classes} classes"
            raise ValueError(
                f"the data set has {row.class_name!r} under label {row.label}, but {weights} "
                f"learned {known}: a run belongs to the data set that it was trained on"
            )
    return [learned.get(label, str(label)) for label in range(num_classes)]


def _installed(network: nn.Module, config: TrainConfig) -> dict[str, Tensor]:
    """The frozen tensors that come with an installed package, by name: no run holds them."""
    if config.weights != "DEFAULT" or not config.backbone.startswith("efficientnet-lite0"):
        return {}
    modules, embedding = network.backbone.frozen, network.backbone.pretrained_embedding
    if modules and embedding is not None:
        modules = (*modules, embedding[0])
    frozen = {id(t) for m in modules for t in m.state_dict(keep_vars=True).values()}
    return {k: v for k, v in network.state_dict(keep_vars=True).items() if id(v) in frozen}


def provenance() -> dict[str, object]:
    """Package versions, Python, platform and git commit ("unknown" outside a clone)."""
    return {
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.system() + "-" + platform.machine(),
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Commit of the project, with "+" when tracked files differ from it; "unknown" without one."""
    git = ["git", "-C", str(wsol.project_root())]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def code_digest() -> str:
    """Digest of the code that weights and maps follow from.

    A training that was started with other code is not resumed.
    """
    package = Path(wsol.__file__).parent
    files = [package / "datasets" / f"{name}.py" for name in ("image_files", "images")]
    for room in ("backbones", "methods", "training"):
        files += sorted((package / room).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
