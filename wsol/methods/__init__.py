"""The methods, one file each, behind one small interface.

A method is a module with

* ``Config``: a frozen dataclass of its own hyperparameters,
* ``build(backbone, num_classes, config) -> nn.Module`` whose forward returns :class:`Outputs`,
* ``losses(network, batch, config) -> dict[str, Tensor]``: the total under ``"loss"`` and its
  parts, all scalars,
* ``USES_BACKGROUND``: whether a batch must bring background images.

Adding a method is adding its file and one line to :data:`METHODS`.
"""

from types import ModuleType

from wsol.methods import background, cam
from wsol.methods.interface import Batch, Outputs

METHODS: dict[str, ModuleType] = {"cam": cam, "background": background}

__all__ = ["METHODS", "Batch", "Outputs", "get_method"]


def get_method(name: str) -> ModuleType:
    """Return the module of a method; raises ValueError naming the known ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
