"""Unusual images, masks and folders: the right value, or a sentence that names the file."""

import io
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import wsol
from wsol.cli import main
from wsol.datasets.checks import CORNERS, DatasetError, fit_boxes, image_size, read_mask
from wsol.datasets.folder import read_folder
from wsol.datasets.image_files import list_images, load_image
from wsol.datasets.metadata import read_split_metadata
from wsol.inference.export import detections_table, overlay
from wsol.inference.localize import read_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
RAMP = np.arange(54, dtype=np.uint16).reshape(6, 9)
RUN = wsol.published("birds/cam-0")


def transparent_palette() -> Image.Image:
    image = Image.fromarray(PIXELS).convert("P")
    image.info["transparency"] = 0
    return image


MODES = {  # what is saved, as which format
    "RGB.png": Image.fromarray(PIXELS),
    "RGB.bmp": Image.fromarray(PIXELS),
    "RGB.tiff": Image.fromarray(PIXELS),
    "RGB.webp": Image.fromarray(PIXELS),
    "RGB.gif": Image.fromarray(PIXELS),
    "RGB.jpg": Image.fromarray(PIXELS),
    "RGB.jfif": Image.fromarray(PIXELS),
    "RGBA.png": Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])),
    "LA.png": Image.fromarray(PIXELS[..., :2].copy(), "LA"),
    "L.png": Image.fromarray(PIXELS[..., 0]),
    "L.jpg": Image.fromarray(PIXELS[..., 0]),
    "1.png": Image.fromarray(PIXELS[..., 0]).convert("1"),
    "1.tiff": Image.fromarray(PIXELS[..., 0]).convert("1"),
    "P.png": Image.fromarray(PIXELS).convert("P"),
    "transparent P.png": transparent_palette(),
    "CMYK.jpg": Image.fromarray(PIXELS).convert("CMYK"),
    "CMYK.tiff": Image.fromarray(PIXELS).convert("CMYK"),
    "YCbCr.tiff": Image.fromarray(PIXELS).convert("YCbCr"),
    "LAB.tiff": Image.fromarray(PIXELS, "LAB"),
}


def save(image: Image.Image, path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if path.suffix in (".bmp", ".gif") else {"exif": exif}
    image.save(path, "JPEG" if path.suffix == ".jfif" else None, **options)
    return path


@pytest.mark.parametrize("name", MODES)
def test_every_mode_has_the_pixels_that_pillow_shows(name, tmp_path):
    path = save(MODES[name], tmp_path / name)
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB"))
    assert read_image(path).tolist() == shown.tolist()
    square = Image.fromarray(shown).resize((5, 5), Image.Resampling.BILINEAR)
    assert (load_image(path, 5) == np.asarray(square).transpose(2, 0, 1)).all()
    assert image_size(path) == image_size(path, decode=False) == (9, 6)


KINDS = [f"{mode}.png" for mode in ("RGB", "L", "RGBA", "P", "1", "LA")]
KINDS += [f"{mode}.tiff" for mode in ("RGB", "L", "RGBA", "P", "1", "CMYK")]
KINDS += ["RGB.jpg", "L.jpg", "CMYK.jpg", "RGB.webp", "RGBA.webp"]


@settings(max_examples=60)
@given(st.integers(1, 8), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 12))
def test_every_orientation_is_that_of_a_viewer_everywhere(
    tmp_path_factory, orientation, kind, width, height
):
    mode, suffix = kind.split(".")
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("turned") / f"a.{suffix}"
    save(Image.fromarray(pixels).convert(mode), path, orientation)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert (read_image(path) == shown).all()
    assert image_size(path) == image_size(path, decode=False) == shown.shape[1::-1]
    square = Image.fromarray(shown).resize((7, 7), Image.Resampling.BILINEAR)
    assert (load_image(path, 7) == np.asarray(square).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("levels", "expected"), [((0, 65535), [0, 255]), ((257, 32896), [1, 128]), ((128, 129), [0, 1])]
)
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_of_sixteen_bits_keeps_its_contrast(levels, expected, suffix, tmp_path):
    array = np.tile(np.array(levels, np.uint16), (4, 1))
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}")[0, :, 1].tolist() == expected


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_numbers_of_unknown_range_are_refused(dtype, mode, tmp_path):
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "a.tiff")
    for read in (lambda path: load_image(path, 5), read_image):
        with pytest.raises(ValueError, match=f"a.tiff .its pixels have the mode {mode}: convert"):
            read(tmp_path / "a.tiff")
    assert f"mode {mode}" in image_size(tmp_path / "a.tiff")


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([0, 255], "L", [0, 255]),
        ([0, 1], "L", [0, 255]),
        ([0, 1], "P", [0, 255]),
        ([0, 127, 128, 200], "L", [0, 127, 128, 200]),
        ([0, 255], "RGB", [0, 255]),
        ([0, 255], "1", [0, 255]),
        ([0, 0], "L", [0, 0]),
        ([1, 2, 3], "L", "levels 1, 2, 3: write 0 and 255"),
        ([0, 2], "L", "levels 0, 2"),
        ([0, 100], "L", "levels 0, 100"),
    ],
)
def test_masks_are_read_or_refused(values, mode, expected, tmp_path):
    row = np.array(values, np.uint8)
    image = Image.fromarray(np.tile(row, (len(row), 1)))
    if mode == "P":
        image = image.convert("P")
        image.putpalette([0, 0, 0, 90, 0, 0] + [0] * 762)
    (image if mode in ("L", "P") else image.convert(mode)).save(tmp_path / "m.png")
    size = (2 * len(row), 2 * len(row))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f"m.png has the {expected}"):
            read_mask(tmp_path / "m.png", size)
    else:
        assert read_mask(tmp_path / "m.png", size)[0].tolist() == expected


