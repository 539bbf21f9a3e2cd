"""Pretrained weights: torchvision's by download, those of a local file, or none."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, safetensors or torch's own, also if it lies under "model".

    Raises FileNotFoundError if there is no file, ValueError if it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights: {path} holds no state dict")
    return state


def load_model(constructor: Callable[..., nn.Module], weights: str | None, **options) -> nn.Module:
    """Build a torchvision model with no weights, torchvision's, or those of a local file."""
    if weights == "DEFAULT":
        return constructor(weights=weights)
    model = constructor(weights=None, **options)
    if weights is not None:
        model.load_state_dict(read_weights(weights))
    return model
