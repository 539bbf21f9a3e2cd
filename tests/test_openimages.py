"""Reading OpenImages30k: a tiny tree in its format, each kind of error, and the united masks."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import change, errors_of, files_below, noise_image, trained_and_evaluated
from miniatures import mask_name, write_openimages_lists
from PIL import Image

from wsol.datasets.checks import DatasetError, ImageCheck, same_proportions
from wsol.datasets.index import COLUMNS, INDEX, parse_boxes, read_index, rows_of
from wsol.datasets.openimages import mask_box, read_openimages
from wsol.datasets.prepare import Plan, prepare, prepare_background
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import IGNORE, OBJECT, MaskReader
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.summary import evaluate_score_maps

A, B = "val/0bt_c3/1cd9ac0169ec7df0", "val/0bt9lr/3a29f0b33894d4a6"
TEST_A, TEST_B = "test/0bt_c3/0a51958fcd523ae4", "test/0bt9lr/b4d953e7105da1d8"
TRAINING = [f"train/{c}/{i:016x}" for c in ("0bt_c3", "0bt9lr") for i in (1, 2)]
SIZE = (30, 20)  # of the images
# Of the masks, twice as large: x0, y0, x1, y1 of rectangles, per image those of its objects.
MASK_SIZE = (60, 40)
OBJECTS = {
    A: [(4, 6, 20, 16), (30, 20, 50, 30)],
    B: [(0, 0, 60, 40)],
    TEST_A: [(10, 10, 20, 20)],
    TEST_B: [(2, 2, 8, 8), (6, 6, 12, 12), (40, 2, 44, 4)],
}
IGNORED = (0, 0, 10, 10)


def rectangle(path: Path, box: tuple, size: tuple = MASK_SIZE, inside: int = 255) -> None:
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = inside
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images to train with, two of val and two of test with their masks, and metadata."""
    root = tmp_path / "Open Images"
    for seed, image in enumerate([*TRAINING, *OBJECTS]):
        noise_image(root / f"{image}.jpg", SIZE, seed)
    for image, boxes in OBJECTS.items():
        rectangle(root / f"{image}_ignore.png", IGNORED)
        for number, box in enumerate(boxes):
            rectangle(root / mask_name(image, number), box)
    labels = {image: int("0bt9lr" in image) for image in [*TRAINING, *OBJECTS]}
    numbers = {image: len(boxes) for image, boxes in OBJECTS.items()}
    write_openimages_lists(root / "metadata", labels, numbers)
    return root


def read(root: Path, **options: object):
    return read_openimages(root, root / "metadata", root.parent / "united", **options)


def test_a_data_set_without_error_becomes_an_index_table(root):
    table = read(root)
    assert tuple(table.columns) == COLUMNS
    images = [*TRAINING, *OBJECTS]
    assert table["image_id"].tolist() == table["path"].tolist() == [f"{i}.jpg" for i in images]
    splits = ["train-weaksup"] * 4 + ["train-fullsup"] * 2 + ["test"] * 2
    assert table["split"].tolist() == splits
    assert table["label"].tolist() == [0, 0, 1, 1, 0, 1, 0, 1]
    assert table["class_name"].tolist() == [image.split("/")[1] for image in images]
    assert (table["mask"] == "").tolist() == [True] * 4 + [False] * 4
    # Half of the corners of all objects of an image, for its masks are twice as large.
    boxes = ["2 3 25 15", "0 0 30 20", "5 5 10 10", "1 1 22 6"]
    assert table["boxes"].tolist() == [""] * 4 + boxes


def test_masks_are_united_and_the_object_wins_over_the_region_to_ignore(root):
    for row in read(root).query("mask != ''").itertuples():
        expected = np.zeros(MASK_SIZE[::-1], dtype=int)
        for kind, boxes in ((IGNORE, [IGNORED]), (OBJECT, OBJECTS[row.image_id[:-4]])):
            for x0, y0, x1, y1 in boxes:
                expected[y0:y1, x0:x1] = kind
        with Image.open(root / row.mask) as mask:
            assert mask.size == MASK_SIZE
            assert np.array_equal(np.asarray(mask) == 255, expected == OBJECT)
        big = np.kron(expected, np.ones((6, 4), dtype=int))  # to a frame of 240 x 240
        assert np.array_equal(MaskReader(root, 240)(row), big)


def test_what_is_not_zero_belongs_to_the_mask_as_in_the_reference(root):
    rectangle(root / mask_name(TEST_A, 0), (10, 10, 20, 20), inside=1)
    rectangle(root / f"{TEST_A}_ignore.png", IGNORED, inside=1)
    row = next(read(root).query(f"image_id == '{TEST_A}.jpg'").itertuples())
    values, counts = np.unique(MaskReader(root, 240)(row), return_counts=True)
    expected = {0: 240 * 240 - 2 * 24 * 100, OBJECT: 24 * 100, IGNORE: 24 * 100}
    assert dict(zip(values, counts, strict=True)) == expected


