"""VGG16, ResNet50 and InceptionV3 of torchvision, with the strides of the CAM literature."""

from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from wsol.backbones.parts import HALF, Parts, load_state, read_weights


def load_torchvision(constructor: Callable, weights: str | None, **options: object) -> nn.Module:
    """A torchvision network with no weights, torchvision's, or those of a local file.

    Raises ValueError if the file is of another network.
    """
    if weights == "DEFAULT":
        return constructor(weights=weights)
    network = constructor(**options)
    if weights is not None:
        load_state(network, read_weights(weights), weights, constructor.__name__)
    return network


def vgg16(weights: str | None, large: bool) -> Parts:
    """VGG16 without pool5, for large maps without pool4, and a new layer conv6."""
    layers = load_torchvision(torchvision.models.vgg16, weights).features
    conv6 = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU(inplace=True))
    late = nn.Sequential(*layers[24 if large else 23 : 30], *conv6)  # layer 23 is pool4
    return Parts(layers[:23], late, (512, 1024), (8, 8 if large else 16), [conv6])


def resnet50(weights: str | None, large: bool) -> Parts:
    """Strides of layer4, and for large maps of layer3, removed; layer4 is fast as in Choe et al."""
    net = load_torchvision(torchvision.models.resnet50, weights)
    for layer in (net.layer3, net.layer4) if large else (net.layer4,):
        layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
    early = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)
    late, strides = nn.Sequential(net.layer3, net.layer4), (8, 8 if large else 16)
    return Parts(early, late, (512, 2048), strides, [net.layer4])


class _GridReduction(nn.Module):
    """Mixed_6a of InceptionV3 with stride 1: same layers, same weights, no smaller grid."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        for branch in (block.branch3x3, block.branch3x3dbl_3):
            branch.conv.stride, branch.conv.padding = (1, 1), (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        double = block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x)))
        pooled = nn.functional.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([block.branch3x3(x), double, pooled], 1)


def inceptionv3(weights: str | None, large: bool) -> Parts:
    """InceptionV3 as SPG (Zhang et al., ECCV 2018) and Choe et al. cut it, to Mixed_6e.

    A 3 x 3 pooling with stride 2 stands before Mixed_6a, which loses its stride, unless maps are
    large; two new 3 x 3 layers of 1,024 channels, each behind dropout, follow Mixed_6e. The stem is
    padded: 224 px give 28. Unlike in their code, images are normalized as the weights expect it.
    """
    net = load_torchvision(torchvision.models.inception_v3, weights, init_weights=True)
    net.Conv2d_1a_3x3.conv.padding = (1, 1)
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
