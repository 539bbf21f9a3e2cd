"""Networks of timm as backbones; these tests are skipped where timm is not installed."""

import builtins
import sys

import pytest
import torch

from wsol.backbones import build_backbone
from wsol.training.config import TrainConfig
from wsol.training.runs import build_network


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


def test_resnet18_gives_features_of_stride_8_and_its_last(timm):
    backbone = build_backbone("timm/resnet18").eval()
    assert (backbone.early_channels, backbone.late_channels) == (128, 512)
    assert (backbone.early_stride, backbone.late_stride) == (8, 32)
    with torch.inference_mode():
        early, late = backbone(torch.rand(1, 3, 64, 96))
    assert (early.shape, late.shape) == ((1, 128, 8, 12), (1, 512, 2, 3))


def test_a_training_puts_its_heads_on_it(timm):
    network = build_network(TrainConfig("background", backbone="timm/resnet18"), 5).eval()
    with torch.inference_mode():
        outputs = network(torch.rand(2, 3, 64, 64))
    assert outputs.class_maps.shape == (2, 5, 2, 2)
    assert outputs.foreground.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_a_local_file_of_weights_fills_every_layer(timm, tmp_path, name):
    torch.manual_seed(1)
    whole = timm.create_model(name)
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(2)
    backbone = build_backbone(f"timm/{name}", str(tmp_path / "weights.pth"))
    state = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    for key, value in backbone.early.net.state_dict().items():
        assert torch.equal(value, state[key.replace(".", "_")])


def test_the_last_features_are_those_of_the_whole_network(timm, tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("resnet18").eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone("timm/resnet18", str(tmp_path / "weights.pth")).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = whole.forward_features((x - backbone.mean) / backbone.std)
        assert torch.allclose(backbone(x)[1], expected, atol=1e-5)


def test_images_are_normalized_as_the_weights_expect_it(timm):
    assert build_backbone("timm/resnet18").mean.flatten()[0] == pytest.approx(0.485)
    assert build_backbone("timm/tf_efficientnet_lite0").std.flatten()[0] == pytest.approx(0.5)


def test_what_timm_cannot_give_is_refused(timm, tmp_path):
    with pytest.raises(ValueError, match="timm has no model 'resnet17'"):
        build_backbone("timm/resnet17")
    with pytest.raises(ValueError, match="none of them 8"):
        build_backbone("timm/deit_tiny_patch16_224")
    with pytest.raises(FileNotFoundError, match="absent"):
        build_backbone("timm/resnet18", str(tmp_path / "absent.pth"))


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "timm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "wsol\[timm\]"'):
        build_backbone("timm/resnet18")


def test_features_with_channels_last_are_refused():
    backbone = build_backbone("timm/swin_tiny_patch4_window7_224").eval()
    with pytest.raises(ValueError, match=r"swin_tiny.* gives \(B, h, w, C\) features"):
        backbone(torch.zeros(1, 3, 224, 224))
