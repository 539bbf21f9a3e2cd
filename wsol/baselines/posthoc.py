"""Post-hoc maps of a trained classifier, computed by torchcam.

CAM takes its map from the last features. Five methods take any layer, weight its activations by
their effect on the label's logit, and so can use the finer grid of an earlier layer:

* Grad-CAM (Selvaraju et al., ICCV 2017): channels weighted by their mean gradient;
* Grad-CAM++ (Chattopadhay et al., WACV 2018): by a weighted sum of the positive gradients; written
  here, see `GradCAMpp`;
* XGrad-CAM (Fu et al., BMVC 2020): by the gradients' mean, weighted by the activations;
* LayerCAM (Jiang et al., TIP 2021): each location by its own positive gradient;
* Score-CAM (Wang et al., CVPR Workshops 2020): by the logit of the image masked by the channel; no
  gradient, but one pass through the network per channel.

A map's kind is "<method>-<layer>", as in "gradcam-early". All maps are non-negative (a ReLU is part
of the methods), at the layer's grid and not normalized.

Shapes: N images, B of them in a batch, L pixels a side, K classes, h w map.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchcam.methods import GradCAM, LayerCAM, ScoreCAM, XGradCAM

from wsol.backbones import Backbone
from wsol.datasets.images import Images, as_input, open_images
from wsol.datasets.index import TEST, TRAIN_FULLSUP, rows_of
from wsol.evaluation.predict import BATCH, image_batches, predict
from wsol.evaluation.run import RunEvaluation, about_run, evaluate_maps
from wsol.training.distributed import choose_device
from wsol.training.runs import load_network


class GradCAMpp(GradCAM):
    """Grad-CAM++ by equations 18 and 19 of its paper, as a torchcam extractor.

    torchcam 0.5.0's own loses the division (alpha), because it divides a copy in place, and weights
    channels by the sum of relu(g)^3. Here, with activations A and gradients g of the logit, both
    (B, C, h, w),

        weight = sum of alpha relu(g),    alpha = g^2 / (2 g^2 + g^3 sum(A)) = 1 / (2 + g sum(A))

    where g is not 0, and sums are over locations.
    """

    def _get_weights(
        self, class_idx: int | list[int], scores: Tensor, **kwargs: object
    ) -> list[Tensor]:
        self._backprop(scores, class_idx, **kwargs)
        pairs = zip(self.hook_a, self.hook_g, strict=True)
        return [
            (g.relu() / (2 + g * A.sum((2, 3), keepdim=True))).sum((2, 3))  # (B, C)
            for A, g in pairs
        ]


EXTRACTORS = {
    "gradcam": GradCAM,
    "gradcampp": GradCAMpp,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "scorecam": ScoreCAM,
}
LAYERS = ("early", "middle", "late")
KINDS = tuple(f"{method}-{layer}" for layer in LAYERS for method in EXTRACTORS)


class Classifier(nn.Module):
    """A network whose output is the logits (B, K) alone, as torchcam expects."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


def layer_of(backbone: Backbone, layer: str) -> nn.Module:
    """Return the module whose output the maps of a layer are made of.

    "early" and "late" are these parts of the backbone, see `wsol.backbones`; "middle" is the first
    block of the late part. Raises ValueError for another name, and for a layer but "late" of a
    timm backbone, which returns its features only at the end.
    """
    if layer not in LAYERS:
        raise ValueError(f"unknown layer {layer!r}; known: {', '.join(LAYERS)}")
    if layer != "late" and backbone.name.startswith("timm/"):
        raise ValueError(f"{backbone.name} has no {layer} layer of its own; only late")
    return next(backbone.late.children()) if layer == "middle" else getattr(backbone, layer)


def parse_kind(kind: str) -> tuple[str, str]:
    """Split a kind such as "gradcam-early"; raises ValueError for an unknown one."""
    if kind not in KINDS:
        raise ValueError(f"unknown map {kind!r}; known: {', '.join(KINDS)}")
    method, _, layer = kind.partition("-")
    return method, layer


def posthoc_maps(
    network: nn.Module,
    images: Images | Tensor,
    labels: Tensor,
    method: str,
    layer: str,
    batch: int = BATCH,
) -> NDArray[np.float32]:
    """Return the maps (N, h, w) of the labels' logits, at the grid of a layer, at least 0.

    network : with a ``backbone`` (`wsol.backbones.Backbone`) and ``logits`` among its outputs, on
        any device; used in evaluation mode and not changed
    images : N images of (3, L, L) uint8; labels : (N,) int64, the class that each map is of
    method : one of `EXTRACTORS`; layer : one of `LAYERS`, see `layer_of`
    batch : images (of Score-CAM, masked images) at a time; changes at most the last bits

    Raises ValueError for an unknown method or layer.
    """
    if method not in EXTRACTORS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(EXTRACTORS)}")
    # A copy, so that hooks, evaluation mode and frozen weights do not change the network.
    classifier = Classifier(copy.deepcopy(network)).eval().requires_grad_(False)
    backbone = classifier.network.backbone
    options = {"batch_size": batch} if method == "scorecam" else {}
    options |= {"reshape_transform": backbone.as_map}
    device, maps = backbone.mean.device, []
    with EXTRACTORS[method](classifier, layer_of(backbone, layer), **options) as extract:
        for rows, batch_images in image_batches(images, batch):
            x = as_input(batch_images, device)
            with torch.enable_grad():
                logits = classifier(x.requires_grad_())  # the weights are frozen
            (layer_maps,) = extract(labels[rows].tolist(), logits, normalized=False)
            maps.append(layer_maps.float().cpu())
    return torch.cat(maps).numpy()


def evaluate_posthoc(
    weights: str | Path,
    index: pd.DataFrame,
    root: str | Path,
    kinds: Sequence[str],
    *,
    meta: dict[str, str] | None = None,
    workers: int = 1,
    cache: str | Path | None = None,
    device: str = "auto",
    batch: int = BATCH,
) -> RunEvaluation:
    """Evaluate post-hoc maps of a trained network, and its class map.

    weights : file that `wsol.training.loop.train` wrote
    index, root : index table of the data set and the folder its paths start from
    kinds : maps to evaluate beside the class map, of `KINDS`
    meta : further entries of the tables' meta data
    workers : threads that turn maps into boxes
    cache : folder for decoded images; without, they are decoded once for each kind
    device, batch : see `wsol.training.config.Execution` and `posthoc_maps`
    """
    layers = {kind: parse_kind(kind) for kind in kinds}
    network, config = load_network(weights, index)
    torch.set_num_threads(config.threads)  # the last bits of a sum depend on them
    network = network.to(choose_device(device))
    rows, maps = {split: rows_of(index, split) for split in (TRAIN_FULLSUP, TEST)}, {}
    for split, part in rows.items():
        images = open_images([Path(root) / p for p in part["path"]], config.input_size, cache)
        labels = torch.from_numpy(part["label"].to_numpy().copy())
        maps[split] = predict(network, images, labels)
        maps[split] |= {k: posthoc_maps(network, images, labels, *layers[k], batch) for k in layers}
    about = about_run(weights, config, root, None) | (meta or {})
    return evaluate_maps(maps, rows, root, ("class", *kinds), about, workers)
