"""Classes and boxes for images without ground truth, from a trained run.

    detections = wsol.localize("my images", "runs/train/background-0")

The label of such an image is not known, so the box is that of the *predicted* class's map, where
the evaluation uses the label's. Everything else is as in the evaluation: images are squashed to
the network's square, maps are read out and thresholded as chosen on `train-fullsup`, and the box is
that of the largest contour.

Shapes: B images, K classes, H W image, L side of the network's input, h w map.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from wsol.datasets.image_files import SUFFIXES, decoded, list_images, upright
from wsol.evaluation.boxes import FRAME, largest_box, score_map
from wsol.evaluation.predict import read_out_map, run_network
from wsol.inference.settings import BoxSettings, box_settings, class_names, open_run
from wsol.training import run_folder
from wsol.training.distributed import choose_device

READERS = 4  # threads that decode images

# A file, a folder, or an image: see `read_image`.
Source = str | os.PathLike | bytes | IO[bytes] | Image.Image | NDArray | Tensor


class InputImage(NamedTuple):
    """What the network needs of an image; the full-size pixels are not kept."""

    name: str
    size: tuple[int, int]  # width, height
    square: NDArray[np.uint8]  # (3, L, L)


class Detection(NamedTuple):
    """One class of one image, and its box."""

    image: str  # the file, or "array i", "tensor i", "image i", ... for the i-th of the images
    width: int  # after EXIF rotation, pixels
    height: int
    rank: int  # 1 for the predicted class, 2 for the next, ...
    label: int  # class number from 0
    class_name: str  # its name, or the number where no names are known
    score: float  # softmax probability, 0 to 1
    box: NDArray[np.float64]  # (4,) x0, y0, x1, y1 in pixels; NaN without a box, `has_box` tells
    score_map: NDArray[np.float32] | None  # (FRAME, FRAME) in [0, 1], which the box was cut from

    @property
    def has_box(self) -> bool:
        """False where the map is constant or the box has no area: there is nothing to draw."""
        return bool(np.isfinite(self.box).all())


def box_in_image(box: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Convert a box (4,) of the frame to pixels of an image of (width, height).

    This undoes `wsol.evaluation.boxes.resize_boxes`. The protocol's far corner is one pixel past
    the object, and so is the index table's (x1 = x0 + width): nothing is added. Only at the end of
    the frame has the protocol moved it back to the last pixel; there it becomes the image's edge.
    A box without area becomes NaN.
    """
    near, far = np.asarray(box, np.float64)[:2], np.asarray(box, np.float64)[2:]
    if (far <= near).any():  # the protocol's answer without a contour
        return np.full(4, np.nan)
    far = np.where(far == FRAME - 1, FRAME, far)
    return np.concatenate([near, far]) * np.tile(image_size, 2) / FRAME


