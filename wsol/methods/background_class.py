"""Background images as one more class of a plain CAM: the first thing to try with such a set.

CAM (Zhou et al., CVPR 2016) with K + 1 classes, of which the last is that of the background images.
No loss says where in an image a class is. The class maps of the K classes are read as CAM's are;
what the last map does not claim, -A[K], serves as a foreground map. Errors of classification are
those among the K classes.
"""

import torch
from torch import Tensor, nn

from wsol.backbones import Backbone
from wsol.methods.base import Batch, Outputs
from wsol.methods.cam import CamNetwork, class_loss
from wsol.methods.cam import Config as Config

USES_BACKGROUND = True


class BackgroundClassNetwork(CamNetwork):
    """CAM's network with K + 1 classes; outside of training it returns the K object classes."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes + 1)

    def forward(self, images: Tensor, every: bool = False) -> Outputs:
        """With ``every``, for the loss, the logits and maps of K + 1 classes."""
        outputs = super().forward(images)
        if every:
            return outputs
        logits, maps = outputs.logits[:, :-1], outputs.class_maps[:, :-1]
        return Outputs(logits, maps, -outputs.class_maps[:, -1:])


def build(backbone: Backbone, num_classes: int, config: Config) -> BackgroundClassNetwork:
    """Put the class head on a backbone."""
    return BackgroundClassNetwork(backbone, num_classes)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy of both image sets."""
    logits = network(torch.cat([batch.images, batch.background]), every=True).logits
    background = batch.labels.new_full((len(batch.background),), logits.shape[1] - 1)
    return {"loss": class_loss(logits, torch.cat([batch.labels, background]))}