@pytest.mark.parametrize("size", [(30, 40), (80, 30), (400, 400)])
def test_masks_of_another_shape_are_refused(size, tmp_path):
    Image.new("L", (40, 30), 255).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=f"has 40 x 30 pixels, its image {size[0]} x {size[1]}"):
        read_mask(tmp_path / "m.png", size)
    assert read_mask(tmp_path / "m.png", (80, 60)).shape == (30, 40)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(path, "PNG")


def test_two_images_do_not_share_a_mask(tmp_path):
    put(tmp_path / "set/a/0.jpg", tmp_path / "set/a/0.png", tmp_path / "masks/a/0.png")
    with pytest.raises(DatasetError, match=r"a/0\.png: another image has the same mask"):
        read_folder(tmp_path / "set", masks=tmp_path / "masks")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".ipynb_checkpoints/x.png", "hidden folders"),
        ("__MACOSX/x.png", "hidden folders"),
        ("a/.git/x.png", "hidden folders"),
        ("._x.jpg", "hidden files"),
        (".DS_Store", "hidden files"),
        ("notes.txt", "files of type .txt"),
        ("a/Makefile", "files of type unknown"),
        ("a/film.mp4", "files of type .mp4"),
    ],
)
def test_what_is_no_image_is_counted_by_reason(name, reason, tmp_path):
    put(tmp_path / "a" / "1.png", tmp_path / name)
    skipped: Counter[str] = Counter()
    assert list_images(tmp_path, skipped) == [tmp_path / "a" / "1.png"]
    assert +skipped == {reason: 1}


@pytest.mark.parametrize(
    "suffix", ["jpg", "JPG", "jpeg", "jfif", "png", "PNG", "webp", "bmp", "gif", "tif", "TIFF"]
)
def test_every_suffix_of_images_is_listed(suffix, tmp_path):
    put(tmp_path / f"x.{suffix}")
    assert len(list_images(tmp_path)) == 1


