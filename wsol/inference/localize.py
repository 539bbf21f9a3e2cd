"""Classes and boxes for images without ground truth, from a trained run.

    detections = wsol.localize("my images", "runs/train/background-0")

The label of such an image is not known, so the box is that of the *predicted* class's map, where
the evaluation uses the label's. Everything else is as in the evaluation: images are squashed to
the network's square, maps are read out and thresholded as chosen on `train-fullsup`, and the box is
that of the largest contour.

Shapes: B images, K classes, H W image, L side of the network's input, h w map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from wsol.evaluation.boxes import FRAME, largest_box, score_map
from wsol.evaluation.predict import read_out_map, run_network
from wsol.inference.inputs import InputImage, Source, batches
from wsol.inference.settings import (
    BoxSettings,
    box_settings,
    class_names,
    find_evaluation,
    open_run,
)
from wsol.methods import Outputs
from wsol.training.distributed import choose_device


class Detection(NamedTuple):
    """One class of one image, and its box.

    image : the file as it was given, or "array i" for the i-th of the images
    width, height : of the image after EXIF rotation, pixels
    rank : 1 for the predicted class, 2 for the next, ...
    label : class number from 0
    class_name : its name, or the number where no names are known
    score : softmax probability, 0 to 1
    box : (4,) x0, y0, x1, y1 in pixels of the image, see `box_in_image`; zeros where the map is
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
    """Convert a box (4,) of the frame to pixels of an image of (width, height).

    This undoes `wsol.evaluation.boxes.resize_boxes`. The protocol's far corner is one pixel past
    the object, and so is the index table's (x1 = x0 + width): nothing is added. Only at the end of
    the frame has the protocol moved it back to the last pixel; there it becomes the image's edge.
    """
    near, far = np.asarray(box, np.float64)[:2], np.asarray(box, np.float64)[2:]
    far = np.where(far == FRAME - 1, FRAME, far)
    return np.concatenate([near, far]) * np.tile(image_size, 2) / FRAME


def _maps(outputs: Outputs, labels: NDArray[np.int64], settings: BoxSettings) -> NDArray:
    """Maps (B, h, w) of one class per image, read out."""
    rows = torch.arange(len(labels)), torch.from_numpy(labels)
    maps = {"class": outputs.class_maps[rows]}
    if outputs.foreground is not None:
        maps["foreground"] = outputs.foreground[:, 0]
    arrays = {name: values.cpu().numpy() for name, values in maps.items()}
    return read_out_map(arrays, settings.kind, settings.read_out)


def _localize_batch(
    network: nn.Module,
    images: Sequence[InputImage],
    settings: BoxSettings,
    names: Sequence[str],
    top: int,
) -> list[Detection]:
    squares = torch.from_numpy(np.stack([image.square for image in images]))
    outputs = run_network(network, squares)
    probabilities = outputs.logits.softmax(dim=1).cpu().numpy()
    # Of equal logits the class of lower number comes first, as in the evaluation.
    labels = np.argsort(-outputs.logits.cpu().numpy(), axis=1, kind="stable")[:, :top]
    maps = [_maps(outputs, labels[:, k], settings) for k in range(top)]
    detections = []
    for b, image in enumerate(images):
        for k, label in enumerate(labels[b].tolist()):
            score = score_map(maps[k][b])
            box = box_in_image(largest_box(score, settings.tau), image.size)
            about = (image.name, *image.size, k + 1, label, names[label])
            probability = float(probabilities[b, label])
            detections.append(Detection(*about, probability, box, score.astype(np.float32)))
    return detections


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
) -> Iterator[Detection]:
    """Localize images one after the other, with no more than a batch in memory.

    Parameters
    ----------
    images : a file, a folder (everything below it, sorted), an array (H, W, 3) uint8 RGB, or
        several of these
    run : folder of a trained run, with weights.safetensors
    evaluation : folder of localization tables; the run's own on `train-fullsup` gives tau and
        read-out; by default the pipeline's, see `find_evaluation`
    map : "class", or "foreground" or "product" where the network has a foreground head
    tau : score-map threshold, 0 to below 1, instead of the evaluation's
    read_out : "raw", "relu" or "sigmoid", together with tau; by default the evaluation's, or "raw"
    data : folder of a data set whose index.csv has the class names, instead of the run's own
    batch_size : images at a time
    device : "auto" (a GPU if there is one), "cpu", "cuda", ...
    top : classes per image, each with its own box
    errors : "skip" skips images that cannot be read, with a warning
    skipped : list to which "skip" appends one line per skipped image, instead of the warning

    Returns
    -------
    An iterator over `top` detections per image, in the order of the images.

    Raises
    ------
    ValueError
        At once if a setting is out of range or there is neither evaluation nor tau; at its turn,
        with its name, if an image cannot be read.
    FileNotFoundError
        If the run has no weights.
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
    decoded = batches(images, batch_size, config.input_size, errors, skipped)
    return (
        detection
        for batch in decoded
        for detection in _localize_batch(network, batch, settings, names, top)
    )


def localize(
    images: Source | Iterable[Source], run: str | Path, **settings: Any
) -> list[Detection]:
    """Return the classes and boxes of images as a list; parameters as in `iterate_images`.

    A score map takes 200 kB: for many images `iterate_images` needs less memory.
    `wsol.inference.export.detections_table` makes a table of the list.
    """
    return list(iterate_images(images, run, **settings))


# For `help` and editors: the parameters are documented once.
localize.__signature__ = signature(iterate_images).replace(  # type: ignore[attr-defined]
    return_annotation="list[Detection]"
)
