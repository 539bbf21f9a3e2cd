"""Evaluation protocols of the field as presets, so that one model can be reported under each.

Errors under different protocols do not compare: they see another part of the image, threshold
another map, measure another overlap and average over something else. `CHOE2020` is this
repository's own (`wsol.evaluation.boxes`, exact and fast); the others are the conventions of public
code, without what is particular to one model (BAS averages the maps of 80 or 200 classes and
classifies ten crops; here the map is the label's, and one crop is classified).

Top-k counts an image when the label is among the first k classes and the box of the label's own map
is right. That TS-CAM looks at the maps of all k predicted classes comes to the same: of those, only
the label's can count.

Shapes: N images, h w map, H W frame, T thresholds, G ground-truth boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wsol.datasets.index import parse_boxes
from wsol.evaluation.boxes import TAUS, box_iou, contours, levels_of, quantize, resize_boxes
from wsol.evaluation.localize import check_rows
from wsol.evaluation.metrics import ERRORS

COARSE = np.arange(0, 1, 0.01)  # (T,) thresholds of protocols that are evaluated one by one
INTERPOLATIONS = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}
PER_IMAGE, PER_CLASS = "images", "classes"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """One convention; the fields are in the order in which an image meets them."""

    name: str
    source: str  # where it was read
    squash: int  # side of the square that the image is squashed to, pixels
    frame: int  # side of its central part that the network sees and boxes lie in
    normalize_first: bool  # before the resize to the frame (overshoot stays) or after it
    minimum: bool  # normalize by minimum and maximum, or negative values to 0 and by the maximum
    interpolation: str  # of that resize
    component: str  # the largest by "polygon" area, in 8 bits, or by "pixels", of the map itself
    clipped: bool  # predicted boxes end at the frame's last pixel, not one past it
    whole: bool  # ground-truth corners are truncated to whole pixels
    inclusive: bool  # both corners belong to a box (+ 1 on its sides)
    strict: tuple[str, ...]  # errors for which an IoU of exactly .5 is wrong
    average: str  # over "images", or over "classes" of the mean over their images
    taus: Floats = field(repr=False)
    published_tau: float | None  # the fixed threshold of the source's CUB settings


CHOE2020 = Protocol(
    name="choe2020",
    source="Choe et al., CVPR 2020; clovaai/wsolevaluation",
    squash=224,
    frame=224,
    normalize_first=False,
    minimum=True,
    interpolation="cubic",
    component="polygon",
    clipped=True,
    whole=True,
    inclusive=True,
    strict=(),
    average=PER_IMAGE,
    taus=TAUS,
    published_tau=None,
)
BAS2022 = Protocol(
    name="bas2022",
    source="Wu et al., CVPR 2022; wpy1999/BAS, CUB/BAS_inference.py",
    squash=256,
    frame=224,
    normalize_first=True,
    minimum=True,
    interpolation="linear",
    component="pixels",
    clipped=False,
    whole=False,
    inclusive=True,
    strict=tuple(ERRORS),
    average=PER_CLASS,
    taus=COARSE,
    published_tau=0.15,
)
PSOL2020 = replace(
    BAS2022,
    name="psol2020",
    source="Zhang et al., CVPR 2020 (PSOL); as BAS, IoU without + 1",
    inclusive=False,
    published_tau=None,  # PSOL thresholds no map of a class
)
TSCAM2021 = replace(
    CHOE2020,
    name="tscam2021",
    source="Gao et al., ICCV 2021; vasgaowei/TS-CAM, lib/cams_deit.py, lib/datasets/cub.py",
    interpolation="linear",
    clipped=False,
    strict=("top1_loc_error", "top5_loc_error"),  # and not the GT-known error: as in the source
    published_tau=0.1,
)
CAM2016 = replace(
    BAS2022,
    name="cam2016",
    source="Zhou et al., CVPR 2016 (CAM), section 3.2: 20 % of the maximum, largest component",
    squash=224,
    normalize_first=False,
    minimum=False,
    strict=(),
    average=PER_IMAGE,
    published_tau=0.2,
)
PROTOCOLS = {p.name: p for p in (CHOE2020, BAS2022, PSOL2020, TSCAM2021, CAM2016)}


def get_protocol(name: str) -> Protocol:
    """The preset of a name. Raises ValueError naming those that there are."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def frame_score(cam: NDArray[np.floating], protocol: Protocol) -> Floats:
    """Score map (H, W) in [0, 1] of a map (h, w) of the frame; zeros if constant or not finite."""
    cam = np.asarray(cam, dtype=np.float64)
    size = (protocol.frame, protocol.frame)
    if not np.isfinite(cam).all() or cam.min() == cam.max():
        return np.zeros(size)

    def normalize(array: Floats) -> Floats:
        array = array - array.min() if protocol.minimum else array.clip(0)
        return array / (array.max() or 1.0)

    cam = normalize(cam) if protocol.normalize_first else cam
    score = cv2.resize(cam, size, interpolation=INTERPOLATIONS[protocol.interpolation])
    return score if protocol.normalize_first else normalize(score)


