"""EfficientNet-Lite0, frozen parts and their cached features, and the method for photographs."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from wsol.backbones import build_backbone, timm_networks
from wsol.datasets.images import ArrayImages
from wsol.evaluation.predict import predict_split
from wsol.methods import METHODS, Batch, background_plus
from wsol.training.batches import TrainData, epoch_batches, with_features
from wsol.training.config import Execution, TrainConfig, config_from
from wsol.training.loop import train
from wsol.training.runs import WEIGHTS, build_network, load_network

NAME = "efficientnet-lite0"
SIDE = 64
PIXEL_METHODS = {"has", "cutmix"}  # they change pixels, so they take no features


def config_of(method: str, **options) -> TrainConfig:
    values = dict(backbone=NAME, weights="DEFAULT", input_size=SIDE, freeze="all", crop_grid=1)
    values |= dict(epochs=1, batch_size=4, background_batch=3, threads=1, acol_width=8, spg_width=8)
    return config_from(values | {"method": method} | options)


def data_of(size: int = SIDE) -> TrainData:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, size, size), dtype=np.uint8)
    return TrainData(ArrayImages(images), torch.arange(8) % 3, 3, ArrayImages(images[5:]))


def test_installed_weights_recognize_a_cat():
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(timm_networks.lite0_weights())
    cat = Image.fromarray(skimage.data.chelsea()).resize((224, 224), Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(cat)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        best = network(images).softmax(1)[0].topk(3)
    assert set(best.indices.tolist()) == {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    assert best.values.sum() > 0.8


def test_a_changed_file_of_weights_is_refused(monkeypatch):
    monkeypatch.setattr(timm_networks, "LITE0_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="is not the expected file"):
        timm_networks.lite0_weights()


@pytest.mark.parametrize(("name", "stride"), [(NAME, 16), (f"{NAME}-28", 8)])
def test_features_are_those_of_timm_whatever_the_stride(name, stride):
    backbone = build_backbone(name, "DEFAULT").eval()
    options = dict(features_only=True, output_stride=stride)
    network = timm.create_model("tf_efficientnet_lite0", **options).eval()
    network.load_state_dict(timm_networks.lite0_weights(), strict=False)
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        early, late = backbone(images)
        expected = network(images * 2 - 1)[-2:]  # after blocks 4 and 6
    assert early.shape == (1, 112, 224 // stride, 224 // stride)
    assert late.shape == (1, 432, 224 // stride, 224 // stride)
    unscaled = late * backbone.late.std + backbone.late.mean
    assert torch.allclose(early, expected[0], atol=1e-4)
    assert torch.allclose(unscaled, torch.cat(expected, 1), atol=1e-4)


@pytest.mark.parametrize("part", ["early", "all"])
def test_packed_features_give_the_outputs_of_the_images(part):
    backbone = build_backbone(NAME, "DEFAULT").eval()
    backbone.freeze(part)
    images = torch.rand(2, 3, SIDE, SIDE)
    packed = backbone.pack(images)
    assert packed.dtype == torch.float16
    with torch.inference_mode():
        for ours, expected in zip(backbone(packed.float()), backbone(images), strict=True):
            assert torch.allclose(ours, expected, atol=0.02)


@pytest.mark.parametrize("freeze", ["early", "all"])
def test_a_frozen_part_learns_neither_weights_nor_statistics(freeze, tmp_path):
    network = train(config_of("cam", freeze=freeze), data_of(), tmp_path)
    before = build_backbone(NAME, "DEFAULT").state_dict()
    changed = {
        k.split(".")[0]
        for k, v in network.backbone.state_dict().items()
        if not torch.equal(v, before[k])
    }
    assert changed == ({"late"} if freeze == "early" else set())
    loaded, _ = load_network(tmp_path / WEIGHTS)  # the file lacks what is installed
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert (tmp_path / WEIGHTS).stat().st_size < (1e5 if freeze == "all" else 12e6)


@pytest.mark.parametrize("grid", [1, 2])
def test_weights_do_not_depend_on_the_cache(grid, tmp_path):
    config = config_of("background_plus", crop_grid=grid, seed=3)
    data = data_of(config.load_size())
    written = []
    for name, execution in (("plain", Execution()), ("cached", Execution(cache=str(tmp_path)))):
        train(config, data, tmp_path / name, execution=execution)
        written.append((tmp_path / name / WEIGHTS).read_bytes())
    assert written[0] == written[1]
    assert len(list(tmp_path.glob("*.features.npy"))) == 2


def test_features_are_those_of_the_crops_that_the_pixels_have(tmp_path):
    config = config_of("background", crop_grid=3, attach="late")
    data = data_of(config.load_size())
    backbone = build_network(config, 3).backbone.eval()
    packed = with_features(config, data, backbone, Execution(cache=str(tmp_path)))
    for ours, images in zip(
        epoch_batches(config, packed, 1), epoch_batches(config, data, 1), strict=True
    ):
        for features, pixels in (
            (ours.images, images.images),
            (ours.background, images.background),
        ):
            expected = torch.cat([backbone.pack(image[None]) for image in pixels])
            assert torch.equal(features, expected.float())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_a_frozen_backbone(method, tmp_path):
    network = train(config_of(method, attach="late"), data_of(), tmp_path)
    outputs = network(torch.rand(2, 3, SIDE, SIDE))
    assert outputs.class_maps.shape == (2, 3, 4, 4)
    assert torch.isfinite(outputs.class_maps).all()


def test_prediction_takes_the_same_features(tmp_path, tiny_birds):
    from wsol.datasets.index import INDEX, read_index, rows_of

    train(config_of("cam"), replace(data_of(), num_classes=20), tmp_path / "run")
    rows = rows_of(read_index(tiny_birds / INDEX), "train-fullsup")
    maps = [
        predict_split(tmp_path / "run" / WEIGHTS, rows, tiny_birds, tmp_path / name, execution)
        for name, execution in (("a", Execution()), ("b", Execution(cache=str(tmp_path))))
    ]
    assert np.array_equal(maps[0]["class"], maps[1]["class"])


# --- background_plus


def test_negatives_are_the_lowest_locations_of_each_image():
    config = background_plus.Config(negative_share=0.25, negative_score="foreground")
    S = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    score = background_plus.negative_score(S, torch.zeros(3, 4, 4), config)
    chosen = background_plus.negatives(score, config)
    for image, mask in zip(S.flatten(1), chosen, strict=True):
        assert set(image[mask].tolist()) == set(sorted(image.tolist())[:4])


def test_agreement_looks_at_both_maps():
    config = background_plus.Config(negative_share=0.5)
    S = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    A = torch.tensor([[9.0, 0.0], [9.0, 9.0]])[None]
    chosen = background_plus.negatives(background_plus.negative_score(S, A, config), config)
    assert chosen.tolist() == [[True, True, False, False]]


def test_the_loss_is_its_equation():
    config = background_plus.Config(negative_share=0.25, negative_weight=0.7, background_weight=0.4)
    generator = torch.Generator().manual_seed(2)
    S, S_background = (torch.randn(n, 1, 4, 4, generator=generator) for n in (2, 3))
    A = torch.randn(2, 4, 4, generator=generator)
    score = background_plus.negative_score(S, A, config)
    top = torch.stack([s.flatten().sort(descending=True).values[:3] for s in S])
    lowest = torch.stack([s.flatten()[v.argsort()[:4]] for s, v in zip(S, score, strict=True)])
    for progress, ramp in ((0.0, 0.0), (0.15, 0.5), (0.9, 1.0)):
        expected = 0.5 * (
            F.softplus(-top).mean()
            + 0.4 * F.softplus(S_background).mean()
            + 0.7 * ramp * F.softplus(lowest).mean()
        )
        loss = background_plus.foreground_loss(S, S_background, A, progress, config)
        assert torch.allclose(loss, expected)


def test_no_gradient_reaches_the_class_map_through_the_negatives():
    S, A = torch.randn(2, 1, 4, 4, requires_grad=True), torch.randn(2, 4, 4, requires_grad=True)
    config = replace(background_plus.Config(), background_weight=0.0)
    background_plus.foreground_loss(S, S.detach(), A, 1.0, config).backward()
    assert S.grad is not None
    assert A.grad is None


@pytest.mark.parametrize("name", [NAME, "small8"])
def test_the_embedding_is_what_the_pretrained_network_classifies_by(name):
    backbone = build_backbone(name, "DEFAULT" if name == NAME else None).eval()
    embedding, channels = backbone.embedding()
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        late = backbone(images)[1]
        expected = late.mean((2, 3))
        if name == NAME:
            network = timm.create_model("tf_efficientnet_lite0", output_stride=16).eval()
            network.load_state_dict(timm_networks.lite0_weights())
            expected = network.forward_features(images * 2 - 1).mean((2, 3))
        assert embedding(late).shape == (2, channels)
        assert torch.allclose(embedding(late), expected, atol=1e-4)


def test_a_classifier_of_its_own_changes_logits_and_no_map():
    images, labels = torch.rand(6, 3, 48, 48), torch.arange(6) % 3
    batch = Batch(images, labels, torch.rand(4, 3, 48, 48), 0.9)
    gradients, outputs = {}, {}
    for kind in background_plus.CLASSIFIERS:
        torch.manual_seed(0)
        config = background_plus.Config(classifier=kind)
        network = background_plus.build(build_backbone("small8"), 3, config)
        background_plus.losses(network, batch, config)["loss"].backward()
        gradients[kind] = network.class_head.weight.grad, network.foreground_head[0][0].weight.grad
        outputs[kind] = network.eval()(images)
    maps, own = gradients.values()
    assert all(torch.allclose(a, b) for a, b in zip(maps, own, strict=True))
    maps, own = outputs.values()
    assert torch.equal(maps.class_maps, own.class_maps)
    assert torch.allclose(maps.logits, maps.class_maps.mean((2, 3)))
    assert not torch.allclose(own.logits, own.class_maps.mean((2, 3)))


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_a_classifier_of_its_own_learns_and_is_read_back(freeze, tmp_path):
    config = config_of("background_plus", classifier="embedding", epochs=20, freeze=freeze)
    config = replace(config, learning_rate=0.01 if freeze == "all" else 0.001)
    network = train(config, data_of(), tmp_path).eval()
    images = torch.from_numpy(np.stack([data_of().images[i].numpy() for i in range(8)])) / 255
    with torch.inference_mode():
        logits = network(images).logits
        assert torch.equal(load_network(tmp_path / WEIGHTS)[0](images).logits, logits)
    assert (logits.argmax(1) == data_of().labels).float().mean() >= 0.75  # of noise, 3 classes
    if freeze == "all":
        assert (tmp_path / WEIGHTS).stat().st_size < 1e6  # without the installed layer