def test_masks_may_have_one_bit_and_differ_in_resolution_within_an_image(root):
    path = root / mask_name(TEST_A, 0)
    Image.open(path).convert("1").save(path)
    rectangle(root / mask_name(A, 1), (15, 10, 25, 15), size=SIZE)
    assert read(root)["boxes"].iloc[[4, 6]].tolist() == ["2 3 25 15", "5 5 10 10"]


def test_an_image_may_have_no_region_to_ignore(root):
    rectangle(root / f"{A}_ignore.png", (0, 0, 0, 0))
    change(root / "metadata/val/localization.txt", 3, f"{B}.jpg,{mask_name(B, 0)},")
    table = read(root).set_index("image_id")
    assert table.loc[f"{A}.jpg", "ignore"] != ""
    assert table.loc[f"{B}.jpg", "ignore"] == ""
    assert IGNORE not in MaskReader(root)(next(table.loc[[f"{A}.jpg"]].itertuples()))


def test_a_pixel_of_a_mask_has_a_box_of_its_size():
    mask = np.zeros((40, 60), dtype=bool)
    mask[3, 5] = True
    assert mask_box(mask, (60, 40)) == (5, 3, 6, 4)
    assert mask_box(mask, (120, 80)) == (10, 6, 12, 8)


@pytest.mark.parametrize(
    ("mask", "image", "same"),
    [
        ((1200, 1600), (768, 1024), True),
        ((1068, 1600), (684, 1024), True),  # rounded
        ((1600, 1068), (684, 1024), False),
        ((1600, 1200), (1024, 683), False),
        ((1600, 1600), (1024, 1000), False),
    ],
)
def test_masks_of_open_images_have_the_proportions_of_their_image(mask, image, same):
    assert same_proportions(mask, image) is same
    assert same_proportions(image, mask) is same


VAL = Path("metadata/val")
LINE_ERRORS = [
    ("image_ids.txt", 3, f"{A}.jpg", f"3: duplicate id {A}.jpg, first on line 1"),
    ("image_ids.txt", 3, "../a/b.jpg", "3: malformed line '../a/b.jpg'"),
    ("image_ids.txt", 3, "b.jpg", "3: malformed line 'b.jpg'"),
    ("image_ids.txt", 3, "val/0bt_c3/9.jpg", "3: image val/0bt_c3/9.jpg without mask"),
    ("image_ids.txt", 3, "val/0bt_c3/9.jpg", "3: image val/0bt_c3/9.jpg without label"),
    ("image_ids.txt", 3, "val/0bt_c3/9.jpg", "3: missing image"),
    ("class_labels.txt", 2, f"{B}.jpg,-1", "2: malformed line"),
    ("class_labels.txt", 2, f"{B}.jpg", "2: malformed line"),
    ("class_labels.txt", 2, f"{B}.jpg,0", "2: label 0 is 0bt_c3, the folder 0bt9lr"),
    ("class_labels.txt", 3, "val/0bt_c3/9.jpg,0", "3: image val/0bt_c3/9.jpg is not in image_ids"),
    ("localization.txt", 4, f"{A}.jpg,{mask_name(A, 0)}", "4: malformed line"),
    ("localization.txt", 4, f"{A}.jpg,,", "4: malformed line"),
    ("localization.txt", 4, f"{A}.jpg,../../x.png,", "4: malformed line"),
    ("localization.txt", 4, f"{A}.jpg,{mask_name(A, 9)},", "4: missing mask"),
    ("localization.txt", 1, f"{A}.jpg,{mask_name(A, 0)},{A}_no.png", "1: missing mask"),
    ("localization.txt", 2, f"{A}.jpg,{mask_name(A, 1)},{A}_ignore.png", "2: ignore region on"),
    ("localization.txt", 4, f"val/0bt_c3/9.jpg,{mask_name(A, 0)},", "4: image val/0bt_c3/9.jpg is"),
]


@pytest.mark.parametrize(("name", "line", "text", "message"), LINE_ERRORS)
def test_a_bad_line_is_named(root, name, line, text, message):
    file = root / VAL / name
    change(file, line, text)
    errors = errors_of(read, root)
    assert any(error.startswith(f"{file}:{message}") for error in errors), errors


