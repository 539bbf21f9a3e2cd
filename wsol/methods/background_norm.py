"""Background images that batch normalization alone sees: what they do without supervising anything.

CAM (Zhou et al., CVPR 2016) whose training passes background images through the network beside the
object images, as the background method does, and throws away what comes out. What is left of them
is their part in the statistics of batch normalization: the control of any method that mixes a
second image set into its batches.
"""

import torch
from torch import Tensor, nn

from wsol.methods.base import Batch
from wsol.methods.cam import CamNetwork as CamNetwork
from wsol.methods.cam import Config as Config
from wsol.methods.cam import build as build
from wsol.methods.cam import class_loss

USES_BACKGROUND = True


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Cross entropy of the object images, normalized together with the background images."""
    logits = network(torch.cat([batch.images, batch.background])).logits
    return {"loss": class_loss(logits[: len(batch.images)], batch.labels)}
