"""The defining property of each method of the literature, and that the network learns with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from wsol.backbones import build_backbone
from wsol.methods import METHODS, Batch, acol, adl, bas, cam, cutmix, get_method, has, spg

K = 5


def network_of(method, backbone: str = "small8", **options):
    torch.manual_seed(0)
    return method.build(build_backbone(backbone), K, method.Config(**options))


def batch_of(n: int = 8, side: int = 48) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, side, side, generator=generator)
    labels = torch.randint(K, (n,), generator=generator)
    return Batch(images, labels, torch.rand(4, 3, side, side, generator=generator), 0.9)


def fit(method, network, batch: Batch, config) -> None:
    """Forty steps on one batch."""
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    torch.manual_seed(2)
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        method.losses(network, batch, config)["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_a_small_batch_by_heart(name):
    method, batch = get_method(name), batch_of()
    options = {"hide_rate": 0.2} if name == "has" else {}
    options |= {"cutmix_rate": 0.5} if name == "cutmix" else {}
    network, config = network_of(method, **options), method.Config(**options)
    first = F.cross_entropy(network.eval()(batch.images).logits, batch.labels).item()
    fit(method, network, batch, config)
    last = F.cross_entropy(network.train()(batch.images).logits, batch.labels).item()
    assert last < 0.5 * first


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_gets_a_gradient(name):
    """Else DistributedDataParallel would wait for it."""
    method = get_method(name)
    network = network_of(method)
    for _ in range(8):  # CutMix and ADL draw
        method.losses(network, batch_of(), method.Config())["loss"].backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None]
    assert missing == []


# --- HaS


def test_has_hides_whole_patches_at_its_rate():
    images = torch.rand(64, 3, 50, 50)  # the last patches are cut
    hidden = (has.hide_patches(images, has.Config(8, 0.3)) != images).any(1)  # (B, H, W)
    mean = images.mean((0, 2, 3))
    patches = F.pad(hidden.float(), (0, 6, 0, 6), value=-1).unfold(1, 8, 8).unfold(2, 8, 8)
    states = [set(patch.unique().tolist()) - {-1.0} for patch in patches.flatten(0, 2)]
    assert all(len(state) == 1 for state in states)
    rate = sum(state == {1.0} for state in states) / len(states)
    assert rate == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / len(states)) ** 0.5)
    shown = has.hide_patches(images, has.Config(8, 0.3)).permute(0, 2, 3, 1)
    changed = (shown != images.permute(0, 2, 3, 1)).any(-1)
    assert torch.allclose(shown[changed], mean.expand_as(shown[changed]))


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0), (1.0, 1)])
def test_has_hides_nothing_or_everything(rate, share):
    images = torch.rand(2, 3, 16, 16)
    hidden = has.hide_patches(images, has.Config(4, rate)) != images
    assert hidden.float().mean() == share


def test_has_hides_only_in_the_loss():
    network, batch = network_of(has).eval(), batch_of()
    reference = cam.CamNetwork(build_backbone("small8"), K).eval()
    reference.load_state_dict(network.state_dict())
    assert torch.equal(network(batch.images).logits, reference(batch.images).logits)
    torch.manual_seed(0)
    hidden = has.losses(network, batch, has.Config(hide_rate=0.5))["loss"]
    assert hidden != cam.losses(network, batch, cam.Config())["loss"]
    shown = has.losses(network, batch, has.Config(hide_rate=0.0))["loss"]
    assert shown == cam.losses(network, batch, cam.Config())["loss"]


# --- CutMix


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.2, 3), st.integers(5, 40), st.integers(5, 40))
def test_cutmix_weighs_labels_by_the_pixels_that_are_pasted(seed, beta, height, width):
    torch.manual_seed(seed)
    own = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, height, width)
    mixed, others, _, kept = cutmix.cutmix(own, cutmix.Config(cutmix_beta=beta))
    assert sorted(others.tolist()) == list(range(6))
    for i, other in enumerate(others.tolist()):
        assert set(mixed[i].unique().tolist()) <= {float(i), float(other)}
        if other != i:
            assert (mixed[i, 0] == i).float().mean().item() == pytest.approx(kept, abs=1e-6)
    pasted = mixed[:, 0] != own[:, 0]
    rows, columns = pasted.any(0).any(1).nonzero(), pasted.any(0).any(0).nonzero()
    if len(rows):  # one box, the same in all images
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert pasted.any(0).sum() == box == round((1 - kept) * height * width)


def test_cutmix_mixes_the_losses_as_the_images():
    network, batch, config = network_of(cutmix).eval(), batch_of(), cutmix.Config()
    torch.manual_seed(3)
    torch.rand(())  # whether to mix
    mixed, others, _, kept = cutmix.cutmix(batch.images, config)
    logits = network(mixed).logits
    expected = kept * F.cross_entropy(logits, batch.labels)
    expected += (1 - kept) * F.cross_entropy(logits, batch.labels[others])
    torch.manual_seed(3)
    assert torch.allclose(cutmix.losses(network, batch, config)["loss"], expected)
    plain = cutmix.losses(network, batch, cutmix.Config(cutmix_rate=0.0))["loss"]
    assert plain == cam.losses(network, batch, cam.Config())["loss"]


# --- ACoL


def test_acols_second_classifier_does_not_see_what_convinced_the_first():
    features = torch.rand(2, 4, 3, 3)
    label_map = torch.tensor([[[0.0, 1, 2], [3, 4, 5], [6, 7, 10]], [[5.0] * 3] * 3])
    erased = acol.erase(features, label_map, 0.7)
    gone = (erased == 0).all(1)
    assert gone[0].tolist() == [[False] * 3, [False] * 3, [False, True, True]]  # 7/10 and 10/10
    assert not gone[1].any()  # a constant map is nowhere above
    kept = ~gone[:, None].expand_as(erased)
    assert torch.equal(erased[kept], features[kept])


def test_acol_erases_by_the_label_in_training_and_by_the_prediction_at_test():
    network = network_of(acol).eval()
    batch = batch_of()
    first, second = network.branches(batch.images, batch.labels)
    predicted = first.mean((2, 3)).argmax(1)
    assert not torch.equal(predicted, batch.labels)
    assert torch.equal(
        network.branches(batch.images, None)[1], network.branches(batch.images, predicted)[1]
    )
    late = network.backbone(batch.images)[1]
    own = torch.stack([first[i, label] for i, label in enumerate(batch.labels)])
    assert torch.equal(second, network.second(acol.erase(late, own, 0.7)))
    outputs = network(batch.images)
    assert outputs.class_maps.min() >= 0
    assert torch.allclose(outputs.class_maps.amax((2, 3)), torch.ones(8, K))
    assert torch.equal(outputs.logits, first.mean((2, 3)))


def test_acols_loss_is_the_sum_of_both_cross_entropies():
    network, batch = network_of(acol).eval(), batch_of()
    parts = acol.losses(network, batch, acol.Config())
    logits = [maps.mean((2, 3)) for maps in network.branches(batch.images, batch.labels)]
    expected = [F.cross_entropy(x, batch.labels).item() for x in logits]
    assert [parts["first_loss"].item(), parts["second_loss"].item()] == pytest.approx(expected)
    assert parts["loss"].item() == pytest.approx(sum(expected))


# --- ADL


def test_adl_is_the_identity_at_test_time():
    layer, features = adl.AttentionDropout(adl.Config()).eval(), torch.rand(2, 3, 4, 4)
    assert layer(features) is features


def test_adl_draws_once_per_batch_between_drop_mask_and_importance_map():
    config = adl.Config(drop_rate=0.6, gamma=0.8)
    layer, features = adl.AttentionDropout(config).train(), torch.rand(3, 4, 6, 6)
    attention = features.mean(1, keepdim=True)
    strongest = attention.amax((2, 3), keepdim=True)
    dropped, stressed = features * (attention < 0.8 * strongest), features * attention.sigmoid()
    torch.manual_seed(0)
    kinds = []
    for _ in range(400):
        out = layer(features)
        kinds.append(torch.equal(out, dropped))
        assert kinds[-1] or torch.equal(out, stressed)
    assert sum(kinds) / 400 == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(
    ("backbone", "behind"),
    [
        ("resnet50", ["late.0.0", "late.1.0", "late.1.2"]),
        ("resnet50-28", ["late.0.0", "late.1.0", "late.1.2"]),
        ("vgg16", ["early.16", "early.22", "late.6"]),
        ("vgg16-28", ["early.16", "early.22", "late.5"]),
        ("small8", ["early.2", "late.0", "late.1"]),
    ],
)
def test_adl_sits_where_it_was_published(backbone, behind):
    plain = dict(build_backbone(backbone).named_modules())
    network = network_of(adl, backbone)
    modules = dict(network.backbone.named_modules())
    layers = [name for name, m in modules.items() if isinstance(m, adl.AttentionDropout)]
    assert layers == [f"{name}.1" for name in behind]
    for name in behind:
        assert type(modules[f"{name}.0"]) is type(plain[name])
    if backbone.startswith("vgg16"):
        assert isinstance(plain["early.16"], nn.MaxPool2d)  # pool3
        assert isinstance(plain["early.21"], nn.Conv2d)  # conv4_3, and its ReLU behind it
        last = int(behind[2].split(".")[1])
        assert isinstance(plain[f"late.{last + 1}"], nn.Conv2d)  # conv6 comes next


def test_adl_knows_no_place_in_other_backbones():
    with pytest.raises(ValueError, match="no known place in inceptionv3"):
        network_of(adl, "inceptionv3")


# --- SPG


def test_spgs_masks_are_sure_or_silent():
    maps = torch.tensor([[0.0, 0.005, 0.3], [0.69, 0.71, 1.0], [0.02, 0.5, 0.7]]).view(1, 1, 3, 3)
    expected = [[0, 0, -1], [-1, 1, 1], [-1, -1, -1]]
    assert spg.sure_mask(maps, 0.7, 0.01)[0, 0].tolist() == expected
    faint = 0.5 * maps  # nothing is above .7: above .7 of the maximum of .5 is foreground
    expected = [[0, 0, -1], [-1, 1, 1], [-1, -1, -1]]
    assert spg.sure_mask(faint, 0.7, 0.005)[0, 0].tolist() == expected


def test_spgs_ignored_places_teach_nothing():
    logits = torch.zeros(1, 1, 1, 3, requires_grad=True)
    teacher = torch.tensor([0.9, 0.3, 0.0]).view(1, 1, 1, 3)
    loss = spg.guided_loss(logits, teacher, 0.7, 0.01)
    loss.backward()
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25, 0, 0.25])


def test_spgs_guidance_does_not_flow_back_to_its_source():
    network, batch = network_of(spg), batch_of()
    spg.losses(network, batch, spg.Config())["late_loss"].backward()
    assert network.class_head.weight.grad is None
    assert network.b2[0].weight.grad is not None
    network.zero_grad()
    spg.losses(network, batch, spg.Config())["fused_loss"].backward()
    assert network.shared[1].weight.grad is None
    assert network.c[1].weight.grad is not None


def test_spgs_map_is_cams():
    network, batch = network_of(spg).eval(), batch_of()
    reference = cam.CamNetwork(network.backbone, K).eval()
    reference.class_head = network.class_head
    assert torch.equal(network(batch.images).class_maps, reference(batch.images).class_maps)


# --- BAS


def test_bas_suppresses_what_the_background_still_activates():
    labels = torch.tensor([0, 1, 0])
    suppressed = bas.Suppression(
        logits=torch.tensor([[4.0, 9], [9, 2], [1, 0]]),
        class_maps=None,
        label_map=None,
        left=torch.tensor([[1.0, 7], [7, 2], [3, 0]]),
    )
    assert bas.suppression(suppressed, labels).tolist() == pytest.approx(
        [0.25, 0, 0]
    )  # equal, more


def test_what_a_map_that_shows_all_leaves_is_that_of_no_features():
    network, batch = network_of(bas).eval(), batch_of()
    with torch.no_grad():
        network.generator.bias.fill_(50.0)  # the map is 1 everywhere
    suppressed = network(batch.images, batch.labels)
    assert suppressed.label_map.min() == 1
    nothing = torch.zeros_like(network.backbone(batch.images)[0])
    left = network.class_head(network.backbone.late(nothing)).mean((2, 3))
    assert torch.allclose(suppressed.left, left)


def test_bas_suppression_teaches_the_generator_alone():
    network, batch = network_of(bas).train(), batch_of()
    before = {name: value.clone() for name, value in network.backbone.late.named_buffers()}
    network.backbone(batch.images)
    after = {name: value.clone() for name, value in network.backbone.late.named_buffers()}
    network.backbone.late.load_state_dict(before, strict=False)
    bas.losses(network, batch, bas.Config())["suppression_loss"].backward()
    taught = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name for name in taught if not name.startswith("backbone.early")} == {
        "generator.weight",
        "generator.bias",
    }
    # Statistics are those of one pass, the frozen one leaves none.
    for name, value in network.backbone.late.named_buffers():
        assert torch.allclose(value, after[name]), name


def test_bas_maps_are_the_generators():
    network, batch = network_of(bas).eval(), batch_of()
    outputs = network(batch.images)
    assert outputs.class_maps.shape == (8, K, 12, 12)
    suppressed = network(batch.images, batch.labels)
    own = torch.stack([outputs.class_maps[i, y] for i, y in enumerate(batch.labels)])
    assert torch.equal(suppressed.label_map[:, 0], own.sigmoid())
    assert torch.equal(suppressed.logits, outputs.logits)


def test_bas_needs_early_maps():
    backbone = build_backbone("deit-s", input_size=32)
    with pytest.raises(ValueError, match="deit-s does not hand over"):
        bas.build(backbone, K, bas.Config())


# --- refusals


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (has, {"patch_size": 0}, "patch_size is 0"),
        (has, {"hide_rate": 1.5}, "hide_rate is 1.5"),
        (cutmix, {"cutmix_beta": 0.0}, "cutmix_beta is 0.0"),
        (cutmix, {"cutmix_rate": -0.1}, "cutmix_rate is -0.1"),
        (acol, {"erase_threshold": 0.0}, "erase_threshold is 0.0"),
        (adl, {"drop_rate": 2.0}, "drop_rate is 2.0"),
        (adl, {"gamma": -1.0}, "gamma is -1.0"),
        (spg, {"late_high": 0.0}, "late_low 0.01 and late_high 0.0"),
        (bas, {"area_weight": -1.0}, "area_weight is -1.0"),
    ],
)
def test_impossible_settings_are_refused(method, options, words):
    with pytest.raises(ValueError, match=words):
        method.Config(**options)