def test_masks_that_are_not_to_be_used_are_named_all_at_once(root):
    rectangle(root / mask_name(A, 0), (0, 0, 0, 0))
    rectangle(root / mask_name(A, 1), (0, 0, 9, 9), size=(40, 60))
    truncated = root / mask_name(B, 0)
    truncated.write_bytes(truncated.read_bytes()[:60])
    (root / mask_name(TEST_A, 0)).write_text("no image")
    (root / f"{TEST_B}_ignore.png").unlink()
    val, test = (root / f"metadata/{split}/localization.txt" for split in ("val", "test"))
    errors = errors_of(read, root)
    assert [error.split(" (")[0] for error in errors] == [
        f"{val}:1: empty mask {root / mask_name(A, 0)}",
        f"{val}:2: mask of 40 x 60 pixels for an image of 30 x 20",
        f"{val}:3: mask does not decode: {truncated}",
        f"{test}:1: mask does not decode: {root / mask_name(TEST_A, 0)}",
        f"{test}:2: missing mask {root / f'{TEST_B}_ignore.png'}",
    ]


def test_an_image_that_does_not_decode_is_named(root):
    path = root / f"{TRAINING[1]}.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    (error,) = errors_of(read, root)
    assert error.startswith(f"{root / 'metadata/train/image_ids.txt'}:2: image does not decode")
    assert len(read(root, check_images=False)) == 8  # its header is sound


@pytest.mark.parametrize("name", ["image_ids.txt", "class_labels.txt", "localization.txt"])
def test_a_missing_and_an_empty_file_are_named(root, name):
    file = root / VAL / name
    file.write_text("\n")
    assert f"{file}: empty file" in errors_of(read, root)
    file.unlink()
    assert f"{file}: missing file" in errors_of(read, root)


def test_missing_folders_say_where_to_get_the_data_set(tmp_path):
    errors = errors_of(read, tmp_path / "none")
    assert [error.split(":")[0] for error in errors] == [
        str(tmp_path / "none" / split) for split in ("train", "val", "test")
    ]
    assert "https://storage.googleapis.com/openimages/web/index.html" in errors[0]


@pytest.mark.parametrize("method", ["cam", "background"])
def test_a_network_is_trained_and_evaluated_on_it(root, tmp_path, method):
    out = tmp_path / "data" / "openimages"
    for seed in range(4):
        noise_image(out / "background" / f"{seed}.jpg", seed=30 + seed)
    assert prepare(Plan("openimages", root, out)).empty
    prepare_background(out, source="drawn", licence="MIT")
    index = read_index(out / INDEX)
    assert all((out / path).is_file() for path in [*index["mask"][4:], *index["ignore"][4:]])
    metrics = trained_and_evaluated(out, method)
    for name in ("top1_loc_error", "gt_known_loc_error", "cls_error", "pxap"):
        assert 0 <= metrics[name] <= 100


def test_the_same_data_set_prepared_twice_gives_the_same_bytes(root, tmp_path):
    for out in (tmp_path / "one", tmp_path / "two"):
        noise_image(out / "background" / "0.jpg", seed=30)
        assert prepare(Plan("openimages", root, out, check=ImageCheck(decode=False))).empty
        prepare_background(out, source="drawn", licence="MIT")
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
    boxes = read_index(tmp_path / "one" / INDEX)["boxes"]
    assert [len(parse_boxes(text)) for text in boxes] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("with_images", [True, False])
def test_score_maps_are_evaluated_on_the_masks_that_the_metadata_names(root, tmp_path, with_images):
    """The same table as with the index of the prepared data set; the images are not needed."""
    rng, index = np.random.default_rng(0), read(root)
    expected = {}
    for split, name in (("test", "test"), ("train-fullsup", "val")):
        rows = rows_of(index, split)
        maps = rng.random((len(rows), 224, 224)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", maps)
        masks = MaskReader(root)
        expected[split] = localize(maps, rows, score_of=np.float64, masks=masks)
    if not with_images:
        for image in root.rglob("*.jpg"):
            image.unlink()
    metadata = root / "metadata"
    fullsup = tmp_path / "val.npy", metadata / "val"
    options = dict(masks=root, fullsup=fullsup)
    summary, table = evaluate_score_maps(tmp_path / "test.npy", metadata / "test", **options)
    numbers = evaluate(expected["test"], expected["train-fullsup"])
    assert [summary[name] for name in ("pxap", "pixel_iou", "maxboxacc", "tau")] == [
        numbers[name] for name in ("pxap", "pixel_iou", "maxboxacc", "tau")
    ]
    assert (table.pixel_histogram == expected["test"].pixel_histogram).all()
    with pytest.raises(ValueError, match="names masks: give the folder"):
        evaluate_score_maps(tmp_path / "test.npy", metadata / "test")
    next(root.rglob("test/**/*_m*.png")).unlink()
    with pytest.raises(DatasetError, match="missing"):
        evaluate_score_maps(tmp_path / "test.npy", metadata / "test", **options)
