"""The methods' equations against plain Python, and what may and may not get a gradient."""

import dataclasses
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wsol.backbones import build_backbone
from wsol.methods import METHODS, Batch, background, cam, get_method
from wsol.methods.background import Config

B, B2, K = 4, 3, 5


def network_of(method, **settings):
    torch.manual_seed(0)
    return method.build(build_backbone("small8"), K, method.Config(**settings))


def batch_of(progress: float = 1.0, with_background: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.rand(n, 3, 48, 48, generator=generator)  # noqa: E731
    labels = torch.randint(K, (B,), generator=generator)
    return Batch(draw(B), labels, draw(B2) if with_background else None, progress)


def maps_of(n: int, seed: int, side: int = 3) -> torch.Tensor:
    return 3 * torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# --- the interface


@pytest.mark.parametrize("name", METHODS)
def test_every_method_speaks_the_interface(name):
    method = get_method(name)
    network = network_of(method)
    outputs = network(batch_of().images)
    assert outputs.logits.shape == (B, K)
    assert outputs.class_maps.shape[:2] == (B, K)
    assert outputs.class_maps.shape[2:] in {(6, 6), (12, 12)}  # of stride 8 or 4
    batch = batch_of(with_background=method.USES_BACKGROUND)
    parts = method.losses(network, batch, method.Config())
    assert all(value.ndim == 0 and torch.isfinite(value) for value in parts.values())
    assert parts["loss"].requires_grad
    assert dataclasses.is_dataclass(method.Config)


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown method 'gradcam'; known: acol, adl, .*, cam"):
        get_method("gradcam")


# --- CAM


def test_pooling_behind_the_convolution_is_a_linear_layer_behind_the_pooling():
    network = network_of(cam).eval()
    x = batch_of().images
    pooled = network.backbone(x)[1].mean(dim=(2, 3))
    head = network.class_head
    assert torch.allclose(
        network(x).logits, F.linear(pooled, head.weight[:, :, 0, 0], head.bias), atol=1e-5
    )


def test_a_class_map_is_the_weighted_sum_of_the_features():
    network = network_of(cam).eval()
    x = batch_of().images
    late, head = network.backbone(x)[1], network.class_head
    by_hand = sum(head.weight[2, c, 0, 0] * late[1, c] for c in range(late.shape[1]))
    assert torch.allclose(network(x).class_maps[1, 2], by_hand + head.bias[2], atol=1e-5)


def test_cam_learns_by_cross_entropy_alone():
    network, batch = network_of(cam).eval(), batch_of(with_background=False)
    logits = network(batch.images).logits.double()
    by_hand = -sum(
        row[y] - torch.logsumexp(row, 0) for row, y in zip(logits, batch.labels, strict=True)
    )
    result = cam.losses(network, batch, cam.Config())
    assert set(result) == {"loss"}
    assert result["loss"].item() == pytest.approx(by_hand.item() / B, abs=1e-5)


# --- background images: the network


@pytest.mark.parametrize(("attach", "side"), [("early", 12), ("late", 6)])
def test_the_foreground_map_has_the_grid_of_the_features_under_it(attach, side):
    outputs = network_of(background, attach=attach)(batch_of().images)
    assert outputs.foreground.shape == (B, 1, side, side)


def gradients_of(part: str, **settings) -> dict[str, bool]:
    """Which parameters one part of the loss moves."""
    network, config = network_of(background, **settings), Config(**settings)
    background.losses(network, batch_of(), config)[part].backward()
    return {
        name: parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in network.named_parameters()
    }


@pytest.mark.parametrize("normalization", background.NORMALIZATIONS)
def test_no_gradient_flows_from_the_mask_loss_into_the_foreground_head(normalization):
    moved = gradients_of("mask_loss", normalization=normalization)
    assert not any(moves for name, moves in moved.items() if name.startswith("foreground_head"))
    assert moved["class_head.weight"]
    assert moved["backbone.early.0.0.weight"]


def test_the_foreground_loss_leaves_the_class_head_alone():
    moved = gradients_of("foreground_loss")
    assert not moved["class_head.weight"]
    assert moved["foreground_head.2.weight"]


def test_the_class_loss_leaves_the_foreground_head_alone():
    moved = gradients_of("class_loss")
    assert moved["class_head.weight"]
    assert not any(moves for name, moves in moved.items() if name.startswith("foreground_head"))


@pytest.mark.parametrize("progress", [0.0, 0.35, 1.0])
def test_the_total_is_the_weighted_sum_of_its_parts(progress):
    config = Config(foreground_weight=0.7, mask_weight=3.0, ramp_start=0.2, ramp_end=0.5)
    parts = background.losses(network_of(background), batch_of(progress), config)
    weight = {0.0: 0.0, 0.35: 1.5, 1.0: 3.0}[progress]
    total = parts["class_loss"] + 0.7 * parts["foreground_loss"] + weight * parts["mask_loss"]
    assert parts["loss"].item() == pytest.approx(total.item(), abs=1e-6)


def test_only_the_class_map_of_the_label_is_pulled_towards_the_mask():
    network, batch = network_of(background), batch_of()
    outputs = network(torch.cat([batch.images, batch.background]))
    outputs.class_maps.retain_grad()
    label_map = outputs.class_maps[torch.arange(B), batch.labels]
    mask = background.foreground_mask(outputs.foreground[:B], Config())
    background.mask_loss(label_map, mask, Config()).backward()
    moved = outputs.class_maps.grad.abs().sum(dim=(2, 3)) > 0  # (B + B', K)
    assert torch.equal(moved[:B], F.one_hot(batch.labels, K).bool())
    assert not moved[B:].any()


def test_background_images_do_not_enter_the_class_loss():
    network, batch = network_of(background).eval(), batch_of()
    expected = F.cross_entropy(network(batch.images).logits, batch.labels)
    result = background.losses(network, batch, Config())["class_loss"]
    assert result.item() == pytest.approx(expected.item(), abs=1e-5)


def test_matched_background_images_have_the_colours_of_object_images():
    generator = torch.Generator().manual_seed(2)
    scenes = 0.3 + 0.1 * torch.rand(B2, 3, 8, 8, generator=generator)
    images = 0.5 + 0.3 * torch.rand(1, 3, 8, 8, generator=generator)  # one: no choice is random
    result = background.match_colours(scenes, images)
    for measure in (torch.mean, torch.std):
        expected = measure(images, (2, 3)).expand(B2, 3)
        assert torch.allclose(measure(result, (2, 3)), expected, atol=0.02)
    flat = scenes[0, 0].flatten()
    assert torch.equal(flat.argsort(), result[0, 0].flatten().argsort())  # the scene remains


def test_matched_background_images_stay_colours():
    images = torch.rand(2, 3, 8, 8).round()  # the highest contrast there is
    for scenes in (torch.rand(B2, 3, 8, 8), torch.zeros(B2, 3, 8, 8)):
        result = background.match_colours(scenes, images)
        assert ((result >= 0) & (result <= 1)).all()


def test_colours_are_matched_where_the_settings_say_so(monkeypatch):
    monkeypatch.setattr(background, "match_colours", lambda *_: 1 / 0)
    network, batch = network_of(background), batch_of()
    background.losses(network, batch, Config(match_colours=False))
    with pytest.raises(ZeroDivisionError):
        background.losses(network, batch, Config(match_colours=True))


# --- background images: the losses against plain Python


def test_per_location_loss_is_the_mean_logistic_loss_of_all_locations():
    objects, scenes = maps_of(B, 2), maps_of(B2, 3)
    positive = [softplus(-s) for s in objects.flatten().tolist()]
    negative = [softplus(s) for s in scenes.flatten().tolist()]
    by_hand = 0.5 * (sum(positive) / len(positive) + sum(negative) / len(negative))
    result = background.foreground_loss(objects, scenes, Config(pooling="location"))
    assert result.item() == pytest.approx(by_hand, abs=1e-5)


def test_mean_pooling_gives_one_logit_per_image():
    objects, scenes = maps_of(B, 2), maps_of(B2, 3)
    means = [[sum(m.flatten().tolist()) / 9 for m in maps] for maps in (objects, scenes)]
    by_hand = 0.5 * (
        sum(softplus(-s) for s in means[0]) / B + sum(softplus(s) for s in means[1]) / B2
    )
    result = background.foreground_loss(objects, scenes, Config(pooling="mean"))
    assert result.item() == pytest.approx(by_hand, abs=1e-5)


def test_top_pooling_labels_the_highest_locations_of_object_images_alone():
    objects, scenes = maps_of(B, 2), maps_of(B2, 3)
    tops = [s for m in objects for s in sorted(m.flatten().tolist())[-3:]]
    rest = scenes.flatten().tolist()
    by_hand = 0.5 * (
        sum(softplus(-s) for s in tops) / len(tops) + sum(softplus(s) for s in rest) / len(rest)
    )
    config = Config(pooling="top", object_share=0.3)  # 2.7 of 9 locations
    result = background.foreground_loss(objects, scenes, config)
    assert result.item() == pytest.approx(by_hand, abs=1e-5)


def non_negative_risk(objects: list[float], scenes: list[float], share: float) -> float:
    """Risk of Kiryo et al. 2017 with labelled negatives instead of positives."""
    unlabelled = sum(softplus(-s) for s in objects) / len(objects)
    negative_as_positive = sum(softplus(-s) for s in scenes) / len(scenes)
    negative = sum(softplus(s) for s in scenes) / len(scenes)
    return max(0.0, unlabelled - (1 - share) * negative_as_positive) + (1 - share) * negative


@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.floats(-6, 6))
@settings(max_examples=40, deadline=None)
def test_prior_pooling_is_the_non_negative_risk(seed, share, shift):
    objects, scenes = maps_of(B, seed) + shift, maps_of(B2, seed + 1) - shift
    result = background.foreground_loss(
        objects, scenes, Config(pooling="prior", object_share=share)
    )
    by_hand = non_negative_risk(objects.flatten().tolist(), scenes.flatten().tolist(), share)
    assert result.item() == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    assert result.item() >= 0


