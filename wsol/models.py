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
    small<width>     stride 4          stride 8; for pictures of about 100 px
    timm/<name>      stride 8          the last features
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision
from torch import Tensor, nn

from wsol.pretrained import load_model
from wsol.timm_backbone import cut_timm, first_of
from wsol.vit import cut_deit_small, token_map

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass
class Parts:
    """A network cut in two, with the channels and strides of both outputs.

    fast : modules that the published recipes train at the rate of new layers
    as_map : from what a part gives to its map (B, C, h, w)
    normalization : mean and deviation of RGB that the pretrained weights expect
    """

    early: nn.Module
    late: nn.Module
    channels: tuple[int, int]
    strides: tuple[int, int]
    fast: list[nn.Module] = field(default_factory=list)
    as_map: Callable[..., Tensor] = lambda features: features
    normalization: tuple = IMAGENET


class Backbone(nn.Module):
    """``early`` (B, C1, h1, w1) and ``late`` (B, C2, h, w) features of (B, 3, H, W) images.

    Images are RGB in [0, 1]; they are normalized here, so that no caller can forget it.
    """

    def __init__(self, parts: Parts, name: str) -> None:
        super().__init__()
        self.name = name
        self.early, self.late = parts.early, parts.late
        self.early_channels, self.late_channels = parts.channels
        self.early_stride, self.late_stride = parts.strides
        self.as_map = parts.as_map
        self._fast = {id(p) for module in parts.fast for p in module.parameters()}
        mean, std = map(torch.tensor, parts.normalization)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early((images - self.mean) / self.std)
        late = self.late(early)
        return self.as_map(early), self.as_map(late)  # (B, C1, h1, w1), (B, C2, h, w)

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that are fine-tuned at the plain rate, the others being as good as new."""
        return [p for p in self.parameters() if id(p) not in self._fast]


def conv_block(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution of size x size pixels, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _small(width: int) -> Parts:
    """Six layers for pictures of about 100 px: early stride 4, late stride 8."""
    early = nn.Sequential(
        conv_block(3, width, 2), conv_block(width, 2 * width, 2), conv_block(2 * width, 2 * width)
    )
    late = nn.Sequential(
        conv_block(2 * width, 4 * width, 2),
        conv_block(4 * width, 4 * width),
        conv_block(4 * width, 4 * width),
    )
    return Parts(early, late, (2 * width, 4 * width), (4, 8))


def _vgg16(weights: str | None, large: bool) -> Parts:
    """VGG16: early = conv4_3 (stride 8), late = conv5_3 without pool5 and a 3 x 3 conv6."""
    layers = load_model(torchvision.models.vgg16, weights).features
    conv6 = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU(inplace=True))
    late = nn.Sequential(*layers[24 if large else 23 : 30], *conv6)  # layer 23 is pool4
    return Parts(layers[:23], late, (512, 1024), (8, 8 if large else 16), [conv6])


def _resnet50(weights: str | None, large: bool) -> Parts:
    """ResNet50: early = layer2 (stride 8), late = layer4 with its stride removed (stride 16).

    Large maps have layer3's stride removed too. layer4 counts as new, as in Choe et al.
    """
    net = load_model(torchvision.models.resnet50, weights)
    for layer in (net.layer3, net.layer4) if large else (net.layer4,):
        layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
    stem = (net.conv1, net.bn1, net.relu, net.maxpool)
    early = nn.Sequential(*stem, net.layer1, net.layer2)
    late, strides = nn.Sequential(net.layer3, net.layer4), (8, 8 if large else 16)
    return Parts(early, late, (512, 2048), strides, [net.layer4])


def _padded(convolution: nn.Conv2d) -> None:
    """Let a 3 x 3 convolution keep its grid, or halve it exactly."""
    convolution.padding = (1, 1)


class _GridReduction(nn.Module):
    """Mixed_6a of InceptionV3 with stride 1: same layers, same weights, no smaller grid."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        for branch in (block.branch3x3, block.branch3x3dbl_3):
            branch.conv.stride = (1, 1)
            _padded(branch.conv)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        double = block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x)))
        pooled = nn.functional.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([block.branch3x3(x), double, pooled], 1)


