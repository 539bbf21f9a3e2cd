"""A run: the folder that a training leaves, and the network that comes back from it.

``weights.safetensors`` (the last epoch's, always, with the configuration inside), ``history.csv``
(losses per epoch) and ``run.json`` (configuration, classes, execution, versions, cost).
"""

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import wsol
from wsol import project_root
from wsol.backbones import build_backbone
from wsol.methods import get_method
from wsol.training.config import TrainConfig

# What a run was made with: package versions, platform, git commit.

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pandas", "pillow", "scipy")


def provenance() -> dict[str, object]:
    """Return package versions, Python, platform and git commit ("unknown" outside a clone)."""
    return {
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.system() + "-" + platform.machine(),
        "git_commit": git_commit(),
    }


def code_digest() -> str:
    """Digest of the code that weights and maps follow from: what was begun with other code is not
    resumed."""
    folder = Path(wsol.__file__).parent
    files = [folder / "backbones.py", folder / "datasets" / "images.py"]
    files += [
        path for room in ("methods", "training") for path in sorted((folder / room).glob("*.py"))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def git_commit() -> str:
    """Return the commit of the project, with "+" when tracked files differ from it."""
    git = ["git", "-C", str(project_root())]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


WEIGHTS = "weights.safetensors"


def build_network(config: TrainConfig, num_classes: int) -> nn.Module:
    """Build the untrained network of a configuration; its weights follow from the seed.

    The global random state is left as it was.
    """
    method = get_method(config.method)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        backbone = build_backbone(config.backbone, config.weights, config.input_size)
        network = method.build(backbone, num_classes, method.Config(**config.method_config))
    return network.to(memory_format=torch.channels_last)


def write_run(
    run_dir: Path,
    config: TrainConfig,
    network: nn.Module,
    num_classes: int,
    history: list[dict[str, float]],
    about: dict[str, object],
) -> None:
    """Write a run; the weights come last, so that a folder with weights is complete.

    about : what else run.json says: cost, execution, class_names
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / WEIGHTS).unlink(missing_ok=True)
    # The configuration travels inside the weights, so that one file is enough to use a network.
    settings = asdict(config) | {"num_classes": num_classes}
    pd.DataFrame(history).round(6).to_csv(run_dir / "history.csv", index=False)
    text = json.dumps({"config": settings} | about | provenance(), indent=2, sort_keys=True)
    (run_dir / "run.json").write_text(text + "\n", encoding="utf-8")
    tensors = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {"config": json.dumps(settings, sort_keys=True)}
    partial = run_dir / f"{WEIGHTS}.partial"
    save_file(tensors, partial, metadata=metadata)
    partial.replace(run_dir / WEIGHTS)


def load_network(weights: str | Path) -> tuple[nn.Module, TrainConfig]:
    """Load a trained network, in evaluation mode, and its configuration from one weights file."""
    with safe_open(weights, framework="pt") as file:
        settings = json.loads(file.metadata()["config"])
    num_classes = settings.pop("num_classes")
    config = TrainConfig(**settings)
    network = build_network(TrainConfig(**(settings | {"weights": None})), num_classes)
    network.load_state_dict(load_file(weights))
    return network.eval(), config
