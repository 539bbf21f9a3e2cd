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

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

# Pretrained weights: torchvision's by download, those of a local file, or none.


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, safetensors or torch's own, also if it lies under "model".

    Raises FileNotFoundError if there is no file, ValueError if it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'weights: no file {path}; give None, "DEFAULT" or a local file')
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights: {path} holds no state dict")
    return state


def load_model(constructor: Callable[..., nn.Module], weights: str | None, **options) -> nn.Module:
    """Build a torchvision model with no weights, torchvision's, or those of a local file."""
    if weights == "DEFAULT":
        return constructor(weights=weights)
    model = constructor(weights=None, **options)
    if weights is not None:
        model.load_state_dict(read_weights(weights))
    return model


# Any network of timm as a backbone, for those who have timm (`pip install "wsol[timm]"`).

EARLY_STRIDE = 8


class _Both(nn.Module):
    """Images to the early and the last features of a network, which are taken out in one pass."""

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


def first_of(features: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """The early of both features; other features as they are."""
    return features if isinstance(features, Tensor) else features[0]


def cut_timm(
    name: str, weights: str | None
) -> tuple[nn.Module, nn.Module, tuple[int, int], tuple[int, int], tuple]:
    """Early and late part, their channels and strides; mean and deviation that weights expect.

    ``weights`` is None, "DEFAULT" (timm's, downloaded) or a local file of timm's state dict. Raises
    ImportError without timm, ValueError for a network that has no features of stride 8.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'backbone timm/{name} needs timm: pip install "wsol[timm]"') from error
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    options = {"pretrained": weights == "DEFAULT"}
    if weights not in (None, "DEFAULT"):
        whole = timm.create_model(name)
        whole.load_state_dict(read_weights(weights))
    probe = timm.create_model(name, features_only=True)
    reductions = probe.feature_info.reduction()
    if EARLY_STRIDE not in reductions:
        raise ValueError(f"timm/{name} has strides {reductions}, none of them {EARLY_STRIDE}")
    early = len(reductions) - 1 - reductions[::-1].index(EARLY_STRIDE)
    places = (early, len(reductions) - 1)
    net = timm.create_model(name, features_only=True, out_indices=places, **options)
    if weights not in (None, "DEFAULT"):
        net.load_state_dict(_of_features(whole.state_dict(), net))
    channels, strides = net.feature_info.channels(), net.feature_info.reduction()
    normalization = tuple(net.default_cfg["mean"]), tuple(net.default_cfg["std"])
    return _Both(net, name), _Last(), tuple(channels), tuple(strides), normalization


def _of_features(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The part of a whole network's state that its features have, under the names they have.

    timm flattens the features, `blocks.0.x` becomes `blocks_0.x` there, or wraps the network, then
    it is `model.blocks.0.x`.
    """
    flat = {name.replace(".", "_"): value for name, value in state.items()}
    names = {name: name.removeprefix("model.").replace(".", "_") for name in net.state_dict()}
    return {name: flat[whole] for name, whole in names.items()}


# DeiT-S as a backbone: patch tokens laid out as a map.

PATCH, WIDTH, BLOCKS, HEADS = 16, 384, 12, 6

# Names in the published weights (those of timm, whose authors are DeiT's) and in torchvision.
_BLOCK = r"encoder.layers.encoder_layer_\1."
_NAMES = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
    (r"^blocks\.(\d+)\.norm([12])\.", _BLOCK + r"ln_\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", _BLOCK + "self_attention.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", _BLOCK + "self_attention.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", _BLOCK + "mlp.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", _BLOCK + "mlp.3."),
)


class Tokens(nn.Module):
    """Images (B, 3, H, W) to class token and patch tokens with positions, (B, 1 + h w, C)."""

    def __init__(self, net: VisionTransformer) -> None:
        super().__init__()
        self.patches, self.class_token = net.conv_proj, net.class_token
        self.positions = net.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)  # (B, h w, C)
        token = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=1) + self.positions


def token_map(tokens: Tensor) -> Tensor:
    """Patch tokens of (B, 1 + h w, C) as a map (B, C, h, w), h = w; the class token is left out."""
    B, N, C = tokens.shape
    side = math.isqrt(N - 1)
    return tokens[:, 1:].transpose(1, 2).reshape(B, C, side, side)


def rename_deit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of DeiT-S as its authors publish it, under torchvision's names.

    Both store query, key and value in one matrix in this order, so that nothing is rearranged.
    """
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Position embeddings (1, 1 + h w, C) for a grid of side x side, bicubic; the first stays."""
    grid = token_map(positions)
    if grid.shape[-1] == side:
        return positions
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def build_deit_small(weights: str | None, input_size: int) -> VisionTransformer:
    """Build DeiT-S for square images whose side, in pixels, is a multiple of 16.

    ``weights`` is None or a local file, with DeiT's names or torchvision's. Raises ValueError for
    another side, for weights of another network, and for "DEFAULT": torchvision publishes no
    weights of this size.
    """
    if input_size % PATCH:
        raise ValueError(f"input_size is {input_size}; deit-s needs a multiple of {PATCH}")
    if weights == "DEFAULT":
        raise ValueError("torchvision has no weights of deit-s; give the file of DeiT's authors")
    net = VisionTransformer(input_size, PATCH, BLOCKS, HEADS, WIDTH, 4 * WIDTH)
    if weights is not None:
        state = rename_deit(read_weights(weights))
        name = "encoder.pos_embedding"
        if name not in state:
            raise ValueError(f"weights: {weights} holds no vision transformer")
        state[name] = resize_positions(state[name], input_size // PATCH)
        net.load_state_dict(state)
    return net


def cut_deit_small(weights: str | None, input_size: int) -> tuple[nn.Module, nn.Module]:
    """DeiT-S cut after the sixth block; both halves give tokens, see :func:`token_map`."""
    net = build_deit_small(weights, input_size)
    blocks = list(net.encoder.layers)
    half = BLOCKS // 2
    return nn.Sequential(Tokens(net), *blocks[:half]), nn.Sequential(*blocks[half:], net.encoder.ln)


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
