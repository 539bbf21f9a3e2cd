"""Background images: a foreground map, learned against object-free images, supervises the CAM.

Kou, Zhao, Cui, Wang: Weakly Supervised Localization Using Background Images, arXiv 1909.03619. One
network, trained end to end on image labels and a small set of background images:

    A = conv1x1(h),  logits = mean of A                  class head, A[y] is the class map
    S = head(h)                                          foreground head, class-agnostic
    M = normalize(stop_gradient(S)) in [0, 1]            foreground mask
    loss = CE(logits, y) + a L_foreground(S) + b(t) L_mask(A[y], M)

Only the paper's abstract was available. What it leaves open is a field of :class:`Config`;
docs/open_choices.md gives the reason for each choice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsol.backbones import Backbone, conv_block
from wsol.methods import get_method
from wsol.methods.base import (
    Batch,
    Outputs,
    check_choices,
    check_range,
    global_mean,
    label_maps,
    mean_over_all,
    min_max,
)
from wsol.methods.cam import CamNetwork, class_loss

USES_BACKGROUND = True

POOLINGS = ("location", "prior", "mean", "top")
NORMALIZATIONS = ("posterior", "sigmoid", "minmax", "sigmoid-minmax")
MASK_LOSSES = ("bce", "mse", "l1")
ATTACHMENTS = ("early", "late")
HEADS = ("bottleneck", "conv", "linear")
COMBINATIONS = ("has", "adl", "cutmix")


@dataclass(frozen=True)
class Config:
    """The choices that the abstract leaves open, and what the method may be combined with.

    ``combine`` names a method that changes images, labels or features; the background supervision
    is added to it.
    """

    attach: str = "early"  # features under the foreground head
    head: str = "bottleneck"  # its layers, see foreground_head
    pooling: str = "top"  # how S is trained, see foreground_loss
    object_share: float = 0.2  # of an object image that is object, for "prior" and "top"
    foreground_weight: float = 1.0  # a
    match_colours: bool = False  # recolour background images like the object images of the batch
    normalization: str = "sigmoid"  # from S to M
    mask_loss: str = "bce"
    mask_weight: float = 3.0  # b after the ramp
    ramp_start: float = 0.0  # share of the training at which b starts to grow ...
    ramp_end: float = 0.6  # ... and at which it is reached
    stop_gradient: bool = True  # the mask loss teaches the class map alone, not S
    class_weight: float = 1.0  # of the cross entropy; 0 trains a foreground map alone
    teacher: str = ""  # weights of a run whose S gives the mask (two stages); "" for its own S
    combine: str = ""  # "has", "adl" or "cutmix"
    combine_config: dict = field(default_factory=dict)  # fields of that method's Config

    def __post_init__(self) -> None:
        check_choices(
            self,
            combine=("", *COMBINATIONS),
            attach=ATTACHMENTS,
            head=HEADS,
            pooling=POOLINGS,
            normalization=NORMALIZATIONS,
            mask_loss=MASK_LOSSES,
        )
        check_range(self, "class_weight", "foreground_weight", "mask_weight", low=0)
        check_range(self, "object_share", low=0, high=1, ends="()")
        if not 0 <= self.ramp_start <= self.ramp_end <= 1:
            raise ValueError("the ramp needs 0 <= ramp_start <= ramp_end <= 1")
        if self.combine:
            self.combined()  # refuses unknown or bad values

    def combined(self):
        """The Config of the method that this one is combined with."""
        return get_method(self.combine).Config(**self.combine_config)


class BackgroundNetwork(CamNetwork):
    """CAM's network with a foreground head beside the class head."""

    def __init__(
        self, backbone: Backbone, num_classes: int, attach: str, head: str, width: int | None = None
    ) -> None:
        super().__init__(backbone, num_classes)
        self.attach = attach
        channels = backbone.early_channels if attach == "early" else backbone.late_channels
        self.foreground_head = foreground_head(channels, head, width)

    def forward(self, images: Tensor) -> Outputs:
        return self.heads(*self.backbone(images))

    def heads(self, early: Tensor, late: Tensor) -> Outputs:
        """Outputs of both heads for both features of the backbone."""
        class_maps = self.class_head(late).float()  # (B, K, h, w)
        foreground = self.foreground_head(early if self.attach == "early" else late).float()
        return Outputs(class_maps.mean(dim=(2, 3)), class_maps, foreground)


