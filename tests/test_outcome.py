"""What a preparation leaves: a complete index or all faults, and an exit status that says so."""

from pathlib import Path

import pandas as pd
import pytest

from wsol import smoke
from wsol.datasets import folder, index, miniatures
from wsol.datasets.checks import SHOWN, DatasetError
from wsol.datasets.index import INDEX, index_table, read_index, write_index
from wsol.datasets.prepare import (
    FAULTS,
    Plan,
    boxes_per_image,
    counts,
    fault_table,
    faults_kept,
    index_or_faults,
    prepare,
    prepared_index,
)
from wsol.datasets.prepare_real import main

ROW = dict(image_id="a", path="a.jpg", split="test", label=0, class_name="A", width=3, height=2)


@pytest.fixture(scope="module")
def cub(tmp_path_factory) -> Path:
    """The miniature of CUB, unpacked by the command."""
    root = tmp_path_factory.mktemp("data set")
    miniatures.make_cub(root)
    assert main([*words_of(root), *archives_of(root)]) == 1  # but for a background set
    assert (root / "out" / INDEX).is_file()
    return root


def words_of(root: Path) -> list[str]:
    words = ["cub", str(root / "raw"), str(root / "out"), "--fullsup", str(root / "CUBV2")]
    return [*words, "--workers", "1"]


def archives_of(root: Path) -> list[str]:
    archives = root / "archives"
    return ["--archives", str(archives), "--checksums", str(archives / "MD5SUMS")]


def read_faults(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / FAULTS, dtype="str", keep_default_na=False)


def test_a_fault_is_taken_apart_into_its_place_and_what_is_wrong():
    table = fault_table(
        ["a/b.txt:12: missing image c: d", "a b/c: no folder", "nothing but a message", "x: \ny"]
    )
    assert table["place"].tolist() == ["a/b.txt:12", "a b/c", "", "x"]
    assert table["fault"].tolist() == [
        "missing image c: d",
        "no folder",
        "nothing but a message",
        "\ny",
    ]
    assert fault_table([]).columns.tolist() == ["place", "fault"]


