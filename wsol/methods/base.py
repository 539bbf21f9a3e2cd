"""What all methods exchange with the training loop: a batch in, outputs and losses out."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist


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


def together() -> bool:
    """Whether several processes have joined."""
    return dist.is_initialized() and dist.get_world_size() > 1


class _SumOverAll(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is summed in the same way."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def global_mean(mean: Tensor, count: int) -> Tensor:
    """Mean over the values of all processes, of this one's mean over its `count`; differentiable.

    Every loss is such a mean, so that it has the denominator of the whole batch and not of the
    part that one process holds. Gradients are those of the mean once DDP has averaged them. A
    process without any value hands over the mean of nothing, which is NaN.
    """
    if not together():
        return mean
    # A process without values takes part too, also in the gradient; any other NaN is a fault.
    total = mean * count if count else torch.nan_to_num(mean)
    total = _SumOverAll.apply(torch.stack([total, total.new_tensor(float(count))]))
    return total[0] / total[1]


def mean_over_all(values: Tensor) -> Tensor:
    """Mean over the values of all processes, see :func:`global_mean`."""
    return global_mean(values.mean(), values.numel())
