"""What the networks of all libraries share: a network cut in two, and weights of local files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass
class Parts:
    """A network cut in two, with the channels and strides of both outputs.

    fast : modules that the published recipes train at the rate of new layers
    as_map : from the output of a part to its map (B, C, h, w)
    normalization : mean and standard deviation of RGB that the pretrained weights expect
    """

    early: nn.Module
    late: nn.Module
    channels: tuple[int, int]
    strides: tuple[int, int]
    fast: list[nn.Module] = field(default_factory=list)
    as_map: Callable[..., Tensor] = lambda features: features
    normalization: tuple = IMAGENET


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, safetensors or torch's own, also below the key "model".

    Raises FileNotFoundError if there is no file, ValueError if it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise ValueError(f"weights: {path} holds no state dict")
    return state


def conv_block(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution of size x size pixels, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
