"""What a preparation leaves: a complete index or all errors."""

from pathlib import Path

import miniatures
import pandas as pd
import pytest

from wsol.datasets import files, smoke
from wsol.datasets.checks import SHOWN, DatasetError
from wsol.datasets.files import PARTIAL
from wsol.datasets.index import INDEX, index_table, write_index
from wsol.datasets.prepare import (
    ERRORS,
    Plan,
    boxes_per_image,
    counts,
    error_table,
    errors_kept,
    index_or_errors,
    prepare,
    prepare_background,
    prepared_index,
    unpack,
)

ROW = dict(image_id="a", path="a.jpg", split="test", label=0, class_name="A", width=3, height=2)


@pytest.fixture(scope="module")
def cub(tmp_path_factory) -> Path:
    """The miniature of CUB, unpacked and prepared."""
    root = tmp_path_factory.mktemp("data set")
    miniatures.make_cub(root)
    archives = root / "archives"
    parts = dict(archives=archives, checksums=archives / "MD5SUMS", fullsup=root / "CUBV2")
    plan = Plan("cub", root / "raw", root / "out", **parts)
    assert unpack(plan).written > 100
    assert prepare(plan).empty
    return root


def read_errors(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / ERRORS, dtype="str", keep_default_na=False)


def test_an_error_is_taken_apart_into_its_place_and_what_is_wrong():
    table = error_table(
        ["a/b.txt:12: missing image c: d", "a b/c: no folder", "nothing but a message", "x: \ny"]
    )
    assert table["place"].tolist() == ["a/b.txt:12", "a b/c", "", "x"]
    expected = ["missing image c: d", "no folder", "nothing but a message", "\ny"]
    assert table["error"].tolist() == expected
    assert error_table([]).columns.tolist() == ["place", "error"]


def test_all_errors_are_kept_and_the_first_are_told(tmp_path):
    paths = [tmp_path / "set" / "a" / f"{i:03d}.jpg" for i in range(SHOWN + 5)]
    paths[0].parent.mkdir(parents=True)
    for path in paths:
        path.write_text("no image")
    table = prepare(Plan("folder", tmp_path / "set", tmp_path / "out"))
    assert len(table) == SHOWN + 5
    assert read_errors(tmp_path / "out").equals(table)
    with pytest.raises(DatasetError) as caught:
        prepared_index(tmp_path / "out")
    lines = caught.value.summary().splitlines()
    assert lines[0] == f"{SHOWN + 5} errors in the data set:"
    assert lines[1].startswith(
        f"{SHOWN + 5} x image does not decode: ... (cannot identify image file ...)"
    )
    assert all(path.name in line for path, line in zip(paths[:3], lines[2:5], strict=True))
    assert lines[5:] == ["    ...", f"All of them are in {tmp_path / 'out' / ERRORS}."]
    assert caught.value._render_traceback_() == ["DatasetError: " + "\n".join(lines)]


def test_one_damage_of_each_kind_is_one_row_and_goes_when_it_is_mended(cub):
    plan = Plan("cub", cub / "raw", cub / "out", cub / "CUBV2")
    image = sorted((cub / "raw/images").rglob("*.jpg"))[3]
    mask = sorted((cub / "raw/segmentations").rglob("*.png"))[5]
    boxes = cub / "raw/bounding_boxes.txt"
    before = {path: path.read_bytes() for path in (image, mask, boxes)}
    index_before = (cub / "out" / INDEX).read_bytes()
    image.write_bytes(before[image][:900])  # 1: a truncated image
    mask.unlink()  # an image may have no mask: no error
    lines = before[boxes].decode().splitlines()
    lines[0] = "1 0.0 0.0 0.0 5.0"  # 2: a box of zero size
    lines[1] = "2 9 9"  # 3: a malformed line, and so 4: an image without a box
    boxes.write_text("\n".join(lines))
    table = prepare(plan)
    assert len(table) == 4
    assert {f"{boxes}:1", f"{boxes}:2"} <= set(table["place"])
    assert table["error"].str.contains("does not decode").sum() == 1
    assert table["error"].str.contains("without box").sum() == 1
    for path, content in before.items():
        path.write_bytes(content)
    assert prepare(plan).empty
    assert not (cub / "out" / ERRORS).exists()
    assert (cub / "out" / INDEX).read_bytes() == index_before


def test_an_index_that_could_not_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_index(index_table([ROW]), tmp_path / INDEX)
    before = (tmp_path / INDEX).read_bytes()

    def torn(self, path, **options):
        Path(path).write_text("image_id,pa")
        raise OSError("no space left")

    monkeypatch.setattr(files.pd.DataFrame, "to_csv", torn)
    for out in (tmp_path, tmp_path / "new"):
        with pytest.raises(OSError, match="no space left"):
            write_index(index_table([ROW]), out / INDEX)
    assert (tmp_path / INDEX).read_bytes() == before
    assert list((tmp_path / "new").iterdir()) == []


