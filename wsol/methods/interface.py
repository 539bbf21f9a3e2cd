"""What all methods exchange with the training loop: a batch in, outputs and losses out."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One training step's data. Images are RGB floats in [0, 1]."""

    images: Tensor  # (B, 3, H, W) object images
    labels: Tensor  # (B,) int64
    background: Tensor | None  # (B', 3, H, W) background images, where the method uses them
    progress: float  # share of the training that is done, 0 to 1


class Outputs(NamedTuple):
    """What a network says about images."""

    logits: Tensor  # (B, K)
    class_maps: Tensor  # (B, K, h, w), logits at each location
    foreground: Tensor | None = None  # (B, 1, h1, w1), logits; None without a foreground head


def normalized(maps: Tensor) -> Tensor:
    """Each map (..., h, w) scaled to [0, 1]; a constant one to 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-8)