def test_all_faults_are_kept_and_the_first_are_told(tmp_path, capsys):
    pictures = [tmp_path / "set" / "a" / f"{i:03d}.jpg" for i in range(SHOWN + 5)]
    pictures[0].parent.mkdir(parents=True)
    for path in pictures:
        path.write_text("no picture")
    assert folder.main([str(tmp_path / "set"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[0] == f"{SHOWN + 5} faults in the data set:"
    assert [path.name in line for path, line in zip(pictures, error[1:], strict=False)] == (
        [True] * SHOWN + [False] * 2
    )
    assert error[-2:] == ["... and 5 more", f"All of them are in {tmp_path / 'out' / FAULTS}."]
    table = read_faults(tmp_path / "out")
    assert [path.name in fault for path, fault in zip(pictures, table["fault"], strict=True)] == (
        [True] * len(pictures)
    )


def test_one_damage_of_each_kind_is_one_row_and_goes_when_it_is_mended(cub, capsys):
    image = sorted((cub / "raw/images").rglob("*.jpg"))[3]
    mask = sorted((cub / "raw/segmentations").rglob("*.png"))[5]
    boxes = cub / "raw/bounding_boxes.txt"
    before = {path: path.read_bytes() for path in (image, mask, boxes)}
    index_before = (cub / "out" / INDEX).read_bytes()
    image.write_bytes(before[image][:900])  # 1: a truncated picture
    mask.unlink()  # an image may have no mask: no fault
    lines = before[boxes].decode().splitlines()
    lines[0] = "1 0.0 0.0 0.0 5.0"  # 2: a box of zero size
    lines[1] = "2 9 9"  # 3: a malformed line, and so 4: an image without a box
    boxes.write_text("\n".join(lines))
    assert main(words_of(cub)) == 1
    assert capsys.readouterr().err.startswith("4 faults in the data set:")
    table = read_faults(cub / "out")
    assert table["place"].tolist().count(f"{boxes}:1") == 1
    assert table["place"].tolist().count(f"{boxes}:2") == 1
    assert table["fault"].str.contains("does not decode").sum() == 1
    assert table["fault"].str.contains("without box").sum() == 1
    with pytest.raises(DatasetError, match="4 faults"):
        prepared_index(cub / "out")
    for path, content in before.items():
        path.write_bytes(content)
    plan = Plan("cub", cub / "raw", cub / "out", cub / "CUBV2")
    assert prepare(plan).empty
    assert not (cub / "out" / FAULTS).exists()
    assert (cub / "out" / INDEX).read_bytes() == index_before


def test_an_index_that_could_not_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_index(index_table([ROW]), tmp_path / INDEX)
    before = (tmp_path / INDEX).read_bytes()

    def torn(self, path, **options):
        Path(path).write_text("image_id,pa")
        raise OSError("no space left")

    monkeypatch.setattr(index.pd.DataFrame, "to_csv", torn)
    for out in (tmp_path, tmp_path / "new"):
        with pytest.raises(OSError, match="no space left"):
            write_index(index_table([ROW]), out / INDEX)
    assert (tmp_path / INDEX).read_bytes() == before
    assert not (tmp_path / "new" / INDEX).exists()


def test_another_error_is_no_fault_of_the_data(tmp_path):
    with pytest.raises(ZeroDivisionError), faults_kept(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_index_or_faults_is_one_or_the_other(tmp_path):
    def faulty() -> pd.DataFrame:
        raise DatasetError(["x:1: wrong", "y: wrong too"])

    out = tmp_path / "out"
    assert index_or_faults(faulty, tmp_path, out)["place"].tolist() == ["x:1", "y"]
    assert [path.name for path in out.iterdir()] == [FAULTS]
    assert index_or_faults(lambda: index_table([ROW]), tmp_path, out).empty
    assert [path.name for path in out.iterdir()] == [INDEX]
    assert prepared_index(out)["path"].tolist() == ["../a.jpg"]


def test_a_notebook_shows_the_faults_and_no_traceback():
    error = DatasetError([f"a:{i}: wrong" for i in range(30)], Path("out/faults.csv"))
    (text,) = error._render_traceback_()
    lines = text.splitlines()
    assert lines[0] == "DatasetError: 30 faults in the data set:"
    assert lines[1:21] == [f"a:{i}: wrong" for i in range(20)]
    assert lines[21:] == ["... and 10 more", "All of them are in out/faults.csv."]


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


# --- miniatures, which are read by the readers of the real ones


@pytest.mark.parametrize("kind", ["ilsvrc", "openimages"])
def test_a_miniature_is_a_data_set_in_its_authors_format(kind, tmp_path, capsys):
    getattr(miniatures, f"make_{kind}")(tmp_path)
    raw = {"ilsvrc": "ILSVRC2012", "openimages": "OpenImages"}[kind]
    words = [kind, str(tmp_path / raw), str(tmp_path / "out")]
    if kind == "ilsvrc":
        words += ["--fullsup", str(tmp_path / "ImageNetV2"), *archives_of(tmp_path)]
    main(words)
    assert "train-weaksup 32" in capsys.readouterr().out
    table = counts(read_index(tmp_path / "out" / INDEX))
    assert table.loc["train-weaksup", "boxes"] == 0
    images, boxes = table.loc["test", ["images", "boxes"]]
    if kind == "ilsvrc":
        assert boxes > images
        assert table.loc["test", "most_boxes"] == 2
    else:
        assert boxes == images == table.loc["test", "masks"]


def test_what_lies_elsewhere_is_never_made_nor_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "project_root", lambda: tmp_path)
    made = []
    monkeypatch.setattr(miniatures, "make_cub", lambda folder: made.append(folder))
    mine, shared = tmp_path / "mine/archives", tmp_path / "runs/smoke/archives"
    for part in (mine, shared):
        part.mkdir(parents=True)
        (part.parent / "made").touch()
        smoke.ensure_miniature("cub", part)
        assert part.is_dir()
    assert made == []
    own = tmp_path / "runs/smoke/real/cub/archives"
    own.parent.mkdir(parents=True)
    (own.parent / "note.txt").touch()
    for _ in range(2):
        smoke.ensure_miniature("cub", own)
    assert made == [own.parent]
    assert (own.parent / "note.txt").exists()


def test_the_miniature_of_a_folder_has_boxes_masks_and_background(tmp_path, capsys):
    miniatures.make_folder(tmp_path)
    words = [str(tmp_path / "pictures"), str(tmp_path / "out")]
    words += ["--boxes", str(tmp_path / "boxes.csv"), "--masks", str(tmp_path / "masks")]
    words += ["--background", str(tmp_path / "background"), "--source", "x", "--licence", "MIT"]
    assert folder.main(words) == 0
    assert "background: 8 images" in capsys.readouterr().out
    table = counts(read_index(tmp_path / "out" / INDEX))
    assert (table["boxes"] == table["images"]).all()
    assert (table["masks"] == table["images"]).all()
    assert (table["images"] >= 4).all()