def test_another_error_is_no_error_of_the_data(tmp_path):
    with pytest.raises(ZeroDivisionError), errors_kept(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_index_or_errors_is_one_or_the_other(tmp_path):
    def broken() -> pd.DataFrame:
        raise DatasetError(["x:1: wrong", "y: wrong too"])

    out = tmp_path / "out"
    assert index_or_errors(broken, tmp_path, out)["place"].tolist() == ["x:1", "y"]
    assert [path.name for path in out.iterdir()] == [ERRORS]
    assert index_or_errors(lambda: index_table([ROW]), tmp_path, out).empty
    assert [path.name for path in out.iterdir()] == [INDEX]
    assert prepared_index(out)["path"].tolist() == ["../a.jpg"]


def test_counts_are_those_of_each_split():
    rows = [
        ROW | dict(boxes="0 0 1 1;0 0 2 2", mask="m.png"),
        ROW | dict(image_id="b", label=3, width=9, boxes="0 0 1 1"),
        ROW | dict(image_id="c", split="train-weaksup"),
    ]
    table = counts(index_table(rows))
    assert table.loc["test"].tolist() == [2, 2, 3, 2, 1, 3, 9]
    assert table.loc["train-weaksup"].tolist() == [1, 1, 0, 0, 0, 3, 3]


def test_images_are_counted_by_their_boxes():
    numbers = [0, 1, 1, 4, 5, 9]
    rows = [
        ROW | dict(image_id=str(i), boxes=";".join(["0 0 1 1"] * n)) for i, n in enumerate(numbers)
    ]
    table = boxes_per_image(index_table(rows))
    assert table.loc["test"].to_dict() == {"0": 1, "1": 2, "4": 1, "5 or more": 2}


# Miniatures, which are read by the readers of the real ones


@pytest.mark.parametrize("kind", ["ilsvrc", "openimages", "folder"])
def test_a_miniature_is_a_data_set_in_its_authors_format(kind, tmp_path):
    getattr(miniatures, f"make_{kind}")(tmp_path)
    archives, out = tmp_path / "archives", tmp_path / "out"
    raw = {"ilsvrc": "ILSVRC2012", "openimages": "OpenImages", "folder": "pictures"}[kind]
    parts = {
        "ilsvrc": dict(
            fullsup=tmp_path / "ImageNetV2", archives=archives, checksums=archives / "MD5SUMS"
        ),
        "openimages": {},
        "folder": dict(boxes=tmp_path / "boxes.csv", masks=tmp_path / "masks"),
    }
    plan = Plan(kind, tmp_path / raw, out, **parts[kind])
    if plan.archives:
        unpack(plan)
    assert prepare(plan).empty
    table = counts(prepared_index(out))
    images, boxes = table.loc["test", ["images", "boxes"]]
    if kind == "ilsvrc":
        assert boxes > images
        assert table.loc["test", "most_boxes"] == 2
    else:
        assert boxes == images == table.loc["test", "masks"]
    if kind == "folder":
        assert (table["images"] >= 4).all()
        assert prepare_background(out, [tmp_path / "background"], "x", "MIT") == 8
    else:
        assert table.loc["train-weaksup", "boxes"] == 0


def test_a_plan_that_contradicts_itself_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kind is 'voc'"):
        Plan("voc", tmp_path, tmp_path)
    with pytest.raises(ValueError, match="archives of folder"):
        Plan("folder", tmp_path, tmp_path, archives=tmp_path)


def test_a_background_set_needs_its_facts(tmp_path):
    (tmp_path / "background").mkdir()
    with pytest.raises(DatasetError, match=r"manifest\.csv: missing"):
        prepare_background(tmp_path)
    with pytest.raises(ValueError, match="source and a licence"):
        prepare_background(tmp_path, [tmp_path])


def test_what_lies_elsewhere_is_never_made_nor_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "project_root", lambda: tmp_path)
    made = []
    monkeypatch.setattr(smoke.runpy, "run_path", lambda path: {"make_cub": made.append})
    mine, shared = tmp_path / "mine/archives", tmp_path / "runs/smoke/archives"
    for part in (mine, shared):
        part.mkdir(parents=True)
        (part.parent / "made").touch()
        smoke.ensure_miniature("cub", part)
        assert part.is_dir()
    assert made == []
    own = tmp_path / "runs/smoke/real/cub/archives"
    for _ in range(2):
        smoke.ensure_miniature("cub", own)
    assert [folder.name for folder in made] == [f"cub{PARTIAL}"]
    assert (own.parent / files.MADE).is_file()
