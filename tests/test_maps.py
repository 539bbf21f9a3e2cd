"""Maps: predicted in batches like one by one, read out, multiplied, written and opened again."""

import numpy as np
import pytest
import torch

from wsol.backbones import build_backbone
from wsol.datasets.images import to_float
from wsol.evaluation.predict import READ_OUTS, load_maps, predict, product
from wsol.methods import background, cam

K = 5


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (7, 3, 40, 48), generator=generator).to(torch.uint8)
    return pixels, torch.tensor([4, 0, 1, 2, 3, 0, 4])


@pytest.fixture(params=["cam", "background"])
def network(request) -> torch.nn.Module:
    torch.manual_seed(0)
    method = {"cam": cam, "background": background}[request.param]
    return method.build(build_backbone("small8"), K, method.Config())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predicting_in_batches_is_predicting_each_image(network, images, batch_size):
    maps = predict(network, *images, batch_size=batch_size)
    network.eval()
    for i, (image, label) in enumerate(zip(*images, strict=True)):
        with torch.inference_mode():
            outputs = network(to_float(image[None]))
        assert np.allclose(maps["logits"][i], outputs.logits[0], atol=1e-5)
        assert np.allclose(maps["class"][i], outputs.class_maps[0, label], atol=1e-5)
        if outputs.foreground is not None:
            assert np.allclose(maps["foreground"][i], outputs.foreground[0, 0], atol=1e-5)


def test_shapes_and_types_of_predictions(network, images):
    maps = predict(network, *images)
    shapes = {"logits": (7, K), "class": (7, 5, 6)}
    if isinstance(network, background.BackgroundNetwork):
        shapes["foreground"] = (7, 10, 12)
    assert {name: array.shape for name, array in maps.items()} == shapes
    assert {array.dtype for array in maps.values()} == {np.dtype(np.float32)}


def test_predicting_changes_neither_network_nor_images(network, images):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pixels = images[0].clone()
    network.train()  # batch statistics would move here
    predict(network, *images)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(images[0], pixels)


def test_read_outs_are_what_their_names_say():
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        maps = {name: read_out(x) for name, read_out in READ_OUTS.items()}
    assert maps["raw"].tolist() == x.tolist()
    assert maps["relu"].tolist() == [0, 0, 0, 2, 1000]
    expected = [0, 1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2), 1]
    assert maps["sigmoid"].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_product_of_maps_of_one_grid_is_pixel_by_pixel():
    rng = np.random.default_rng(0)
    A, S = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = np.maximum(A, 0) / (1 + np.exp(-S))
    assert np.allclose(product(A, S, "relu"), expected, atol=1e-6)


@pytest.mark.parametrize("shapes", [((4, 6), (8, 12)), ((8, 12), (4, 6))])
def test_the_product_lies_on_the_finer_grid(shapes):
    rng = np.random.default_rng(0)
    A, S = (rng.normal(size=(2, *shape)).astype(np.float32) for shape in shapes)
    maps = product(A, S, "sigmoid")
    assert maps.shape == (2, 8, 12)
    assert maps.dtype == np.float32
    assert ((maps >= 0) & (maps <= 1)).all()


def test_a_flat_foreground_map_scales_the_class_map_and_no_more():
    A = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    maps = product(A, np.zeros((2, 4, 4), dtype=np.float32), "raw")
    assert np.allclose(maps, A / 2, atol=1e-6)


def test_the_read_out_comes_before_the_resize():
    """A class map of +9 and -9 would cancel halfway, its sigmoid would not."""
    A = np.array([[[9.0, -9.0]]], dtype=np.float32).repeat(2, axis=1)
    S = np.full((1, 8, 8), 50.0, dtype=np.float32)
    maps = product(A, S, "relu")[0, 0]
    assert maps.max() == pytest.approx(9, abs=1e-4)
    assert (maps >= 0).all()
    assert maps[3] > 3  # an interpolation of 9 and 0, not of 9 and -9


def test_maps_come_back_memory_mapped_and_read_only(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.save(tmp_path / "class.npy", array)
    maps = load_maps(tmp_path)
    assert list(maps) == ["class"]
    assert isinstance(maps["class"], np.memmap)
    assert np.array_equal(maps["class"], array)
    with pytest.raises(ValueError, match="read-only"):
        maps["class"][0] = 0