def frame_truth(boxes: ArrayLike, image_size: tuple[int, int], protocol: Protocol) -> Floats:
    """Ground-truth boxes (G, 4) of an image of (width, height), in the frame and clipped to it."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if protocol is CHOE2020:
        return resize_boxes(boxes, image_size, protocol.frame).astype(np.float64)
    # In this order, which decides some truncations.
    scaled = boxes / np.array([*image_size, *image_size]) * protocol.squash
    margin = (protocol.squash - protocol.frame) / 2
    inside = (scaled - margin).clip(0, protocol.frame - 1 if protocol.whole else protocol.frame)
    return inside.astype(np.int64).astype(np.float64) if protocol.whole else inside


def _contour_boxes(score: Floats, protocol: Protocol) -> Floats:
    levels = quantize(score)
    # The sweep clips boxes to its frame: a dark border of one pixel leaves them room.
    room = (0, 0 if protocol.clipped else 1)
    at_levels = contours(np.pad(levels, (room, room)))
    boxes = at_levels.largest[levels_of(protocol.taus, levels.max())].astype(np.float64)
    if not protocol.clipped:
        boxes[(boxes == 0).all(axis=1)] = (0, 0, 1, 1)
    return boxes


def _pixel_boxes(score: Floats, protocol: Protocol) -> Floats:
    H, W = score.shape
    boxes = np.empty((len(protocol.taus), 4))
    for t, tau in enumerate(protocol.taus):
        n, _, stats, _ = cv2.connectedComponentsWithStats((score > tau).astype(np.uint8))
        x, y, w, h, _ = (0, 0, W, H, 0) if n == 1 else stats[1 + stats[1:, 4].argmax()]
        boxes[t] = x, y, x + w, y + h
    return boxes


def frame_boxes(score: Floats, protocol: Protocol) -> Floats:
    """Boxes (T, 4) of a score map at the protocol's thresholds."""
    return (_contour_boxes if protocol.component == "polygon" else _pixel_boxes)(score, protocol)


def frame_iou(boxes: Floats, truth: Floats, protocol: Protocol) -> Floats:
    """Best IoU (T,) of boxes (T, 4) over the ground truth (G, 4)."""
    return box_iou(boxes, truth, plus=1.0 if protocol.inclusive else 0.0).max(axis=1)


@dataclass(frozen=True, eq=False)
class ProtocolResult:
    """N images under one protocol: their labels, ranks and IoU (N, T) at its thresholds."""

    protocol: Protocol
    labels: NDArray[np.int64]
    ranks: NDArray[np.int64] | None
    iou: Floats

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Errors in % at each threshold: tau, top1_, top5_ and gt_known_loc_error (T rows)."""
        columns = {"tau": self.protocol.taus}
        for name, k in ERRORS.items():
            if k is None or self.ranks is not None:
                right = self.iou > 0.5 if name in self.protocol.strict else self.iou >= 0.5
                if k is not None:
                    right = right & (self.ranks < k)[:, None]
                columns[name] = 100 * (1 - self._mean(right))
        return pd.DataFrame(columns)

    def _mean(self, right: NDArray[np.bool_]) -> Floats:
        """Share (T,) of images that are right, or its mean over the classes."""
        if self.protocol.average == PER_IMAGE:
            return right.mean(axis=0)
        return pd.DataFrame(right).groupby(self.labels).mean().mean().to_numpy()

    def best_tau(self) -> float:
        """The threshold of lowest GT-known error, the lowest of equals."""
        errors = self.errors
        return float(errors["tau"][errors["gt_known_loc_error"].argmin()])

    def at(self, tau: float) -> dict[str, float]:
        """The errors at one threshold. Raises ValueError if it is none of the protocol's."""
        errors = self.errors
        place = np.flatnonzero(np.isclose(errors["tau"], tau, rtol=0, atol=1e-9))
        if len(place) == 0:
            raise ValueError(f"tau = {tau} is none of the thresholds of {self.protocol.name}")
        return errors.iloc[place[0]].drop("tau").to_dict()


def evaluate_under(
    protocol: Protocol,
    maps: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    index: pd.DataFrame,
    ranks: ArrayLike | None = None,
    score_of: Callable[[NDArray, Protocol], Floats] = frame_score,
) -> ProtocolResult:
    """Errors of N maps (h, w) of the protocol's frame, the label's, in the order of `index`.

    ranks : (N,) of the labels among the classes, 0 = predicted; without, GT-known alone
    score_of : from a map and the protocol to the score map; for maps that are ready, the map itself

    Raises ValueError if maps, rows and ranks differ in number or a row has no box.
    """
    check_rows(index, maps=maps, ranks=ranks)
    iou = np.empty((len(index), len(protocol.taus)))
    for i, row in enumerate(index.itertuples()):
        truth = frame_truth(parse_boxes(row.boxes), (row.width, row.height), protocol)
        iou[i] = frame_iou(frame_boxes(score_of(maps[i], protocol), protocol), truth, protocol)
    ranks = None if ranks is None else np.asarray(ranks)
    return ProtocolResult(protocol, index["label"].to_numpy(), ranks, iou)
