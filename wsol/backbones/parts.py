"""What the networks of all libraries share: a network cut in two, and weights of local files."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation
WRAPPERS = ("state_dict", "model_state_dict", "model", "network")  # of a training's checkpoint
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.")  # of wrapped networks
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass
class Parts:
    """A network cut in two, with the channels and strides of both outputs.

    fast : modules that the published recipes train at the rate of new layers
    as_map : from the output of a part to its map (B, C, h, w)
    normalization : mean and standard deviation of RGB that the pretrained weights expect
    embedding : the module from late features to those (B, C) that the pretrained network classifies
        by, and C; by default the late features are averaged
    """

    early: nn.Module
    late: nn.Module
    channels: tuple[int, int]
    strides: tuple[int, int]
    fast: list[nn.Module] = field(default_factory=list)
    as_map: Callable[..., Tensor] = lambda features: features
    normalization: tuple = IMAGENET
    embedding: tuple[nn.Module, int] | None = None


def damage(path: str | Path, error: BaseException | str = "") -> str:
    """One sentence: why a file of weights cannot be read, by its first bytes, and what to do.

    error : what its reader raised
    """
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    said = str(error)
    if not head:
        reason = "is empty: copy or download it again"
    elif head.startswith(b"version https://git-lfs"):
        reason = "is a pointer of Git LFS, not the file itself: run `git lfs pull`"
    elif head.startswith((b"<!doctype", b"<html", b"<?xml")):
        reason = "is a web page, not weights: take the link of the file itself, or log in first"
    elif head.startswith(b"\x1f\x8b"):
        reason = "is compressed: unpack it"
    elif "Unsupported global" in said or "TorchScript" in said:
        reason = "holds Python objects or code, which are not loaded: save the state_dict() alone"
    else:
        reason = "is truncated, damaged or no file of weights: copy or download it again"
    return f"weights: {path} {reason}"


def read_tensors(path: str | Path) -> Any:
    """Content of a file of safetensors or torch, told by its bytes; pickled code is not run.

    Raises ValueError, one sentence with the file and what to do, if it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            if file.read(9)[8:] == b"{":
                return load_file(path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make torch raise almost anything
            raise ValueError(damage(path, error)) from error


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, safetensors or torch's own.

    It may lie below one of the keys `WRAPPERS`, and all its names may begin with one of `PREFIXES`,
    which is removed. Raises FileNotFoundError if there is no file, ValueError if it holds no state
    dict.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    state = read_tensors(path)
    while isinstance(state, Mapping):
        inner = [state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)]
        if not inner:
            break
        state = inner[0]
    is_state = isinstance(state, Mapping) and state and all(map(torch.is_tensor, state.values()))
    if not is_state or not all(isinstance(name, str) for name in state):
        raise ValueError(f"weights: {path} holds no state dict: give one, or a checkpoint with one")
    for prefix in PREFIXES * 2:  # as in "module.model."
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def misfit(path: object, name: str, error: BaseException) -> str:
    """One sentence: how the weights in a file differ from those of the network called `name`.

    error : what `load_state_dict` raised
    """
    shapes = re.findall(r"mismatch for (\S+):.*?\[([\d, ]*)\].*?\[([\d, ]*)\]", str(error))
    if shapes:  # the last one is of the layer for the classes, if that one differs
        key, theirs, own = shapes[-1]
        reason = f"{key} has the shape ({theirs}) and must have ({own})"
        reason += ", so it is of another network or of another number of classes"
    else:
        reason = " ".join(str(error).partition(":")[2].split())[:120] + " ..."
    return f"weights: {path} does not fit {name}: {reason}: give weights of a whole {name}"


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: object, name: str) -> None:
    """Load a state dict that was read from `path`; every tensor must be there and fit.

    Raises ValueError, one sentence with the file, if it does not.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(misfit(path, name, error)) from error


def conv_block(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution of size x size pixels, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
