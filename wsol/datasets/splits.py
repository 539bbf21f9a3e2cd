"""Splits for a data set that has none: drawn class by class, the same whenever they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from wsol.datasets.index import SPLITS

SHARES = (0.7, 0.1, 0.2)  # of train-weaksup, train-fullsup and test


def check_shares(shares: Sequence[float]) -> None:
    """Raise ValueError unless these are shares of the three splits."""
    if len(shares) != 3 or min(shares) < 0 or not math.isclose(sum(shares), 1):
        raise ValueError(f"shares are {tuple(shares)}; they must be three that add up to 1")
    if shares[0] == 0:
        raise ValueError("the share of train-weaksup is 0; there must be something to learn from")


def _counts(images: int, boxed: int, shares: Sequence[float]) -> tuple[int, int]:
    """Images of one class in `train-fullsup` and `test`.

    Rounded, but at least one where the share is not 0 and the class has enough; training comes
    first, then the test, and neither of the two takes an image without a box.
    """
    fullsup, test = (
        max(1, math.floor(share * images + 0.5)) if share else 0 for share in shares[1:]
    )
    test = max(0, min(test, images - 1, boxed))
    return max(0, min(fullsup, images - 1 - test, boxed - test)), test


def draw_splits(
    classes: Mapping[str, Sequence[str]],
    boxed: set[str] | None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> dict[str, str]:
    """The split of every image.

    classes : images of each class
    boxed : images with a box, the only ones that may leave `train-weaksup`; None for all
    shares : of `train-weaksup`, `train-fullsup` and `test`, within every class
    seed : another one draws other splits

    The draw of one class does not depend on the others. Raises ValueError for impossible shares.
    """
    check_shares(shares)
    split = {}
    for name, images in classes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        candidates = [image for image in sorted(images) if boxed is None or image in boxed]
        drawn = [candidates[i] for i in rng.permutation(len(candidates))]
        fullsup, test = _counts(len(images), len(candidates), shares)
        split |= dict.fromkeys(images, SPLITS[0])
        split |= dict.fromkeys(drawn[:fullsup], SPLITS[1])
        split |= dict.fromkeys(drawn[fullsup : fullsup + test], SPLITS[2])
    return split
