"""Folders that the notebooks work in: prepared, read, trained from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wsol.datasets.backgrounds.manifest import load_background
from wsol.datasets.birds import BirdsConfig
from wsol.datasets.image_files import load_image
from wsol.datasets.images import load_split
from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.datasets.prepare import Plan, prepare, prepare_birds
from wsol.training.config import config_from

TINY = BirdsConfig(n_train=4, n_fullsup=2, n_test=2, n_background=3)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "birds"
    prepare_birds(root, TINY, workers=1)
    return root


def test_a_split_is_loaded_in_the_order_of_its_rows(birds: Path) -> None:
    index = read_index(birds / INDEX)
    images, labels = load_split(index, birds, "test", 16)
    rows = rows_of(index, "test")
    assert images.shape == (2, 3, 16, 16)
    assert labels.tolist() == rows["label"].tolist()
    expected = [load_image(birds / path, 16) for path in rows["path"]]
    assert np.array_equal(images.numpy(), np.stack(expected))


def test_a_split_that_is_not_there_is_named(birds: Path) -> None:
    index = read_index(birds / INDEX)
    with pytest.raises(ValueError, match="'test' in this index table; it has train-weaksup"):
        rows_of(index[index["split"] == "train-weaksup"], "test")


def test_the_background_set_is_loaded_from_its_beginning(birds: Path) -> None:
    everything = load_background(birds, None, 16)
    assert len(everything) == 3
    assert np.array_equal(load_background(birds, 2, 16), everything[:2])


def test_drawing_again_replaces_a_drawing_and_nothing_else(birds: Path, tmp_path: Path) -> None:
    first = prepare_birds(tmp_path / "birds", TINY, workers=1)
    (tmp_path / "birds" / "left over.txt").touch()
    again = prepare_birds(tmp_path / "birds", TINY, workers=1)
    pd.testing.assert_frame_equal(first, again)
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]
    assert not (tmp_path / "birds" / "left over.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(FileExistsError, match="was not made by wsol"):
        prepare_birds(tmp_path / "mine", TINY, workers=1)
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_an_index_elsewhere_leads_to_the_same_images(birds: Path, tmp_path: Path) -> None:
    assert prepare(Plan("cub", birds, tmp_path / "cub", birds / "fullsup")).empty
    path = tmp_path / "cub" / INDEX
    elsewhere, own = read_index(path), read_index(birds / INDEX)
    assert (tmp_path / "cub" / elsewhere["path"][0]).samefile(birds / own["path"][0])
    for split in ("test", "train-fullsup"):
        images = [
            load_split(i, r, split, 16)[0] for i, r in ((elsewhere, path.parent), (own, birds))
        ]
        assert np.array_equal(*images)


def test_flat_names_become_a_configuration() -> None:
    names = dict(method="background", seed=3, epochs=2, mask_weight=0.5, n_background=7, data="x")
    config = config_from(names)
    assert (config.method, config.seed, config.epochs) == ("background", 3, 2)
    assert config.method_config == {"mask_weight": 0.5}
    assert config_from(names | {"method": "cam"}).method_config == {}
