"""What all methods share: a batch in, outputs and losses out, means over all processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce


@dataclass(frozen=True)
class Batch:
    """One training step's data. Images are RGB floats in [0, 1]."""

    images: Tensor  # (B, 3, H, W) object images
    labels: Tensor  # (B,) int64
    background: Tensor | None  # (B', 3, H, W) background images, where the method uses them
    progress: float  # share of the training that is done, 0 to 1
    teacher: Callable[[Tensor], Tensor] | None = None  # images to the S (B, 1, h, w) of another run


class Outputs(NamedTuple):
    """Output of a network for images."""

    logits: Tensor  # (B, K)
    class_maps: Tensor  # (B, K, h, w), logits at each location
    foreground: Tensor | None = None  # (B, 1, h1, w1), logits; None without a foreground head


def min_max(maps: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Each map (..., h, w) scaled to [0, 1]; a constant one to 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(epsilon)


def label_maps(class_maps: Tensor, labels: Tensor) -> Tensor:
    """A[y], the map of each image's label, (B, h, w) of (B, K, h, w)."""
    return class_maps[torch.arange(len(class_maps), device=class_maps.device), labels]


def is_distributed() -> bool:
    """Whether this is one of several training processes."""
    return dist.is_initialized() and dist.get_world_size() > 1


def global_mean(mean: Tensor, count: int) -> Tensor:
    """Mean over the values of all processes, from this one's mean over its `count`.

    Every loss is such a mean, so that its denominator is that of the whole batch and not of the
    part that one process holds. It is differentiable: gradients are those of the mean once
    DistributedDataParallel has averaged them. A process without any value hands over NaN, the mean
    of nothing, and takes part with weight 0.
    """
    if not is_distributed():
        return mean
    total = mean * count if count else torch.nan_to_num(mean)
    total = all_reduce(torch.stack([total, total.new_tensor(float(count))]))
    return total[0] / total[1]


def mean_over_all(values: Tensor) -> Tensor:
    """Mean over the values of all processes, see :func:`global_mean`."""
    return global_mean(values.mean(), values.numel())


def check_choices(config: Any, **choices: Sequence[str]) -> None:
    """Raise ValueError unless each named field of a configuration is one of its choices."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            options = ", ".join(value or '""' for value in known)
            raise ValueError(f"{name} is {getattr(config, name)!r}; known: {options}")


def check_range(
    config: Any, *names: str, low: float, high: float | None = None, ends: str = "[]"
) -> None:
    """Raise ValueError unless the named fields lie between `low` and `high`, or above `low`.

    ends : whether the ends belong to the range, as in "[)", where the upper one does not
    """
    for name in names:
        value = getattr(config, name)
        above = value >= low if ends[0] == "[" else value > low
        below = high is None or (value <= high if ends[1] == "]" else value < high)
        if not (above and below):
            lower = f"{'at least' if ends[0] == '[' else 'above'} {low:g}"
            upper = (
                "" if high is None else f" and {'at most' if ends[1] == ']' else 'below'} {high:g}"
            )
            raise ValueError(f"{name} is {value}; it must be {lower}{upper}")
