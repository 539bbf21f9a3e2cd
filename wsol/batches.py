"""Batches of one epoch for this process, made from draws, by workers or on the spot."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from wsol.config import Execution, TrainConfig
from wsol.draws import Draws, Picks, draw_epoch
from wsol.image_store import Images
from wsol.images import to_float
from wsol.methods import Batch, get_method


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
    margin = data.images.size - config.input_size
    return draw_epoch(
        *(config.seed, epoch, len(data.images), config.batch_size, margin),
        *(n_background, config.background_batch),
    )


class _Steps(Dataset):
    """Item s is the part of step s that belongs to this process: images, labels, background."""

    def __init__(self, data: TrainData, draws: Draws, size: int, part: slice) -> None:
        self.data, self.draws, self.size, self.part = data, draws, size, part

    def __len__(self) -> int:
        return len(self.draws.objects.rows)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        objects, background = self.draws
        labels = self.data.labels[objects.rows[step, self.part]]
        images = self._crops(self.data.images, objects, step)
        if background is None:
            return images, labels, None
        return images, labels, self._crops(self.data.background, background, step)

    def _crops(self, source: Images, picks: Picks, step: int) -> Tensor:
        """Crops of one step, (n, 3, size, size) uint8."""
        chosen = [values[step, self.part].tolist() for values in picks]
        crops = torch.empty(len(chosen[0]), 3, self.size, self.size, dtype=torch.uint8)
        for crop, row, top, left, flip in zip(crops, *chosen, strict=True):
            image = F.crop(source[row], top, left, self.size, self.size)
            crop.copy_(F.horizontal_flip(image) if flip else image)
        return crops


def _as_input(images: Tensor, device: torch.device) -> Tensor:
    """Crops (n, 3, H, W) uint8 as floats in [0, 1] on the device; uint8 is what travels."""
    images = to_float(images.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def epoch_batches(
    config: TrainConfig,
    data: TrainData,
    epoch: int,
    *,
    first_step: int = 0,
    part: tuple[int, int] = (0, 1),
    device: torch.device | str = "cpu",
    execution: Execution | None = None,
) -> Iterator[Batch]:
    """Yield the batches of an epoch from a step on, of `part` = (rank, number of processes).

    Process r takes the images r, r + R, ... of each step, so that all images of the step are seen
    whatever their number. The batches do not depend on the execution.
    """
    execution, device = execution or Execution(), torch.device(device)
    draws = epoch_draws(config, data, epoch)
    steps = len(draws.objects.rows)
    made = DataLoader(
        _Steps(data, draws, config.input_size, slice(part[0], None, part[1])),
        batch_size=None,  # an item is a batch
        sampler=range(first_step, steps),
        num_workers=execution.loader_workers,
        prefetch_factor=4 if execution.loader_workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # workers are seeded from it, not from the global state
    )
    move = partial(_as_input, device=device)
    for step, (images, labels, background) in enumerate(made, start=first_step):
        progress = (epoch + step / steps) / config.epochs
        extra = None if background is None else move(background)
        yield Batch(move(images), labels.to(device, non_blocking=True), extra, progress)
