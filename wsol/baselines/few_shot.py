"""Few-shot supervised localizer: trained on the boxes of `train-fullsup`.

Every weakly supervised method chooses tau, read-out and settings with the boxes of `train-fullsup`.
Choe et al. (CVPR 2020) compare with a localizer that is trained on the same boxes.

The rows of `train-fullsup` are split once: four fifths train the localizer, one fifth chooses tau
and read-out. The localizer starts from a trained classifier of the same seed, as theirs starts
from ImageNet weights, with a class-agnostic foreground head S; its target is the mask of the boxes:

    loss = mean over locations of BCE(S, box mask averaged to the grid of S)

The predicted classes are those of the classifier, which is not changed.

Shapes: N images, B of them in a batch, L pixels a side, h w map.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from wsol.backbones import Backbone
from wsol.datasets.images import Images, as_input, open_images
from wsol.datasets.index import TEST, TRAIN_FULLSUP, parse_boxes, rows_of
from wsol.evaluation.predict import image_batches, run_network
from wsol.evaluation.run import RunEvaluation, about_run, evaluate_maps
from wsol.methods.background import foreground_head
from wsol.training.distributed import choose_device
from wsol.training.runs import load_network

METHOD, KIND = "few-shot", "foreground"
FEATURES = ("early", "late")
HELD_OUT = 5  # every fifth image of train-fullsup chooses, the others train


@dataclass(frozen=True)
class FewShotConfig:
    """Settings of the training. Raises ValueError for values out of range.

    The defaults are the best of twelve trials, with one seed, by the GT-known error of the 40
    held-out images of a set of birds at the best tau and read-out: 0 %, mean IoU .73. With 30
    epochs 0 % and .71; with a peak rate of .003 2.5 %, on the early features, at the
    same .01, 5 %, and with the head alone trained, at .003, 20 %. One image is 2.5 points.
    """

    seed: int = 0  # of the split, the head, the order and the flips
    attach: str = "late"  # features under the foreground head, or "early"
    tune_backbone: bool = True  # train the features too, not the head alone
    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 0.01  # peak
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.attach not in FEATURES:
            raise ValueError(f"attach is {self.attach!r}; known: {', '.join(FEATURES)}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0 and weight_decay at least 0")


class Localizer(nn.Module):
    """A copy of a backbone, and one of the background method's foreground heads."""

    def __init__(self, backbone: Backbone, attach: str) -> None:
        super().__init__()
        self.backbone, self.attach = copy.deepcopy(backbone), attach
        channels = backbone.early_channels if attach == "early" else backbone.late_channels
        self.head = foreground_head(channels, "conv")

    def forward(self, images: Tensor) -> Tensor:
        """Logits S (B, 1, h, w) of images (B, 3, H, W) in [0, 1]."""
        early, late = self.backbone(images)
        return self.head(early if self.attach == "early" else late).float()


