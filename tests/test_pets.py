"""Reading Oxford-IIIT Pet: a tiny tree in the authors' format, checked against torchvision."""

import numpy as np
import pytest
from click.testing import CliRunner
from dataset_files import change, noise_image
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from wsol.cli import main
from wsol.datasets.checks import DatasetError
from wsol.datasets.index import INDEX, parse_boxes, read_index
from wsol.datasets.pets import ANIMAL, BACKGROUND, BORDER, FOLDER, read_pets

TRAINING = ["Big_Cat_1", "Big_Cat_2", "dog_1", "dog_2"]
TESTED = ["Big_Cat_3", "dog_3"]


def trimap(seed: int) -> np.ndarray:
    values = np.full((20, 30), BACKGROUND, np.uint8)
    values[4:15, 5 + seed : 20] = BORDER
    values[6:13, 7 + seed : 18] = ANIMAL
    return values


@pytest.fixture
def root(tmp_path):
    annotations = tmp_path / "raw" / FOLDER / "annotations"
    (annotations / "trimaps").mkdir(parents=True)
    for file, names in (("trainval.txt", TRAINING), ("test.txt", TESTED)):
        lines = [f"{name} {1 + name.startswith('dog')} 1 1" for name in names]
        (annotations / file).write_text("\n".join(lines) + "\n")
    for i, name in enumerate(TRAINING + TESTED):
        noise_image(tmp_path / "raw" / FOLDER / "images" / f"{name}.jpg", seed=i)
        Image.fromarray(trimap(i)).save(annotations / "trimaps" / f"{name}.png")
    return tmp_path / "raw"


def test_labels_and_files_are_those_of_torchvision(root, tmp_path):
    index, left_out = read_pets(root, tmp_path / "masks", fullsup_count=1)
    assert left_out == []
    theirs = [
        (path.name, label)
        for split in ("trainval", "test")
        for data in [OxfordIIITPet(str(root), split=split, download=False)]
        for path, label in zip(data._images, data._labels, strict=True)
    ]
    assert list(zip(index["image_id"], index["label"], strict=True)) == theirs
    splits = ["train-weaksup", "train-fullsup"] * 2 + ["test"] * 2
    assert index["split"].tolist() == splits
    assert index["class_name"].tolist() == ["Big_Cat", "Big_Cat", "dog", "dog", "Big_Cat", "dog"]


def test_boxes_enclose_animal_and_border_and_masks_keep_them_apart(root, tmp_path):
    index, _ = read_pets(root, tmp_path / "masks")
    for i, row in enumerate(index.itertuples()):
        assert parse_boxes(row.boxes).tolist() == [[5 + i, 4, 20, 15]]
        for column, value in (("mask", ANIMAL), ("ignore", BORDER)):
            with Image.open(root / getattr(row, column)) as image:
                assert np.array_equal(np.asarray(image), 255 * (trimap(i) == value))


def test_what_cannot_be_used_is_left_out_with_its_reason(root, tmp_path):
    (root / FOLDER / "images" / "dog_1.jpg").write_bytes(b"GIF89a")
    Image.open(root / FOLDER / "images" / "dog_2.jpg").save(root / FOLDER / "images" / "a.png")
    (root / FOLDER / "images" / "a.png").replace(root / FOLDER / "images" / "dog_2.jpg")
    empty = Image.fromarray(np.full((20, 30), BACKGROUND, np.uint8))
    empty.save(root / FOLDER / "annotations" / "trimaps" / "dog_3.png")
    index, left_out = read_pets(root, tmp_path / "masks")
    assert "dog_2.jpg" in set(index["image_id"])  # a PNG by another name
    assert [("dog_1" in line, "dog_3" in line) for line in left_out] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [(np.full((20, 30), 4, np.uint8), "values other than"), (trimap(0)[:10], "has the shape")],
)
def test_a_trimap_of_another_kind_or_size_is_an_error(root, tmp_path, values, words):
    Image.fromarray(values).save(root / FOLDER / "annotations" / "trimaps" / "dog_1.png")
    with pytest.raises(DatasetError, match=words) as caught:
        read_pets(root, tmp_path / "masks")
    assert len(caught.value.errors) == 1


def test_other_errors_name_file_and_line(root, tmp_path):
    change(root / FOLDER / "annotations" / "test.txt", 2, "dog_3 two 1 1")
    with pytest.raises(DatasetError, match=r"test\.txt:2"):
        read_pets(root, tmp_path / "masks")
    with pytest.raises(DatasetError, match="wsol prepare pets --download"):
        read_pets(tmp_path / "nowhere", tmp_path / "masks")


def test_the_command_writes_an_index_of_some_breeds(root, tmp_path):
    words = ["prepare", "pets", str(root), str(tmp_path / "out"), "--class=dog"]
    result = CliRunner().invoke(main, [*words, "--fullsup-count=1"])
    assert result.exit_code == 0, result.output
    assert "1 classes, train-weaksup 1, train-fullsup 1, test 1" in result.output
    index = read_index(tmp_path / "out" / INDEX)
    assert (tmp_path / "out" / index["mask"][0]).is_file()
    result = CliRunner().invoke(main, [*words, "--class=cow"])
    assert result.exit_code == 2
