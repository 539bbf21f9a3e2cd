"""SPG: confident locations of one map supervise the map of the layer below.

Zhang, Wei, Kang, Yang, Huang: Self-produced Guidance for Weakly-supervised Object Localization,
ECCV 2018. Heads of one channel sit on the network. Where a map is above a threshold its places are
foreground, where it is below another they are background, and the rest is ignored (their eq. 1);
with such masks binary cross entropy trains

    B2 (late features)    from the class map A[y], min-max normalized
    B1 (early features)   from sigmoid(B2)
    C  (late features)    from the mean of sigmoid(B1) and sigmoid(B2)

B1 and B2 share their last layers. The map at test time is A, as CAM's. Thresholds are the defaults
of Choe et al. (CVPR 2020), whose code also says what happens where hardly anything is sure: then
places above 0.7 of the maximum are foreground. Masks are made on the grid of the map that they
teach, not at 224 px, and B1 and B2 sit where our backbones are cut.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsol.backbones import Backbone
from wsol.methods.base import Batch, Outputs, check_range, global_mean, label_maps, min_max
from wsol.methods.cam import CamNetwork, class_loss

USES_BACKGROUND = False
SURE = 30 / 224**2  # share of places below which too little is sure to be foreground
IGNORED = -1.0


@dataclass(frozen=True)
class Config:
    """Above the higher threshold is foreground, below the lower one background."""

    late_high: float = 0.7  # of A[y], which teaches B2
    late_low: float = 0.01
    early_high: float = 0.5  # of B2, which teaches B1
    early_low: float = 0.05
    fused_high: float = 0.7  # of both, which teach C
    fused_low: float = 0.1
    spg_width: int = 512  # channels of the hidden layers, or those of the features if they are less

    def __post_init__(self) -> None:
        check_range(self, "spg_width", low=1)
        for name in ("late", "early", "fused"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not 0 <= low < high <= 1:
                raise ValueError(f"{name}_low {low} and {name}_high {high}: 0 <= low < high <= 1")


class Guided(NamedTuple):
    """What the losses need; b1, b2, c are logits (B, 1, h, w) on the grids of their features."""

    logits: Tensor  # (B, K)
    class_maps: Tensor  # (B, K, h, w)
    b1: Tensor
    b2: Tensor
    c: Tensor


class SpgNetwork(CamNetwork):
    """CAM's network with three heads of one channel, which only training uses."""

    def __init__(self, backbone: Backbone, num_classes: int, width: int) -> None:
        super().__init__(backbone, num_classes)
        early, late = backbone.early_channels, backbone.late_channels
        width = min(width, late)
        self.b1, self.b2 = _layer(early, width), _layer(late, width)
        self.shared = nn.Sequential(_layer(width, width), nn.Conv2d(width, 1, 1))
        self.c = nn.Sequential(_layer(late, width), nn.Conv2d(width, 1, 1))

    def forward(self, images: Tensor, guided: bool = False) -> Outputs | Guided:
        early, late = self.backbone(images)
        class_maps = self.class_head(late).float()
        logits = class_maps.mean((2, 3))
        if not guided:
            return Outputs(logits, class_maps)
        b1, b2 = self.shared(self.b1(early)), self.shared(self.b2(late))
        return Guided(logits, class_maps, b1, b2, self.c(late))


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def build(backbone: Backbone, num_classes: int, config: Config) -> SpgNetwork:
    """Put all heads on a backbone."""
    return SpgNetwork(backbone, num_classes, config.spg_width)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy and the three guided losses."""
    outputs = network(batch.images, guided=True)
    attention = min_max(label_maps(outputs.class_maps, batch.labels).detach())[:, None]
    one, two = outputs.b1.detach().sigmoid(), outputs.b2.detach().sigmoid()
    fused = (_resized(one, outputs.c) + _resized(two, outputs.c)) / 2
    parts = {
        "class_loss": class_loss(outputs.logits, batch.labels),
        "late_loss": guided_loss(outputs.b2, attention, config.late_high, config.late_low),
        "early_loss": guided_loss(outputs.b1, two, config.early_high, config.early_low),
        "fused_loss": guided_loss(outputs.c, fused, config.fused_high, config.fused_low),
    }
    return {"loss": sum(parts.values()), **parts}


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear")


def sure_mask(maps: Tensor, high: float, low: float) -> Tensor:
    """From maps (B, 1, h, w) in [0, 1]: 1 is sure foreground, 0 sure background, else `IGNORED`."""
    foreground = maps > high
    few = foreground.float().mean((1, 2, 3), keepdim=True) < SURE
    foreground = torch.where(few, maps > 0.7 * maps.amax((2, 3), keepdim=True), foreground)
    mask = torch.full_like(maps, IGNORED).masked_fill(foreground, 1.0)
    return mask.masked_fill(maps < low, 0.0)


def guided_loss(logits: Tensor, teacher: Tensor, high: float, low: float) -> Tensor:
    """Binary cross entropy of (B, 1, h, w) at the places of which the teacher's map is sure."""
    mask = sure_mask(_resized(teacher, logits), high, low)
    sure = mask != IGNORED
    loss = F.binary_cross_entropy_with_logits(logits[sure], mask[sure])
    return global_mean(loss, int(sure.sum()))
