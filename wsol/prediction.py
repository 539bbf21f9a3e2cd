"""Maps of a whole split on disk, predicted by one process or many, resumable.

    torchrun --nproc-per-node 4 -m wsol.prediction runs/train/cam-0/weights.safetensors \
        --data data/birds --split test --out runs/maps/test

The arrays (`wsol.maps`) are memory-mapped files that every process writes its own batches into, so
nothing is gathered or padded. A batch is always made of the same images, whoever predicts it: the
maps are the same to the last bit on one CPU process and on many. All processes run on one machine:
file systems that machines share do not keep such files coherent.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from wsol.config import Execution
from wsol.data import rows_of
from wsol.datasets.index import INDEX, read_index
from wsol.distributed import (
    choose_device,
    process_group,
    rank,
    set_precision,
    wait_for_all,
    world_size,
)
from wsol.image_store import Images, make_array, open_images
from wsol.locks import alone
from wsol.maps import BATCH, load_maps, predict_batch
from wsol.provenance import code_digest
from wsol.runs import load_network

DONE = "done.npy"  # which batches are in the arrays
CODE = ("images", "maps", "models", "prediction", "runs", "timm_backbone", "vit")


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
    digest = hashlib.sha256(Path(weights).read_bytes() + code_digest(*CODE).encode())
    digest.update(f"{images.digest()} {labels.tolist()} {execution.precision}".encode())
    partial = Path(resume_dir or out.parent) / f"{out.name}-{digest.hexdigest()[:16]}.partial"
    lock = nullcontext() if rank() else alone(partial.with_suffix(".lock"))
    with process_group(device), lock:
        arrays = _open_arrays(partial, network, config.input_size, len(images))
        _predict_all(network.to(device), images, labels, arrays, execution, device)
        del arrays
        wait_for_all()
        if rank() == 0:
            _replace(partial, out)
        wait_for_all()
    return load_maps(out)


def _replace(partial: Path, out: Path) -> None:
    """Put a complete folder in the place of an older one, and nothing but a folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists() or out.is_symlink():
        out.rename(old)
    finished = out.with_name(f"{out.name}.new")
    shutil.rmtree(finished, ignore_errors=True)
    shutil.move(partial, finished)  # the folder of what is unfinished may be on another disk
    (finished / DONE).unlink()
    finished.rename(out)
    old.unlink() if old.is_symlink() else shutil.rmtree(old, ignore_errors=True)


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
    from wsol.run_notebook import Refusal, read_settings
    from wsol.study import execution_from

    parser = argparse.ArgumentParser(prog="wsol.prediction", description="Predict a split.")
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
        print(f"wsol.prediction: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
