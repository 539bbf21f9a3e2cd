"""Maps of a whole split on disk, predicted by one process or many, resumable.

    torchrun --nproc-per-node 4 -m wsol.evaluation.predict runs/train/cam-0/weights.safetensors         --data data/birds --split test --out runs/maps/test

The arrays (`wsol.evaluation.predict`) are memory-mapped files that every process writes its own batches into, so
nothing is gathered or padded. A batch is always made of the same images, whoever predicts it: the
maps are the same to the last bit on one CPU process and on many. All processes run on one machine:
file systems that machines share do not keep such files coherent.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from wsol.datasets.files import replace_folder
from wsol.datasets.images import Images, make_array, open_images, to_float
from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.training.config import Execution
from wsol.training.distributed import (
    choose_device,
    process_group,
    rank,
    set_precision,
    wait_for_all,
    world_size,
)
from wsol.training.runs import code_digest, load_network

# Maps of a trained network: predicted once per split, stored at the network's own grid.


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

    Returns what `predict_batch` does for each, as float32 arrays; `wsol.evaluation.predict` does the same
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


DONE = "done.npy"  # which batches are in the arrays


class _Batches(Dataset):
    """Item b is the b-th batch of images, (n, 3, L, L) uint8."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, b: int) -> Tensor:
        rows = range(b * BATCH, min((b + 1) * BATCH, len(self.images)))
        return torch.stack([self.images[i] for i in rows])


def predict_split(
    weights: str | Path,
    rows: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    execution: Execution | None = None,
    resume_dir: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Predict the images of index rows into the folder `out`; return its arrays, memory-mapped.

    What is finished is kept below `resume_dir` (by default beside `out`) until all is, so that a
    killed prediction goes on, and `out` is replaced when it is complete. Under `torchrun` every
    process calls this.
    """
    execution, out = execution or Execution(), Path(out)
    if world_size() != int(os.environ.get("LOCAL_WORLD_SIZE", world_size())):
        raise ValueError("several machines cannot write the same maps: predict on one")
    network, config = load_network(weights)
    torch.set_num_threads(config.threads)
    device = choose_device(execution.device)
    paths = [Path(root) / path for path in rows["path"]]
    images = open_images(paths, config.input_size, execution.cache, execution.cache_gb)
    labels = torch.from_numpy(rows["label"].to_numpy().copy())
    set_precision(execution.precision)
    digest = hashlib.sha256(Path(weights).read_bytes() + code_digest().encode())
    digest.update(f"{images.digest()} {labels.tolist()} {execution.precision}".encode())
    partial = Path(resume_dir or out.parent) / f"{out.name}-{digest.hexdigest()[:16]}.partial"
    lock = nullcontext() if rank() else FileLock(partial.with_suffix(".lock"))
    partial.parent.mkdir(parents=True, exist_ok=True)
    with process_group(device), lock:
        arrays = _open_arrays(partial, network, config.input_size, len(images))
        _predict_all(network.to(device), images, labels, arrays, execution, device)
        del arrays
        wait_for_all()
        if rank() == 0:
            (partial / DONE).unlink()
            replace_folder(partial, out)
        wait_for_all()
    return load_maps(out)


def _open_arrays(
    folder: Path, network: nn.Module, size: int, n_images: int
) -> dict[str, np.ndarray]:
    """The arrays to write into, and "done", a flag per batch; made by the first process."""
    if rank() == 0 and not (folder / DONE).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        one = predict_batch(network, torch.zeros(1, 3, size, size, dtype=torch.uint8))
        for name, value in one.items():
            shape = (n_images, *value.shape[1:])
            make_array(folder / f"{name}.npy", np.float32, shape)
        make_array(folder / "new.npy", np.uint8, (-(-n_images // BATCH),))
        (folder / "new.npy").replace(folder / DONE)  # last: with it the folder is complete
    wait_for_all()
    return {path.stem: np.load(path, mmap_mode="r+") for path in folder.glob("*.npy")}


def _predict_all(
    network: nn.Module,
    images: Images,
    labels: Tensor,
    arrays: dict[str, np.ndarray],
    execution: Execution,
    device: torch.device,
) -> None:
    """Predict the batches of this process that are not done yet."""
    done = arrays["done"]
    mine = [b for b in range(len(done)) if b % world_size() == rank() and not done[b]]
    bf16 = execution.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        for b, batch in _loaded(images, mine, execution, device):
            here = slice(b * BATCH, b * BATCH + len(batch))
            found = predict_batch(network, batch, labels[here].to(device))
            for name, value in found.items():
                arrays[name][here] = value.float().cpu().numpy()
            done[b] = 1  # after the values


def _loaded(
    images: Images, batches: Sequence[int], execution: Execution, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Numbers and images of batches, the latter on the device."""
    loader = DataLoader(
        _Batches(images),
        batch_size=None,
        sampler=batches,
        num_workers=execution.loader_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    bar = tqdm(loader, desc="predict", unit="batch", disable=rank() > 0)
    for b, batch in zip(batches, bar, strict=True):
        yield b, batch.to(device, non_blocking=True)


def main(words: Sequence[str] | None = None) -> int:
    """Predict one split; 2 and one message where something is wrong with the input."""
    from wsol.notebook import Refusal, read_settings
    from wsol.training.config import execution_from

    parser = argparse.ArgumentParser(prog="wsol.evaluation.predict", description="Predict a split.")
    parser.add_argument("weights", type=Path, help="of a run")
    parser.add_argument("--data", type=Path, required=True, help="folder of index.csv")
    parser.add_argument("--split", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the maps")
    parser.add_argument("--resume", type=Path, help="folder for what is not finished")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args(words)
    try:
        execution = execution_from(read_settings(given.set))
        rows = rows_of(read_index(given.data / INDEX), given.split)
        predict_split(given.weights, rows, given.data, given.out, execution, given.resume)
    except (Refusal, ValueError, OSError) as error:  # of what was given
        print(f"wsol.evaluation.predict: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
