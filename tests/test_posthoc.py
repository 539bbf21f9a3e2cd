"""Post-hoc maps: torchcam beside our class map and plain autograd; nothing is left behind."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchcam.methods import CAM

from wsol.baselines.posthoc import (
    EXTRACTORS,
    KINDS,
    LAYERS,
    evaluate_posthoc,
    layer_of,
    parse_kind,
    posthoc_maps,
)
from wsol.datasets.images import ArrayImages, to_float
from wsol.datasets.index import INDEX, read_index
from wsol.evaluation.predict import predict
from wsol.evaluation.run import evaluate_run
from wsol.report.names import METHODS
from wsol.report.style import METHOD_STYLE
from wsol.training.config import TrainConfig
from wsol.training.runs import build_network

K, SIDE = 5, 32  # classes, pixels
GRIDS = {"early": SIDE // 4, "middle": SIDE // 8, "late": SIDE // 8}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Six layers with random weights; the biases of the class head are not zero."""
    network = build_network(TrainConfig("cam", seed=3, backbone="small8", input_size=SIDE), K)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return torch.tensor([0, 4, 2, 2, 1, 3, 0])


def class_maps_without_bias(network, images, labels) -> np.ndarray:
    bias = network.class_head.bias.detach().numpy()
    return predict(network, images, labels)["class"] - bias[labels][:, None, None]


class Pooled(nn.Module):
    """The network of the papers: global average pooling in front of a linear layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone, head = network.backbone, network.class_head
        self.fc = nn.Linear(self.backbone.late_channels, K)
        self.fc.weight = nn.Parameter(head.weight.detach()[:, :, 0, 0].clone())
        self.fc.bias = nn.Parameter(head.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(x)[1].mean((2, 3)))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", EXTRACTORS)
def test_maps_are_not_negative_at_the_grid_of_the_layer_whatever_the_batch(
    network, images, labels, method, layer
):
    maps = posthoc_maps(network, images, labels, method, layer)
    assert maps.shape == (len(images), GRIDS[layer], GRIDS[layer])
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()
    assert maps.max() > 0
    if layer == "middle":
        for batch in (1, 3):
            parts = posthoc_maps(network, images, labels, method, layer, batch)
            np.testing.assert_allclose(parts, maps, rtol=1e-3, atol=1e-6)


def test_torchcams_own_cam_is_our_class_map(network, images, labels):
    pooled = Pooled(network).eval()
    with CAM(pooled, pooled.backbone.late, pooled.fc) as extract:
        with torch.inference_mode():
            logits = pooled(to_float(images))
        (maps,) = extract(labels.tolist(), normalized=False)
    ours = predict(network, images, labels)["logits"]
    np.testing.assert_allclose(logits, ours, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps, class_maps_without_bias(network, images, labels), atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "xgradcam", "layercam"])
def test_maps_of_the_last_features_follow_from_the_weights_of_the_class(
    network, images, labels, method
):
    maps = posthoc_maps(network, images, labels, method, "late")
    maps = maps * GRIDS["late"] ** 2  # the gradient of a mean over h w is the weight over h w
    if method == "layercam":
        weights = network.class_head.weight.detach()[labels, :, 0, 0].clamp_min(0)  # (N, C)
        with torch.inference_mode():
            expected = torch.einsum("nc,nchw->nhw", weights, network.backbone(to_float(images))[1])
    else:
        expected = np.maximum(class_maps_without_bias(network, images, labels), 0)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=2e-5)


def gradients(network, image, label) -> tuple[torch.Tensor, torch.Tensor]:
    """Early activations (C, h, w) of one image and the gradient of the label's logit there."""
    backbone = network.backbone
    early = backbone.early((to_float(image[None]) - backbone.mean) / backbone.std).detach()
    early.requires_grad_()
    logits = network.class_head(backbone.late(early)).mean((2, 3))
    (gradient,) = torch.autograd.grad(logits[0, label], early)
    return early.detach()[0], gradient[0]


