"""Everything random in one epoch, drawn at once: order, background images, crops, flips.

The draws follow from (seed, epoch) alone. So a batch can be made anywhere, by any worker, in any
process, or after a resumed run has skipped the steps before it, and is the same.

Every decision takes one 32-bit word of torch's Mersenne Twister. That is also what
`v2.RandomCrop` and `v2.RandomHorizontalFlip` take when they are called image by image, so their
draws are the same (for a crop smaller than the image; torchvision does not draw for another); all
at once they cost a fraction of a second instead of a minute for ILSVRC.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FLIP = 2**23  # of the 24 bits that torch.rand makes a float of: below one half


class Picks(NamedTuple):
    """Images of each step, S steps of n images."""

    rows: Tensor  # (S, n) which image
    top: Tensor  # (S, n) corner of the crop, pixels
    left: Tensor  # (S, n)
    flip: Tensor  # (S, n) bool


class Draws(NamedTuple):
    """One epoch; background is None where the method uses none."""

    objects: Picks
    background: Picks | None


def draw_epoch(
    seed: int,
    epoch: int,
    n_images: int,
    batch_size: int,
    margin: int,
    n_background: int = 0,
    background_batch: int = 0,
) -> Draws:
    """Draw the epoch with number `epoch` from 0; the last images that fill no batch are left out.

    margin : pixels by which an image is larger than its crop
    n_background : images of the background set, of which each step takes `background_batch`, with
        replacement; 0 for none
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch + 1)
    steps = n_images // batch_size
    order = torch.randperm(n_images, generator=generator)[: steps * batch_size]
    extra = background_batch if n_background else 0
    per_step = 4 * extra + 3 * batch_size
    words = _words(steps * per_step, generator).view(steps, per_step)
    background = None
    if n_background:
        rows = words[:, :extra] % n_background
        background = Picks(rows, *_crops(words[:, extra : 4 * extra], margin))
    objects = Picks(order.view(steps, batch_size), *_crops(words[:, 4 * extra :], margin))
    return Draws(objects, background)


def _words(count: int, generator: torch.Generator) -> Tensor:
    """The next words of the generator, (count,) int64 of 0 to 2**32 - 1."""
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64)
    pairs.random_(-(2**63), None, generator=generator)  # 64 bits: first the upper word, then
    upper, lower = (pairs >> 32) & (2**32 - 1), pairs & (2**32 - 1)  # the lower
    return torch.stack([upper, lower], dim=1).flatten()[:count]


def _crops(words: Tensor, margin: int) -> tuple[Tensor, Tensor, Tensor]:
    """Corners and flips from three words an image, (S, 3 n)."""
    top, left, flip = words.view(len(words), words.shape[1] // 3, 3).unbind(-1)
    return top % (margin + 1), left % (margin + 1), (flip & (2**24 - 1)) < FLIP
