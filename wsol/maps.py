"""Maps of a trained network: predicted once per split, stored at the network's own grid.

One memory-mapped float32 array per split and map. The *class map* A[c] and the *foreground map* S
are stored as logits, (N, h, w); a :class:`read-out <READ_OUTS>` turns logits into what is resized
and min-max normalized, and is chosen on `train-fullsup` for every method alike.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wsol.images import to_float


def _sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x.clip(-60, 60)))


READ_OUTS = {
    "raw": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
}


@torch.inference_mode()
def predict(
    network: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 64
) -> dict[str, NDArray[np.float32]]:
    """Run a network over (N, 3, H, W) uint8 images with (N,) labels.

    Returns ``logits`` (N, K), ``class`` (N, h, w): the label's class map, and, where the network
    has a foreground head, ``foreground`` (N, h1, w1); maps are logits, float32.
    """
    network.eval()
    found: dict[str, list[Tensor]] = {"logits": [], "class": [], "foreground": []}
    for start in range(0, len(images), batch_size):
        batch = to_float(images[start : start + batch_size])
        outputs = network(batch.contiguous(memory_format=torch.channels_last))
        rows = torch.arange(len(batch))
        found["logits"].append(outputs.logits)
        found["class"].append(outputs.class_maps[rows, labels[start : start + batch_size]])
        if outputs.foreground is not None:
            found["foreground"].append(outputs.foreground[:, 0])
    return {name: torch.cat(parts).numpy() for name, parts in found.items() if parts}


def product(class_maps: NDArray, foreground: NDArray, read_out: str) -> NDArray[np.float32]:
    """Multiply read-out class maps (N, h, w) with sigmoid(S) (N, h1, w1), on the finer grid."""
    size = np.maximum(class_maps.shape[1:], foreground.shape[1:]).tolist()
    upsample = [
        F.interpolate(torch.from_numpy(m)[:, None], size=size, mode="bilinear")[:, 0].numpy()
        for m in (READ_OUTS[read_out](class_maps), _sigmoid(foreground))
    ]
    return (upsample[0] * upsample[1]).astype(np.float32)


def save_maps(folder: str | Path, maps: dict[str, NDArray]) -> None:
    """Write each array as ``<name>.npy``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in maps.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array, dtype=np.float32))


def load_maps(folder: str | Path) -> dict[str, NDArray[np.float32]]:
    """Open what :func:`save_maps` wrote, memory-mapped and read-only."""
    return {p.stem: np.load(p, mmap_mode="r") for p in sorted(Path(folder).glob("*.npy"))}