def test_linked_folders_are_followed_once(tmp_path):
    put(tmp_path / "set" / "a" / "1.png", tmp_path / "elsewhere" / "2.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path / "set")]
    assert names == ["set/a/1.png", "set/b/2.png"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    put(tmp_path / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(ValueError, match=r"caf\\udce9\.png' is not UTF-8: rename the file"):
        list_images(tmp_path)


@pytest.mark.parametrize("wrapper", ["", "photos", "photos/unpacked"])
@pytest.mark.parametrize("splits", [("",), ("train", "test")])
def test_wrapping_folders_and_splits_are_no_classes(wrapper, splits, tmp_path):
    for split in splits:
        for name in ("robin", "wren"):
            put(*(tmp_path / wrapper / split / name / f"{i}.png" for i in range(4)))
    put(tmp_path / "__MACOSX" / "robin" / "._0.png", tmp_path / ".hidden" / "0.png")
    table = read_folder(tmp_path, shares=(1, 0, 0))
    assert table["class_name"].value_counts().to_dict() == dict.fromkeys(
        ("robin", "wren"), 4 * len(splits)
    )
    assert set(table["split"]) == ({"train-weaksup", "test"} if splits[0] else {"train-weaksup"})


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


SOURCES = {
    "array": PIXELS,
    "grey array": PIXELS[..., 0],
    "Pillow": Image.fromarray(PIXELS),
    "Pillow, palette": Image.fromarray(PIXELS).convert("P").convert("RGB"),
    "bytes": encoded("PNG"),
    "file": io.BytesIO(encoded("PNG")),
    "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "float tensor": torch.from_numpy(PIXELS / 255).permute(2, 0, 1),
    "grey tensor": torch.from_numpy(PIXELS[..., 0].copy())[None],
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("several", [False, True])
def test_localize_takes_what_torchvision_users_have(kind, several):
    source = SOURCES[kind]
    expected = PIXELS[..., :1].repeat(3, axis=2) if "grey" in kind else PIXELS
    if "palette" in kind:
        expected = np.asarray(source)
    if hasattr(source, "seek"):
        source.seek(0)
    (one,) = wsol.localize([source] if several else source, RUN)
    (other,) = wsol.localize(expected, RUN)
    assert (one.width, one.height, one.label) == (9, 6, other.label)
    assert one.box.tolist() == other.box.tolist()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PIXELS.astype(float), r"\(6, 9, 3\) float64"),
        (PIXELS.transpose(2, 0, 1), r"\(3, 6, 9\) uint8"),
        (PIXELS[:0], r"\(0, 9, 3\)"),
        (np.dstack([PIXELS, PIXELS[..., 0]]), r"\(6, 9, 4\)"),
        (torch.from_numpy(PIXELS), r"\(6, 9, 3\) torch.uint8"),
        (2.0 * torch.ones(3, 6, 9), r"\(3, 6, 9\) torch.float32"),
        (torch.ones(6, 9), r"\(6, 9\)"),
        (b"GIF no more", "does not decode"),
        (io.BytesIO(b""), "does not decode"),
        ([3], "not a <class 'int'>"),
        ([None], "not a <class 'NoneType'>"),
        ([[PIXELS]], "not a <class 'list'>"),
        ("missing.png", "missing image missing.png"),
    ],
    ids=range(13),
)
def test_what_is_no_image_is_refused_in_one_sentence(source, words):
    with pytest.raises(ValueError, match=words):
        wsol.localize(source, RUN)


@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (2, 3000)])
def test_a_constant_map_has_no_box(shape, tmp_path):
    path = tmp_path / "flat.png"
    Image.new("RGB", shape[::-1], (90, 90, 90)).save(path)
    for d in wsol.localize(path, RUN, top=20):
        assert d.has_box == bool((d.box[2:] > d.box[:2]).all())
        row = detections_table([d]).iloc[0]
        assert row[["x0", "y0", "x1", "y1"]].isna().all() != d.has_box
    drawn = overlay(np.zeros((*shape, 3), np.uint8), np.zeros((4, 4)), np.full(4, np.nan))
    assert not drawn.any()


def test_an_overlay_of_a_very_large_image_is_reduced():
    image = np.zeros((5000, 9000, 3), np.uint8)
    drawn = overlay(image, np.zeros((4, 4)), (900, 500, 4500, 2500))
    assert drawn.shape == (2276, 4096, 3)
    _, x = np.nonzero(drawn.any(axis=2))
    assert (x.min(), x.max()) == pytest.approx((4096 / 10, 4096 / 2), abs=40)


