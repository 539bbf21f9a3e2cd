"""BAS: a foreground map that, taken away, leaves the classifier nothing.

Wu, Zhai, Cao: Background Activation Suppression for Weakly Supervised Object Localization, CVPR
2022. A generator gives one map per class, M = sigmoid(conv3x3(early)). The early features of the
background, (1 - M[y]) early, pass through a frozen copy of the rest of the network; the activation
of the class that is left, S_b, is set against that of the whole image, S:

    loss = CE(S) + c CE(pool(A M[y])) + S_b / S + w mean(M[y])

The third term is 0 where S_b >= S, and nothing flows back through S; A are the class maps after a
ReLU, S their mean. The map at test time is the generator's. The code of the authors
(wpy1999/BAS) has w = 0.7 and c = 0 for VGG16, 1.5 and 0.5 for its MobileNet. Theirs has two more
convolutions in front of the class head than this one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from wsol.backbones import Backbone
from wsol.methods.base import Batch, Outputs, check_range, label_maps, mean_over_all
from wsol.methods.cam import class_loss

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """Weights of the losses."""

    area_weight: float = 1.5  # w: how much a large map costs
    guidance_weight: float = 0.5  # c: cross entropy of what the map shows

    def __post_init__(self) -> None:
        check_range(self, "area_weight", "guidance_weight", low=0)


class Suppression(NamedTuple):
    """What the losses need."""

    logits: Tensor  # (B, K), S
    class_maps: Tensor  # (B, K, h, w), A
    label_map: Tensor  # (B, 1, h1, w1), M[y]
    left: Tensor  # (B, K), S_b


class BasNetwork(nn.Module):
    """Backbone, class head and generator."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_head = nn.Sequential(
            nn.Conv2d(backbone.late_channels, num_classes, 1), nn.ReLU()
        )
        self.generator = nn.Conv2d(backbone.early_channels, num_classes, 3, padding=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Outputs | Suppression:
        """`Suppression`, for the losses, with labels; `Outputs` without."""
        early, late = self.backbone(images)
        class_maps = self.class_head(late).float()  # (B, K, h, w)
        logits = class_maps.mean((2, 3))  # (B, K)
        maps = self.generator(early).float()  # (B, K, h1, w1)
        if labels is None:
            return Outputs(logits, maps)
        label_map = label_maps(maps, labels)[:, None].sigmoid()
        rest = _frozen(self.backbone.late, early.detach() * (1 - label_map))
        left = _frozen(self.class_head, rest).mean((2, 3))
        return Suppression(logits, class_maps, label_map, left)


def _frozen(module: nn.Module, x: Tensor) -> Tensor:
    """Pass through a module that learns nothing from it, neither weights nor statistics."""
    state = {name: value.detach() for name, value in module.named_parameters()}
    state |= {name: value.clone() for name, value in module.named_buffers()}
    return functional_call(module, state, (x,))


def build(backbone: Backbone, num_classes: int, config: Config) -> BasNetwork:
    """Put class head and generator on a backbone that gives maps throughout.

    Raises ValueError for a transformer, whose parts hand over tokens.
    """
    if backbone.name.startswith(("deit", "timm/")):
        raise ValueError(f"BAS masks early features, which {backbone.name} does not hand over")
    return BasNetwork(backbone, num_classes)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The total and its four parts."""
    outputs = network(batch.images, batch.labels)
    mask = F.adaptive_avg_pool2d(outputs.label_map, outputs.class_maps.shape[-2:])
    guided = (outputs.class_maps * mask).mean((2, 3))
    parts = {
        "class_loss": class_loss(outputs.logits, batch.labels),
        "guidance_loss": class_loss(guided, batch.labels),
        "suppression_loss": mean_over_all(suppression(outputs, batch.labels)),
        "area_loss": mean_over_all(outputs.label_map),
    }
    total = parts["class_loss"] + config.guidance_weight * parts["guidance_loss"]
    total = total + parts["suppression_loss"] + config.area_weight * parts["area_loss"]
    return {"loss": total, **parts}


def suppression(outputs: Suppression, labels: Tensor) -> Tensor:
    """S_b / S of the label, (B,), 0 where the background activates the class as much as all."""
    whole, left = (
        x.gather(1, labels[:, None])[:, 0] for x in (outputs.logits.detach(), outputs.left)
    )
    return torch.where(left < whole, left / (whole + 1e-8), torch.zeros_like(left))