def foreground_head(channels: int, kind: str, width: int | None = None) -> nn.Sequential:
    """From features (B, channels, h1, w1) to logits (B, 1, h1, w1).

    * ``bottleneck``: 1 x 1 to half the channels (or `width`), 3 x 3, 1 x 1; a third of the
      weights of
    * ``conv``: 3 x 3 of all channels, 1 x 1;
    * ``linear``: 1 x 1, as the class head has it.
    """
    if kind == "linear":
        return nn.Sequential(nn.Conv2d(channels, 1, 1))
    if kind == "conv":
        return nn.Sequential(conv_block(channels, channels), nn.Conv2d(channels, 1, 1))
    half = width or max(1, channels // 2)
    return nn.Sequential(
        conv_block(channels, half, size=1), conv_block(half, half), nn.Conv2d(half, 1, 1)
    )


def build(backbone: Backbone, num_classes: int, config: Config) -> BackgroundNetwork:
    """Put both heads on a backbone, after ADL's layers where the method is combined with it."""
    if config.combine == "adl":
        get_method("adl").insert(backbone, backbone.name, config.combined())
    return BackgroundNetwork(backbone, num_classes, config.attach, config.head)


class Step(NamedTuple):
    """What passes through the network in one step, and what the object images show."""

    images: Tensor  # (B + B', 3, H, W), background images last
    labels: Tensor  # (B,)
    others: Tensor  # (B,) labels of the pasted pieces
    pasted: Tensor | None  # (1, 1, H, W) 1 where the piece is, else 0; None without one


def losses(
    network: nn.Module,
    batch: Batch,
    config: Config,
    teach: Callable | None = None,
    has_classifier: bool = False,
) -> dict[str, Tensor]:
    """Return the total loss and its three parts; both image sets pass through in one batch.

    teach : loss of S in place of :func:`foreground_loss`, from S of object images, S of background
        images and A[y], (B, 1, h1, w1), (B', 1, h1, w1) and (B, h, w)
    has_classifier : the logits are not the means of the class maps, which learn the classes too
    """
    B = len(batch.images)
    step = step_of(batch, config)
    outputs = network(step.images)
    S = outputs.foreground[:B]
    S_mask = batch.teacher(step.images[:B]) if batch.teacher else S
    mask = foreground_mask(S_mask, config)
    A = mixed_label_map(outputs.class_maps[:B], step)
    S_background = outputs.foreground[B:]
    taught = teach(S, S_background, A) if teach else foreground_loss(S, S_background, config)
    parts = {
        "class_loss": mixed_class_loss(outputs.logits[:B], step),
        "foreground_loss": taught,
        "mask_loss": mask_loss(A, mask, config),
    }
    if has_classifier:
        logits = outputs.class_maps[:B].mean(dim=(2, 3))
        parts["class_loss"] = parts["class_loss"] + mixed_class_loss(logits, step)
    total = (
        config.class_weight * parts["class_loss"]
        + config.foreground_weight * parts["foreground_loss"]
        + mask_weight(batch.progress, config) * parts["mask_loss"]
    )
    return {"loss": total, **parts}


def step_of(batch: Batch, config: Config) -> Step:
    """Both image sets as the network gets them: recoloured, mixed, with hidden patches, or plain.

    Patches are hidden in background images too: they must not tell the two sets apart.
    """
    images, background, others = batch.images, batch.background, batch.labels
    pasted = None
    if config.match_colours:
        background = match_colours(background, images)
    if config.combine == "cutmix" and torch.rand(()) < config.combined().cutmix_rate:
        mixed = get_method("cutmix").cutmix(images, config.combined())
        images, others = mixed.images, batch.labels[mixed.others]
        pasted = mixed.pasted.to(images.dtype)[None, None]
    images = torch.cat([images, background])
    if config.combine == "has":
        images = get_method("has").hide_patches(images, config.combined())
    return Step(images, batch.labels, others, pasted)


def mixed_class_loss(logits: Tensor, step: Step) -> Tensor:
    """Cross entropy of (B, K), each label weighted by the share of pixels that show it."""
    loss = class_loss(logits, step.labels)
    if step.pasted is None:
        return loss
    share = step.pasted.mean().item()
    return (1 - share) * loss + share * class_loss(logits, step.others)


def mixed_label_map(class_maps: Tensor, step: Step) -> Tensor:
    """A[y], (B, h, w) of (B, K, h, w); where a piece is pasted, A of the class of that piece."""
    own = label_maps(class_maps, step.labels)
    if step.pasted is None:
        return own
    share = F.adaptive_avg_pool2d(step.pasted, own.shape[-2:])[0]  # (1, h, w)
    return (1 - share) * own + share * label_maps(class_maps, step.others)


def foreground_loss(objects: Tensor, background: Tensor, config: Config) -> Tensor:
    """Tell object images (B, 1, h, w) from background images (B', 1, h, w); logits in, scalar out.

    Locations of object images are *unlabelled*: most of them are background too. The choices are

    * ``location``: every location of an object image counts as 1, of a background image as 0;
    * ``prior``: the same data as positive-unlabelled learning with a known object share (the
      non-negative risk of Kiryo et al., NeurIPS 2017, with the roles of the classes exchanged);
    * ``mean``: one logit per image, the mean over locations;
    * ``top``: as ``location``, but of an object image only the highest ``object_share`` of its
      locations count as 1 and the others not at all (multiple-instance learning).
    """
    if config.pooling == "prior":
        rest = (1 - config.object_share) * mean_over_all(F.softplus(-background))
        positive = (mean_over_all(F.softplus(-objects)) - rest).clamp_min(0)
        return positive + (1 - config.object_share) * mean_over_all(F.softplus(background))
    if config.pooling == "mean":
        objects, background = objects.mean((2, 3)), background.mean((2, 3))
    if config.pooling == "top":
        flat = objects.flatten(1)  # (B, h w)
        objects = flat.topk(max(1, round(config.object_share * flat.shape[1])), dim=1).values
    return 0.5 * (mean_over_all(F.softplus(-objects)) + mean_over_all(F.softplus(background)))


def match_colours(background: Tensor, images: Tensor) -> Tensor:
    """Give background images (B', 3, H, W) the channel means and deviations of object images.

    Each takes those of a random image of the batch (the colour transfer of Reinhard et al., IEEE
    CG&A 2001, in RGB), so that a palette alone does not tell the two image sets apart.
    """
    like = images[torch.randint(len(images), (len(background),))]
    mean, std = background.mean((2, 3), keepdim=True), background.std((2, 3), keepdim=True)
    matched = (background - mean) / (std + 1e-3) * like.std((2, 3), keepdim=True)
    return (matched + like.mean((2, 3), keepdim=True)).clamp(0, 1)


def foreground_mask(S: Tensor, config: Config) -> Tensor:
    """Normalize S (B, 1, h1, w1) to the mask M (B, 1, h1, w1) in [0, 1].

    No gradient flows back to S unless ``stop_gradient`` is off.
    """
    S = S.detach() if config.stop_gradient else S
    if config.normalization == "posterior":
        return (1 - (1 - config.object_share) * torch.exp(-S)).clamp(0, 1)
    if config.normalization == "sigmoid":
        return S.sigmoid()
    S = S.sigmoid() if config.normalization == "sigmoid-minmax" else S
    return min_max(S, epsilon=1e-6)


def mask_loss(maps: Tensor, M: Tensor, config: Config) -> Tensor:
    """Distance of sigmoid(A[y]), maps (B, h, w), from the mask averaged to its grid; a scalar."""
    target = F.adaptive_avg_pool2d(M, maps.shape[-2:])[:, 0]  # (B, h, w)
    if config.mask_loss == "bce":
        distance = F.binary_cross_entropy_with_logits(maps, target)
    else:
        measure = {"mse": F.mse_loss, "l1": F.l1_loss}[config.mask_loss]
        distance = measure(maps.sigmoid(), target)
    return global_mean(distance, target.numel())


def mask_weight(progress: float, config: Config) -> float:
    """b(t): 0 until ``ramp_start``, then linear, ``mask_weight`` from ``ramp_end`` on."""
    if progress >= config.ramp_end:
        return config.mask_weight
    span = config.ramp_end - config.ramp_start
    return config.mask_weight * max(0.0, progress - config.ramp_start) / max(span, 1e-9)
