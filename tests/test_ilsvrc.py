"""Reading ILSVRC CLS-LOC: a tiny tree and tiny archives in its format, and each kind of error."""

import io
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from dataset_files import (
    errors_of,
    files_below,
    noise_image,
    sparse,
    special,
    trained_and_evaluated,
)
from miniatures import pack_ilsvrc as pack
from miniatures import put, write_checksums
from miniatures import tar_bytes as tar
from miniatures import voc_annotation as xml
from PIL import Image

from wsol.datasets.archives import BOXES, TRAIN, VAL, Limits, unpack_ilsvrc
from wsol.datasets.checks import DatasetError
from wsol.datasets.ilsvrc import read_ilsvrc
from wsol.datasets.index import COLUMNS
from wsol.datasets.prepare import Plan, prepare, prepare_background, unpack

TENCH, GOLDFISH = "n01440764", "n01443537"
TRAINING = [f"{TENCH}/{TENCH}_{i}.JPEG" for i in (2, 10)] + [f"{GOLDFISH}/{GOLDFISH}_7.JPEG"]
VALIDATION = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
OBJECTS = [
    (GOLDFISH, [(3, 2, 11, 12), (0, 0, 29, 19)]),
    (TENCH, [(5, 1, 30, 20)]),
    (GOLDFISH, [(4, 4, 8, 9)]),
]
FULLSUP = {
    "image_ids.txt": "val2/0/0.jpeg\nval2/1/0.jpeg",
    "class_labels.txt": "val2/0/0.jpeg,0\nval2/1/0.jpeg,1",
    "image_sizes.txt": "val2/0/0.jpeg,30,20\nval2/1/0.jpeg,30,20",
    "localization.txt": "val2/0/0.jpeg,1,2,11,12\nval2/1/0.jpeg,3,4,9,8\nval2/1/0.jpeg,0,0,9,9",
}
DATA, LISTS = Path("ILSVRC/Data/CLS-LOC"), Path("ILSVRC/ImageSets/CLS-LOC")
XML = Path("ILSVRC/Annotations/CLS-LOC/val")
DEVKIT = Path("ILSVRC/devkit/data")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images to train with, three of `val`, two of ImageNetV2, and all the lists."""
    root = tmp_path / "ILSVRC 2012"
    for i, name in enumerate(TRAINING):
        noise_image(root / DATA / "train" / name, seed=i)
    for i, (name, (wnid, boxes)) in enumerate(zip(VALIDATION, OBJECTS, strict=True)):
        noise_image(root / DATA / "val" / name, seed=10 + i)
        put((root / XML / name).with_suffix(".xml"), xml(wnid, boxes, Path(name).stem))
    lines = [f"{Path(name).with_suffix('')} {i}" for i, name in enumerate(TRAINING, start=1)]
    put(root / LISTS / "train_cls.txt", "\n".join(lines))
    lines = [f"{Path(name).stem} {i}" for i, name in enumerate(VALIDATION, start=1)]
    put(root / LISTS / "val.txt", "\n".join(lines))
    # The development kit counts in another order than that of the wnids.
    put(root / DEVKIT / "map_clsloc.txt", f"{GOLDFISH} 1 goldfish\n{TENCH} 2 tench\n")
    put(root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt", "1\n2\n1\n")
    names = f"{GOLDFISH} goldfish, Carassius auratus\n{TENCH} tench, Tinca tinca\n"
    put(root / "LOC_synset_mapping.txt", names)
    for name, text in FULLSUP.items():
        put(root / "v2" / name, text)
    for i, name in enumerate(FULLSUP["image_ids.txt"].split()):
        noise_image(root / "v2" / "images" / name, seed=20 + i)
    return root


def test_a_data_set_without_error_becomes_an_index_table(root):
    table = read_ilsvrc(root)
    assert tuple(table.columns) == COLUMNS
    # Sorted by wnid and name, as torchvision does: "_10" comes before "_2".
    train = [f"train/{TRAINING[i]}" for i in (1, 0, 2)]
    assert table["image_id"].tolist() == train + [f"val/{name}" for name in VALIDATION]
    assert table["split"].tolist() == ["train-weaksup"] * 3 + ["test"] * 3
    assert table["label"].tolist() == [0, 0, 1, 1, 0, 1]
    assert table["class_name"].iloc[0] == "tench, Tinca tinca"
    assert table["boxes"].tolist() == [""] * 3 + ["3 2 11 12;0 0 29 19", "5 1 30 20", "4 4 8 9"]
    assert set(zip(table["width"], table["height"], strict=True)) == {(30, 20)}
    assert all((root / path).is_file() for path in table["path"])
    pd.testing.assert_frame_equal(read_ilsvrc(root, check_images=False), table)


def test_imagenetv2_is_appended_as_train_fullsup(root):
    table = read_ilsvrc(root, root / "v2").query("split == 'train-fullsup'")
    assert table["image_id"].tolist() == ["val2/0/0.jpeg", "val2/1/0.jpeg"]
    assert table["label"].tolist() == [0, 1]
    assert table["boxes"].tolist() == ["1 2 11 12", "3 4 9 8;0 0 9 9"]
    assert all((root / path).is_file() for path in table["path"])


def test_lists_and_devkit_are_optional_and_folders_then_name_their_classes(root):
    with_all = read_ilsvrc(root)
    for path in (*(root / LISTS).iterdir(), *(root / DEVKIT).iterdir()):
        path.unlink()
    pd.testing.assert_frame_equal(read_ilsvrc(root), with_all)
    (root / "LOC_synset_mapping.txt").unlink()
    without = read_ilsvrc(root)
    assert without["label"].tolist() == with_all["label"].tolist()
    assert set(without["class_name"]) == {TENCH, GOLDFISH}


def test_an_image_may_be_a_png_of_another_mode_under_its_name(root):
    buffer = io.BytesIO()
    Image.new("CMYK", (30, 20)).save(buffer, format="JPEG")
    put(root / DATA / "train" / TRAINING[0], buffer.getvalue())
    Image.new("L", (30, 20)).save(root / DATA / "train" / TRAINING[1], format="PNG")
    assert len(read_ilsvrc(root)) == 6


FIRST = Path(VALIDATION[0]).stem
TEXT_ERRORS = [
    (LISTS / "train_cls.txt", "n01440764/n01440764_99 4", ":4: missing image"),
    (LISTS / "train_cls.txt", "n01440764/n01440764_2 4", ":4: duplicate id n01440764/n01440764_2"),
    (LISTS / "train_cls.txt", "../n01440764_2 4", ":4: malformed line '../n01440764_2 4'"),
    (LISTS / "train_cls.txt", "n01440764_2", ":4: malformed line 'n01440764_2'"),
    (LISTS / "val.txt", "ILSVRC2012_val_00000004 4", ":4: missing image"),
    (DEVKIT / "map_clsloc.txt", "n01440764 tench", ":3: malformed line"),
    (DEVKIT / "map_clsloc.txt", "n01440764 2 tench", ":3: duplicate id n01440764"),
    (DEVKIT / "ILSVRC2012_validation_ground_truth.txt", "0x1", ":4: malformed line '0x1'"),
    (Path("LOC_synset_mapping.txt"), "n01440764", ":3: malformed line 'n01440764'"),
]


@pytest.mark.parametrize(("name", "line", "message"), TEXT_ERRORS)
def test_a_bad_line_of_a_list_is_named(root, name, line, message):
    path = root / name
    path.write_text(path.read_text().rstrip("\n") + f"\n{line}\n")
    (error,) = errors_of(read_ilsvrc, root)
    assert error.startswith(f"{path}{message}")


XML_ERRORS = [
    (xml(TENCH, [(5, 5, 5, 9)]), ":7: box of zero size: 5 5 5 9"),
    (xml(TENCH, [(5, 5, 9, 9), (5, 5, 99, 9)]), ":16: box 5 5 99 9 outside the image of 30 x 20"),
    (xml(TENCH, [(5, 5, "nan", 9)]), ":7: malformed object"),
    (xml(TENCH, [(5, 5, "", 9)]), ":7: malformed object"),
    (xml("", [(5, 5, 9, 9)]), ":7: malformed object"),
    (xml(TENCH, []), ": annotation without object"),
    (xml("n00000001", [(5, 5, 9, 9)]), ":7: class n00000001 is not in the list of classes"),
    (xml(TENCH, [(1, 1, 2, 2)])[:170], ":11: no well-formed XML"),
    ("", ":1: no well-formed XML"),
    ("<html></html>", ": cannot be read: its root is <html>"),
    (b"<annotation>\xff\xfe</annotation>", ":1: no well-formed XML"),
    ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', ": cannot be read: DTDForbidden"),
]


@pytest.mark.parametrize(("content", "message"), XML_ERRORS)
def test_a_bad_annotation_is_named(root, content, message):
    (root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt").unlink()
    path = root / XML / f"{FIRST}.xml"
    put(path, content)
    (error,) = errors_of(read_ilsvrc, root)
    assert error.startswith(f"{path}{message}")


def test_an_annotation_in_another_encoding_cannot_smuggle_entities(root):
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'
    put(root / XML / f"{FIRST}.xml", text.encode("utf-16"))
    assert any(f"{FIRST}.xml: cannot be read" in error for error in errors_of(read_ilsvrc, root))


def test_two_classes_in_one_annotation_are_an_error(root):
    path = root / XML / f"{FIRST}.xml"
    text = path.read_text()
    second = text.rindex(GOLDFISH)
    put(path, text[:second] + TENCH + text[second + len(TENCH) :])
    assert errors_of(read_ilsvrc, root) == [
        f"{path}:16: object of {TENCH} in an image of {GOLDFISH}"
    ]


def test_a_box_may_pass_the_border_by_a_pixel_and_is_clipped(root):
    put(root / XML / f"{FIRST}.xml", xml(GOLDFISH, [(-1, 0, 31, 20.5)]))
    boxes = read_ilsvrc(root).set_index("image_id")["boxes"]
    assert boxes[f"val/{VALIDATION[0]}"] == "0 0 30 20"


def test_annotations_and_ground_truth_that_disagree_are_an_error(root):
    path = root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt"
    put(path, "1\n1\n1\n")
    assert errors_of(read_ilsvrc, root) == [
        f"{path}:2: the class is {GOLDFISH}, the annotation says {TENCH}"
    ]


def test_files_and_folders_that_are_missing_or_too_many_are_named(root):
    (root / XML / f"{FIRST}.xml").unlink()
    put(root / XML / "ILSVRC2012_val_00000009.xml", xml(TENCH, [(1, 1, 2, 2)]))
    noise_image(root / DATA / "train/n09999999/n09999999_1.JPEG")
    noise_image(root / DATA / "val/extra.JPEG")
    (root / DATA / "train" / TRAINING[2]).unlink()
    errors = "\n".join(errors_of(read_ilsvrc, root))
    for what in (
        f"{root / XML / FIRST}.xml: missing annotation",
        "ILSVRC2012_val_00000009.xml: annotation without image",
        f"{root / DATA}/train/n09999999: no class of the list of classes",
        f"{root / DATA}/val/extra.JPEG: image that is not in the list of images",
        f"{root / DATA}/train/{GOLDFISH}: no image here",
        f"train_cls.txt:3: missing image {root / DATA}/train/{TRAINING[2]}",
    ):
        assert what in errors


def test_images_that_do_not_decode_are_named(root):
    paths = [root / DATA / "train" / TRAINING[0], root / DATA / "val" / VALIDATION[1]]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-200])
    for path, error in zip(paths, errors_of(read_ilsvrc, root), strict=True):
        assert error.startswith(f"{path}: image does not decode")
    assert len(read_ilsvrc(root, check_images=False)) == 6  # their headers are sound


def test_sizes_of_imagenetv2_are_compared_with_its_images(root):
    noise_image(root / "v2/images/val2/1/0.jpeg", (20, 30))
    (error,) = errors_of(read_ilsvrc, root, fullsup=root / "v2")
    assert error.endswith("val2/1/0.jpeg is listed with 30 x 20 pixels, the image has 20 x 30")


def test_no_data_set_at_all_says_where_to_get_it(tmp_path):
    (error,) = errors_of(read_ilsvrc, tmp_path)
    assert "no ILSVRC here" in error
    assert "https://image-net.org/challenges/LSVRC/2012/" in error


# Archives


def test_archives_unpack_into_the_very_tree_they_were_made_of(root, tmp_path):
    done = unpack_ilsvrc(pack(root, tmp_path / "tars"), tmp_path / "new")
    assert (done.written, done.kept) == (9, 0)
    for part in (DATA, XML):
        assert files_below(tmp_path / "new" / part) == files_below(root / part)


def test_unpacking_goes_on_where_it_stopped(root, tmp_path):
    archives, new = pack(root, tmp_path / "tars"), tmp_path / "new"
    unpack_ilsvrc(archives, new)
    complete = files_below(new)
    whole, half = new / DATA / "train" / TRAINING[0], new / DATA / "val" / VALIDATION[0]
    whole.unlink()
    half.write_bytes(half.read_bytes()[:50])
    untouched = (new / DATA / "val" / VALIDATION[1]).stat().st_mtime_ns
    done = unpack_ilsvrc(archives, new)
    assert (done.written, done.kept) == (2, 7)
    assert files_below(new) == complete
    assert (new / DATA / "val" / VALIDATION[1]).stat().st_mtime_ns == untouched


BAD_MEMBERS = [
    (("../ILSVRC2012_val_00000001.JPEG", b"x"), "member"),
    (("/tmp/ILSVRC2012_val_00000001.JPEG", b"x"), "member"),
    (("a/../../ILSVRC2012_val_00000001.JPEG", b"x"), "member"),
    (("run.sh", b"x"), "unexpected name"),
    (("ILSVRC2012_val_00000001.JPEG.partial", b"x"), "unexpected name"),
    (("ILSVRC2012_val_00000001.JPEG", b"x" * 2000), "has 2000 bytes, more than 1500"),
    (("ILSVRC2012_val_00000005.JPEG", b"x"), "twice"),
    (special("ILSVRC2012_val_00000001.JPEG", tarfile.SYMTYPE, "/etc/passwd"), "member"),
    (special("ILSVRC2012_val_00000001.JPEG", tarfile.LNKTYPE, "../x"), "member"),
    (special("ILSVRC2012_val_00000001.JPEG", tarfile.CHRTYPE), "member"),
    (sparse("ILSVRC2012_val_00000001.JPEG"), "member"),
]


@pytest.mark.parametrize(("member", "message"), BAD_MEMBERS)
def test_a_member_that_is_no_file_of_ilsvrc_is_refused_and_the_others_unpacked(
    tmp_path, member, message
):
    good = ("ILSVRC2012_val_00000005.JPEG", b"good")
    put(tmp_path / "tars" / VAL, tar([good, member]))
    (error,) = errors_of(unpack_ilsvrc, tmp_path / "tars", tmp_path / "new", Limits(file=1500))
    assert error.startswith(f"{tmp_path / 'tars' / VAL}: member ")
    assert message in error
    assert files_below(tmp_path / "new") == {f"{DATA}/val/{good[0]}": good[1]}


IMAGES = [(name, bytes([i]) * 1000) for i, name in enumerate(VALIDATION)]
DAMAGED = bytearray(tar(IMAGES))
DAMAGED[1536 + 10] ^= 1  # in the name of the second member, so that its checksum is wrong
ONE = (f"{GOLDFISH}_1.JPEG", b"y" * 1000)
OF_TWO_CLASSES = [(f"{TENCH}.tar", tar([ONE, (f"{TENCH}_1.JPEG", b"x" * 1000)]))]
NO_ARCHIVE = [(f"{TENCH}.tar", b"no archive"), (f"{GOLDFISH}.tar", tar([ONE]))]
BAD_ARCHIVES = [
    (
        TRAIN,
        tar(OF_TWO_CLASSES),
        f"{TRAIN}/{TENCH}.tar: member '{ONE[0]}' has an unexpected name",
        1,
    ),
    (TRAIN, tar(NO_ARCHIVE), f"{TRAIN}/{TENCH}.tar: not unpacked to its end", 1),
    (VAL, tar(IMAGES)[:300], f"{VAL}: not unpacked to its end", 0),
    (VAL, tar(IMAGES)[: 512 + 700], f"{VAL}: not unpacked to its end", 0),
    (VAL, tar(IMAGES)[:2048], f"{VAL}: not unpacked to its end", 0),
    (VAL, tar(IMAGES)[: 2048 + 300], f"{VAL}: not unpacked to its end", 0),
    (VAL, DAMAGED, f"{VAL}: truncated or damaged after 1536 bytes", 1),
    (VAL, tar(IMAGES), "more than 2500 bytes in all", 2),
]


@pytest.mark.parametrize(("name", "content", "message", "whole"), BAD_ARCHIVES)
def test_only_whole_images_of_a_bad_archive_are_unpacked(tmp_path, name, content, message, whole):
    put(tmp_path / name, bytes(content))
    (error,) = errors_of(unpack_ilsvrc, tmp_path, tmp_path / "new", Limits(total=2500))
    assert message in error
    assert [len(c) for c in files_below(tmp_path / "new").values()] == [1000] * whole


def test_a_damaged_compressed_archive_is_an_error(root, tmp_path):
    path = pack(root, tmp_path / "tars") / BOXES
    path.write_bytes(path.read_bytes()[:-60])
    (error,) = errors_of(unpack_ilsvrc, tmp_path / "tars", tmp_path / "new")
    assert error.startswith(f"{path}: not unpacked to its end")


def test_a_folder_without_archives_says_which_are_expected(tmp_path):
    with pytest.raises(DatasetError, match=f"none of the archives {TRAIN}, {VAL}, {BOXES}"):
        unpack_ilsvrc(tmp_path, tmp_path / "new")


# From archives to numbers


@pytest.mark.parametrize("method", ["cam", "background"])
def test_a_network_is_trained_and_evaluated_on_it(root, tmp_path, method):
    out = tmp_path / "data" / "ilsvrc"
    for i in range(4):
        noise_image(out / "background" / f"{i}.jpg", seed=30 + i)
    archives = pack(root, tmp_path / "tars")
    parts = dict(archives=archives, checksums=write_checksums(archives))
    plan = Plan("ilsvrc", tmp_path / "raw", out, root / "v2", **parts)
    unpack(plan)
    assert prepare(plan).empty
    assert prepare_background(out, source="drawn", licence="MIT") == 4
    metrics = trained_and_evaluated(out, method)
    for name in ("top1_loc_error", "gt_known_loc_error", "maxboxacc_v2", "cls_error"):
        assert 0 <= metrics[name] <= 100