def test_the_clamp_of_the_non_negative_risk_is_reached():
    objects, scenes = torch.full((B, 1, 3, 3), 8.0), torch.full((B2, 1, 3, 3), -2.0)
    result = background.foreground_loss(objects, scenes, Config(pooling="prior", object_share=0.3))
    assert result.item() == pytest.approx(0.7 * softplus(-2.0), abs=1e-5)


# --- background images: the mask


logits = st.lists(st.floats(-30, 30), min_size=12, max_size=12)


@given(logits, st.sampled_from(background.NORMALIZATIONS))
@settings(max_examples=60, deadline=None)
def test_the_mask_lies_between_0_and_1_and_keeps_the_order(values, normalization):
    S = torch.tensor(values).view(2, 1, 2, 3).requires_grad_()
    M = background.foreground_mask(S, Config(normalization=normalization))
    assert M.shape == S.shape
    assert not M.requires_grad
    assert ((M >= 0) & (M <= 1)).all()
    for s, m in zip(S.detach().flatten(1), M.flatten(1), strict=True):
        assert (m[s.argsort()].diff() >= -1e-6).all()


def test_min_max_reaches_both_ends_in_every_image():
    S = maps_of(B, 4)
    for normalization in ("minmax", "sigmoid-minmax"):
        M = background.foreground_mask(S, Config(normalization=normalization)).flatten(1)
        assert torch.equal(M.amin(1), torch.zeros(B))
        assert torch.allclose(M.amax(1), torch.ones(B), atol=1e-5)


