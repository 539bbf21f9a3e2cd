"""CutMix: paste a piece of another image, and mix the labels as the pixels are mixed.

Yun, Han, Oh, Chun, Choe, Yoo: CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features, ICCV 2019. Their eq. 1-2: with lambda ~ Beta(beta, beta), a box of the share
1 - lambda of the image, anywhere and cut off at the border, comes from a random other image of the
batch; the loss is lambda CE(y) + (1 - lambda) CE(y'), lambda then being the share of pixels that
were kept. Defaults of Choe et al. (CVPR 2020): beta 1, in every step.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wsol.backbones import Backbone
from wsol.methods.base import Batch, check_range
from wsol.methods.cam import CamNetwork, class_loss

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """How large a piece is pasted, and how often."""

    cutmix_beta: float = 1.0  # of the Beta distribution of lambda
    cutmix_rate: float = 1.0  # probability that a step is mixed

    def __post_init__(self) -> None:
        check_range(self, "cutmix_beta", low=0, ends="(]")
        check_range(self, "cutmix_rate", low=0, high=1)


class Mixed(NamedTuple):
    """A batch with pieces of other images."""

    images: Tensor  # (B, 3, H, W)
    others: Tensor  # (B,) the image that the piece is from
    pasted: Tensor  # (H, W) bool, where the piece is
    kept: float  # lambda, the share of pixels that are the image's own


def build(backbone: Backbone, num_classes: int, config: Config) -> CamNetwork:
    """CAM's network: mixing concerns images and labels alone."""
    return CamNetwork(backbone, num_classes)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy with both labels, weighted by their pixels."""
    if torch.rand(()) >= config.cutmix_rate:
        return {"loss": class_loss(network(batch.images).logits, batch.labels)}
    mixed = cutmix(batch.images, config)
    logits = network(mixed.images).logits
    labels = (batch.labels, batch.labels[mixed.others])
    own, other = (class_loss(logits, of) for of in labels)
    return {"loss": mixed.kept * own + (1 - mixed.kept) * other}


def cutmix(images: Tensor, config: Config) -> Mixed:
    """Paste the same box of a shuffled batch into all images (B, 3, H, W)."""
    B, _, H, W = images.shape
    beta = torch.tensor(config.cutmix_beta)
    share = math.sqrt(1 - torch.distributions.Beta(beta, beta).sample().item())
    y, x = (int(torch.randint(side, ())) for side in (H, W))  # centre of the box
    top, bottom = (max(0, min(H, y + sign * int(H * share) // 2)) for sign in (-1, 1))
    left, right = (max(0, min(W, x + sign * int(W * share) // 2)) for sign in (-1, 1))
    others = torch.randperm(B).to(images.device)
    pasted = torch.zeros(H, W, dtype=torch.bool, device=images.device)
    pasted[top:bottom, left:right] = True
    mixed = torch.where(pasted, images[others], images)
    return Mixed(mixed, others, pasted, 1 - (bottom - top) * (right - left) / (H * W))
