"""WSOL metrics for anybody's training loop, with the interface of torchmetrics.

    metric = LocalizationMetric()
    for images, labels, boxes, sizes in loader:
        logits, maps = network(images)  # (B, K), (B, h, w)
        metric.update(maps, boxes, sizes, labels=labels, logits=logits)
    metric.compute()["gt_known_loc_error"]

Shapes: B images, K classes, h w map, G ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.checks import CORNERS, box_texts, fit_boxes, raise_errors
from wsol.datasets.index import index_table
from wsol.evaluation.boxes import FRAME
from wsol.evaluation.localize import localize
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.table import LocalizationTable, concatenate


class LocalizationMetric:
    """Localization errors, MaxBoxAcc, MaxBoxAccV2 and PxAP of Choe et al. (CVPR 2020), exact.

    The state is 5 kB an image, in memory. Processes merge theirs by `merge_state`:
    ``torch.distributed.all_gather_object`` collects the objects.
    """

    def __init__(self) -> None:
        self.tables: list[LocalizationTable] = []

    def reset(self) -> None:
        """Forget all images."""
        self.tables = []

    def update(
        self,
        maps: ArrayLike | torch.Tensor,
        boxes: Sequence[ArrayLike | torch.Tensor],
        sizes: ArrayLike | torch.Tensor | None = None,
        *,
        labels: ArrayLike | torch.Tensor | None = None,
        logits: ArrayLike | torch.Tensor | None = None,
        masks: ArrayLike | torch.Tensor | None = None,
    ) -> None:
        """Add images.

        maps : (B, h, w) of finite values, that of the label's class; resized to the frame, min-max
        boxes : for each image (G, 4) with G >= 1, x0 y0 x1 y1 in pixels of the image; no padding
        sizes : (B, 2) width and height of the images; without, boxes are in the frame of 224 pixels
        labels, logits : (B,) and (B, K), for the errors that need a class
        masks : (B, H, W) of 0 and 1, for PxAP; resized to the frame

        Raises ValueError if shapes or numbers of images differ from these, a map is not finite, an
        image has no box, a box has no area or lies outside its image by more than a pixel, labels
        come without logits or are no class of them, or masks have other values.
        """
        maps, B = _array(maps), len(boxes)
        if (labels is None) != (logits is None):
            raise ValueError("labels and logits belong together")
        sizes = np.full((B, 2), FRAME) if sizes is None else _array(sizes)
        classes = np.zeros(B, np.int64) if labels is None else _array(labels)
        masks = None if masks is None else _array(masks)
        arrays = {
            "maps": (maps, 3),
            "sizes": (sizes, 2),
            "labels": (classes, 1),
            "masks": (masks, 3),
        }
        for name, (array, ndim) in arrays.items():
            if array is not None and (array.ndim != ndim or len(array) != B):
                raise ValueError(f"{B} lists of boxes, but {name} of the shape {array.shape}")
        if not (np.isfinite(maps).all() and classes.dtype.kind in "iu"):
            raise ValueError("maps are finite, and labels whole numbers")
        if not B:
            return
        rows = {"image_id": [str(i) for i in range(B)], "label": classes}
        rows |= {"width": sizes[:, 0], "height": sizes[:, 1], "boxes": _texts(boxes, sizes)}
        frames = None if masks is None else [_frame(mask) for mask in masks]
        table = localize(
            maps,
            index_table(pd.DataFrame(rows)),
            None if logits is None else _array(logits),
            masks=None if frames is None else lambda row: frames[int(row.image_id)],
        )
        self.tables.append(table)

    def merge_state(self, others: LocalizationMetric | Sequence[LocalizationMetric]) -> None:
        """Add the images of another object, or several, such as those of other processes."""
        for other in [others] if isinstance(others, LocalizationMetric) else others:
            self.tables += other.tables

    def table(self) -> LocalizationTable:
        """The localization table of all images. Raises ValueError if there are none."""
        if not self.tables:
            raise ValueError("no images yet: call update first")
        return concatenate(self.tables)

    def compute(self, fullsup: LocalizationMetric | None = None) -> dict[str, float]:
        """All numbers of `wsol.evaluation.metrics.evaluate`, in %; NaN where undefined.

        fullsup : images to choose tau on, `train-fullsup`; without, tau is the best one of the
            evaluated images themselves, the oracle
        """
        table = self.table()
        return evaluate(table, table if fullsup is None else fullsup.table())


def _array(values: Any) -> NDArray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _texts(boxes: Sequence[ArrayLike | torch.Tensor], sizes: NDArray) -> list[str]:
    """Boxes of each image as in an index table, after the checks that every reader makes."""
    arrays = [np.atleast_2d(_array(one)) for one in boxes]
    if wrong := [i for i, one in enumerate(arrays) if one.shape[1:] != (4,) or not len(one)]:
        raise ValueError(f"image {wrong[0]} has no boxes (G, 4), but {arrays[wrong[0]].shape}")
    image, errors = np.repeat(np.arange(len(arrays)), [len(one) for one in arrays]), []
    table = pd.DataFrame(np.concatenate(arrays), columns=CORNERS)
    table = table.assign(width=sizes[image, 0], height=sizes[image, 1], image=image)
    table = fit_boxes(table.assign(where=[f"image {i}" for i in image]), errors)
    raise_errors(errors)
    return list(box_texts(table, "image").values())


def _frame(mask: NDArray) -> NDArray[np.uint8]:
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"masks are of 0 and 1, not of {np.unique(mask)[:5]}")
    return cv2.resize(mask.astype(np.uint8), (FRAME, FRAME), interpolation=cv2.INTER_NEAREST)
