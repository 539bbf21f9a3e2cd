"""DeiT-S as a backbone: patch tokens laid out as a map.

Touvron et al., Training data-efficient image transformers & distillation through attention, ICML
2021: torchvision's vision transformer with 12 blocks, 6 heads, width 384 and patches of 16 px. The
class token travels along but classifies nothing: as in TS-CAM (Gao et al., ICCV 2021) the class
head sits on the patch tokens, which are what a map can be made of.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from wsol.pretrained import read_weights

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