def read_image(source: Source) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, as `wsol.datasets.image_files.upright` shows it.

    source : a file, its bytes or an open file; an image of Pillow; an array (H, W, 3) or (H, W)
        uint8; a tensor (3, H, W) or (1, H, W), uint8 or floats in [0, 1], as torchvision has them

    Raises ValueError naming the file, or the shape and type, if it is none of these.
    """
    if isinstance(source, Image.Image):
        return np.asarray(upright(source))
    if isinstance(source, np.ndarray | Tensor):
        return _pixels(source)
    with decoded(BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(upright(image))


def _pixels(source: NDArray | Tensor) -> NDArray[np.uint8]:
    array, shape = source, f"{tuple(source.shape)} {source.dtype}"
    if isinstance(source, Tensor):
        source = source.float() if source.is_floating_point() else source  # NumPy has no bfloat16
        array = source.detach().cpu().permute(1, 2, 0).numpy() if source.dim() == 3 else source
        array = np.asarray(array)
        if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
            array = np.round(255 * array).astype(np.uint8)
    array = array[..., None] if array.ndim == 2 and isinstance(source, np.ndarray) else array
    if array.dtype != np.uint8 or array.shape[2:] not in ((1,), (3,)) or array.size == 0:
        kinds = "an array (H, W, 3) uint8 or a tensor (3, H, W), uint8 or floats in [0, 1]"
        raise ValueError(f"an image is {kinds}, not {shape}")
    return np.broadcast_to(array, (*array.shape[:2], 3))


def image_files(path: str | Path, skipped: Counter[str] | None = None) -> list[Path]:
    """The images below a folder, sorted, or a file itself; `skipped` is that of `list_images`.

    Raises ValueError if there are none.
    """
    images = list_images(path, skipped) if Path(path).is_dir() else [Path(path)]
    if not images:
        raise ValueError(f"no image below {path} (suffixes: {', '.join(SUFFIXES)})")
    return images


def _sources(images: Source | Iterable[Source]) -> Iterator[tuple[str, Source]]:
    single = isinstance(images, str | os.PathLike | bytes | Image.Image) or hasattr(images, "read")
    single = single or (isinstance(images, np.ndarray | Tensor) and images.ndim < 4)
    for number, item in enumerate([images] if single else images):
        if isinstance(item, str | os.PathLike):
            yield from ((path.as_posix(), path) for path in image_files(item))
            continue
        kinds = {np.ndarray: "array", Tensor: "tensor", Image.Image: "image", bytes: "bytes"}
        kind = next((name for kind, name in kinds.items() if isinstance(item, kind)), "")
        if not kind and not hasattr(item, "read"):
            raise ValueError(f"an image is a file, bytes, array or tensor, not a {type(item)}")
        yield f"{kind or 'file'} {number}", item


def _read(name: str, source: Source, side: int) -> InputImage | str:
    try:
        image = read_image(source)
    except ValueError as error:
        return str(error) if isinstance(source, Path) else f"{name}: {error}"
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    height, width = image.shape[:2]
    return InputImage(name, (width, height), np.asarray(square).transpose(2, 0, 1))


def _batches(
    images: Source | Iterable[Source],
    batch_size: int,
    side: int,
    errors: str,
    skipped: list[str] | None,
) -> Iterator[list[InputImage]]:
    """Decode images, `batch_size` at a time; `errors` and `skipped` as in `iterate_images`."""
    sources = _sources(images)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(sources, batch_size)):
            read = list(pool.map(lambda item: _read(*item, side), batch))
            for message in (item for item in read if isinstance(item, str)):
                if errors == "raise":
                    raise ValueError(message)
                if skipped is None:
                    warnings.warn(f"skipped {message}", stacklevel=2)
                else:
                    skipped.append(message)
            yield [item for item in read if isinstance(item, InputImage)]


def _localize_batch(
    network: nn.Module,
    images: Sequence[InputImage],
    settings: BoxSettings,
    names: Sequence[str],
    top: int,
) -> Iterator[Detection]:
    squares = torch.from_numpy(np.stack([image.square for image in images]))
    outputs = run_network(network, squares)
    probabilities = outputs.logits.softmax(dim=1).cpu().numpy()
    # Of equal logits the class of lower number comes first, as in the evaluation.
    labels = np.argsort(-outputs.logits.cpu().numpy(), axis=1, kind="stable")[:, :top]
    labels_of_rank = torch.from_numpy(labels.T.copy()).to(outputs.class_maps.device)
    rows = torch.arange(len(images), device=outputs.class_maps.device)
    arrays = [{"class": outputs.class_maps[rows, of].cpu().numpy()} for of in labels_of_rank]
    if outputs.foreground is not None:
        foreground = outputs.foreground[:, 0].cpu().numpy()
        arrays = [of_rank | {"foreground": foreground} for of_rank in arrays]
    maps = [read_out_map(of_rank, settings.kind, settings.read_out) for of_rank in arrays]
    for b, image in enumerate(images):
        for k, label in enumerate(labels[b].tolist()):
            score = score_map(maps[k][b])
            box = box_in_image(largest_box(score, settings.tau), image.size)
            about = (image.name, *image.size, k + 1, label, names[label])
            yield Detection(*about, float(probabilities[b, label]), box, score.astype(np.float32))


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
    images : a file, a folder (everything below it, sorted), an image as `read_image` takes it, or
        several of these
    run : folder of a trained run, with weights.safetensors
    evaluation : folder of localization tables; the run's own on `train-fullsup` gives tau and
        read-out; by default the pipeline's, see `wsol.inference.settings.find_evaluation`
    map : "class", or "foreground" or "product" where the network has a foreground head
    tau : score-map threshold, 0 to below 1, instead of the evaluation's
    read_out : "raw", "relu" or "sigmoid", together with tau; by default the evaluation's, or "raw"
    data : folder of a data set whose index.csv has the class names, instead of the run's own
    batch_size : images at a time
    device : "auto" (a GPU if there is one), "cpu", "cuda", ...
    top : classes per image, each with its own box
    errors : "skip" skips images that cannot be read, with a warning
    skipped : list to which "skip" appends one line per skipped image, instead of the warning

    Returns an iterator over `top` detections per image, in the order of the images. Raises
    FileNotFoundError if the run has no weights, ValueError at once if a setting is out of range or
    there is neither evaluation nor tau, and at its turn if an image cannot be read.
    """
    if errors not in ("raise", "skip"):
        raise ValueError(f'errors is {errors!r}; known: "raise", "skip"')
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    run = run_folder(run)
    network, config, num_classes = open_run(run, map, choose_device(device))
    settings = box_settings(run, evaluation, map, tau, read_out)
    names = class_names(run, data, num_classes)
    if not 1 <= top <= num_classes:
        raise ValueError(f"top is {top}; it must be 1 to {num_classes}, the number of classes")
    batches = _batches(images, batch_size, config.input_size, errors, skipped)
    return (
        detection
        for batch in batches
        if batch
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
localize.__signature__ = signature(iterate_images).replace(return_annotation="list[Detection]")
