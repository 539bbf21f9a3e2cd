"""ACoL: a second classifier sees the features without what convinced the first.

Zhang, Wei, Feng, Yang, Huang: Adversarial Complementary Learning for Weakly Supervised Object
Localization, CVPR 2018. Two parallel convolutional classifiers sit on the last features. Where the
normalized class map of the first reaches a threshold the features are set to 0 before the second
one sees them (their eq. 3), so that it must find other parts. The loss is the sum of both cross
entropies, the map the maximum of both normalized class maps, the prediction the first one's.
Default of the paper and of Choe et al. (CVPR 2020): threshold 0.7.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsol.backbones import Backbone
from wsol.methods.base import Batch, Outputs, check_range, label_maps, min_max
from wsol.methods.cam import class_loss

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """How much is erased, and how wide the classifiers are."""

    erase_threshold: float = 0.7  # of the first class map, min-max normalized
    acol_width: int = 1024  # channels of the hidden layers, at most those of the features

    def __post_init__(self) -> None:
        check_range(self, "acol_width", low=1)
        check_range(self, "erase_threshold", low=0, high=1, ends="(]")


class AcolNetwork(nn.Module):
    """Backbone and two classifiers, each of two 3 x 3 layers and a 1 x 1 layer."""

    def __init__(self, backbone: Backbone, num_classes: int, config: Config) -> None:
        super().__init__()
        self.backbone, self.threshold = backbone, config.erase_threshold
        sizes = (backbone.late_channels, config.acol_width, num_classes)
        self.first, self.second = (_classifier(*sizes) for _ in range(2))

    def branches(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Class maps (B, K, h, w) of both; that of the label or the predicted class erases."""
        _, late = self.backbone(images)
        first = self.first(late).float()
        if labels is None:
            labels = first.mean((2, 3)).argmax(1)
        erased = erase(late, label_maps(first, labels).detach(), self.threshold)
        return first, self.second(erased).float()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Outputs:
        """With labels, for the loss, the class maps of both classifiers concatenated along K."""
        first, second = self.branches(images, labels)
        logits = first.mean((2, 3))
        if labels is not None:
            return Outputs(logits, torch.cat([first, second], dim=1))
        return Outputs(logits, torch.maximum(min_max(first), min_max(second)))


def _classifier(channels: int, width: int, num_classes: int) -> nn.Sequential:
    width = min(width, channels)
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)),
        nn.Conv2d(width, num_classes, 1),
    )


def erase(features: Tensor, label_map: Tensor, threshold: float) -> Tensor:
    """Features (B, C, h, w), 0 where the normalized map (B, h, w) reaches the threshold."""
    return features * (min_max(label_map) < threshold)[:, None]


def build(backbone: Backbone, num_classes: int, config: Config) -> AcolNetwork:
    """Put both classifiers on a backbone."""
    return AcolNetwork(backbone, num_classes, config)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Sum of the cross entropies of both classifiers."""
    outputs = network(batch.images, batch.labels)
    second = outputs.class_maps[:, outputs.logits.shape[1] :].mean((2, 3))
    parts = {
        "first_loss": class_loss(outputs.logits, batch.labels),
        "second_loss": class_loss(second, batch.labels),
    }
    return {"loss": parts["first_loss"] + parts["second_loss"], **parts}
