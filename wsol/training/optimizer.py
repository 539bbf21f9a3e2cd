"""Optimizers and learning rates: ours, and those of the published code of the field."""

import math

import torch
from torch import nn

from wsol.training.config import TrainConfig


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build AdamW, or SGD with Nesterov momentum as in Choe et al. (CVPR 2020).

    New layers (`new_parameters`) learn `new_layer_factor` times as fast. Each group keeps its
    factor under "factor".
    """
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    groups = [{"params": list(network.parameters()), "factor": 1.0}]
    if config.new_layer_factor != 1:
        new = {id(parameter) for parameter in new_parameters(network)}
        groups = [
            {"params": [p for p in network.parameters() if (id(p) in new) == fast], "factor": f}
            for fast, f in ((False, 1.0), (True, config.new_layer_factor))
        ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, **settings)
    momentum = {"momentum": config.momentum, "nesterov": config.momentum > 0}
    return torch.optim.SGD(groups, **settings, **momentum)


def new_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Parameters of the heads, and of the backbone those that are as good as new."""
    slow = {id(parameter) for parameter in network.backbone.slow_parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in slow]


def set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, progress: float) -> None:
    """Set the learning rates for a step; `progress` is the share of the training that is done."""
    rate = config.learning_rate * rate_factor(config, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def rate_factor(config: TrainConfig, progress: float) -> float:
    """Factor of the peak rate.

    ``cosine``: linear warm-up over the first epoch from a tenth, then half a cosine to 0.
    ``step``: one tenth of itself after every ``decay_epochs`` epochs. (The code of Choe et al.
    counts epochs from 1 and so decays one epoch earlier than that; its number is kept here, not
    its off-by-one.)
    """
    if config.schedule == "step":
        return 0.1 ** (int(progress * config.epochs + 1e-9) // config.decay_epochs)
    warm = 1 / config.epochs
    if progress < warm:
        return 0.1 + 0.9 * progress / warm
    return 0.5 * (1 + math.cos(math.pi * (progress - warm) / max(1 - warm, 1e-9)))
