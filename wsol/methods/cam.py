"""CAM: class activation maps of a classifier with global average pooling.

Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization,
CVPR 2016. The classifier is a 1 x 1 convolution in front of the pooling, which is the same function
as a linear layer behind it (their eq. 1-2) and leaves the maps ready to use:

    A = conv1x1(h),   logits = mean of A over locations,   CAM of class c = A[c]
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from wsol.backbones import Backbone
from wsol.methods.base import Batch, Outputs, global_mean

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """CAM has no hyperparameters of its own."""


class CamNetwork(nn.Module):
    """Backbone, 1 x 1 class head, global average pooling."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.class_head = nn.Conv2d(backbone.late_channels, num_classes, 1)

    def forward(self, images: Tensor) -> Outputs:
        _, late = self.backbone(images)
        class_maps = self.class_head(late).float()  # bf16 would tie many classes; (B, K, h, w)
        return Outputs(class_maps.mean(dim=(2, 3)), class_maps)


def build(backbone: Backbone, num_classes: int, config: Config) -> CamNetwork:
    """Put the class head on a backbone."""
    return CamNetwork(backbone, num_classes)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy of the pooled logits."""
    return {"loss": class_loss(network(batch.images).logits, batch.labels)}


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of (B, K) logits and (B,) labels, over the batch of all processes."""
    return global_mean(F.cross_entropy(logits, labels), len(labels))
