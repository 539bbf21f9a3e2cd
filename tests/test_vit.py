"""DeiT-S as a backbone: its tokens, names in weights files, position embeddings, its map."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer

from wsol.backbones import Backbone, build_backbone, rename_deit, resize_positions, token_map


def _same_weights(model: torch.nn.Module, path) -> Backbone:
    torch.save(model.state_dict(), path)
    return build_backbone("deit-s", str(path)).eval()


@pytest.fixture(scope="module")
def deit():
    """timm's DeiT-S with random weights, none of them zero."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(4)
    model = timm.create_model("deit_small_patch16_224").eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def test_both_halves_joined_give_the_tokens_of_torchvision(tmp_path):
    torch.manual_seed(1)
    model = VisionTransformer(224, 16, 12, 6, 384, 1536).eval()
    backbone = _same_weights(model, tmp_path / "vit.pth")
    x = torch.rand(2, 3, 224, 224)
    normalized = (x - backbone.mean) / backbone.std
    with torch.inference_mode():
        patches = model._process_input(normalized)
        tokens = torch.cat([model.class_token.expand(2, -1, -1), patches], dim=1)
        whole = model.encoder(tokens)
        assert torch.equal(backbone.late(backbone.early(normalized)), whole)
        half = model.encoder.layers[:6](tokens + model.encoder.pos_embedding)
        early, late = backbone(x)
        assert torch.equal(early, token_map(half))
        assert torch.equal(late, token_map(whole))


def test_a_map_has_the_patches_in_their_places():
    tokens = torch.arange(10.0).view(1, 10, 1)  # the class token is 0
    assert torch.equal(token_map(tokens)[0, 0], torch.arange(1.0, 10.0).view(3, 3))


@pytest.mark.parametrize("form", ["plain", "under model", "safetensors"])
def test_published_weights_give_the_features_of_timm(deit, tmp_path, form):
    state = deit.state_dict()
    path = tmp_path / ("deit.safetensors" if form == "safetensors" else "deit.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if form == "plain" else {"model": state}, path)
    backbone = build_backbone("deit-s", str(path)).eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        tokens = deit.forward_features((x - backbone.mean) / backbone.std)
        assert torch.allclose(backbone(x)[1], token_map(tokens), atol=1e-5)


def test_weights_serve_another_input_size_with_positions_resized(deit, tmp_path):
    layers = pytest.importorskip("timm.layers")
    torch.save(deit.state_dict(), tmp_path / "deit.pth")
    backbone = build_backbone("deit-s", str(tmp_path / "deit.pth"), input_size=320).eval()
    expected = layers.resample_abs_pos_embed(deit.pos_embed, (20, 20))
    assert torch.allclose(backbone.early[0].positions, expected, atol=1e-5)
    with torch.inference_mode():
        early, late = backbone(torch.rand(1, 3, 320, 320))
    assert early.shape == late.shape == (1, 384, 20, 20)


def test_positions_of_the_right_grid_stay_as_they_are():
    positions = torch.rand(1, 1 + 14 * 14, 384)
    assert resize_positions(positions, 14) is positions
    assert torch.equal(resize_positions(positions, 7)[:, 0], positions[:, 0])
    constant = torch.ones(1, 17, 3)
    assert torch.allclose(resize_positions(constant, 9), torch.ones(1, 82, 3))


def test_names_of_torchvision_are_left_alone():
    model = VisionTransformer(32, 16, 2, 2, 8, 16)
    state = model.state_dict()
    assert list(rename_deit(state)) == list(state)


def test_what_cannot_be_built_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of 16"):
        build_backbone("deit-s", input_size=225)
    with pytest.raises(ValueError, match="no weights of deit-s"):
        build_backbone("deit-s", "DEFAULT")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no vision transformer"):
        build_backbone("deit-s", str(tmp_path / "other.pth"))
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        build_backbone("deit-s", str(tmp_path / "none.pth"))
