"""Boxes for anybody's pictures: what a trained network sees in them, and where.

    found = wsol.localize("my pictures", "runs/train/background-0")

Nobody knows the label of such a picture, so the box is that of the *predicted* class's map, where
the evaluation uses the label's. All else is the evaluation's: squashed to the network's square,
read out and cut as was chosen on `train-fullsup`, the box of the largest contour.

Shapes: B images, K classes, H W image, L side of the network's input, h w map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from wsol.datasets.images import to_float
from wsol.evaluation.boxes import FRAME, largest_box, score_map
from wsol.evaluation.predict import read_out_map
from wsol.inference.inputs import Picture, Source, batches
from wsol.inference.settings import (
    BoxSettings,
    box_settings,
    class_names,
    find_evaluation,
    open_run,
)
from wsol.methods import Outputs
from wsol.training.distributed import choose_device


class Found(NamedTuple):
    """One class of one picture, and where it is.

    image : the file as it was given, or "array i" for the i-th of the pictures given
    width, height : of the picture as it is looked at (see `wsol.inference.inputs.read_picture`), pixels
    rank : 1 for the predicted class, 2 for the next, ...
    label : class number from 0
    class_name : its name, or the number where no names are known
    score : softmax probability, 0 to 1
    box : (4,) x0, y0, x1, y1 in pixels of the picture, see `box_in_image`; zeros where the map is
        constant, which has no box
    score_map : (FRAME, FRAME) float32 in [0, 1], the map that the box was cut from
    """

    image: str
    width: int
    height: int
    rank: int
    label: int
    class_name: str
    score: float
    box: NDArray[np.float64]
    score_map: NDArray[np.float32] | None


def box_in_image(box: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """A box (4,) of the frame, in pixels of an image of (width, height).

    This undoes `wsol.evaluation.boxes.resize_boxes`. The protocol's far corner is one pixel past the object,
    and so is the index table's (x1 = x0 + width): nothing is added. Only where the frame ends has
    the protocol moved it back to the last pixel; there it becomes the edge of the image.
    """
    near, far = np.asarray(box, np.float64)[:2], np.asarray(box, np.float64)[2:]
    far = np.where(far == FRAME - 1, FRAME, far)
    return np.concatenate([near, far]) * np.tile(image_size, 2) / FRAME


def _maps(outputs: Outputs, labels: NDArray[np.int64], settings: BoxSettings) -> NDArray:
    """Maps (B, h, w) of one class per image, read out."""
    rows = torch.arange(len(labels)), torch.from_numpy(labels)
    found = {"class": outputs.class_maps[rows]}
    if outputs.foreground is not None:
        found["foreground"] = outputs.foreground[:, 0]
    arrays = {name: maps.cpu().numpy() for name, maps in found.items()}
    return read_out_map(arrays, settings.kind, settings.read_out)


@torch.inference_mode()
def _localize(
    network: nn.Module,
    pictures: Sequence[Picture],
    settings: BoxSettings,
    names: Sequence[str],
    top: int,
) -> list[Found]:
    """One batch; the `top` classes of each picture, the likeliest first."""
    squares = torch.from_numpy(np.stack([picture.square for picture in pictures]))
    squares = squares.to(next(network.parameters()).device)
    outputs = network(to_float(squares).contiguous(memory_format=torch.channels_last))
    probabilities = outputs.logits.softmax(dim=1).cpu().numpy()
    # Of equal logits the class of lower number comes first, as in the evaluation.
    labels = np.argsort(-outputs.logits.cpu().numpy(), axis=1, kind="stable")[:, :top]
    maps = [_maps(outputs, labels[:, k], settings) for k in range(top)]
    found = []
    for b, picture in enumerate(pictures):
        for k, label in enumerate(labels[b].tolist()):
            score = score_map(maps[k][b])
            box = box_in_image(largest_box(score, settings.tau), picture.size)
            about = (picture.name, *picture.size, k + 1, label, names[label])
            found.append(
                Found(*about, float(probabilities[b, label]), box, score.astype(np.float32))
            )
    return found


def iterate_images(
    images: Source | Iterable[Source],
    run: str | Path,
    *,
    evaluation: str | Path | None = None,
    map: str = "class",
    tau: float | None = None,
    read_out: str | None = None,
    data: str | Path | None = None,
    batch_size: int = 32,
    device: str = "auto",
    top: int = 1,
    errors: Literal["raise", "skip"] = "raise",
    skipped: list[str] | None = None,
) -> Iterator[Found]:
    """As `localize`, one after the other: no more than a batch is in memory.

    What is wrong with the settings is raised here, what is wrong with a picture at its turn.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f'errors is {errors!r}; known: "raise", "skip"')
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    network, config, num_classes = open_run(run, map, choose_device(device))
    if evaluation is None and tau is None:
        evaluation = find_evaluation(run)
    settings = box_settings(run, config, evaluation, map, tau, read_out)
    names = class_names(run, data, num_classes)
    if not 1 <= top <= num_classes:
        raise ValueError(f"top is {top}; it must be 1 to {num_classes}, the number of classes")

    def found() -> Iterator[Found]:
        for pictures in batches(images, batch_size, config.input_size, errors, skipped):
            yield from _localize(network, pictures, settings, names, top)

    return found()


def localize(
    images: Source | Iterable[Source],
    run: str | Path,
    *,
    evaluation: str | Path | None = None,
    map: str = "class",
    tau: float | None = None,
    read_out: str | None = None,
    data: str | Path | None = None,
    batch_size: int = 32,
    device: str = "auto",
    top: int = 1,
    errors: Literal["raise", "skip"] = "raise",
    skipped: list[str] | None = None,
) -> list[Found]:
    """Say what is in pictures, and where.

    Parameters
    ----------
    images : a file, a folder (everything below it, sorted), an array (H, W, 3) uint8 RGB, or
        several of these
    run : folder of a trained run, with weights.safetensors
    evaluation : folder of localization tables, from which the run's own on `train-fullsup` gives
        tau and read-out; by default where the pipeline puts it, see `find_evaluation`
    map : "class", or "foreground" or "product" where the network has a foreground head
    tau : score-map threshold, 0 to below 1, in the place of the evaluation's
    read_out : "raw", "relu" or "sigmoid", together with tau; by default the evaluation's, or "raw"
    data : folder of a data set whose index.csv has the class names, in the place of the run's own
    batch_size : pictures at a time
    device : "auto" (a GPU if there is one), "cpu", "cuda", ...
    top : classes per picture, each with its own box
    errors : "skip" passes over pictures that cannot be read, with a warning
    skipped : list to which "skip" appends one line per picture passed over, without a warning

    Returns `top` entries per picture, in the order given. `wsol.inference.export.found_table` makes a
    table of them; `iterate_images` does the same in flat memory, for their score maps take 200 kB
    each.

    Raises ValueError if a picture cannot be read, with its name, if a setting cannot be right, or
    if there is neither evaluation nor tau; FileNotFoundError if the run has no weights.
    """
    choices = dict(evaluation=evaluation, map=map, tau=tau, read_out=read_out, data=data)
    batches = dict(batch_size=batch_size, device=device, top=top, errors=errors, skipped=skipped)
    return list(iterate_images(images, run, **choices, **batches))
