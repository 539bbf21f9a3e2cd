"""Reading CUB-200-2011: a tiny tree in its format, each kind of error, and the published splits."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataset_files import change, errors_of, noise_image

from wsol.datasets.checks import DatasetError
from wsol.datasets.cub import read_cub
from wsol.datasets.index import COLUMNS, format_boxes, parse_boxes, read_index, write_index
from wsol.datasets.metadata import read_split_metadata

METADATA = Path(__file__).parents[2] / "shared" / "wsolevaluation-metadata" / "CUB"
PATHS = ["001.Crested/a b.png", "001.Crested/c.png", "002.Plain/d.png"]
FILES = {
    "images.txt": [f"{i} {path}" for i, path in enumerate(PATHS, start=1)],
    "classes.txt": ["1 001.Crested", "2 002.Plain"],
    "image_class_labels.txt": ["1 1", "2 1", "3 2"],
    "train_test_split.txt": ["1 1", "2 0", "3 1"],
    "bounding_boxes.txt": ["1 2.0 3.0 10.0 12.0", "2 0.0 0.0 30.0 20.0", "3 5.5 1.0 4.0 4.0"],
}
FULLSUP = {
    "image_ids.txt": ["002.Plain/x,y.png", "001.Crested/z.png"],
    "class_labels.txt": ["002.Plain/x,y.png,1", "001.Crested/z.png,0"],
    "image_sizes.txt": ["002.Plain/x,y.png,30,20", "001.Crested/z.png,30,20"],
    "localization.txt": [
        "002.Plain/x,y.png,1,2,11,12",
        "002.Plain/x,y.png,3,4,9,8",
        "001.Crested/z.png,0,0,30,20",
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of three images, with `fullsup/` of two."""
    root = tmp_path / "set of birds"
    for folder, files in ((root, FILES), (root / "fullsup", FULLSUP)):
        folder.mkdir()
        for name, lines in files.items():
            (folder / name).write_text("\n".join(lines))  # the last line without its newline
        for path in PATHS if folder == root else FULLSUP["image_ids.txt"]:
            noise_image(folder / "images" / path)
    return root


def test_a_data_set_without_error_becomes_an_index_table(root):
    table = read_cub(root)
    assert tuple(table.columns) == COLUMNS
    assert table["image_id"].tolist() == PATHS
    assert table["path"].tolist() == [f"images/{path}" for path in PATHS]
    assert table["split"].tolist() == ["train-weaksup", "test", "train-weaksup"]
    assert table["label"].tolist() == [0, 0, 1]
    assert table["class_name"].tolist() == ["001.Crested", "001.Crested", "002.Plain"]
    assert table["boxes"].tolist() == ["2 3 12 15", "0 0 30 20", "5.5 1 9.5 5"]
    assert set(zip(table["width"], table["height"], table["mask"], strict=True)) == {(30, 20, "")}
    pd.testing.assert_frame_equal(read_cub(root, check_images=False), table)


def test_train_fullsup_is_appended(root):
    table = read_cub(root, fullsup=root / "fullsup").query("split == 'train-fullsup'")
    assert table["image_id"].tolist() == FULLSUP["image_ids.txt"]
    assert table["path"].tolist() == [f"fullsup/images/{i}" for i in FULLSUP["image_ids.txt"]]
    assert table["label"].tolist() == [1, 0]
    assert table["class_name"].tolist() == ["002.Plain", "001.Crested"]
    assert table["boxes"].tolist() == ["1 2 11 12;3 4 9 8", "0 0 30 20"]


def test_images_of_train_fullsup_may_lie_elsewhere(root):
    elsewhere = root.parent / "CUBV2"
    (root / "fullsup" / "images").rename(elsewhere)
    table = read_cub(root, fullsup=root / "fullsup", fullsup_images=elsewhere)
    assert table["path"].iloc[-1] == "../CUBV2/001.Crested/z.png"
    assert (root / table["path"].iloc[-1]).is_file()


def test_masks_are_found_where_they_exist(root):
    noise_image(root / "segmentations/002.Plain/d.png")
    noise_image(root / "fullsup/segmentations/001.Crested/z.png")
    table = read_cub(root, fullsup=root / "fullsup")
    masks = ["", "", "segmentations/002.Plain/d.png", ""]
    assert table["mask"].tolist() == masks + ["fullsup/segmentations/001.Crested/z.png"]


def test_a_box_may_pass_the_border_by_a_pixel_and_is_clipped(root):
    change(root / "bounding_boxes.txt", 1, "1 -0.5 0.0 31.5 20.9")
    assert read_cub(root)["boxes"].iloc[0] == "0 0 30 20"


