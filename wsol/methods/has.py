"""HaS: hide patches of the training images, so that the network must look at more than one part.

Singh, Lee: Hide-and-Seek: Forcing a Network to be Meticulous for Weakly-Supervised Object and
Action Localization, ICCV 2017. An image is cut into square patches, each of which is hidden with a
given probability, anew in every step; nothing is hidden at test time, and the map is CAM's. Hidden
pixels take the mean colour of the data, so that what the first layer sees keeps its mean (their
section 3.2). The paper mixes patches of 16, 32, 44 and 56 px in images of 224 px and hides half;
the defaults of Choe et al. (CVPR 2020) are 4 px and one half.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsol.backbones import Backbone
from wsol.methods.base import Batch, check_range
from wsol.methods.cam import CamNetwork, class_loss

USES_BACKGROUND = False


@dataclass(frozen=True)
class Config:
    """Patches and how often they are hidden."""

    patch_size: int = 16  # side of a patch, pixels of the network's input
    hide_rate: float = 0.5  # probability that a patch is hidden

    def __post_init__(self) -> None:
        check_range(self, "patch_size", low=1)
        check_range(self, "hide_rate", low=0, high=1)


def build(backbone: Backbone, num_classes: int, config: Config) -> CamNetwork:
    """CAM's network: hiding concerns the images alone."""
    return CamNetwork(backbone, num_classes)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy of images with hidden patches."""
    images = hide_patches(batch.images, config)
    return {"loss": class_loss(network(images).logits, batch.labels)}


def hide_patches(images: Tensor, config: Config) -> Tensor:
    """Images (B, 3, H, W) in which each patch shows, with probability hide_rate, the mean colour.

    The mean is that of the batch. Patches at the right and lower border may be cut.
    """
    B, _, H, W = images.shape
    rows, columns = (-(-side // config.patch_size) for side in (H, W))
    hidden = torch.rand(B, 1, rows, columns, device=images.device) < config.hide_rate
    for dim in (2, 3):
        hidden = hidden.repeat_interleave(config.patch_size, dim)
    mean = images.mean((0, 2, 3), keepdim=True)
    return torch.where(hidden[..., :H, :W], mean, images)
