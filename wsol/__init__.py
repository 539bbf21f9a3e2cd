"""Weakly supervised object localization with background images.

Importing this package costs milliseconds: it reads the versions of torch and torchvision and
loads neither, unless the two look as if they did not belong together. `wsol.localize` loads
them when it is asked for.
"""

import importlib
import re
from importlib import metadata
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["__version__", "check_torch_pair", "localize", "project_root", "published"]

_ON_DEMAND = {"localize": "wsol.inference.localize", "published": "wsol.inference.published"}

_FIX = (
    "Install the pair that requirements.lock pins (`make reproduce` does), or take both from the "
    "same package index."
)


def _minor(version: str) -> tuple[int, int]:
    major, minor = re.match(r"(\d+)\.(\d+)", version).groups()
    return int(major), int(minor)


def check_torch_pair(torch: str, torchvision: str) -> None:
    """Refuse releases of torch and torchvision that were not made for each other.

    torchvision's compiled operators load into exactly one torch: 0.(m + 15) belongs to 2.m, as
    torchvision's own table of releases shows. Builds of one release can differ too (a CPU torch
    with a CUDA torchvision); only loading them tells, so that is done for those alone.

    torch, torchvision : installed versions, with the build after a plus sign where there is one

    Raises ImportError if the two cannot work together.
    """
    pair = f"torch {torch} and torchvision {torchvision} are installed"
    (major, minor), (vision_major, vision_minor) = _minor(torch), _minor(torchvision)
    if (major, vision_major) == (2, 0) and vision_minor != minor + 15:
        raise ImportError(f"{pair}, but torch 2.{minor} needs torchvision 0.{minor + 15}. {_FIX}")
    if torch.partition("+")[2] != torchvision.partition("+")[2]:
        try:
            importlib.import_module("torchvision")
        except (RuntimeError, OSError) as error:
            raise ImportError(
                f"{pair}, from different builds that do not work together ({error}). {_FIX}"
            ) from error


def _check_installed() -> None:
    try:
        versions = metadata.version("torch"), metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return  # whatever needs it says so itself
    check_torch_pair(*versions)


_check_installed()


def __getattr__(name: str) -> object:
    """Load `wsol.localize` and `wsol.published` on demand."""
    if name in _ON_DEMAND:
        return getattr(importlib.import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module 'wsol' has no attribute {name!r}")


def project_root(start: str | Path | None = None) -> Path:
    """The nearest folder at or above `start` that holds dvc.yaml or pyproject.toml.

    JupyterLab, nbval and papermill start a notebook in its own folder, DVC and a script in the
    root: everything that names a file goes through here. Outside a project it is the working
    directory, so that an installed package works anywhere.

    start : folder to begin at; the working directory by default
    """
    begin = Path.cwd() if start is None else Path(start).resolve()
    for folder in (begin, *begin.parents):
        if any((folder / marker).is_file() for marker in ("dvc.yaml", "pyproject.toml")):
            return folder
    return begin
