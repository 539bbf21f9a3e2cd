"""Images decoded on demand or once: the same pixels, made once, never half."""

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsol.datasets import arrays
from wsol.datasets import images as image_store
from wsol.datasets.image_files import load_image
from wsol.datasets.images import ArrayImages, FileImages, open_images
from wsol.training.batches import TrainData, epoch_batches
from wsol.training.config import Execution, TrainConfig

SIZE = 20


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    files = []
    for i in range(12):
        files.append(tmp_path / f"{i}.png")
        pixels = rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(files[-1])
    return files


def pixels(images) -> np.ndarray:
    return torch.stack([images[i] for i in range(len(images))]).numpy()


def test_the_cache_has_the_pixels_of_the_files(paths, tmp_path):
    expected = np.stack([load_image(path, SIZE) for path in paths])
    files, cached = open_images(paths, SIZE), open_images(paths, SIZE, tmp_path / "cache")
    assert (type(files), type(cached)) == (FileImages, ArrayImages)
    for images in (files, cached):
        assert (len(images), images.size) == (12, SIZE)
        assert np.array_equal(pixels(images), expected)
    assert files.digest() == cached.digest()
    assert sorted(p.suffix for p in (tmp_path / "cache").iterdir()) == [".npy"]


def test_images_are_decoded_once(paths, tmp_path, monkeypatch):
    open_images(paths, SIZE, tmp_path / "cache")
    monkeypatch.setattr(image_store, "load_image", lambda *_: pytest.fail("decoded again"))
    assert len(pixels(open_images(paths, SIZE, tmp_path / "cache"))) == 12


@pytest.mark.parametrize("change", ["pixels", "order", "size", "one more"])
def test_other_images_have_another_cache(paths, tmp_path, change):
    before = open_images(paths, SIZE, tmp_path / "cache").digest()
    size = SIZE + 1 if change == "size" else SIZE
    if change == "pixels":
        Image.new("RGB", (31, 40)).save(paths[3])
    elif change == "order":
        paths.reverse()
    elif change == "one more":
        paths.append(paths[0])
    images = open_images(paths, size, tmp_path / "cache")
    assert images.digest() != before
    assert np.array_equal(pixels(images), [load_image(path, size) for path in paths])


def test_what_does_not_fit_is_decoded_each_time(paths, tmp_path):
    too_little = 12 * 3 * SIZE * SIZE / 1e9 - 1e-9
    assert type(open_images(paths, SIZE, tmp_path, too_little)) is FileImages
    assert type(open_images(paths, SIZE, tmp_path, too_little + 2e-9)) is ArrayImages


def test_nor_what_would_fill_the_disk(paths, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2 * 12 * 3 * SIZE * SIZE - 1})
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda _: usage)
    assert type(open_images(paths, SIZE, tmp_path)) is FileImages


def test_a_file_that_does_not_decode_is_named_and_leaves_no_cache(paths, tmp_path):
    paths[5].write_bytes(paths[5].read_bytes()[:200])
    with pytest.raises(ValueError, match=r"does not decode: .*5\.png"):
        open_images(paths, SIZE, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


_CHILD = """
import sys, time
from pathlib import Path
from wsol.datasets import arrays, images as image_store
arrays.CHUNK = 2
load = image_store.load_image
def slow(path, size):
    time.sleep(0.05)
    with open(sys.argv[2] + "/decoded", "a") as log:
        log.write(f"{path}\\n")
    return load(path, size)
image_store.load_image = slow
paths = sorted(Path(sys.argv[1]).glob("*.png"), key=lambda p: int(p.stem))
image_store.open_images(paths, 20, sys.argv[2] + "/cache", workers=1)
"""


def test_filling_goes_on_after_a_kill(paths, tmp_path):
    command = [sys.executable, "-c", _CHILD, str(paths[0].parent), str(tmp_path)]
    child = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list((tmp_path).glob("cache/*.progress")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = (tmp_path / "decoded").read_text().split()
    assert len(before) < 12
    subprocess.run(command, check=True)
    after = (tmp_path / "decoded").read_text().split()[len(before) :]
    assert len(after) <= 10  # the first chunk of two is not decoded again
    assert after[-1] == str(paths[-1])
    images = open_images(paths, SIZE, tmp_path / "cache")
    assert np.array_equal(pixels(images), [load_image(path, SIZE) for path in paths])


def test_two_at_once_decode_once(paths, tmp_path):
    command = [sys.executable, "-c", _CHILD, str(paths[0].parent), str(tmp_path)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert len((tmp_path / "decoded").read_text().split()) == 12


def test_batches_do_not_depend_on_cache_and_workers(paths, tmp_path):
    config = TrainConfig(method="background", input_size=16, batch_size=5, background_batch=3)
    labels = torch.arange(12)
    runs = []
    for cache, workers in ((None, 0), (tmp_path / "cache", 0), (None, 2), (tmp_path / "cache", 2)):
        images = open_images(paths, 18, cache)
        data = TrainData(images, labels, 12, images)
        execution = Execution(loader_workers=workers)
        runs.append(list(epoch_batches(config, data, 3, execution=execution)))
    for batches in runs[1:]:
        for ours, theirs in zip(batches, runs[0], strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.background, theirs.background)
            assert ours.progress == theirs.progress


def test_an_epoch_can_begin_at_any_step(paths):
    config = TrainConfig(method="cam", input_size=16, batch_size=2)
    data = TrainData(open_images(paths, 18), torch.arange(12), 12)
    whole = list(epoch_batches(config, data, 1))
    rest = list(epoch_batches(config, data, 1, first_step=4))
    assert len(whole) == 6
    for ours, theirs in zip(rest, whole[4:], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert ours.progress == theirs.progress


def test_a_note_of_a_file_that_is_gone_is_not_believed(paths, tmp_path):
    """Killed between the last renaming and the last tidying, then the cache was deleted."""
    cache = tmp_path / "cache"
    path = cache / f"{FileImages(paths, SIZE).digest()[:24]}.npy"
    cache.mkdir()
    path.with_suffix(".progress").write_text("12")
    arrays.make_array(path.with_suffix(".partial"), np.uint8, (12, 3, SIZE, SIZE))
    path.with_suffix(".partial").unlink()
    images = open_images(paths, SIZE, cache)
    assert np.array_equal(pixels(images), [load_image(path, SIZE) for path in paths])


def test_an_array_has_its_space_on_the_disk(tmp_path):
    arrays.make_array(tmp_path / "x.npy", np.float32, (1000, 1000))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 4_000_000
    assert np.load(tmp_path / "x.npy").sum() == 0


def test_a_worker_that_is_not_forked_opens_the_file_itself(paths, tmp_path):
    images = open_images(paths, SIZE, tmp_path / "cache")
    text = pickle.dumps(images)
    assert len(text) < 2000
    assert np.array_equal(pixels(pickle.loads(text)), pixels(images))
    held = ArrayImages(pixels(images))
    assert np.array_equal(pickle.loads(pickle.dumps(held)).array, held.array)