def test_a_flat_map_makes_no_mask_of_noise():
    for normalization in background.NORMALIZATIONS:
        M = background.foreground_mask(torch.ones(1, 1, 3, 3), Config(normalization=normalization))
        assert torch.isfinite(M).all()


def test_the_posterior_is_the_chance_that_a_location_is_object_if_the_head_is_right():
    """Object images are a mixture of object and background: Bayes' rule gives the mask."""
    share, of_object, of_background = 0.3, 0.6, 0.2  # how often each shows one kind of patch
    of_object_image = share * of_object + (1 - share) * of_background
    S = torch.tensor(of_object_image / of_background).log().view(1, 1, 1, 1)
    M = background.foreground_mask(S, Config(normalization="posterior", object_share=share))
    assert M.item() == pytest.approx(share * of_object / of_object_image, abs=1e-6)


@pytest.mark.parametrize("kind", background.MASK_LOSSES)
def test_the_mask_loss_is_the_mean_over_the_grid_of_the_class_map(kind):
    A = maps_of(2, 5)[:, 0, :2, :2]  # (2, 2, 2)
    M = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(6))
    terms = []
    for b in range(2):
        for i in range(2):
            for j in range(2):
                p = 1 / (1 + math.exp(-A[b, i, j].item()))
                m = M[b, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean().item()
                terms.append(
                    {
                        "bce": -m * math.log(p) - (1 - m) * math.log(1 - p),
                        "mse": (p - m) ** 2,
                        "l1": abs(p - m),
                    }[kind]
                )
    result = background.mask_loss(A, M, Config(mask_loss=kind))
    assert result.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


@pytest.mark.parametrize("kind", background.MASK_LOSSES)
def test_a_class_map_like_its_mask_has_the_lowest_mask_loss(kind):
    M = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(6)).clamp(0.1, 0.9)
    same = torch.logit(M[:, 0])
    config = Config(mask_loss=kind)
    best = background.mask_loss(same, M, config)
    for shift in (-0.5, 0.5):
        assert background.mask_loss(same + shift, M, config) > best