LINE_ERRORS = [
    ("images.txt", 4, "3 002.Plain/e.png", 4, "duplicate id 3, first on line 3"),
    ("images.txt", 4, "4 002.Plain/d.png", 4, "duplicate id, 002.Plain/d.png is image 3"),
    ("images.txt", 3, "3 002.Plain/none.png", 3, "missing image"),
    ("images.txt", 3, "3 ../d.png", 3, "malformed line '3 ../d.png'"),
    ("images.txt", 3, "3", 3, "malformed line '3', expected '<image id> <path>'"),
    ("classes.txt", 3, "2 Other", 3, "duplicate id 2"),
    ("image_class_labels.txt", 2, "2 9", 2, "label 9 without class"),
    ("image_class_labels.txt", 4, "7 1", 4, "image id 7 is not in images.txt"),
    ("train_test_split.txt", 2, "2 2", 2, "malformed line '2 2'"),
    ("train_test_split.txt", 4, "8 1", 4, "image id 8 is not in images.txt"),
    ("bounding_boxes.txt", 1, "1 2 3 10", 1, "malformed line"),
    ("bounding_boxes.txt", 1, "1 2 3 ten 12", 1, "malformed line"),
    ("bounding_boxes.txt", 1, "1 2 3 nan 12", 1, "malformed line"),
    ("bounding_boxes.txt", 1, "1 2 3 0 12", 1, "box of zero size"),
    ("bounding_boxes.txt", 1, "1 2 3 10 -5", 1, "box of zero size"),
    ("bounding_boxes.txt", 1, "1 2 3 30 12", 1, "outside the image of 30 x 20"),
    ("bounding_boxes.txt", 1, "1 -2 3 10 12", 1, "outside the image of 30 x 20"),
    ("bounding_boxes.txt", 1, "1 30 3 1 12", 1, "nothing of it inside"),
    ("bounding_boxes.txt", 4, "1 2 3 10 12", 4, "duplicate id 1"),
]


@pytest.mark.parametrize(("name", "line", "text", "number", "message"), LINE_ERRORS)
def test_a_bad_line_is_named(root, name, line, text, number, message):
    change(root / name, line, text)
    errors = errors_of(read_cub, root)
    assert any(f.startswith(f"{root / name}:{number}: ") and message in f for f in errors), errors


