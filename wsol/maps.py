"""Maps of a trained network: predicted once per split, stored at the network's own grid.

One memory-mapped float32 array per split and map. The *class map* A[c] and the *foreground map* S
are stored as logits, (N, h, w); a :class:`read-out <READ_OUTS>` turns logits into what is resized
and min-max normalized, and is chosen on `train-fullsup` for every method alike.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wsol.images import to_float


def _sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x.clip(-60, 60)))


BATCH = 64  # images predicted together; the last bits of a map may depend on it
READ_OUTS = {
    "raw": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
}


@torch.inference_mode()
def predict_batch(
    network: nn.Module, images: Tensor, labels: Tensor | None = None
) -> dict[str, Tensor]:
    """Run a network over a batch (B, 3, H, W) uint8 on its device; without labels, of class 0.

    Returns ``logits`` (B, K), ``class`` (B, h, w): the label's class map, and, where the network
    has a foreground head, ``foreground`` (B, h1, w1); maps are logits.
    """
    outputs = network(to_float(images).contiguous(memory_format=torch.channels_last))
    rows = torch.arange(len(images), device=images.device)
    labels = torch.zeros_like(rows) if labels is None else labels
    found = {"logits": outputs.logits, "class": outputs.class_maps[rows, labels]}
    if outputs.foreground is not None:
        found["foreground"] = outputs.foreground[:, 0]
    return found


def predict(
    network: nn.Module, images: Tensor, labels: Tensor, batch_size: int = BATCH
) -> dict[str, NDArray[np.float32]]:
    """Run a network over (N, 3, H, W) uint8 images with (N,) labels, all in memory.

    Returns what `predict_batch` does for each, as float32 arrays; `wsol.prediction` does the same
    for images on disk.
    """
    network.eval()
    parts = [
        predict_batch(
            network, images[start : start + batch_size], labels[start : start + batch_size]
        )
        for start in range(0, len(images), batch_size)
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def product(class_maps: NDArray, foreground: NDArray, read_out: str) -> NDArray[np.float32]:
    """Multiply read-out class maps (N, h, w) with sigmoid(S) (N, h1, w1), on the finer grid."""
    size = np.maximum(class_maps.shape[1:], foreground.shape[1:]).tolist()
    upsample = [
        F.interpolate(torch.from_numpy(np.array(m))[:, None], size=size, mode="bilinear")[
            :, 0
        ].numpy()
        for m in (READ_OUTS[read_out](class_maps), _sigmoid(foreground))
    ]
    return (upsample[0] * upsample[1]).astype(np.float32)


def read_out_map(found: Mapping[str, NDArray], kind: str, name: str) -> NDArray:
    """One map (N, h, w) of what a network predicted, read out; the product is made of two.

    Raises KeyError if the network has no such map.
    """
    if kind == "product" and kind not in found:
        return product(found["class"], found["foreground"], name)
    return READ_OUTS[name](found[kind])


def read_outs(found: Mapping[str, NDArray], kinds: tuple[str, ...]) -> dict[tuple, NDArray]:
    """Maps (N, h, w) under each (map, read-out) that the predictions of a network allow."""
    allowed = {*found, "product"} if "foreground" in found else {*found}
    return {
        (kind, name): read_out_map(found, kind, name)
        for name in READ_OUTS
        for kind in kinds
        if kind in allowed
    }


def save_maps(folder: str | Path, maps: dict[str, NDArray]) -> None:
    """Write each array as ``<name>.npy``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in maps.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array, dtype=np.float32))


def load_maps(folder: str | Path) -> dict[str, NDArray[np.float32]]:
    """Open what :func:`save_maps` wrote, memory-mapped and read-only."""
    return {p.stem: np.load(p, mmap_mode="r") for p in sorted(Path(folder).glob("*.npy"))}
