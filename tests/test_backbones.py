"""Backbones: strides, channels, parameter counts, where weights come from."""

from functools import cache

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from wsol.backbones import Backbone, build_backbone
from wsol.backbones.timm_networks import token_map
from wsol.training.config import TrainConfig
from wsol.training.runs import build_network

# torchvision's published totals, and its classifier layers, which a backbone leaves out.
RESNET50, RESNET50_FC = 25_557_032, 2048 * 1000 + 1000
VGG16 = 138_357_544
VGG16_FC = (25088 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
VGG16_CONV6 = 9 * 512 * 1024 + 1024
INCEPTIONV3 = 27_161_264  # with the auxiliary classifier
INCEPTIONV3_NEW = 9 * (768 + 1024) * 1024 + 2 * 1024
DEIT_S, DEIT_S_HEAD = 22_050_664, 384 * 1000 + 1000  # timm's total

SHAPES = [
    ("small8", (16, 32), (4, 8)),
    ("small16", (32, 64), (4, 8)),
    ("vgg16", (512, 1024), (8, 16)),
    ("vgg16-28", (512, 1024), (8, 8)),
    ("resnet50", (512, 2048), (8, 16)),
    ("resnet50-28", (512, 2048), (8, 8)),
    ("inceptionv3", (288, 1024), (8, 16)),
    ("inceptionv3-28", (288, 1024), (8, 8)),
    ("deit-s", (384, 384), (16, 16)),
]


def parameter_count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@cache  # for tests that only look at it
def _built(name: str) -> Backbone:
    return build_backbone(name).eval()


@pytest.mark.parametrize(("name", "channels", "strides"), SHAPES)
def test_features_have_the_channels_and_strides_that_are_announced(name, channels, strides):
    backbone = _built(name)
    assert (backbone.early_channels, backbone.late_channels) == channels
    assert (backbone.early_stride, backbone.late_stride) == strides
    with torch.inference_mode():
        features = backbone(torch.rand(1, 3, 224, 224))  # maps of 28 x 28 and 14 x 14, mostly
    for feature, width, stride in zip(features, channels, strides, strict=True):
        assert feature.shape == (1, width, 224 // stride, 224 // stride)
        assert torch.isfinite(feature).all()
        assert (feature >= 0).all() or name == "deit-s"  # the others end in a ReLU


@pytest.mark.parametrize("name", ["small8", "vgg16", "resnet50-28", "inceptionv3"])
def test_convolutions_take_images_that_are_not_square(name):
    backbone = _built(name)
    with torch.inference_mode():
        early, late = backbone(torch.rand(1, 3, 96, 64))
    assert early.shape[-2:] == (96 // backbone.early_stride, 64 // backbone.early_stride)
    assert late.shape[-2:] == (96 // backbone.late_stride, 64 // backbone.late_stride)


@pytest.mark.parametrize("name", ["resnet50", "resnet50-28"])
def test_resnet50_has_the_parameters_of_torchvisions_without_its_classifier(name):
    assert parameter_count(_built(name)) == RESNET50 - RESNET50_FC


@pytest.mark.parametrize("name", ["vgg16", "vgg16-28"])
def test_vgg16_has_the_parameters_of_torchvisions_and_a_conv6(name):
    assert parameter_count(_built(name)) == VGG16 - VGG16_FC + VGG16_CONV6


@pytest.mark.parametrize("name", ["inceptionv3", "inceptionv3-28"])
def test_inceptionv3_has_the_parameters_of_torchvisions_up_to_mixed_6e_and_two_layers(name):
    net = torchvision.models.inception_v3(init_weights=False)
    left_out = (net.AuxLogits, net.Mixed_7a, net.Mixed_7b, net.Mixed_7c, net.fc)
    kept = INCEPTIONV3 - sum(map(parameter_count, left_out))
    assert parameter_count(_built(name)) == kept + INCEPTIONV3_NEW


def test_deit_s_has_the_parameters_of_timms_without_its_classifier():
    assert parameter_count(_built("deit-s")) == DEIT_S - DEIT_S_HEAD


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "inceptionv3"])
def test_larger_maps_come_from_the_same_weights(name):
    small, large = _built(name).state_dict(), _built(f"{name}-28").state_dict()
    assert [v.shape for v in small.values()] == [v.shape for v in large.values()]


def test_a_small_backbone_has_six_convolutions_with_batch_norm():
    w = 16
    ends = [(3, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w), (4 * w, 4 * w)]
    assert parameter_count(build_backbone("small16")) == sum(9 * a * b + 2 * b for a, b in ends)


def test_resnet50_keeps_its_last_stages_at_stride_one():
    strides = {
        name: [
            module
            for module, layer in _built(name).late.named_modules()
            if isinstance(layer, torch.nn.Conv2d) and layer.stride != (1, 1)
        ]
        for name in ("resnet50", "resnet50-28")
    }
    of_layer3 = ["0.0.conv2", "0.0.downsample.0"]
    assert strides == {"resnet50": of_layer3, "resnet50-28": []}


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


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """torchvision's InceptionV3, statistics of its normalization drawn, and a file of it."""
    torch.manual_seed(2)
    net = torchvision.models.inception_v3(init_weights=False)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(net.state_dict(), path)
    return net.eval(), str(path)


@pytest.mark.parametrize("name", ["inceptionv3", "inceptionv3-28"])
def test_the_blocks_of_inceptionv3_give_what_torchvisions_give(inception, name):
    net, path = inception
    backbone = build_backbone(name, path).eval()
    x = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        early, _ = backbone(x)
        stem = backbone.early[:7]((x - 0.5) / 0.5)  # what these weights were trained on
        assert torch.equal(early, net.Mixed_5d(net.Mixed_5c(net.Mixed_5b(stem))))
        start = list(backbone.late)[0 if name.endswith("28") else 1 :]
        reduced = start[0](early)
        by_hand = net.Mixed_6e(net.Mixed_6d(net.Mixed_6c(net.Mixed_6b(reduced))))
        assert torch.equal(torch.nn.Sequential(*start[1:5])(reduced), by_hand)


def test_the_grid_that_is_not_reduced_holds_the_reduced_one(inception):
    net, path = inception
    block = build_backbone("inceptionv3-28", path).eval().late[0]
    x = torch.rand(1, 288, 13, 13)
    with torch.inference_mode():
        # torchvision's has no padding and a stride of 2: it looks at the rows 1, 3, 5, ...
        assert torch.allclose(block(x)[..., 1::2, 1::2], net.Mixed_6a(x), atol=1e-5)


def test_the_stem_of_inceptionv3_has_the_weights_of_torchvisions(inception):
    net, path = inception
    early = build_backbone("inceptionv3", path).early
    layers = (net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3)
    layers += (net.Conv2d_3b_1x1, net.Conv2d_4a_3x3)
    ours = [module for module in early[:7] if not isinstance(module, torch.nn.MaxPool2d)]
    for layer, own in zip(layers, ours, strict=True):
        assert torch.equal(layer.conv.weight, own.conv.weight)


def test_vgg16_keeps_its_layers_and_leaves_out_the_last_pooling(tmp_path):
    torch.manual_seed(3)
    model = torchvision.models.vgg16().eval()
    torch.save(model.features.state_dict(), tmp_path / "features.pth")
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for name, layers in (("vgg16", model.features[23:30]), ("vgg16-28", model.features[24:30])):
            backbone = build_backbone(name, str(tmp_path / "vgg16.pth")).eval()
            early, late = backbone(x)
            assert torch.equal(early, model.features[:23]((x - backbone.mean) / backbone.std))
            assert torch.equal(late, backbone.late[-2:](layers(early)))
    with pytest.raises(ValueError, match=r"features\.pth does not fit vgg16: Missing key"):
        build_backbone("vgg16", str(tmp_path / "features.pth"))


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
    with pytest.raises(ValueError, match=r"unknown backbone .*small<width>, vgg16, .*timm/<name>"):
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


def test_timm_gives_features_of_stride_8_and_its_last():
    backbone = build_backbone("timm/resnet18").eval()
    assert (backbone.early_channels, backbone.late_channels) == (128, 512)
    assert (backbone.early_stride, backbone.late_stride) == (8, 32)
    assert backbone.mean.flatten()[0] == pytest.approx(0.485)
    network = build_network(TrainConfig("background", backbone="timm/resnet18"), 5).eval()
    with torch.inference_mode():
        early, late = backbone(torch.rand(1, 3, 64, 96))
        outputs = network(torch.rand(2, 3, 64, 64))
    assert (early.shape, late.shape) == ((1, 128, 8, 12), (1, 512, 2, 3))
    assert outputs.class_maps.shape == (2, 5, 2, 2)
    assert outputs.foreground.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_a_local_file_fills_every_layer_of_a_network_of_timm(tmp_path, name):
    torch.manual_seed(1)
    whole = timm.create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(2)
    backbone = build_backbone(f"timm/{name}", str(tmp_path / "weights.pth")).eval()
    state = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    for key, value in backbone.early.net.state_dict().items():
        assert torch.equal(value, state[key.replace(".", "_")])
    if name == "resnet18":
        x = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            expected = whole.forward_features((x - backbone.mean) / backbone.std)
            assert torch.allclose(backbone(x)[1], expected, atol=1e-5)


@pytest.fixture(scope="module")
def deit():
    """timm's DeiT-S with random weights, none of them zero."""
    torch.manual_seed(4)
    model = timm.create_model("deit_small_patch16_224").eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("form", ["plain", "under model", "safetensors"])
def test_deit_s_gives_the_features_of_timm(deit, tmp_path, form):
    path = tmp_path / ("deit.safetensors" if form == "safetensors" else "deit.pth")
    if form == "safetensors":
        save_file(deit.state_dict(), path)
    else:
        torch.save(deit.state_dict() if form == "plain" else {"model": deit.state_dict()}, path)
    backbone = build_backbone("deit-s", str(path)).eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        tokens, (half,) = deit.forward_intermediates(
            (x - backbone.mean) / backbone.std, indices=[5], output_fmt="NCHW"
        )
        early, late = backbone(x)
    assert torch.allclose(late, token_map(tokens), atol=1e-5)
    assert torch.allclose(early, half, atol=1e-5)


def test_deit_s_serves_another_input_size_with_positions_resized(deit, tmp_path):
    torch.save(deit.state_dict(), tmp_path / "deit.pth")
    backbone = build_backbone("deit-s", str(tmp_path / "deit.pth"), input_size=320).eval()
    expected = resample_abs_pos_embed(deit.pos_embed, (20, 20))
    assert torch.allclose(backbone.early[0].positions, expected, atol=1e-5)
    with torch.inference_mode():
        early, late = backbone(torch.rand(1, 3, 320, 320))
    assert early.shape == late.shape == (1, 384, 20, 20)


def test_a_map_has_the_patches_in_their_places():
    tokens = torch.arange(10.0).view(1, 10, 1)  # the class token is 0
    assert torch.equal(token_map(tokens)[0, 0], torch.arange(1.0, 10.0).view(3, 3))


def test_what_cannot_be_built_is_refused(tmp_path):
    files = {"other": {"conv1.weight": torch.zeros(1)}, "none": {"epoch": 3}}
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    for name, weights, size, message in (
        ("deit-s", None, 225, "multiple of 16"),
        ("deit-s", "other", 224, "does not fit"),
        ("timm/resnet18", "other", 224, "does not fit"),
        ("resnet50", "none", 224, "holds no state dict"),
        ("timm/no_such_network", None, 224, "no model"),
        ("timm/vit_tiny_patch16_224", None, 224, "none of them 8"),
    ):
        with pytest.raises(ValueError, match=message):
            build_backbone(name, weights and str(tmp_path / f"{weights}.pth"), size)