def split_fullsup(rows: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into those to train with and those to choose by, four to one.

    Every fifth of the rows in a random order, sorted by class, is held out; both parts keep the
    order of the rows. Raises ValueError if there are fewer than five rows.
    """
    if len(rows) < HELD_OUT:
        raise ValueError(f"{len(rows)} images of {TRAIN_FULLSUP}; at least {HELD_OUT} are needed")
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(rows["label"].to_numpy()[order], kind="stable")]
    held = np.zeros(len(rows), dtype=bool)
    held[order[HELD_OUT - 1 :: HELD_OUT]] = True
    return tuple(rows[part].reset_index(drop=True) for part in (~held, held))


def box_mask(row: tuple, size: int) -> NDArray[np.uint8]:
    """Return the mask (size, size) of 0 and 1 of the boxes of a row of the index, squashed.

    A pixel is inside if its centre is.
    """
    centres = np.arange(size) + 0.5
    mask = np.zeros((size, size), dtype=np.uint8)
    scale = size / np.array([row.width, row.height, row.width, row.height])
    for x0, y0, x1, y1 in parse_boxes(row.boxes) * scale:
        inside_x, inside_y = (x0 <= centres) & (centres < x1), (y0 <= centres) & (centres < y1)
        mask |= np.outer(inside_y, inside_x).astype(np.uint8)
    return mask


class _Pairs(Dataset):
    """Image (3, L, L) uint8 and the mask (1, L, L) of its boxes, both flipped or neither."""

    def __init__(self, images: Images, rows: pd.DataFrame) -> None:
        self.images, self.rows = images, list(rows.itertuples())
        self.flip = v2.RandomHorizontalFlip()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        mask = torch.from_numpy(box_mask(self.rows[i], self.images.size))[None]
        image, mask = self.flip(Image(self.images[i]), Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def foreground_loss(S: Tensor, masks: Tensor) -> Tensor:
    """Return the mean BCE of logits S (B, 1, h, w) with masks (B, 1, L, L) at their grid."""
    target = F.adaptive_avg_pool2d(masks.float(), S.shape[-2:])
    return F.binary_cross_entropy_with_logits(S, target)


def fit_localizer(
    backbone: Backbone, images: Images, rows: pd.DataFrame, config: FewShotConfig
) -> tuple[Localizer, list[float]]:
    """Train a localizer on images and the boxes of their index rows; the backbone is copied.

    Returns the localizer in evaluation mode and the mean loss of each epoch. On a CPU a seed fixes
    the localizer; the global random state does not change.
    """
    device = backbone.mean.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        localizer = Localizer(backbone, config.attach).to(device)
        batches = DataLoader(_Pairs(images, rows), config.batch_size, shuffle=True)
        trained = localizer if config.tune_backbone else localizer.head
        rate, steps = config.learning_rate, config.epochs * len(batches)
        optimizer = torch.optim.AdamW(trained.parameters(), rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        localizer.eval()
        trained.train()  # features that are not trained keep their batch statistics too
        history = []
        for _ in range(config.epochs):
            losses = []
            for batch, masks in batches:
                x = as_input(batch, device)
                loss = foreground_loss(localizer(x), masks.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            history.append(float(torch.stack(losses).mean()))
    return localizer.eval(), history


def predict_few_shot(
    localizer: Localizer, classifier: nn.Module, images: Images
) -> dict[str, NDArray[np.float32]]:
    """Return ``logits`` (N, K) of the classifier and ``foreground`` logits (N, h, w).

    images : N of (3, L, L) uint8. Both networks are in evaluation mode and on one device.
    """
    logits, maps = [], []
    for _, batch in image_batches(images):
        logits.append(run_network(classifier, batch).logits.cpu())
        maps.append(run_network(localizer, batch)[:, 0].cpu())
    return {"logits": torch.cat(logits).numpy(), KIND: torch.cat(maps).numpy()}


class FewShotResult(NamedTuple):
    """What `evaluate_few_shot` returns."""

    evaluation: RunEvaluation  # localization tables, choices and maps
    history: list[float]  # mean loss of each epoch
    fitted: pd.DataFrame  # index rows that trained
    held_out: pd.DataFrame  # index rows that chose tau and read-out


def evaluate_few_shot(
    weights: str | Path,
    index: pd.DataFrame,
    root: str | Path,
    config: FewShotConfig,
    *,
    meta: Mapping[str, str] | None = None,
    workers: int = 1,
    cache: str | Path | None = None,
    device: str = "auto",
) -> FewShotResult:
    """Train a localizer on four fifths of `train-fullsup` and evaluate it.

    Its table of `train-fullsup` has the other fifth alone, which chooses tau and read-out.

    weights : the classifier, a file that `wsol.training.loop.train` wrote
    index, root : index table of the data set and the folder its paths start from
    config : of the training; its seed goes into the tables
    meta : further entries of the tables' meta data
    workers : threads that turn maps into boxes
    cache : folder for decoded images; without, they are decoded in each epoch
    device : of both networks, see `wsol.training.config.Execution`
    """
    classifier, trained = load_network(weights, index)
    torch.set_num_threads(trained.threads)  # the last bits of a sum depend on them
    classifier = classifier.to(choose_device(device))
    fitted, held_out = split_fullsup(rows_of(index, TRAIN_FULLSUP), config.seed)

    def images(rows: pd.DataFrame) -> Images:
        return open_images([Path(root) / path for path in rows["path"]], trained.input_size, cache)

    localizer, history = fit_localizer(classifier.backbone, images(fitted), fitted, config)
    rows = {TRAIN_FULLSUP: held_out, TEST: rows_of(index, TEST)}
    maps = {s: predict_few_shot(localizer, classifier, images(r)) for s, r in rows.items()}
    about = about_run(weights, trained, root, None) | {"method": METHOD, "seed": str(config.seed)}
    result = evaluate_maps(maps, rows, root, (KIND,), about | dict(meta or {}), workers)
    return FewShotResult(result, history, fitted, held_out)
