"""Data and runs that several test files share, made once."""

from pathlib import Path

import pytest

from wsol.datasets.birds import BirdsConfig
from wsol.datasets.prepare import prepare_birds

SIZES = dict(n_train=40, n_fullsup=20, n_test=20, n_background=12)


@pytest.fixture(scope="session")
def tiny_birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of 80 drawn birds and 12 background images; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "birds"
    prepare_birds(folder, BirdsConfig(**SIZES), workers=1)
    return folder