def _inceptionv3(weights: str | None, large: bool) -> Parts:
    """InceptionV3 as SPG (Zhang et al., ECCV 2018) and Choe et al. cut it, to Mixed_6e.

    Early = Mixed_5d (stride 8); a 3 x 3 pooling with stride 2 unless maps are to be large; Mixed_6a
    without its stride; after Mixed_6e two new 3 x 3 layers of 1,024 channels, each behind dropout.
    The stem is padded so that 224 px give 28. Unlike their code, images are normalized as the
    weights expect it.
    """
    net = load_model(torchvision.models.inception_v3, weights, init_weights=True)
    _padded(net.Conv2d_1a_3x3.conv)
    pools = [nn.MaxPool2d(3, 2, padding=1, ceil_mode=True) for _ in range(2)]
    stem = (net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, pools[0])
    stem += (net.Conv2d_3b_1x1, net.Conv2d_4a_3x3, pools[1])
    early = nn.Sequential(*stem, net.Mixed_5b, net.Mixed_5c, net.Mixed_5d)
    pool = [] if large else [nn.MaxPool2d(3, 2, ceil_mode=True)]
    mixed = (_GridReduction(net.Mixed_6a), net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e)
    new = nn.Sequential(
        *(nn.Dropout(), nn.Conv2d(768, 1024, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Conv2d(1024, 1024, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout()),
    )
    late, strides = nn.Sequential(*pool, *mixed, new), (8, 8 if large else 16)
    return Parts(early, late, (288, 1024), strides, [new], normalization=HALF)


def _deit_s(weights: str | None, input_size: int) -> Parts:
    """DeiT-S (Touvron et al., ICML 2021): early after 6 of its 12 blocks, both of stride 16."""
    return Parts(*cut_deit_small(weights, input_size), (384, 384), (16, 16), as_map=token_map)


def _timm(name: str, weights: str | None) -> Parts:
    """Any network of timm that gives a pyramid of features; timm is an optional extra."""
    *parts, normalization = cut_timm(name, weights)
    return Parts(*parts, as_map=first_of, normalization=normalization)


_BUILDERS: dict[str, Callable[[str | None, int], Parts]] = {
    "vgg16": lambda weights, _: _vgg16(weights, large=False),
    "vgg16-28": lambda weights, _: _vgg16(weights, large=True),
    "resnet50": lambda weights, _: _resnet50(weights, large=False),
    "resnet50-28": lambda weights, _: _resnet50(weights, large=True),
    "inceptionv3": lambda weights, _: _inceptionv3(weights, large=False),
    "inceptionv3-28": lambda weights, _: _inceptionv3(weights, large=True),
    "deit-s": _deit_s,
}


def build_backbone(name: str, weights: str | None = None, input_size: int = 224) -> Backbone:
    """Build a backbone of the table above, e.g. ``small16`` or ``resnet50-28``.

    ``weights`` is None (random, from torch's global generator), ``"DEFAULT"`` (torchvision's
    ImageNet weights, downloaded) or the path of a local state dict of the whole ImageNet network.
    ``input_size`` is the side of the images in pixels; only deit-s depends on it.

    Raises ValueError for an unknown name or for weights of a small network, FileNotFoundError for
    a missing file.
    """
    if name.startswith("small") and name[5:].isdigit():
        if weights is not None:
            raise ValueError(f"{name} has no pretrained weights; set weights to None")
        return Backbone(_small(int(name[5:])), name)
    if name.startswith("timm/"):
        return Backbone(_timm(name[5:], weights), name)
    if name not in _BUILDERS:
        known = ", ".join(("small<width>", *_BUILDERS, "timm/<name>"))
        raise ValueError(f"unknown backbone {name!r}; known: {known}")
    return Backbone(_BUILDERS[name](weights, input_size), name)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
