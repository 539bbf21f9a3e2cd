"""Background images and the object images' own surroundings: an extension for photographs.

The foreground head of the background method (:mod:`wsol.methods.background`, arXiv 1909.03619)
treats everything that is not in the background set as object; in photographs that includes the
surroundings of the object. Here the lowest locations of every object image get the target 0 in the
foreground loss too, ramped in after the first steps:

    L_foreground = 1/2 [mean of softplus(-S) over the top of object images
                        + b mean of softplus(S) over background images
                        + n r(t) mean of softplus(S) over the lowest share q of object images]

"Lowest" is by S alone, or by the sum of S and A[y], each standardized over the image
(``agreement``); the choice of locations carries no gradient. This is self-training, not in the
paper. With b = 0 no background image is used, which is the control of the method.

A classifier and a map that covers the whole object need different features. With the classifier
``embedding`` the logits are those of a linear layer on the features that the pretrained network
classifies by, and the means of the class maps learn the classes beside it.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsol.backbones import Backbone
from wsol.methods import background
from wsol.methods.background import BackgroundNetwork
from wsol.methods.base import Batch, Outputs, check_choices, check_range, mean_over_all

USES_BACKGROUND = True

CLASSIFIERS = ("maps", "embedding")


@dataclass(frozen=True)
class Config(background.Config):
    """Settings of the background method, and the negatives.

    Those for photographs are in study/params/photos.yaml.
    """

    foreground_width: int = 0  # channels of a bottleneck head; 0 for half of its inputs
    background_weight: float = 1.0  # b; 0 for the control without background images
    negative_share: float = 0.4  # q, of the locations of an object image
    negative_score: str = "agreement"  # or "foreground": what the lowest locations are lowest in
    negative_weight: float = 0.5  # n
    classifier: str = "maps"  # or "embedding": what the logits are made of
    negative_ramp: float = 0.3  # share of the training over which r(t) grows from 0 to 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, negative_score=("agreement", "foreground"), classifier=CLASSIFIERS)
        check_range(self, "background_weight", "negative_weight", low=0)
        check_range(self, "negative_share", low=0, high=1, ends="()")
        check_range(self, "negative_ramp", low=0, high=1)
        check_range(self, "foreground_width", low=0)


class BackgroundPlusNetwork(BackgroundNetwork):
    """The network of the background method, with a classifier of its own if asked for."""

    def __init__(self, backbone: Backbone, num_classes: int, config: Config) -> None:
        super().__init__(backbone, num_classes, config.attach, config.head, config.foreground_width)
        self.classifier = None
        if config.classifier == "embedding":
            embedding, channels = backbone.embedding()
            norm = nn.BatchNorm1d(channels, affine=False)
            self.classifier = nn.Sequential(embedding, norm, nn.Linear(channels, num_classes))

    def heads(self, early: Tensor, late: Tensor) -> Outputs:
        """Outputs of all heads; the logits (B, K) are the classifier's where there is one."""
        outputs = super().heads(early, late)
        if self.classifier is None:
            return outputs
        return outputs._replace(logits=self.classifier(late).float())


def build(backbone: Backbone, num_classes: int, config: Config) -> BackgroundPlusNetwork:
    """Put the heads on a backbone."""
    return BackgroundPlusNetwork(backbone, num_classes, config)


def losses(network: nn.Module, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Those of the background method, with the negatives in the foreground loss."""
    teach = partial(foreground_loss, progress=batch.progress, config=config)
    return background.losses(network, batch, config, teach, config.classifier == "embedding")


def foreground_loss(
    objects: Tensor, background: Tensor, A: Tensor, progress: float, config: Config
) -> Tensor:
    """The loss above, of S (B, 1, h, w), (B', 1, h, w) and class maps A[y] (B, h2, w2)."""
    flat = objects.flatten(1)  # (B, h w)
    top = flat.topk(max(1, round(config.object_share * flat.shape[1])), dim=1).values
    score = negative_score(objects.detach(), A.detach(), config)
    chosen = negatives(score, config)
    ramp = min(1.0, progress / config.negative_ramp) if config.negative_ramp else 1.0
    return 0.5 * (
        mean_over_all(F.softplus(-top))
        + config.background_weight * mean_over_all(F.softplus(background))
        + config.negative_weight * ramp * mean_over_all(F.softplus(flat[chosen]))
    )


def negative_score(S: Tensor, A: Tensor, config: Config) -> Tensor:
    """Likeness to an object (B, h w), of S (B, 1, h, w) and A (B, h2, w2)."""
    score = _standardized(S.flatten(1))
    if config.negative_score == "agreement":
        A = F.interpolate(A[:, None], S.shape[-2:], mode="bilinear", align_corners=False)
        score = score + _standardized(A.flatten(1))
    return score


def negatives(score: Tensor, config: Config) -> Tensor:
    """Which locations (B, n) are taken for background, bool."""
    n = max(1, round(config.negative_share * score.shape[1]))
    lowest = score.topk(n, dim=1, largest=False).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, lowest, True)


def _standardized(x: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(x, dim=1, keepdim=True)
    return (x - mean) / deviation.clamp_min(1e-6)
