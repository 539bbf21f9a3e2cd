"""Batches of one epoch for this process.

Everything random in an epoch (order, background images, crops, flips) is drawn at once, so that the
batches do not depend on worker processes, cache and interruptions. The bits of these draws decide
the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from wsol.backbones import Backbone
from wsol.datasets.backgrounds.manifest import background_paths
from wsol.datasets.images import Images, as_input, open_images
from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.methods import Batch, get_method
from wsol.training.config import Execution, TrainConfig
from wsol.training.features import Features, crop_corner, open_features, takes_features

FLIP = 2**23  # of the 24 bits that torch.rand makes a float of: below one half


class Picks(NamedTuple):
    """Images of each step, S steps of n images."""

    rows: Tensor  # (S, n) which image
    top: Tensor  # (S, n) corner of the crop, pixels
    left: Tensor  # (S, n)
    flip: Tensor  # (S, n) bool


class Draws(NamedTuple):
    """One epoch; background is None where the method uses none."""

    objects: Picks
    background: Picks | None


def draw_epoch(
    seed: int,
    epoch: int,
    n_images: int,
    batch_size: int,
    margin: int,
    n_background: int = 0,
    background_batch: int = 0,
) -> Draws:
    """Draw the epoch with number `epoch` from 0; the last images that fill no batch are left out.

    margin : pixels by which an image is larger than its crop
    n_background : images of the background set, of which each step takes `background_batch`, with
        replacement; 0 for none
    """
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch + 1)
    steps = n_images // batch_size
    order = torch.randperm(n_images, generator=generator)[: steps * batch_size]
    extra = background_batch if n_background else 0
    per_step = 4 * extra + 3 * batch_size
    words = _words(steps * per_step, generator).view(steps, per_step)
    background = None
    if n_background:
        rows = words[:, :extra] % n_background
        background = Picks(rows, *_crops(words[:, extra : 4 * extra], margin))
    objects = Picks(order.view(steps, batch_size), *_crops(words[:, 4 * extra :], margin))
    return Draws(objects, background)


def _words(count: int, generator: torch.Generator) -> Tensor:
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64)
    pairs.random_(-(2**63), None, generator=generator)  # 64 bits: first the upper word, then
    upper, lower = (pairs >> 32) & (2**32 - 1), pairs & (2**32 - 1)  # the lower
    return torch.stack([upper, lower], dim=1).flatten()[:count]


def _crops(words: Tensor, margin: int) -> tuple[Tensor, Tensor, Tensor]:
    top, left, flip = words.view(len(words), words.shape[1] // 3, 3).unbind(-1)
    return top % (margin + 1), left % (margin + 1), (flip & (2**24 - 1)) < FLIP


@dataclass(frozen=True)
class TrainData:
    """What a training learns from."""

    images: Images  # N object images of (3, L, L) uint8
    labels: Tensor  # (N,) int64
    num_classes: int
    background: Images | None = None
    class_names: tuple[str, ...] = ()  # by label

    def digest(self) -> str:
        """Return a text that changes with the data."""
        parts = [self.images.digest(), self.labels.numpy().tobytes().hex(), str(self.num_classes)]
        return " ".join(parts + ([self.background.digest()] if self.background else []))


def epoch_draws(config: TrainConfig, data: TrainData, epoch: int) -> Draws:
    """Everything random in the batches of one epoch, numbered from 0."""
    n_background = 0
    if get_method(config.method).USES_BACKGROUND:
        n_background = len(data.background)
    margin = config.crop_grid - 1 if config.crop_grid else data.images.size - config.input_size
    return draw_epoch(
        *(config.seed, epoch, len(data.images), config.batch_size, margin),
        *(n_background, config.background_batch),
    )


class _Steps(Dataset):
    """Item (e, s) is this process's part of step s of epoch e: images, labels, background."""

    def __init__(self, data: TrainData, config: TrainConfig, part: slice) -> None:
        self.data, self.config, self.part = data, config, part
        self.size, self.grid = config.input_size, config.crop_grid
        self.epoch: int | None = None  # whose draws are at hand

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor | None]:
        epoch, step = place
        if epoch != self.epoch:
            self.epoch, self.draws = epoch, epoch_draws(self.config, self.data, epoch)
        objects, background = self.draws
        labels = self.data.labels[objects.rows[step, self.part]]
        images = self._crops(self.data.images, objects, step)
        if background is None:
            return images, labels, None
        return images, labels, self._crops(self.data.background, background, step)

    def _crops(self, source: Images, picks: Picks, step: int) -> Tensor:
        chosen = [values[step, self.part].tolist() for values in picks]
        if isinstance(source, Features):
            return torch.stack([source.view(*view) for view in zip(*chosen, strict=True)])
        crops = torch.empty(len(chosen[0]), 3, self.size, self.size, dtype=torch.uint8)
        for crop, row, top, left, flip in zip(crops, *chosen, strict=True):
            corner = top, left
            if self.grid:
                corner = crop_corner(top, left, source.size - self.size, self.grid)
            image = F.crop(source[row], *corner, self.size, self.size)
            crop.copy_(F.horizontal_flip(image) if flip else image)
        return crops


