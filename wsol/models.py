"""Backbones behind one function: a network cut in two, an early part and a late part.

:func:`build_backbone` returns a :class:`Backbone` whose ``early`` features keep small receptive
fields (the foreground head of the background method sits there) and whose ``late`` features feed
the class head. Strides and layers follow the CAM literature (Zhou et al., CVPR 2016; Choe et al.,
CVPR 2020): VGG16 without its last pooling, ResNet50 with stride 1 in its last stage.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class _Parts:
    """A network cut in two, with the channels and strides of both outputs."""

    early: nn.Module
    late: nn.Module
    channels: tuple[int, int]
    strides: tuple[int, int]


class Backbone(nn.Module):
    """``early`` (B, C1, h1, w1) and ``late`` (B, C2, h, w) features of (B, 3, H, W) images.

    Images are RGB in [0, 1]; they are normalized here, so that no caller can forget it.
    """

    def __init__(self, parts: _Parts) -> None:
        super().__init__()
        self.early, self.late = parts.early, parts.late
        self.early_channels, self.late_channels = parts.channels
        self.early_stride, self.late_stride = parts.strides
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early((images - self.mean) / self.std)  # (B, C1, h1, w1)
        return early, self.late(early)  # (B, C2, h, w)


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _small(width: int) -> _Parts:
    """Six layers for pictures of about 100 px: early stride 4, late stride 8."""
    early = nn.Sequential(
        conv_block(3, width, 2), conv_block(width, 2 * width, 2), conv_block(2 * width, 2 * width)
    )
    late = nn.Sequential(
        conv_block(2 * width, 4 * width, 2),
        conv_block(4 * width, 4 * width),
        conv_block(4 * width, 4 * width),
    )
    return _Parts(early, late, (2 * width, 4 * width), (4, 8))


def _vgg16(weights: str | None) -> _Parts:
    """VGG16: early = conv4_3 (stride 8), late = conv5_3 without pool5 and a 3 x 3 conv6."""
    layers = _load(torchvision.models.vgg16, weights).features
    conv6 = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU(inplace=True))
    return _Parts(layers[:23], nn.Sequential(*layers[23:30], *conv6), (512, 1024), (8, 16))


def _resnet50(weights: str | None) -> _Parts:
    """ResNet50: early = layer2 (stride 8), late = layer4 with its stride removed (stride 16)."""
    net = _load(torchvision.models.resnet50, weights)
    net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
    stem = (net.conv1, net.bn1, net.relu, net.maxpool)
    early = nn.Sequential(*stem, net.layer1, net.layer2)
    return _Parts(early, nn.Sequential(net.layer3, net.layer4), (512, 2048), (8, 16))


def _load(constructor, weights: str | None) -> nn.Module:
    """Build a torchvision model with no weights, torchvision's, or those of a local file."""
    if weights is None or weights == "DEFAULT":
        return constructor(weights=weights)
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    model = constructor(weights=None)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


def build_backbone(name: str, weights: str | None = None) -> Backbone:
    """Build ``small<width>`` (as in ``small16``), ``vgg16`` or ``resnet50``.

    ``weights`` is None (random, from torch's global generator), ``"DEFAULT"`` (torchvision's
    ImageNet weights, downloaded) or the path of a local torchvision state dict.

    Raises ValueError for an unknown name or for weights of a small network, FileNotFoundError for
    a missing file.
    """
    if name.startswith("small") and name[5:].isdigit():
        if weights is not None:
            raise ValueError(f"{name} has no pretrained weights; set weights to None")
        return Backbone(_small(int(name[5:])))
    builders = {"vgg16": _vgg16, "resnet50": _resnet50}
    if name not in builders:
        raise ValueError(f"unknown backbone {name!r}; known: small<width>, {', '.join(builders)}")
    return Backbone(builders[name](weights))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
