"""Backbones: strides, channels, parameter counts, where weights come from."""

import pytest
import torch
import torchvision

from wsol.models import Backbone, build_backbone, conv_block, parameter_count

# torchvision's published totals, and its classifier layers, which a backbone leaves out.
RESNET50, RESNET50_FC = 25_557_032, 2048 * 1000 + 1000
VGG16 = 138_357_544
VGG16_FC = (25088 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
VGG16_CONV6 = 9 * 512 * 1024 + 1024

SHAPES = [
    ("small8", (16, 32), (4, 8)),
    ("small16", (32, 64), (4, 8)),
    ("vgg16", (512, 1024), (8, 16)),
    ("resnet50", (512, 2048), (8, 16)),
]


@pytest.mark.parametrize(("name", "channels", "strides"), SHAPES)
def test_features_have_the_channels_and_strides_that_are_announced(name, channels, strides):
    backbone = build_backbone(name).eval()
    assert (backbone.early_channels, backbone.late_channels) == channels
    assert (backbone.early_stride, backbone.late_stride) == strides
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 64, 96))
    for found, width, stride in zip(features, channels, strides, strict=True):
        assert found.shape == (1, width, 64 // stride, 96 // stride)
        assert torch.isfinite(found).all()
        assert (found >= 0).all()  # both end in a ReLU


def test_resnet50_has_the_parameters_of_torchvisions_without_its_classifier():
    assert parameter_count(build_backbone("resnet50")) == RESNET50 - RESNET50_FC


def test_vgg16_has_the_parameters_of_torchvisions_and_a_conv6():
    assert parameter_count(build_backbone("vgg16")) == VGG16 - VGG16_FC + VGG16_CONV6


def test_a_small_backbone_has_six_convolutions_with_batch_norm():
    w = 16
    ends = [(3, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w), (4 * w, 4 * w)]
    assert parameter_count(build_backbone("small16")) == sum(9 * a * b + 2 * b for a, b in ends)


def test_frozen_parameters_are_not_counted():
    block = conv_block(3, 4)
    block[0].weight.requires_grad_(False)
    assert parameter_count(block) == 2 * 4


def test_resnet50_keeps_its_last_stage_at_stride_one():
    backbone = build_backbone("resnet50")
    strides = {
        name: layer.stride
        for name, layer in backbone.late.named_modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.stride != (1, 1)
    }
    assert strides == {"0.0.conv2": (2, 2), "0.0.downsample.0": (2, 2)}  # layer3's alone


def test_images_are_normalized_inside():
    backbone = build_backbone("small8").eval()
    x = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(backbone(x)[0], backbone.early((x - mean) / std), atol=1e-6)


def test_weights_come_from_a_local_state_dict(tmp_path):
    torch.manual_seed(1)
    model = torchvision.models.resnet50()
    torch.save(model.state_dict(), tmp_path / "my weights.pth")
    backbone = build_backbone("resnet50", str(tmp_path / "my weights.pth")).eval()
    x = torch.rand(1, 3, 64, 64)
    model.eval()
    with torch.inference_mode():
        stem = model.maxpool(model.relu(model.bn1(model.conv1((x - backbone.mean) / backbone.std))))
        early, late = backbone(x)
        assert torch.equal(early, model.layer2(model.layer1(stem)))
        model.layer4[0].conv2.stride = model.layer4[0].downsample[0].stride = (1, 1)
        assert torch.equal(late, model.layer4(model.layer3(early)))


def test_weights_none_needs_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("weights=None must not download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse, raising=False)
    build_backbone("resnet50")
    build_backbone("small8")


def test_default_weights_are_asked_of_torchvision(monkeypatch):
    asked = []

    def constructor(weights: str) -> torch.nn.Module:
        asked.append(weights)
        return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3])

    monkeypatch.setattr(torchvision.models, "resnet50", constructor)
    build_backbone("resnet50", "DEFAULT")
    assert asked == ["DEFAULT"]


def test_random_weights_follow_from_torchs_seed():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_backbone("small8").parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("name", ["resnet51", "small", "smallish", ""])
def test_an_unknown_backbone_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown backbone .*small<width>, vgg16, resnet50"):
        build_backbone(name)


def test_a_small_backbone_takes_no_weights():
    with pytest.raises(ValueError, match="no pretrained weights"):
        build_backbone("small16", "DEFAULT")


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.pth"):
        build_backbone("vgg16", str(tmp_path / "absent.pth"))


def test_statistics_of_the_input_are_not_saved_with_the_weights():
    assert not {"mean", "std"} & set(build_backbone("small8").state_dict())
    assert isinstance(build_backbone("small8"), Backbone)
