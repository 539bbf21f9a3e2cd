"""Loading images: order, squashing, channels, and what cannot be decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsol.datasets.image_files import load_image
from wsol.datasets.images import load_images, load_size, to_float


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_is_squashed_to_a_square(tmp_path):
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, 40:] = [255, 0, 9]
    image = load_image(write(tmp_path / "a.png", pixels), 20)
    assert image.shape == (3, 20, 20)
    assert image.dtype == np.uint8
    assert (image[:, :, :9] == 0).all()  # the left half stays the left half
    assert (image[:, :, 11:] == np.array([255, 0, 9])[:, None, None]).all()


def test_an_image_of_the_right_size_is_left_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, size=(16, 16, 3), dtype=np.uint8)
    image = load_image(write(tmp_path / "a.png", pixels), 16)
    assert (image == pixels.transpose(2, 0, 1)).all()


def test_shrinking_averages(tmp_path):
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = load_image(write(tmp_path / "a.png", checks), 8)
    assert abs(image[:, 1:-1, 1:-1].astype(int) - 127).max() < 12


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (12, 9), (120, 120, 120)).convert(mode).save(path)
    image = load_image(path, 6)
    assert image.shape == (3, 6, 6)
    assert abs(image.astype(int) - 120).max() < 16


@pytest.mark.parametrize("workers", [1, 3])
def test_images_come_in_the_order_given(tmp_path, workers):
    paths = [
        write(tmp_path / f"{i}.png", np.full((5 + i, 7, 3), 10 * i, dtype=np.uint8))
        for i in (3, 0, 2, 1)
    ]
    images = load_images(paths, 8, workers)
    assert images.shape == (4, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert images[:, 0, 0, 0].tolist() == [30, 0, 20, 10]


def test_no_images_are_an_empty_tensor():
    assert load_images([], 8).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_does_not_decode_is_named(tmp_path, content):
    (tmp_path / "bad one.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"does not decode: .*bad one\.jpg"):
        load_images([tmp_path / "bad one.jpg"], 8)


def test_a_truncated_image_is_named(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, size=(90, 90, 3), dtype=np.uint8)
    path = write(tmp_path / "a.jpg", pixels)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"a\.jpg"):
        load_image(path, 8)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jpg"):
        load_image(tmp_path / "absent.jpg", 8)


def test_the_ratio_of_load_size_to_crop_is_the_fields():
    assert load_size(224) == 256
    assert load_size(96) == 110


def test_floats_reach_from_0_to_1():
    image = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert image.dtype == torch.float32
    assert image.tolist() == pytest.approx([0, 0.2, 1])