def epoch_batches(
    config: TrainConfig,
    data: TrainData,
    *epochs: int,
    first_step: int = 0,
    part: tuple[int, int] = (0, 1),
    device: torch.device | str = "cpu",
    execution: Execution | None = None,
) -> Iterator[Batch]:
    """Yield the batches of the epochs, of the first of them from a step on.

    Process r of R, with `part` = (r, R), takes the images r, r + R, ... of each step, so that all
    images of the step are seen whatever their number. The batches do not depend on the execution.
    Worker processes stay for all epochs.
    """
    execution, device = execution or Execution(), torch.device(device)
    steps = len(data.images) // config.batch_size
    places = [(epoch, step) for epoch in epochs for step in range(steps)][first_step:]
    made = DataLoader(
        _Steps(data, config, slice(part[0], None, part[1])),
        batch_size=None,  # an item is a batch
        sampler=places,
        num_workers=execution.loader_workers,
        prefetch_factor=4 if execution.loader_workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # workers are seeded from it, not from the global state
    )
    move = partial(as_input, device=device)
    for (epoch, step), (images, labels, background) in zip(places, made, strict=True):
        progress = (epoch + step / steps) / config.epochs
        extra = None if background is None else move(background)
        yield Batch(move(images), labels.to(device, non_blocking=True), extra, progress)


def load_training_data(
    config: TrainConfig, data: str | Path, n_background: int | None, execution: Execution
) -> TrainData:
    """Images and labels of `train-weaksup`, and the first n or all background images."""
    data = Path(data)
    index = read_index(data / INDEX)
    rows = rows_of(index, "train-weaksup")
    size, cache = config.load_size(), (execution.cache, execution.cache_gb)
    images = open_images([data / path for path in rows["path"]], size, *cache)
    background = None
    if get_method(config.method).USES_BACKGROUND:
        background = open_images(background_paths(data / "background", n_background), size, *cache)
    labels = torch.from_numpy(rows["label"].to_numpy().copy())
    named = dict(zip(index["label"], index["class_name"], strict=True))
    names = tuple(named.get(label, str(label)) for label in range(int(index["label"].max()) + 1))
    return TrainData(images, labels, len(names), background, names)


def with_features(
    config: TrainConfig, data: TrainData, backbone: Backbone, execution: Execution
) -> TrainData:
    """The data with features of the frozen part in place of images, where a training takes them."""
    if not takes_features(config):
        return data
    options = (backbone, config.input_size, execution, config.crop_grid, 2)
    images = open_features(data.images, *options)
    background = data.background and open_features(data.background, *options)
    return replace(data, images=images, background=background)
