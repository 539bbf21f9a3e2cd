"""Optimizers: which layers are new, how fast they learn, and when the rate falls."""

import pytest
import torch

from wsol.training.config import TrainConfig
from wsol.training.optimizer import build_optimizer, new_parameters, rate_factor, set_rate
from wsol.training.runs import build_network

SGD = dict(optimizer="sgd", learning_rate=0.01, weight_decay=1e-4, momentum=0.9)


def _new_names(network: torch.nn.Module) -> set[str]:
    new = {id(parameter) for parameter in new_parameters(network)}
    return {name for name, parameter in network.named_parameters() if id(parameter) in new}


# What the published recipes train ten times as fast, beside the heads.
NEW = {
    "vgg16": "backbone.late.7.",  # conv6, after six layers of conv5 and the pooling before them
    "vgg16-28": "backbone.late.6.",
    "resnet50": "backbone.late.1.",  # layer4
    "resnet50-28": "backbone.late.1.",
    "inceptionv3": "backbone.late.6.",  # two layers after the pooling and five Mixed_6
    "inceptionv3-28": "backbone.late.5.",
    "deit-s": "nothing of it",
    "small8": "nothing of it",
}


@pytest.mark.parametrize("backbone", NEW)
def test_the_new_layers_are_the_heads_and_those_of_the_published_recipes(backbone):
    network = build_network(TrainConfig("background", backbone=backbone, input_size=224), 3)
    heads = ("class_head.", "foreground_head.")
    expected = {
        name for name, _ in network.named_parameters() if name.startswith((*heads, NEW[backbone]))
    }
    assert _new_names(network) == expected


def test_of_resnet50_layer4_is_new_of_vgg16_conv6_of_inception_two_layers():
    def new_of(backbone: str) -> int:
        network = build_network(TrainConfig("cam", backbone=backbone), 3)
        heads = sum(p.numel() for p in network.class_head.parameters())
        return sum(parameter.numel() for parameter in new_parameters(network)) - heads

    assert new_of("resnet50") == 14_964_736  # torchvision's layer4
    assert new_of("vgg16-28") == 9 * 512 * 1024 + 1024
    assert new_of("inceptionv3") == 9 * (768 + 1024) * 1024 + 2 * 1024


def test_one_factor_makes_one_group_and_two_make_two_with_every_parameter_once():
    for factor, groups in ((1.0, 1), (10.0, 2)):
        config = TrainConfig("cam", backbone="resnet50", new_layer_factor=factor, **SGD)
        network = build_network(config, 3)
        optimizer = build_optimizer(network, config)
        assert len(optimizer.param_groups) == groups
        parameters = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(parameters) == sorted(id(p) for p in network.parameters())


def test_new_layers_learn_ten_times_as_fast_all_along():
    config = TrainConfig(
        "cam", backbone="small8", epochs=50, schedule="step", new_layer_factor=10.0, **SGD
    )
    network = build_network(config, 3)
    optimizer = build_optimizer(network, config)
    slow, fast = optimizer.param_groups
    assert {id(p) for p in fast["params"]} == {id(p) for p in new_parameters(network)}
    for progress, rate in ((0.0, 0.01), (14.9 / 50, 0.01), (0.3, 0.001), (0.6, 1e-4), (0.9, 1e-5)):
        set_rate(optimizer, config, progress)
        assert slow["lr"] == pytest.approx(rate)
        assert fast["lr"] == pytest.approx(10 * rate)


def test_sgd_is_nesterovs_with_the_momentum_and_decay_that_were_asked_for():
    config = TrainConfig("cam", backbone="small8", **SGD)
    optimizer = build_optimizer(build_network(config, 3), config)
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 1e-4)
    plain = TrainConfig("cam", backbone="small8", **(SGD | {"momentum": 0.0}))
    optimizer = build_optimizer(build_network(plain, 3), plain)
    assert not optimizer.param_groups[0]["nesterov"]  # which SGD refuses without momentum
    assert isinstance(
        build_optimizer(
            build_network(TrainConfig("cam", backbone="small8"), 3), TrainConfig("cam")
        ),
        torch.optim.AdamW,
    )


def test_a_step_schedule_falls_after_every_so_many_whole_epochs():
    config = TrainConfig("cam", epochs=10, schedule="step", decay_epochs=3)
    steps = 7  # per epoch
    factors = [rate_factor(config, (e + s / steps) / 10) for e in range(10) for s in range(steps)]
    expected = [0.1 ** (e // 3) for e in range(10) for _ in range(steps)]
    assert factors == pytest.approx(expected)


def test_a_cosine_schedule_warms_up_over_an_epoch_and_ends_at_zero():
    config = TrainConfig("cam", epochs=10)
    assert rate_factor(config, 0.0) == pytest.approx(0.1)
    assert rate_factor(config, 0.1) == pytest.approx(1.0)
    assert rate_factor(config, 0.55) == pytest.approx(0.5)
    assert rate_factor(config, 1.0) == pytest.approx(0.0)
    falling = [rate_factor(config, p / 100) for p in range(10, 101)]
    assert falling == sorted(falling, reverse=True)
    assert rate_factor(TrainConfig("cam", epochs=1), 1.0) == pytest.approx(1.0)  # all warm-up


@pytest.mark.parametrize(
    ("setting", "value"),
    [("schedule", "linear"), ("optimizer", "adam"), ("decay_epochs", 0), ("new_layer_factor", 0.0)],
)
def test_a_bad_setting_is_named(setting, value):
    with pytest.raises(ValueError, match=setting):
        TrainConfig("cam", **{setting: value})