@pytest.mark.parametrize(
    ("name", "what"), zip(list(FILES)[2:], ["label", "split", "box"], strict=True)
)
def test_an_image_without_its_line_is_named(root, name, what):
    change(root / name, 2, "")
    errors = errors_of(read_cub, root)
    assert errors == [f"{root / 'images.txt'}:2: image {PATHS[1]} without {what}"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_an_empty_and_a_binary_file_are_named(root, name):
    (root / name).write_text("\n")
    assert f"{root / name}: empty file" in errors_of(read_cub, root)
    (root / name).write_bytes(b"1 \xff\xfe\n")
    assert any(f.startswith(f"{root / name}: cannot be read") for f in errors_of(read_cub, root))
    (root / name).unlink()
    assert f"{root / name}: missing file" in errors_of(read_cub, root)


def test_an_image_that_does_not_decode_is_named(root):
    image = root / "images" / PATHS[1]
    image.write_bytes(image.read_bytes()[:200])
    (error,) = errors_of(read_cub, root)
    assert error.startswith(f"{root / 'images.txt'}:2: image does not decode: {image}")
    assert len(read_cub(root, check_images=False)) == 3  # its header is sound
    image.write_text("no image")
    assert len(errors_of(read_cub, root, check_images=False)) == 1


def test_a_mask_of_another_size_is_named(root):
    noise_image(root / "segmentations/002.Plain/d.png", size=(20, 30))
    (error,) = errors_of(read_cub, root)
    assert error.endswith("mask of 20 x 30 pixels for an image of 30 x 20")


def test_missing_images_altogether_are_one_error(root):
    (root / "images").rename(root / "photographs")
    assert errors_of(read_cub, root) == [f"{root / 'images'}: missing folder of 3 images"]


def test_no_data_set_at_all_says_where_to_get_it(tmp_path):
    (error,) = errors_of(read_cub, tmp_path)
    assert "no data set here" in error
    assert re.search(r"https://\S+cub_200_2011", error)


def test_all_errors_are_told_at_once(root):
    change(root / "bounding_boxes.txt", 1, "1 2 3 0 12")
    change(root / "image_class_labels.txt", 3, "3 5")
    change(root / "images.txt", 2, "2 001.Crested/lost.png")
    change(root / "fullsup" / "class_labels.txt", 2, "001.Crested/z.png,2")
    with pytest.raises(DatasetError) as caught:
        read_cub(root, fullsup=root / "fullsup")
    assert len(caught.value.errors) == 4
    assert str(caught.value).splitlines() == ["4 errors in the data set:", *caught.value.errors]
    assert isinstance(caught.value, ValueError)


Z = "001.Crested/z.png"
SPLIT_ERRORS = [
    ("image_ids.txt", 3, Z, f"3: duplicate id {Z}, first on line 2"),
    ("image_ids.txt", 3, "9.png", "3: image 9.png without label"),
    ("class_labels.txt", 2, f"{Z},2", "2: label 2 without class"),
    ("class_labels.txt", 2, f"{Z},-1", "2: malformed line"),
    ("class_labels.txt", 3, "9.png,0", "3: image 9.png is not in image_ids.txt"),
    ("image_sizes.txt", 2, f"{Z},30,0", "2: malformed line"),
    ("image_sizes.txt", 2, f"{Z},40,20", f" {Z} is listed with 40 x 20"),
    ("localization.txt", 3, f"{Z},1,2,3", "3: malformed line"),
    ("localization.txt", 3, f"{Z},1,2,1,9", "3: box of zero size"),
    ("localization.txt", 3, f"{Z},1,2,50,9", "3: box 1 2 50 9 outside the image"),
    ("localization.txt", 4, "9.png,1,2,50,9", "4: image 9.png is not in image_ids.txt"),
]


@pytest.mark.parametrize(("name", "line", "text", "message"), SPLIT_ERRORS)
def test_a_bad_line_of_a_split_is_named(root, name, line, text, message):
    file = root / "fullsup" / name
    change(file, line, text)
    errors = errors_of(read_cub, root, fullsup=root / "fullsup")
    assert any(f.startswith(f"{file}:{message}") for f in errors), errors


def test_an_image_of_a_split_without_a_box_is_named(root):
    change(root / "fullsup" / "localization.txt", 3, "")
    (error,) = errors_of(read_cub, root, fullsup=root / "fullsup")
    assert error.endswith(f"image_ids.txt:2: image {Z} without box")


def test_a_split_can_be_read_without_its_images(root):
    table = read_split_metadata(root / "fullsup", "train-fullsup")
    assert table["path"].tolist() == table["image_id"].tolist() == FULLSUP["image_ids.txt"]
    assert table["class_name"].tolist() == ["002.Plain", "001.Crested"]
    with pytest.raises(ValueError, match="unknown split val"):
        read_split_metadata(root / "fullsup", "val")


@pytest.mark.skipif(not METADATA.is_dir(), reason="the published splits are not here")
@pytest.mark.parametrize(
    ("folder", "split", "n", "first", "size", "box"),
    [
        ("train", "train-weaksup", 5994, "0009_34", (500, 336), "139 30 292 294"),
        ("val", "train-fullsup", 1000, "30107316117", (560, 419), "176 136 459 291"),
        ("test", "test", 5794, "0046_18", (500, 335), "60 27 385 331"),
    ],
)
def test_the_published_splits_are_read(folder, split, n, first, size, box):
    table = read_split_metadata(METADATA / folder, split)
    assert len(table) == n
    row = table.iloc[0]
    assert row["image_id"].startswith("001.Black_footed_Albatross/")
    assert row["image_id"].endswith(f"{first}.jpg")
    assert (row["width"], row["height"], row["boxes"], row["label"]) == (*size, box, 0)
    assert table.iloc[-1]["class_name"] == "200.Common_Yellowthroat"
    assert table["label"].nunique() == 200


def test_an_index_table_comes_back_as_it_went(root, tmp_path):
    table = read_cub(root, fullsup=root / "fullsup")
    table.loc[0, "class_name"] = "nan"  # a class may be called so
    write_index(table, tmp_path / "new" / "index.csv")
    back = read_index(tmp_path / "new" / "index.csv")
    pd.testing.assert_frame_equal(back, table)
    write_index(back, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "new/index.csv").read_bytes()


def test_an_index_table_that_cannot_be_right_is_refused(root, tmp_path):
    table = read_cub(root)
    for bad, message in (
        (table.drop(columns="boxes"), "lacks the columns boxes"),
        (table.assign(split="val"), "unknown split val"),
        (pd.concat([table, table.iloc[:1]]), r"a b\.png is listed more than once"),
    ):
        with pytest.raises(ValueError, match=message):
            write_index(bad, tmp_path / "index.csv")


def test_boxes_keep_their_numbers():
    boxes = [[60, 27, 385.5, 331], [0.1, 1e-3, 1 / 3, 12345678]]
    assert format_boxes(boxes).startswith("60 27 385.5 331;0.1 0.001 0.333")
    assert parse_boxes(format_boxes(boxes)).tolist() == boxes
    assert parse_boxes(format_boxes([])).shape == (0, 4)


def test_text_that_holds_no_boxes_is_refused():
    with pytest.raises(ValueError, match="boxes are written"):
        parse_boxes("1 2 3")
    with pytest.raises(ValueError, match="not finite"):
        format_boxes([[0, 0, np.inf, 1]])


def test_a_subset_of_the_classes_is_numbered_anew_and_has_its_own_fullsup(root):
    change(root / "classes.txt", 3, "3 003.Absent")
    index = read_cub(root)
    assert set(index["class_name"]) == {"001.Crested", "002.Plain"}
    index = read_cub(root, classes=["002.Plain"], fullsup_count=1)
    assert index[["split", "label", "class_name"]].to_numpy().tolist() == [
        ["train-fullsup", 0, "002.Plain"]
    ]
    with pytest.raises(DatasetError, match="no class 004"):
        read_cub(root, classes=["004.Nobody"])
    with pytest.raises(ValueError, match="no classes"):
        read_cub(root, root / "fullsup", classes=["002.Plain"])
