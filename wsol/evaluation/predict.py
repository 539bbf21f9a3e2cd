"""Maps of a trained network: in memory, or of a whole split on disk, resumable, by many processes.

The *class map* A[c] and the *foreground map* S are logits, (N, h, w) at the network's own grid. A
:class:`read-out <READ_OUTS>` turns logits into what is resized and min-max normalized; it is chosen
on `train-fullsup` for every method alike.

On disk there is one memory-mapped float32 array per split and map, which every process writes its
own batches into, so nothing is gathered or padded. A batch always holds the same images, whichever
process predicts it: the maps are the same to the last bit with one CPU process and with many. All
processes run on one machine: network file systems do not keep memory-mapped files coherent.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from wsol.datasets.arrays import make_array
from wsol.datasets.files import MADE, check_replaceable, locked, new_folder, replace_folder
from wsol.datasets.images import Images, as_input, open_images
from wsol.datasets.progress import ProgressBar
from wsol.training.config import Execution
from wsol.training.distributed import (
    choose_device,
    launch,
    process_group,
    rank,
    set_precision,
    wait_for_all,
    world_size,
)
from wsol.training.features import open_features
from wsol.training.runs import code_digest, load_network

BATCH = 64  # images predicted together; the last bits of a map may depend on it
MAP_FILES = ("logits.npy", "class.npy", "foreground.npy")  # what `predict_split` leaves
DONE = "done.npy"  # which batches are in the arrays


def sigmoid(x: NDArray) -> NDArray:
    """Logistic function, clipped where it would overflow."""
    return 1 / (1 + np.exp(-x.clip(-60, 60)))


READ_OUTS = {"raw": lambda x: x, "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid}


@torch.inference_mode()
def run_network(network: nn.Module, images: Tensor):
    """Output of a network for a batch (B, 3, H, W) of uint8 RGB images.

    This is the only place where images enter a trained network: in [0, 1], channels last, on the
    device of the network's parameters.
    """
    return network(as_input(images, next(network.parameters()).device))


def predict_batch(
    network: nn.Module, images: Tensor, labels: Tensor | None = None
) -> dict[str, Tensor]:
    """Logits and maps of a batch (B, 3, H, W) uint8; without labels, the class map of class 0.

    Returns ``logits`` (B, K), ``class`` (B, h, w): the label's class map, and, where the network
    has a foreground head, ``foreground`` (B, h1, w1); maps are logits.
    """
    outputs = run_network(network, images)
    rows = torch.arange(len(images), device=outputs.logits.device)
    labels = torch.zeros_like(rows) if labels is None else labels.to(rows.device)
    maps = {"logits": outputs.logits, "class": outputs.class_maps[rows, labels]}
    if outputs.foreground is not None:
        maps["foreground"] = outputs.foreground[:, 0]
    return maps


def image_batches(images: Images | Tensor, size: int = BATCH) -> Iterator[tuple[slice, Tensor]]:
    """Rows and images (B, 3, L, L) uint8 of N images, `size` at a time."""
    for start in range(0, len(images), size):
        rows = slice(start, min(start + size, len(images)))
        yield rows, torch.stack([images[i] for i in range(rows.start, rows.stop)])


def predict(
    network: nn.Module, images: Images | Tensor, labels: Tensor, batch_size: int = BATCH
) -> dict[str, NDArray[np.float32]]:
    """Maps of N images of (3, L, L) uint8 with labels (N,), in memory.

    Returns what `predict_batch` does for each, as float32 arrays. The network is put into
    evaluation mode.
    """
    network.eval()
    parts = [
        predict_batch(network, batch, labels[rows])
        for rows, batch in image_batches(images, batch_size)
    ]
    return {name: torch.cat([part[name].cpu() for part in parts]).numpy() for name in parts[0]}


def product(class_maps: NDArray, foreground: NDArray, read_out: str) -> NDArray[np.float32]:
    """Multiply read-out class maps (N, h, w) with sigmoid(S) (N, h1, w1), on the finer grid."""
    size = np.maximum(class_maps.shape[1:], foreground.shape[1:]).tolist()
    upsampled = [
        F.interpolate(torch.from_numpy(np.array(m))[:, None], size=size, mode="bilinear")[:, 0]
        for m in (READ_OUTS[read_out](class_maps), sigmoid(foreground))
    ]
    return (upsampled[0].numpy() * upsampled[1].numpy()).astype(np.float32)


def read_out_map(maps: Mapping[str, NDArray], kind: str, read_out: str) -> NDArray:
    """One map (N, h, w) of a network's predictions, read out; the product is made of two.

    Raises KeyError if the network has no such map.
    """
    if kind == "product" and kind not in maps:
        return product(maps["class"], maps["foreground"], read_out)
    return READ_OUTS[read_out](maps[kind])


def read_outs(maps: Mapping[str, NDArray], kinds: Sequence[str]) -> dict[tuple[str, str], NDArray]:
    """Maps (N, h, w) under each (map, read-out) that the predictions of a network allow."""
    allowed = {*maps, "product"} if "foreground" in maps else {*maps}
    return {
        (kind, read_out): read_out_map(maps, kind, read_out)
        for read_out in READ_OUTS
        for kind in kinds
        if kind in allowed
    }


def load_maps(folder: str | Path) -> dict[str, NDArray[np.float32]]:
    """The arrays of a folder by name, memory-mapped and read-only."""
    return {p.stem: np.load(p, mmap_mode="r") for p in sorted(Path(folder).glob("*.npy"))}


def predict_split(
    weights: str | Path,
    rows: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    execution: Execution | None = None,
    resume_dir: str | Path | None = None,
) -> dict[str, NDArray]:
    """Predict the images of index rows into the folder `out`; return its arrays, memory-mapped.

    Finished batches are kept below `resume_dir` (by default beside `out`) until all are, so that a
    killed prediction resumes, and `out` is replaced when it is complete. With ``processes`` above 1
    child processes of `torchrun` predict; each of them calls this.
    """
    execution, out = execution or Execution(), Path(out)
    check_replaceable(out, _holds_maps)
    if execution.processes > 1 and world_size() == 1:
        words = [str(weights), f"--data={root}", f"--split={rows['split'].iloc[0]}", f"--out={out}"]
        words += [] if resume_dir is None else [f"--resume={resume_dir}"]
        launch("predict", words, asdict(execution), execution.processes)
        return load_maps(out)
    if world_size() != int(os.environ.get("LOCAL_WORLD_SIZE", world_size())):
        raise ValueError("several machines cannot write the same maps: predict on one")
    network, config = load_network(weights)
    torch.set_num_threads(config.threads)
    device = choose_device(execution.device)
    paths = [Path(root) / path for path in rows["path"]]
    images = open_images(paths, config.input_size, execution.cache, execution.cache_gb)
    if config.freeze != "none":
        network = network.to(device)
        images = open_features(images, network.backbone, config.input_size, execution)
    labels = torch.from_numpy(rows["label"].to_numpy().copy())
    set_precision(execution.precision)
    digest = hashlib.sha256(Path(weights).read_bytes() + code_digest().encode())
    digest.update(f"{images.digest()} {labels.tolist()} {execution.precision}".encode())
    partial = Path(resume_dir or out.parent) / f"{out.name}-{digest.hexdigest()[:16]}.partial"
    lock = nullcontext() if rank() else locked(partial.with_suffix(".lock"))
    with process_group(device), lock:
        arrays = _open_arrays(partial, network, config.input_size, len(images))
        _predict_all(network.to(device), images, labels, arrays, execution, device)
        del arrays
        wait_for_all()
        if rank() == 0:
            (partial / DONE).unlink()
            replace_folder(partial, out, _holds_maps)
        wait_for_all()
    return load_maps(out)


def _holds_maps(folder: Path) -> bool:
    """Whether nothing but predictions is in a folder, which another prediction may replace."""
    names = {path.name for path in folder.iterdir()}
    return "logits.npy" in names and names <= {*MAP_FILES, MADE}


def _open_arrays(
    folder: Path, network: nn.Module, size: int, n_images: int
) -> dict[str, np.ndarray]:
    if rank() == 0 and not (folder / DONE).is_file():
        new_folder(folder)
        one = predict_batch(network, torch.zeros(1, 3, size, size, dtype=torch.uint8))
        for name, value in one.items():
            make_array(folder / f"{name}.npy", np.float32, (n_images, *value.shape[1:]))
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
    done = arrays["done"]
    mine = [b for b in range(len(done)) if b % world_size() == rank() and not done[b]]
    loader = DataLoader(
        images,
        batch_sampler=[range(b * BATCH, min((b + 1) * BATCH, len(images))) for b in mine],
        num_workers=execution.loader_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    bar = ProgressBar(loader, desc="predict", unit="batch", show=rank() == 0)
    bf16 = execution.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        for b, batch in zip(mine, bar, strict=True):
            rows = slice(b * BATCH, b * BATCH + len(batch))
            for name, value in predict_batch(network, batch, labels[rows]).items():
                arrays[name][rows] = value.float().cpu().numpy()
            done[b] = 1  # after the values
