"""The state of a training after each epoch, so that one that was killed can go on."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn


def checkpoint_path(
    resume_dir: str | Path | None, settings: str, *data: Tensor | None
) -> Path | None:
    """A file named after everything that decides the weights: a digest of settings, and the data.

    None without a folder to resume from.
    """
    if resume_dir is None:
        return None
    digest = hashlib.sha256(settings.encode())
    for tensor in filter(lambda t: t is not None, data):
        digest.update(tensor.numpy().tobytes())
    path = Path(resume_dir)
    path.mkdir(parents=True, exist_ok=True)
    return path / f"{digest.hexdigest()[:16]}.pt"


def restore(
    path: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Load the last checkpoint, if any, and return the history so far."""
    if path is None or not path.exists():
        return []
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"]


def save_state(
    path: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer, history: list
) -> None:
    """Keep the state after an epoch, where there is a path."""
    if path is None:
        return
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    temporary = path.with_suffix(".tmp")
    torch.save(state | {"history": history}, temporary)
    temporary.replace(path)  # a kill leaves the old state or the new one, never half of one
