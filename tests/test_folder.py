"""Any image folder as a data set: splits, boxes as CSV and COCO, every error, and a training."""

import json
from collections import Counter
from pathlib import Path

import pytest
from dataset_files import errors_of, noise_image
from PIL import Image

import wsol
from wsol.datasets.folder import draw_splits, read_folder
from wsol.datasets.index import read_index
from wsol.datasets.prepare import Plan, prepare, prepare_background
from wsol.training.config import TrainConfig
from wsol.training.loop import train_from_disk

W, H = SIZE = 40, 30
NAMES = [f"{split}/{c}/{i}.png" for split in ("train", "val", "test") for c in "ab" for i in (0, 1)]


def coco(box: list[float]) -> dict[str, list]:
    """COCO's format of one box x, y, width, height for every image of its folder's class."""
    images = [dict(id=7 + i, file_name=n, width=W, height=H) for i, n in enumerate(NAMES)]
    numbers = {"a": 3, "b": 9}
    annotations = [
        dict(id=i, image_id=7 + i, category_id=numbers[Path(n).parent.name], bbox=box, iscrowd=0)
        for i, n in enumerate(NAMES)
    ]
    categories = [dict(id=number, name=name) for name, number in numbers.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def write_csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["image,x0,y0,x1,y1", *rows]) + "\n", encoding="utf-8")
    return path


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images of each of two classes in each of three splits."""
    for number, name in enumerate(NAMES):
        noise_image(tmp_path / "my set" / name, SIZE, number)
    return tmp_path / "my set"


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """One box for every image."""
    return write_csv(tmp_path / "boxes.csv", [f"{name},1,2,11.5,22" for name in NAMES])


# --- what a folder without error becomes


def test_folders_of_splits_and_classes_become_an_index_table(root, boxes):
    index = read_folder(root, boxes)
    assert sorted(index["image_id"]) == sorted(NAMES)
    assert (index["path"] == index["image_id"]).all()
    split = {"train": "train-weaksup", "val": "train-fullsup", "test": "test"}
    for row in index.itertuples():
        folder_of_split, folder_of_class, _ = row.image_id.split("/")
        assert row.split == split[folder_of_split]
        assert (row.class_name, row.label) == (folder_of_class, "ab".index(folder_of_class))
        assert (row.width, row.height, row.boxes) == (W, H, "1 2 11.5 22")


def test_csv_and_coco_say_the_same_and_crowd_regions_are_left_out(root, boxes, tmp_path):
    content = coco([1, 2, 10.5, 20])
    content["annotations"].append(content["annotations"][0] | dict(bbox=[0, 0, 5, 5], iscrowd=1))
    table = write_json(tmp_path / "boxes.json", content)
    assert read_folder(root, table).equals(read_folder(root, boxes))


def test_images_may_have_commas_and_several_boxes_and_training_images_none(root, tmp_path):
    noise_image(root / "test/a/x, y.png", SIZE)
    rows = [f"{name},0,0,9,9" for name in NAMES if not name.startswith("train")]
    rows += ['"test/a/x, y.png",0,0,5,5', '"test/a/x, y.png",6,6,9,9']
    boxes = read_folder(root, write_csv(tmp_path / "b.csv", rows)).set_index("image_id")["boxes"]
    assert boxes["test/a/x, y.png"] == "0 0 5 5;6 6 9 9"
    assert set(boxes[[name for name in NAMES if name.startswith("train")]]) == {""}


def test_masks_are_found_by_the_path_of_their_image(root):
    noise_image(root / "masks/test/a/0.png", SIZE)
    index = read_folder(root, masks=root / "masks").set_index("image_id")["mask"]
    assert index.pop("test/a/0.png") == "masks/test/a/0.png"
    assert set(index) == {""}


# --- splits that are drawn


def test_drawn_splits_have_their_shares_of_every_class():
    classes = {name: [f"{name}/{i}" for i in range(40)] for name in "abc"}
    split = draw_splits(classes, None, (0.6, 0.1, 0.3))
    for images in classes.values():
        counts = Counter(split[image] for image in images)
        assert counts == {"train-weaksup": 24, "train-fullsup": 4, "test": 12}


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.02, 0.49, 0.49), (0.9, 0.1, 0)])
def test_every_class_keeps_an_image_to_learn_from(count, shares):
    split = draw_splits({"a": [str(i) for i in range(count)]}, None, shares)
    counts = Counter(split.values())
    assert counts["train-weaksup"] >= 1
    assert sum(counts.values()) == count
    assert counts["test"] >= (count >= 2 and shares[2] > 0)
    assert counts["train-fullsup"] >= (count >= 3)


def test_only_images_with_a_box_leave_the_training_set():
    images = [str(i) for i in range(20)]
    split = draw_splits({"a": images}, {"3", "4", "5"}, (0.5, 0.2, 0.3))
    assert {image for image in images if split[image] != "train-weaksup"} == {"3", "4", "5"}


def test_a_draw_follows_from_the_seed_and_the_class_alone():
    classes = {name: [f"{name}/{i}" for i in range(30)] for name in "ab"}
    split = draw_splits(classes, None)
    alone = draw_splits({"b": classes["b"][::-1]}, None)
    assert alone == {image: split[image] for image in classes["b"]}
    assert draw_splits(classes, None, seed=1) != split


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.6, 0.2), (1.2, -0.1, -0.1), (0, 0.5, 0.5)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="share"):
        draw_splits({"a": ["1", "2"]}, None, shares)


def test_class_folders_without_splits_are_split(root):
    index = read_folder(root / "train", shares=(0.5, 0, 0.5))
    counts = Counter(zip(index["split"], index["class_name"], strict=True))
    assert counts == {(split, c): 1 for split in ("train-weaksup", "test") for c in "ab"}


# --- errors


def test_all_errors_come_at_once(root, boxes):
    (root / "train/a/0.png").write_bytes(b"no image")
    (root / "train/c").mkdir()
    rows = boxes.read_text().splitlines()[1:]
    rows[1] = "train/a/1.png,1,2,11"
    rows += ["test/a/9.png,0,0,5,5", "test/a/0.png,30,2,50,22", rows[-1]]
    errors = errors_of(read_folder, root, write_csv(boxes, rows))
    expected = [
        f"{root}/train/c: class without image",
        f"{root}/train/a/0.png: image does not decode",
        f"{boxes}:3: malformed line",
        f"{boxes}:16: image test/b/1.png is listed twice, as on {boxes}:13",
        f"{boxes}:14: image test/a/9.png is not in the folder",
        f"{boxes}:15: box 30 2 50 22 outside the image of 40 x 30",
    ]
    assert len(errors) == len(expected)
    for text in expected:
        assert [error for error in errors if error.startswith(text)], text


def test_an_empty_folder_is_named(tmp_path):
    assert errors_of(read_folder, tmp_path) == [f"{tmp_path}: no folder of a class in it"]
    assert errors_of(read_folder, tmp_path / "none") == [f"{tmp_path / 'none'}: missing folder"]


def test_images_that_lie_in_no_class_are_named_with_a_table_of_boxes_too(tmp_path):
    noise_image(tmp_path / "photos" / "a.png", SIZE)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\na.png,1,1,20,20\n")
    errors = errors_of(read_folder, tmp_path / "photos", boxes)
    assert any("a.png: image outside the folder of any class" in error for error in errors)


def test_classes_must_be_learned_and_images_lie_in_one(root):
    noise_image(root / "test/c/0.png", SIZE)
    noise_image(root / "val/loose.png")
    (root / "extra").mkdir()
    assert errors_of(read_folder, root) == [
        f"{root}/extra: none of train, val and test, but beside them",
        f"{root}/val/loose.png: image outside the folder of any class",
        f"{root}/train/c: class c has no image to learn from",
    ]


def test_evaluated_images_without_box_are_named(root, boxes):
    rows = [line for line in boxes.read_text().splitlines()[1:] if "val/b/1" not in line]
    errors = errors_of(read_folder, root, write_csv(boxes, rows))
    assert errors == [f"{root}/val/b/1.png: image of train-fullsup without box"]


def test_a_mask_of_another_size_is_named(root):
    noise_image(root.parent / "masks/test/a/0.png", (20, 30))
    (error,) = errors_of(read_folder, root, masks=root.parent / "masks")
    assert error.endswith("masks/test/a/0.png: mask of 20 x 30 pixels for an image of 40 x 30")


def test_the_size_of_an_image_that_is_stored_turned_is_the_upright_one(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "test/a/0.png") as image:
        image.copy().save(root / "test/a/0.png", exif=exif)
    table = read_folder(root).set_index("image_id")
    assert tuple(table.loc["test/a/0.png", ["width", "height"]]) == (30, 40)
    assert tuple(table.loc["test/a/1.png", ["width", "height"]]) == (40, 30)


def test_a_table_in_another_format_is_named_with_its_line(root, tmp_path):
    bad = {
        "a.csv": ("test/a/0.png,0,0,5,5\n", ":1: the first line must be image,x0,y0,x1,y1"),
        "a.json": ('{"images": [],\n "annotations": [1,],\n', ":2: no JSON: "),
        "b.json": ('{"images": [], "annotations": []}', ": no list of categories"),
    }
    for name, (text, message) in bad.items():
        (tmp_path / name).write_text(text)
        (error,) = errors_of(read_folder, root, tmp_path / name)
        assert error.startswith(f"{tmp_path / name}{message}")
    (error,) = errors_of(read_folder, root, tmp_path / "none.json")
    assert error == f"{tmp_path}/none.json: missing file"


COCO_ERRORS = [
    ("annotations", dict(category_id=5), "annotations[0]: category 5 is unknown"),
    ("annotations", dict(category_id=9), "annotations[0]: box of 'b' in train/a/0.png, an image"),
    ("annotations", dict(image_id=1), "annotations[0]: image 1 is unknown"),
    ("annotations", dict(bbox=[0, 0, 5]), "annotations[0]: malformed"),
    ("annotations", dict(bbox=[0, 0, 50, 5]), "annotations[0]: box 0 0 50 5 outside the image"),
    ("annotations", dict(bbox=[0, 0, 0, 5]), "annotations[0]: box of zero size"),
    ("images", dict(width=41), "annotations[0]: image train/a/0.png is listed with 41 x 30 pixels"),
    ("images", dict(file_name="x.png"), "annotations[0]: image x.png is not in the folder"),
    ("images", dict(file_name=NAMES[1]), f"images[1]: {NAMES[1]} is listed twice, as in images[0]"),
    ("images", dict(id=8), "images[1]: duplicate id 8"),
    ("categories", dict(name="c"), "annotations[0]: category 'c' is unknown, no class has"),
]


@pytest.mark.parametrize(("entries", "change", "expected"), COCO_ERRORS)
def test_an_error_in_coco_is_named_with_its_place(root, tmp_path, entries, change, expected):
    content = coco([1, 2, 10, 20])
    content[entries][0] |= change
    table = write_json(tmp_path / "b.json", content)
    assert [f for f in errors_of(read_folder, root, table) if f.startswith(f"{table}: {expected}")]


# --- prepared


def test_from_a_folder_to_boxes_in_images(root, boxes, tmp_path):
    data, run = tmp_path / "data", tmp_path / "cam-0"
    assert prepare(Plan("folder", root, data, boxes=boxes)).empty
    noise_image(tmp_path / "moor/1.png")
    assert prepare_background(data, [tmp_path / "moor"], "me", "CC0") == 1
    assert (data / "background/0/1.png").read_bytes() == (tmp_path / "moor/1.png").read_bytes()
    assert prepare_background(data, [tmp_path / "moor"], "me", "CC0") == 1  # again
    assert all((data / path).is_file() for path in read_index(data / "index.csv")["path"])
    config = TrainConfig("cam", input_size=32, epochs=1, batch_size=4, threads=1)
    train_from_disk(config, data, run)
    detections = wsol.localize(root / "test", run, tau=0.5, data=data)
    assert [d.image for d in detections] == [(root / n).as_posix() for n in NAMES if "test" in n]
    for d in detections:
        assert d.class_name == "ab"[d.label]
        x0, y0, x1, y1 = d.box
        assert 0 <= x0 < x1 <= W
        assert 0 <= y0 < y1 <= H
