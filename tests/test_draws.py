"""What is random in an epoch: the same as torchvision would draw, and fit to be skipped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from wsol.datasets.images import load_size
from wsol.training.batches import draw_epoch


def drawn_one_by_one(seed: int, epoch: int, n: int, batch: int, size: int, bg: int, bg_batch: int):
    """The same by torch and torchvision v2, image after image."""
    torch.manual_seed(1_000_003 * seed + epoch + 1)
    larger = load_size(size)
    crop, flip = v2.RandomCrop(size), v2.RandomHorizontalFlip()
    # Pixels that say where they are: what is left of them tells crop and flip.
    y, x = torch.meshgrid(torch.arange(larger), torch.arange(larger), indexing="ij")
    where = torch.stack([y, x, x])

    def augmented(rows):
        draws = []
        for row in rows:
            out = flip(crop(where))
            top, left = int(out[0].min()), int(out[1].min())
            draws.append((int(row), top, left, bool(out[1, 0, 0] > out[1, 0, 1])))
        return draws

    order = torch.randperm(n)
    steps = []
    for s in range(n // batch):
        extra = augmented(torch.randint(bg, (bg_batch,))) if bg else None
        steps.append((augmented(order[s * batch : (s + 1) * batch]), extra))
    return steps


def listed(picks, step: int):
    return list(zip(*(values[step].tolist() for values in picks), strict=True))


@pytest.mark.parametrize("background", [(0, 4), (10, 4), (400, 7)])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (2, 9), (1234, 3)])
def test_draws_are_those_of_torchvision_image_by_image(seed, epoch, background):
    n, batch, size = 23, 5, 28
    expected = drawn_one_by_one(seed, epoch, n, batch, size, *background)
    draws = draw_epoch(seed, epoch, n, batch, load_size(size) - size, *background)
    assert len(draws.objects.rows) == len(expected) == 4
    for step, (objects, extra) in enumerate(expected):
        assert listed(draws.objects, step) == objects
        assert (draws.background is None) == (extra is None)
        if extra is not None:
            assert listed(draws.background, step) == extra


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(1, 20), st.integers(0, 40), st.integers(0, 5))
def test_every_image_comes_once_and_every_crop_fits(n, batch, margin, epoch):
    objects, background = draw_epoch(0, epoch, n, batch, margin)
    assert background is None
    rows = objects.rows.flatten().tolist()
    assert len(rows) == len(set(rows)) == n // batch * batch
    assert set(rows) <= set(range(n))
    for corner in (objects.top, objects.left):
        assert ((corner >= 0) & (corner <= margin)).all()


def test_drawing_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    draw_epoch(0, 0, 100, 10, 5, 7, 3)
    assert torch.equal(torch.rand(2), expected)


def test_an_epoch_of_ilsvrc_is_drawn_in_memory_of_its_rows():
    objects, _ = draw_epoch(0, 0, 1_281_167, 256, 32)
    assert objects.rows.shape == (1_281_167 // 256, 256)
    assert objects.flip.float().mean() == pytest.approx(0.5, abs=0.01)
    assert objects.top.float().mean() == pytest.approx(16, abs=0.1)
