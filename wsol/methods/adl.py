"""ADL: drop the most attended features of a batch, or weight features by their attention.

Choe, Shim: Attention-based Dropout Layer for Weakly Supervised Object Localization, CVPR 2019. The
layer has no weights. In training it averages its input over the channels to an attention map and
multiplies the input either with a *drop mask*, 0 where the attention is at least gamma times its
maximum in the image, or with an *importance map*, the sigmoid of the attention; which of the two is
drawn once per batch (their section 3). At test time it does nothing, and the map is CAM's.
Defaults of Choe et al. (CVPR 2020): drop rate 0.75, gamma 0.9.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsol.backbones import Backbone
from wsol.methods.base import check_range
from wsol.methods.cam import CamNetwork
from wsol.methods.cam import losses as losses

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """Drop rate and threshold of the attention."""

    drop_rate: float = 0.75  # probability of the drop mask; otherwise the importance map
    gamma: float = 0.9  # of the largest attention, from which on a place is dropped

    def __post_init__(self) -> None:
        check_range(self, "drop_rate", "gamma", low=0, high=1)


class AttentionDropout(nn.Module):
    """The layer, (B, C, h, w) to the same."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return features
        attention = features.mean(1, keepdim=True)  # (B, 1, h, w)
        if torch.rand(()) < self.config.drop_rate:
            strongest = attention.amax((2, 3), keepdim=True)
            return features * (attention < self.config.gamma * strongest)
        return features * attention.sigmoid()


def insert(backbone: Backbone, name: str, config: Config) -> None:
    """Put the layer where the published code has it.

    ResNet50: behind the first block of layer3 and the first and last of layer4. VGG16: behind
    pool3, conv4_3 and conv5_3. Our small network: behind its early part and behind the first two
    layers of its late part, which is our choice. Networks of timm: on the late features. Raises
    ValueError for other backbones.
    """
    if name.startswith("resnet50"):
        places = [(backbone.late[0], 0), (backbone.late[1], 0), (backbone.late[1], 2)]
    elif name.startswith("vgg16"):
        fifth = len(backbone.late) - 3  # conv5_3's ReLU, in front of conv6 and its own
        places = [(backbone.early, 16), (backbone.early, 22), (backbone.late, fifth)]
    elif name.startswith("small"):
        places = [(backbone.early, 2), (backbone.late, 0), (backbone.late, 1)]
    elif name.startswith("inceptionv3"):
        raise ValueError(f"ADL has no known place in {name}")
    else:
        places = []
        backbone.after = AttentionDropout(config)
    for part, i in places:
        part[i] = nn.Sequential(part[i], AttentionDropout(config))


def build(backbone: Backbone, num_classes: int, config: Config) -> CamNetwork:
    """CAM's network with the layer in its backbone."""
    insert(backbone, backbone.name, config)
    return CamNetwork(backbone, num_classes)
