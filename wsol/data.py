"""From an index table to the tensors of a split, and from a background set to its tensor."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from wsol.datasets.backgrounds import background_paths
from wsol.images import load_images


def rows_of(index: pd.DataFrame, split: str) -> pd.DataFrame:
    """Rows of one split, numbered from 0. Raises ValueError if there are none."""
    rows = index[index["split"] == split].reset_index(drop=True)
    if rows.empty:
        there = ", ".join(sorted(set(index["split"]))) or "no split at all"
        raise ValueError(f"no image of the split {split!r} in this index table; it has {there}")
    return rows


def load_split(
    index: pd.DataFrame, root: str | Path, split: str, size: int
) -> tuple[Tensor, Tensor]:
    """Images (N, 3, size, size) uint8 and labels (N,) int64 of one split, in its order."""
    rows = rows_of(index, split)
    images = load_images([Path(root) / path for path in rows["path"]], size)
    return images, torch.from_numpy(rows["label"].to_numpy().copy())


def load_background(root: str | Path, n: int | None, size: int) -> Tensor:
    """The first n images, or all, of the background set root/background, (n, 3, size, size)."""
    return load_images(background_paths(Path(root) / "background", n), size)