# --- background images: the schedule and the settings


def test_the_mask_weight_is_a_ramp_between_its_two_ends():
    config = Config(mask_weight=4.0, ramp_start=0.2, ramp_end=0.6)
    values = [background.mask_weight(p, config) for p in (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1)]
    assert values == pytest.approx([0, 0, 0, 1, 2, 4, 4, 4])


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.49, 0.0), (0.5, 2.0), (1, 2.0)])
def test_a_ramp_of_no_length_is_a_step(progress, expected):
    config = Config(mask_weight=2.0, ramp_start=0.5, ramp_end=0.5)
    assert background.mask_weight(progress, config) == expected


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_the_mask_weight_never_falls(a, b, p, q):
    config = Config(ramp_start=min(a, b), ramp_end=max(a, b))
    low, high = (background.mask_weight(x, config) for x in sorted((p, q)))
    assert 0 <= low <= high <= config.mask_weight


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attach": "middle"}, "attach is 'middle'; known: early, late"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"normalization": "softmax"}, "normalization is 'softmax'"),
        ({"mask_loss": "l2"}, "mask_loss is 'l2'"),
        ({"object_share": 0.0}, "object_share is 0.0"),
        ({"object_share": 1.0}, "above 0 and below 1"),
        ({"ramp_start": 0.6, "ramp_end": 0.5}, "0 <= ramp_start <= ramp_end <= 1"),
        ({"ramp_end": 1.5}, "ramp"),
    ],
)
def test_contradictions_are_refused_in_plain_words(settings, words):
    with pytest.raises(ValueError, match=words):
        Config(**settings)


@pytest.mark.parametrize("kind", background.HEADS)
def test_every_head_gives_one_logit_per_location(kind):
    head = background.foreground_head(8, kind)
    assert head(torch.rand(2, 8, 5, 7)).shape == (2, 1, 5, 7)


def test_the_bottleneck_has_a_third_of_the_weights_of_all_channels():
    small, large = (
        sum(p.numel() for p in background.foreground_head(64, kind).parameters())
        for kind in ("bottleneck", "conv")
    )
    assert 0.25 < small / large < 0.35


def test_the_method_that_the_guide_adds_works():
    """The guide says that this is all of it, so it is run as it stands there."""
    guide = (Path(__file__).parents[1] / "docs" / "new_method.md").read_text(encoding="utf-8")
    (code,) = (
        block.partition("```")[0]
        for block in guide.split("```python\n")[1:]
        if "USES_BACKGROUND" in block
    )
    method = ModuleType("hide_square")
    sys.modules["hide_square"] = method  # where dataclasses look for it
    exec(compile(code, "hide_square.py", "exec"), method.__dict__)
    network, batch = network_of(method), batch_of(with_background=method.USES_BACKGROUND)
    plain = cam.losses(network, batch, cam.Config())["loss"]
    images = batch.images.clone()
    loss = method.losses(network, batch, method.Config())["loss"]
    loss.backward()
    assert loss.isfinite()
    assert loss != plain
    assert torch.equal(batch.images, images)
