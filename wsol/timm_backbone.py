"""Any network of timm as a backbone, for those who have timm (`pip install "wsol[timm]"`)."""

from torch import Tensor, nn

from wsol.pretrained import read_weights

EARLY_STRIDE = 8


class _Both(nn.Module):
    """Images to the early and the last features of a network, which are taken out in one pass."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        early, last = self.net(images)
        if last.shape[1] != self.net.feature_info.channels()[-1]:
            raise ValueError(f"timm/{self.name} gives (B, h, w, C) features, not (B, C, h, w)")
        return early, last


class _Last(nn.Module):
    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        return both[1]


def first_of(features: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """The early of both features; other features as they are."""
    return features if isinstance(features, Tensor) else features[0]


def cut_timm(
    name: str, weights: str | None
) -> tuple[nn.Module, nn.Module, tuple[int, int], tuple[int, int], tuple]:
    """Early and late part, their channels and strides; mean and deviation that weights expect.

    ``weights`` is None, "DEFAULT" (timm's, downloaded) or a local file of timm's state dict. Raises
    ImportError without timm, ValueError for a network that has no features of stride 8.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'backbone timm/{name} needs timm: pip install "wsol[timm]"') from error
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    options = {"pretrained": weights == "DEFAULT"}
    if weights not in (None, "DEFAULT"):
        whole = timm.create_model(name)
        whole.load_state_dict(read_weights(weights))
    probe = timm.create_model(name, features_only=True)
    reductions = probe.feature_info.reduction()
    if EARLY_STRIDE not in reductions:
        raise ValueError(f"timm/{name} has strides {reductions}, none of them {EARLY_STRIDE}")
    early = len(reductions) - 1 - reductions[::-1].index(EARLY_STRIDE)
    places = (early, len(reductions) - 1)
    net = timm.create_model(name, features_only=True, out_indices=places, **options)
    if weights not in (None, "DEFAULT"):
        net.load_state_dict(_of_features(whole.state_dict(), net))
    channels, strides = net.feature_info.channels(), net.feature_info.reduction()
    normalization = tuple(net.default_cfg["mean"]), tuple(net.default_cfg["std"])
    return _Both(net, name), _Last(), tuple(channels), tuple(strides), normalization


def _of_features(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The part of a whole network's state that its features have, under the names they have.

    timm flattens the features, `blocks.0.x` becomes `blocks_0.x` there, or wraps the network, then
    it is `model.blocks.0.x`.
    """
    flat = {name.replace(".", "_"): value for name, value in state.items()}
    names = {name: name.removeprefix("model.").replace(".", "_") for name in net.state_dict()}
    return {name: flat[whole] for name, whole in names.items()}