def test_the_commands_say_what_they_skipped(tmp_path):
    put(*(tmp_path / "set" / name / "0.png" for name in ("a", "b")))
    put(tmp_path / "set" / "a" / "._0.png", tmp_path / "set" / "b" / "notes.doc")
    prepare = ["prepare", "folder", str(tmp_path / "set"), str(tmp_path / "out"), "--shares"]
    result = CliRunner().invoke(main, [*prepare, "1", "0", "0"])
    assert result.exit_code == 0, result.output
    for line in ("1 hidden files skipped", "1 files of type .doc skipped", "2 classes"):
        assert line in result.output
    localize = ["localize", "birds/cam-0", str(tmp_path / "set"), "--out", str(tmp_path / "boxes")]
    result = CliRunner().invoke(main, localize)
    assert result.exit_code == 0, result.output
    assert "set: 1 hidden files" in result.output


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ([(0.1, 0.2, 0.5, 0.9), (0, 0, 1, 1)], r"all boxes lie in \[0, 1\]: pixels"),
        ([(5, 4, 3, 2), (4, 3, 2, 3)], "are these x y width height"),
        ([(1, 1, 5, 5), (0, 0, 1, 1)], None),
    ],
)
def test_boxes_in_other_conventions_are_named(corners, words, tmp_path):
    put(*(tmp_path / "set" / "a" / f"{i}.png" for i in range(2)))
    lines = [f"a/{i}.png,{','.join(map(str, box))}" for i, box in enumerate(corners)]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,x0,y0,x1,y1", *lines]))
    if words is None:
        assert len(read_folder(tmp_path / "set", tmp_path / "boxes.csv", shares=(1, 0, 0))) == 2
        return
    with pytest.raises(DatasetError, match=words):
        read_folder(tmp_path / "set", tmp_path / "boxes.csv", shares=(1, 0, 0))


@pytest.mark.parametrize(("last", "warned"), [((2, 1, 20, 15), True), ((22, 11, 40, 30), False)])
def test_boxes_that_look_like_x_y_width_height_are_warned_about(last, warned):
    boxes = pd.DataFrame([(2, 1, 20, 15)] * 19 + [last], columns=CORNERS)
    boxes = boxes.assign(width=40, height=30, where="boxes.csv:2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors: list[str] = []
        fit_boxes(boxes, errors)
        assert errors == []
    assert any("x y width height" in str(w.message) for w in caught) == warned


@pytest.mark.parametrize(("first", "warned"), [(0, False), (1, True), (2, False)])
def test_labels_that_begin_at_one_are_named(first, warned, tmp_path):
    ids = [f"k/{i}.jpg" for i in range(3)]
    texts = {
        "image_ids.txt": ids,
        "class_labels.txt": [f"{name},{first + i}" for i, name in enumerate(ids)],
        "image_sizes.txt": [f"{name},30,20" for name in ids],
        "localization.txt": [f"{name},1,1,9,9" for name in ids],
    }
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_split_metadata(tmp_path, "test")
    assert ["labels of 1 to 3" in str(w.message) for w in caught] == [True] * warned


@pytest.mark.parametrize(("levels", "expected"), [((0, 1), 255), ((0, 255), 255)])
def test_masks_of_16_bits_have_levels_and_no_grey(levels, expected, tmp_path):
    mask = np.repeat(np.array(levels, np.uint16)[None, :], 3, axis=0)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (2, 3)).max() == expected
    Image.fromarray(mask * 0 + 40).save(tmp_path / "ids.png")
    with pytest.raises(ValueError, match="has the levels 40"):
        read_mask(tmp_path / "ids.png", (2, 3))


def test_tensors_of_bfloat16_are_images():
    image = torch.rand(3, 8, 9).bfloat16()
    assert read_image(image).shape == (8, 9, 3)


def test_a_tiff_whose_offset_is_a_fraction_is_refused(tmp_path):
    path = tmp_path / "image.tif"
    Image.new("RGB", (9, 7)).save(path)
    content = bytearray(path.read_bytes())
    entry = content.index((273).to_bytes(2, "little"))  # StripOffsets
    content[entry + 2] = 5  # of the type RATIONAL
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"image does not decode: .*image\.tif"):
        load_image(path, 8)
