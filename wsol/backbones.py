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
    small<width>     stride 4          stride 8; for images of about 100 px
    timm/<name>      stride 8          the last features
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
EARLY_STRIDE = 8  # of the early features of timm's networks


@dataclass
class Parts:
    """A network cut in two, with the channels and strides of both outputs.

    fast : modules that the published recipes train at the rate of new layers
    as_map : from the output of a part to its map (B, C, h, w)
    normalization : mean and standard deviation of RGB that the pretrained weights expect
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
        for key, values in zip(("mean", "std"), parts.normalization, strict=True):
            self.register_buffer(key, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early((images - self.mean) / self.std)
        late = self.late(early)
        return self.as_map(early), self.as_map(late)  # (B, C1, h1, w1), (B, C2, h, w)

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that are fine-tuned at the plain rate; the others count as new layers."""
        return [p for p in self.parameters() if id(p) not in self._fast]


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, safetensors or torch's own, also below the key "model".

    Raises FileNotFoundError if there is no file, ValueError if it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise ValueError(f"weights: {path} holds no state dict")
    return state


def load_torchvision(constructor: Callable, weights: str | None, **options) -> nn.Module:
    """A torchvision network with no weights, torchvision's, or those of a local file."""
    if weights == "DEFAULT":
        return constructor(weights=weights)
    network = constructor(**options)
    if weights is not None:
        network.load_state_dict(read_weights(weights))
    return network


def load_timm(name: str, weights: str | None, **options) -> nn.Module:
    """A network of timm with no weights, timm's (downloaded), or those of a local file.

    timm adapts a file to the network where it can: position embeddings of another input size.
    Raises ValueError if timm has no such network, or the file is of another one.
    """
    import timm  # takes 1.5 s, which other backbones need not wait for

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    if weights in (None, "DEFAULT"):
        return timm.create_model(name, pretrained=weights is not None, **options)
    read_weights(weights)  # raises what is wrong with the file
    file = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(weights)))
    sizes = {key: options[key] for key in options.keys() & {"img_size"}}
    try:
        timm.create_model(name, **file, **sizes)  # the whole network, which is strict
    except RuntimeError as error:
        raise ValueError(f"weights: {weights} does not fit {name}: {error}") from error
    return timm.create_model(name, **file, **options)


def conv_block(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution of size x size pixels, batch normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _small(width: int) -> Parts:
    """Six layers for images of about 100 px: early stride 4, late stride 8."""
    w, w2, w4 = width, 2 * width, 4 * width
    early = nn.Sequential(conv_block(3, w, 2), conv_block(w, w2, 2), conv_block(w2, w2))
    late = nn.Sequential(conv_block(w2, w4, 2), conv_block(w4, w4), conv_block(w4, w4))
    return Parts(early, late, (w2, w4), (4, 8))


def _vgg16(weights: str | None, large: bool) -> Parts:
    layers = load_torchvision(torchvision.models.vgg16, weights).features
    conv6 = nn.Sequential(nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU(inplace=True))
    late = nn.Sequential(*layers[24 if large else 23 : 30], *conv6)  # layer 23 is pool4
    return Parts(layers[:23], late, (512, 1024), (8, 8 if large else 16), [conv6])


def _resnet50(weights: str | None, large: bool) -> Parts:
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


def _inceptionv3(weights: str | None, large: bool) -> Parts:
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


class _Tokens(nn.Module):
    """Images (B, 3, H, W) to class token and patch tokens with positions, (B, 1 + h w, C)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.patches, self.class_token = net.patch_embed, net.cls_token
        self.positions = net.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images)  # (B, h w, C)
        token = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=1) + self.positions


def token_map(tokens: Tensor) -> Tensor:
    """Patch tokens of (B, 1 + h w, C) as a map (B, C, h, w), h = w; the class token is left out."""
    side = math.isqrt(tokens.shape[1] - 1)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def _deit_s(weights: str | None, input_size: int) -> Parts:
    """DeiT-S (Touvron et al., ICML 2021), cut after 6 of its 12 blocks; both parts give tokens.

    As in TS-CAM (Gao et al., ICCV 2021) the class head sits on the patch tokens. The side of the
    images is a multiple of 16 pixels.
    """
    if input_size % 16:
        raise ValueError(f"input_size is {input_size}; deit-s needs a multiple of 16")
    net = load_timm("deit_small_patch16_224", weights, img_size=input_size)
    early = nn.Sequential(_Tokens(net), *net.blocks[:6])
    late = nn.Sequential(*net.blocks[6:], net.norm)
    return Parts(early, late, (384, 384), (16, 16), as_map=token_map)


class _Both(nn.Module):
    """Images to the early and the last features of a network, in one pass."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        early, last = self.net(images)
        if last.shape[1] != self.net.feature_info.channels()[-1]:
            raise ValueError(f"timm/{self.name} gives (B, h, w, C) features, not (B, C, h, w)")
        return early, last


class _Last(nn.Module):
    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        return both[1]


def _timm(name: str, weights: str | None) -> Parts:
    """A network of timm that gives a pyramid of features, one of them with stride 8."""
    strides = load_timm(name, None, features_only=True).feature_info.reduction()
    if EARLY_STRIDE not in strides:
        raise ValueError(f"timm/{name} has strides {strides}, none of them {EARLY_STRIDE}")
    places = (len(strides) - 1 - strides[::-1].index(EARLY_STRIDE), len(strides) - 1)
    net = load_timm(name, weights, features_only=True, out_indices=places)
    channels, strides = net.feature_info.channels(), net.feature_info.reduction()
    return Parts(
        *(_Both(net, name), _Last(), tuple(channels), tuple(strides)),
        as_map=lambda features: features if isinstance(features, Tensor) else features[0],
        normalization=(tuple(net.default_cfg["mean"]), tuple(net.default_cfg["std"])),
    )


_BUILDERS = {"vgg16": _vgg16, "resnet50": _resnet50, "inceptionv3": _inceptionv3}


def build_backbone(name: str, weights: str | None = None, input_size: int = 224) -> Backbone:
    """Build a backbone of the table above, e.g. ``small16`` or ``resnet50-28``.

    Parameters
    ----------
    name : see the table at the head of this module
    weights : None (random, from torch's global generator), ``"DEFAULT"`` (ImageNet weights of
        torchvision or timm, downloaded) or a path to a state dict of the whole ImageNet network
    input_size : side of the images in pixels; only deit-s depends on it

    Raises ValueError for an unknown name or for weights that do not fit, FileNotFoundError for a
    missing file.
    """
    if name.startswith("small") and name[5:].isdigit():
        if weights is not None:
            raise ValueError(f"{name} has no pretrained weights; set weights to None")
        return Backbone(_small(int(name[5:])), name)
    if name.startswith("timm/"):
        return Backbone(_timm(name[5:], weights), name)
    if name == "deit-s":
        return Backbone(_deit_s(weights, input_size), name)
    base = name.removesuffix("-28")
    if base not in _BUILDERS:
        known = f"small<width>, {', '.join(_BUILDERS)}, <these>-28, deit-s, timm/<name>"
        raise ValueError(f"unknown backbone {name!r}; known: {known}")
    return Backbone(_BUILDERS[base](weights, large=base != name), name)