def by_hand(method: str, A: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Map (h, w) by the equations of the papers, channel by channel."""
    result = torch.zeros(A.shape[1:])
    for a, d in zip(A, g, strict=True):
        if method == "gradcam":
            weight = d.mean()
        elif method == "xgradcam":
            weight = (d * a).sum() / (a.sum() + 1e-8)
        elif method == "layercam":
            weight = d.clamp_min(0)
        else:
            alpha = torch.where(d == 0, 0, d**2 / (2 * d**2 + a.sum() * d**3))
            weight = (alpha * d.clamp_min(0)).sum()
        result += weight * a
    return result.clamp_min(0)


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "xgradcam", "layercam"])
def test_a_map_of_the_early_features_is_that_of_plain_autograd(network, images, labels, method):
    maps = posthoc_maps(network, images, labels, method, "early")
    for one, image, label in zip(maps, images, labels, strict=True):
        expected = by_hand(method, *gradients(network, image, label))
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-6)


def test_scorecam_weights_channels_by_the_logit_of_the_masked_image(network, images, labels):
    maps = posthoc_maps(network, images[:2], labels[:2], "scorecam", "early")
    for one, image, label in zip(maps, images, labels, strict=False):
        x = to_float(image[None])
        with torch.inference_mode():
            A = network.backbone(x)[0]
            low, high = A.amin((2, 3), keepdim=True), A.amax((2, 3), keepdim=True)
            masks = F.interpolate((A - low) / (high - low + 1e-8), (SIDE, SIDE), mode="bilinear")
            masked = network(x * masks[0][:, None]).logits[:, label]
            weights = (masked - network(x).logits[0, label]).softmax(0)
        expected = torch.einsum("c,chw->hw", weights, A[0]).clamp_min(0)
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_the_network_is_left_as_it_was(images, labels, method):
    network = build_network(TrainConfig("cam", backbone="small8", input_size=SIDE), K)
    network.train()
    network.backbone.late[1].eval()
    network.class_head.bias.requires_grad_(False)
    network.class_head.weight.grad = torch.ones_like(network.class_head.weight)
    modes = [module.training for module in network.modules()]
    asks = [parameter.requires_grad for parameter in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    maps = posthoc_maps(network, images, labels, method, "early")
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == asks
    assert all((value == state[name]).all() for name, value in network.state_dict().items())
    graded = {name for name, p in network.named_parameters() if p.grad is not None}
    assert graded == {"class_head.weight"}
    assert (network.class_head.weight.grad == 1).all()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    stored = posthoc_maps(network.eval(), ArrayImages(images), labels, method, "early")
    assert (stored == maps).all()


def test_tokens_of_a_transformer_become_maps(images):
    network = build_network(TrainConfig("cam", backbone="deit-s", input_size=SIDE), 3).eval()
    for layer in LAYERS:
        maps = posthoc_maps(network, images[:2], torch.tensor([0, 2]), "layercam", layer)
        assert maps.shape == (2, 2, 2)
        assert np.isfinite(maps).all()


def test_unknown_layers_methods_and_kinds_are_refused(network, images, labels):
    with pytest.raises(ValueError, match="unknown layer 'first'"):
        layer_of(network.backbone, "first")
    with pytest.raises(ValueError, match="unknown method 'cam'"):
        posthoc_maps(network, images, labels, "cam", "early")
    for kind in ("gradcam", "gradcam-first", "cam-early", "early-gradcam"):
        with pytest.raises(ValueError, match=f"unknown map '{kind}'"):
            parse_kind(kind)


def test_a_timm_network_has_only_its_last_features(images):
    network = build_network(TrainConfig("cam", backbone="timm/resnet18", input_size=SIDE), 3)
    two = images[:2], torch.tensor([0, 1]), "gradcam"
    assert posthoc_maps(network, *two, "late").shape == (2, 1, 1)
    with pytest.raises(ValueError, match="has no early layer"):
        posthoc_maps(network, *two, "early")


def test_every_map_of_a_cam_run_has_a_name_and_a_style_of_its_own():
    names = [METHODS["cam", kind] for kind in KINDS]
    assert len(set(names)) == len(KINDS) == len(EXTRACTORS) * len(LAYERS)
    assert METHODS["cam", "gradcam-early"] == "Grad-CAM, early layer"
    assert len({METHOD_STYLE[name] for name in names}) == len(KINDS)


def test_a_run_is_evaluated_as_its_class_map_is(tiny_runs, tmp_path):
    root, weights = tiny_runs / "birds", tiny_runs / "train" / "cam-0" / "weights.safetensors"
    index = read_index(root / INDEX)
    result = evaluate_posthoc(weights, index, root, ["gradcam-early"], meta={"dataset": "birds"})
    plain = evaluate_run(weights, index, root, meta={"dataset": "birds"})
    for split in ("train-fullsup", "test"):
        ours, theirs = result.tables["class", split], plain.tables["class", split]
        assert ours.meta == theirs.meta
        assert (ours.steps_largest == theirs.steps_largest).all()
        posthoc = result.tables["gradcam-early", split]
        assert posthoc.rows.equals(theirs.rows)  # predictions are the network's
        expected = {"map": "gradcam-early", "read_out": posthoc.meta["read_out"]}
        assert posthoc.meta == theirs.meta | expected
    result.save_tables(tmp_path, "cam-0")
    assert (tmp_path / "cam-0-gradcam-early-test.npz").is_file()
