"""What the background method can be combined with, its two stages, and its plain references."""

from dataclasses import replace

import pytest
import torch
from test_other_methods import fit
from torch.nn import functional as F

from wsol.backbones import build_backbone
from wsol.datasets.images import ArrayImages
from wsol.methods import Batch, adl, background, background_class, background_norm, cam, cutmix, has
from wsol.methods.base import label_maps
from wsol.training import loop
from wsol.training.batches import TrainData
from wsol.training.config import TrainConfig, config_from
from wsol.training.runs import build_network, write_run

K, B, EXTRA, SIDE = 5, 6, 3, 48


def network_of(method, **options):
    torch.manual_seed(0)
    return method.build(build_backbone("small8"), K, method.Config(**options))


def batch_of() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(B, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(K, (B,), generator=generator)
    return Batch(images, labels, torch.rand(EXTRA, 3, SIDE, SIDE, generator=generator), 0.9)


def seeded(call, seed: int = 3):
    torch.manual_seed(seed)
    return call()


def test_without_a_combination_nothing_is_drawn_or_changed():
    batch = batch_of()
    state = torch.get_rng_state()
    step = background.step_of(batch, background.Config())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(step.images, torch.cat([batch.images, batch.background]))
    assert step.pasted is None
    assert torch.equal(step.labels, step.others)


def test_with_has_patches_of_both_image_sets_are_hidden():
    batch, config = (
        batch_of(),
        background.Config(combine="has", combine_config={"patch_size": 8, "hide_rate": 0.5}),
    )
    step = seeded(lambda: background.step_of(batch, config))
    both = torch.cat([batch.images, batch.background])
    expected = seeded(lambda: has.hide_patches(both, has.Config(8, 0.5)))
    assert torch.equal(step.images, expected)
    changed = (step.images != both).flatten(1).any(1)
    assert changed.all()


def test_with_cutmix_labels_are_weighed_and_each_place_is_supervised_by_its_own_class():
    batch, config = batch_of(), background.Config(combine="cutmix")
    torch.manual_seed(5)
    torch.rand(())  # whether to mix
    mixed = cutmix.cutmix(batch.images, cutmix.Config())
    step = seeded(lambda: background.step_of(batch, config), 5)
    assert torch.equal(step.images[:B], mixed.images)
    assert torch.equal(step.images[B:], batch.background)  # background images stay as they are
    logits = torch.randn(B, K)
    others = batch.labels[mixed.others]
    expected = mixed.kept * F.cross_entropy(logits, batch.labels)
    expected += (1 - mixed.kept) * F.cross_entropy(logits, others)
    assert 0 < mixed.kept < 1
    assert torch.allclose(background.mixed_class_loss(logits, step), expected)
    maps = torch.randn(B, K, SIDE, SIDE)
    shown = background.mixed_label_map(maps, step)
    for i in range(B):
        inside = shown[i][mixed.pasted]
        assert torch.allclose(inside, maps[i, others[i]][mixed.pasted])
        outside = shown[i][~mixed.pasted]
        assert torch.allclose(outside, maps[i, batch.labels[i]][~mixed.pasted])


def test_with_adl_its_layers_are_in_the_backbone():
    network = network_of(background, combine="adl", combine_config={"drop_rate": 1.0})
    layers = [m for m in network.modules() if isinstance(m, adl.AttentionDropout)]
    assert [layer.config.drop_rate for layer in layers] == [1.0] * 3
    plain = network_of(background)
    batch = batch_of()
    outputs, expected = network.eval()(batch.images), plain.eval()(batch.images)
    assert torch.equal(outputs.class_maps, expected.class_maps)  # nothing at test time


@pytest.mark.parametrize(
    ("name", "settings"),
    [("has", {"hide_rate": 0.2}), ("adl", {"drop_rate": 0.3}), ("cutmix", {"cutmix_rate": 0.5})],
)
def test_a_combination_learns(name, settings):
    batch = batch_of()
    options = {"combine": name, "combine_config": settings}
    network, config = network_of(background, **options), background.Config(**options)
    first = F.cross_entropy(network.train()(batch.images).logits, batch.labels).item()
    fit(background, network, batch, config)
    last = F.cross_entropy(network.eval()(batch.images).logits, batch.labels).item()
    assert last < 0.5 * first


def test_an_unknown_combination_is_refused():
    with pytest.raises(ValueError, match="has, adl, cutmix"):
        background.Config(combine="bas")
    with pytest.raises(ValueError, match="hide_rate"):
        background.Config(combine="has", combine_config={"hide_rate": 2})


def test_settings_of_both_methods_are_found_among_flat_names():
    values = {"method": "background", "combine": "has", "patch_size": 8, "mask_weight": 2.0}
    settings = config_from(values | {"drop_rate": 0.1}).method_config
    assert settings == {"combine": "has", "combine_config": {"patch_size": 8}, "mask_weight": 2.0}


def head_gradient(config: background.Config) -> torch.Tensor:
    network, batch = network_of(background), batch_of()
    parts = background.losses(network, batch, config)
    parts["mask_loss"].backward()
    last = network.foreground_head[-1].weight
    return torch.zeros_like(last) if last.grad is None else last.grad


def test_the_mask_loss_reaches_the_foreground_head_only_without_the_stop_gradient():
    assert not head_gradient(background.Config()).any()
    assert head_gradient(background.Config(stop_gradient=False)).any()


def test_a_class_weight_of_zero_teaches_the_foreground_alone():
    network, batch = network_of(background), batch_of()
    config = background.Config(class_weight=0.0, mask_weight=0.0)
    parts = background.losses(network, batch, config)
    assert torch.equal(parts["loss"], parts["foreground_loss"])
    with pytest.raises(ValueError, match="class_weight is -1"):
        background.Config(class_weight=-1)


def write_teacher(folder, method):
    config = TrainConfig(method, seed=4, backbone="small8", input_size=SIDE)
    network = build_network(config, K)
    data = TrainData(ArrayImages(torch.zeros(1, 3, SIDE, SIDE)), torch.zeros(1), K)
    write_run(folder, config, network, data, [{"epoch": 1, "loss": 0.0}], {})
    weights = str(folder / "weights.safetensors")
    return network, TrainConfig("background", method_config={"teacher": weights})


def test_a_teacher_gives_the_mask_and_learns_nothing(tmp_path):
    network, config = write_teacher(tmp_path, "background")
    batch, teacher = batch_of(), loop._teacher(config, torch.device("cpu"))
    S = teacher(batch.images)
    assert torch.equal(S, network.eval()(batch.images).foreground)
    assert not S.requires_grad
    student, settings = network_of(background), background.Config(**config.method_config)
    parts = background.losses(student, replace(batch, teacher=teacher), settings)
    maps = student(torch.cat([batch.images, batch.background])).class_maps[:B]
    expected = background.mask_loss(label_maps(maps, batch.labels), S.sigmoid(), settings)
    assert torch.allclose(parts["mask_loss"], expected)


def test_a_teacher_without_a_foreground_map_is_refused(tmp_path):
    _, config = write_teacher(tmp_path, "cam")
    with pytest.raises(ValueError, match="has no foreground map"):
        loop._teacher(config, torch.device("cpu"))


# --- the same background images without the method


def test_as_a_class_background_images_are_the_last_of_k_plus_1():
    network, batch = network_of(background_class), batch_of()
    outputs = network.eval()(batch.images)
    assert outputs.logits.shape == (B, K)
    assert outputs.class_maps.shape[:2] == (B, K)
    every = network(batch.images, every=True)
    assert torch.equal(every.logits[:, :K], outputs.logits)
    assert torch.equal(outputs.foreground, -every.class_maps[:, K:])
    network.train()
    loss = background_class.losses(network, batch, background_class.Config())["loss"]
    both = torch.cat([batch.images, batch.background])
    labels = torch.cat([batch.labels, torch.full((EXTRA,), K)])
    assert torch.equal(loss, F.cross_entropy(network(both, every=True).logits, labels))


def test_seen_by_batch_normalization_background_images_move_statistics_and_no_loss_else():
    network, batch = network_of(background_norm), batch_of()
    loss = background_norm.losses(network, batch, background_norm.Config())["loss"]
    both = torch.cat([batch.images, batch.background])
    again = network_of(background_norm)
    assert torch.equal(loss, F.cross_entropy(again(both).logits[:B], batch.labels))
    plain = network_of(cam)
    assert loss != cam.losses(plain, batch, cam.Config())["loss"]
    means = [
        [m.running_mean for m in n.modules() if hasattr(m, "running_mean")]
        for n in (network, plain)
    ]
    assert any(not torch.equal(a, b) for a, b in zip(*means, strict=True))
    network.eval(), plain.eval()
    fixed = background_norm.losses(network, batch, background_norm.Config())["loss"]
    alone = cam.losses(network, batch, cam.Config())["loss"]
    assert torch.allclose(fixed, alone)  # without statistics of the batch they do nothing
