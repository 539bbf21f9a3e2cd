"""The methods, one file each, behind one small interface.

A method is a module of this folder with

* ``Config``: a frozen dataclass of its own hyperparameters,
* ``build(backbone, num_classes, config) -> nn.Module`` whose forward returns :class:`Outputs`,
* ``losses(network, batch, config) -> dict[str, Tensor]``: the total under ``"loss"`` and its
  parts, all scalars, averaged by `base.mean_over_all` so that several processes share them,
* ``USES_BACKGROUND``: whether a batch contains background images.

Adding a method is adding its file. Files are found by name and imported on demand, so that no
training depends on the file of another method.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from wsol.methods.base import Batch, Outputs

METHODS = tuple(
    sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py") if path.stem != "base")
)

__all__ = ["METHODS", "Batch", "Outputs", "get_method"]


def get_method(name: str) -> ModuleType:
    """Return the module of a method; raises ValueError naming the known ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return import_module(f"wsol.methods.{name}")
