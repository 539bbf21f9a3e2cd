"""Backbones behind one function: a network cut in two, an early part and a late part.

:func:`build_backbone` returns a :class:`Backbone` whose ``early`` features keep small receptive
fields (the foreground head of the background method sits there) and whose ``late`` features feed
the class head. Layers and strides follow the CAM literature (Zhou et al., CVPR 2016; Choe et al.,
CVPR 2020). At 224 px:

    name             early             late                                         map
    vgg16            conv4_3           conv5_3 without pool5, and conv6              14 x 14
    vgg16-28         conv4_3           the same without pool4                        28 x 28
    resnet50         layer2            layer4 with stride 1                          14 x 14
    resnet50-28      layer2            layer3 and layer4 with stride 1               28 x 28
    inceptionv3      Mixed_5d          Mixed_6e, and two 3 x 3 layers                14 x 14
    inceptionv3-28   Mixed_5d          the same without the pooling before Mixed_6a  28 x 28
    deit-s           block 6           block 12, patch tokens                        14 x 14
    efficientnet-lite0     block 4     block 4 beside block 6, standardized          14 x 14
    efficientnet-lite0-28  block 4     the same with stride 8                        28 x 28
    small<width>     stride 4          stride 8; for images of about 100 px
    timm/<name>      stride 8          the last features
"""

import math

import torch
from torch import Tensor, nn

from wsol.backbones.parts import Parts, conv_block
from wsol.backbones.timm_networks import deit_s, efficientnet_lite0, timm_network
from wsol.backbones.torchvision_networks import inceptionv3, resnet50, vgg16


class Backbone(nn.Module):
    """``early`` (B, C1, h1, w1) and ``late`` (B, C2, h, w) features of (B, 3, H, W) images.

    Images are RGB in [0, 1]; they are normalized here, so that no caller can forget it. In place of
    images the network takes what :meth:`pack` made of them.
    """

    def __init__(self, parts: Parts, name: str) -> None:
        super().__init__()
        self.name = name
        self.early, self.late = parts.early, parts.late
        self.after = nn.Identity()  # on the late features; never frozen
        self.early_channels, self.late_channels = parts.channels
        self.early_stride, self.late_stride = parts.strides
        self.as_map = parts.as_map
        self.frozen: tuple[nn.Module, ...] = ()
        self.pretrained_embedding = parts.embedding  # not registered: it belongs to a head
        self._fast = {id(p) for module in parts.fast for p in module.parameters()}
        for key, values in zip(("mean", "std"), parts.normalization, strict=True):
            self.register_buffer(key, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.dim() == 2:
            early, late = self._unpack(images)
        else:
            early, late = self.early((images - self.mean) / self.std), None
        late = self.late(early) if late is None else late
        return self.as_map(early), self.after(self.as_map(late))  # (B, C1, h1, w1), (B, C2, h, w)

    def freeze(self, part: str) -> None:
        """Train nothing, neither weights nor batch statistics, of a part: none, early or all."""
        self.frozen = {"none": (), "early": (self.early,), "all": (self.early, self.late)}[part]
        for module in self.frozen:
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    @torch.no_grad()
    def pack(self, images: Tensor) -> Tensor:
        """Outputs of the frozen parts for (B, 3, H, W) images, flat (B, F), in half precision."""
        early = self.early((images - self.mean) / self.std)
        outputs = [early, self.late(early)] if len(self.frozen) == 2 else [early]
        outputs = [output.movedim(1, -1) for output in outputs]  # unpacked as channels last
        self._shapes = [tuple(output.shape[1:]) for output in outputs]
        return torch.cat([output.flatten(1) for output in outputs], dim=1).half()

    def _unpack(self, packed: Tensor) -> tuple[Tensor, Tensor | None]:
        pieces = packed.split([math.prod(shape) for shape in self._shapes], dim=1)
        pairs = zip(pieces, self._shapes, strict=True)
        maps = [piece.unflatten(1, shape).movedim(-1, 1) for piece, shape in pairs]
        return maps[0], maps[1] if len(maps) == 2 else None

    def embedding(self) -> tuple[nn.Module, int]:
        """From late features to those (B, C) that the pretrained network classifies by, and C."""
        if self.pretrained_embedding is not None:
            return self.pretrained_embedding
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), self.late_channels

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that are fine-tuned at the plain rate; the others count as new layers."""
        return [p for p in self.parameters() if id(p) not in self._fast]


def _small(width: int) -> Parts:
    """Six layers for images of about 100 px: early stride 4, late stride 8."""
    w, w2, w4 = width, 2 * width, 4 * width
    early = nn.Sequential(conv_block(3, w, 2), conv_block(w, w2, 2), conv_block(w2, w2))
    late = nn.Sequential(conv_block(w2, w4, 2), conv_block(w4, w4), conv_block(w4, w4))
    return Parts(early, late, (w2, w4), (4, 8))


_BUILDERS = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "inceptionv3": inceptionv3,
    "efficientnet-lite0": efficientnet_lite0,
}


def build_backbone(name: str, weights: str | None = None, input_size: int = 224) -> Backbone:
    """Build a backbone of the table above, e.g. ``small16`` or ``resnet50-28``.

    Parameters
    ----------
    name : see the table at the head of this module
    weights : None (random, from torch's global generator), ``"DEFAULT"`` (ImageNet weights of
        torchvision or timm, downloaded; those of efficientnet-lite0 are installed with this
        package) or a path to a state dict of the whole ImageNet network
    input_size : side of the images in pixels; only deit-s depends on it

    Raises ValueError for an unknown name or for weights that do not fit, FileNotFoundError for a
    missing file.
    """
    if name.startswith("small") and name[5:].isdigit():
        if weights is not None:
            raise ValueError(f"{name} has no pretrained weights; set weights to None")
        return Backbone(_small(int(name[5:])), name)
    if name.startswith("timm/"):
        return Backbone(timm_network(name[5:], weights), name)
    if name == "deit-s":
        return Backbone(deit_s(weights, input_size), name)
    base = name.removesuffix("-28")
    if base not in _BUILDERS:
        known = f"small<width>, {', '.join(_BUILDERS)}, <these>-28, deit-s, timm/<name>"
        raise ValueError(f"unknown backbone {name!r}; known: {known}")
    return Backbone(_BUILDERS[base](weights, large=base != name), name)
