"""Background sets are built from folders, scene data sets and earlier sets, each image once."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsol.datasets.backgrounds.build import (
    Candidate,
    DataSet,
    build_background_set,
    check_background_set,
    copy_lines,
    from_folder,
    prepared_data,
)
from wsol.datasets.backgrounds.manifest import (
    background_paths,
    decide,
    read_background_set,
    read_manifest,
    record,
    write_manifest,
)
from wsol.datasets.backgrounds.scenes import Rule, category_of, sample_scenes
from wsol.datasets.checks import DatasetError
from wsol.datasets.index import index_table, write_index


def blobs(seed: int) -> Image.Image:
    """An image like no other: smooth random colours."""
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images, an exact copy of the first and a near copy of the second."""
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b.png", "c.png", "deeper/d.png"]):
        blobs(i).save(folder / name)
    shutil.copyfile(folder / "a.png", folder / "exact-copy-of-a.png")
    blobs(1).resize((48, 36)).save(folder / "near-copy-of-b.jpg", quality=70)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared data set of the images c and 50."""
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for i, split in ((2, "test"), (50, "train-weaksup")):
        blobs(i).save(root / f"{i}.bmp")
        rows.append(dict(image_id=f"id-{i}", path=f"{i}.bmp", split=split, label=0))
    index = index_table([row | dict(class_name="a", width=96, height=72) for row in rows])
    write_index(index, root / "index.csv")
    return root


def files(folder: Path) -> list[str]:
    return read_background_set(folder)["file"].tolist()


KEPT = ["a.png", "b.png", "c.png", "deeper/d.png"]


def test_a_folder_becomes_a_set_without_copies(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    left_out = build_background_set(from_folder(images, "a walk", "CC0-1.0"), out)
    assert left_out[["file", "reason", "of"]].values.tolist() == [
        ["exact-copy-of-a.png", "exact copy", "a.png"],
        ["near-copy-of-b.jpg", "near copy", "b.png"],
    ]
    assert files(out) == KEPT
    assert (out / "deeper/d.png").read_bytes() == (images / "deeper/d.png").read_bytes()
    rows = read_manifest(out)
    assert set(rows["source"]) == {"a walk"}
    assert rows["phash"].str.len().tolist() == [16] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "set"]  # nothing is left


def test_what_is_in_the_data_set_is_left_out(images: Path, data: Path, tmp_path: Path) -> None:
    index = pd.read_csv(data / "index.csv", keep_default_na=False)
    out = tmp_path / "set"
    left_out = build_background_set(
        from_folder(images, "x", "y"), out, data=DataSet(index, data, tmp_path / "hashes.sqlite")
    )
    last = left_out.iloc[-1]
    assert [last["file"], last["of"], last["split"]] == ["c.png", "id-2", "test"]
    assert files(out) == ["a.png", "b.png", "deeper/d.png"]


def test_the_distance_is_a_parameter(images: Path, tmp_path: Path) -> None:
    left_out = build_background_set(from_folder(images, "x", "y"), tmp_path / "1", distance=64)
    assert len(left_out) == 5  # all are near copies of the first


def test_what_does_not_decode_is_listed_and_nothing_is_written(images: Path, tmp_path) -> None:
    (images / "cut-off.png").write_bytes((images / "a.png").read_bytes()[:100])
    (images / "text.jpg").write_text("no image")
    with pytest.raises(DatasetError) as caught:
        build_background_set(from_folder(images, "x", "y"), tmp_path / "set")
    assert len(caught.value.errors) == 2
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_is_no_set_is_never_replaced(images: Path, tmp_path, replace) -> None:
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "me.jpg").write_bytes(b"")
    with pytest.raises(FileExistsError, match="is there already"):
        build_background_set(from_folder(images, "x", "y"), out, replace=replace)
    assert (out / "me.jpg").exists()


def test_two_images_of_one_name_are_refused(images: Path, tmp_path: Path) -> None:
    two = [Candidate(images / name, "one.png", "x", "y") for name in ("a.png", "b.png")]
    with pytest.raises(DatasetError, match=r"one\.png: two images would get this name"):
        build_background_set(two, tmp_path / "set")


# Decisions


@pytest.fixture
def decided(images: Path, tmp_path: Path) -> Path:
    """A set of which b.png is dropped and c.png kept."""
    out = tmp_path / "set"
    build_background_set(from_folder(images, "x", "y"), out)
    decide(out, drop=["b.png"], keep=["c.png"], note="looked at")
    return out


def test_a_dropped_image_stays_and_is_not_used(decided: Path) -> None:
    assert (decided / "b.png").is_file()
    assert "b.png" in set(read_manifest(decided)["file"])
    assert files(decided) == ["a.png", "c.png", "deeper/d.png"]
    assert background_paths(decided, 2) == [decided / "a.png", decided / "c.png"]
    with pytest.raises(ValueError, match="has 3"):
        background_paths(decided, 4)


def test_decisions_survive_rebuilding_and_follow_the_bytes(decided: Path, images: Path) -> None:
    (images / "b.png").rename(images / "renamed.png")
    shutil.copyfile(images / "deeper/d.png", images / "b.png")  # other bytes, the old name
    left_out = build_background_set(from_folder(images, "new", "y"), decided, replace=True)
    rows = read_manifest(decided).set_index("file")
    # The near copy comes first by name, but its original was decided about and so stands for both.
    assert "near-copy-of-b.jpg" in set(left_out["file"])
    assert rows.loc["renamed.png", ["decision", "note"]].tolist() == ["drop", "looked at"]
    assert rows.loc["b.png", "decision"] == ""
    assert rows.loc["c.png", "decision"] == "keep"
    assert set(rows["source"]) == {"new"}


def test_decisions_survive_a_new_manifest_of_the_same_folder(decided: Path) -> None:
    write_manifest(decided, "elsewhere", "MIT")
    rows = read_manifest(decided).set_index("file")
    assert rows["decision"].tolist() == ["", "drop", "keep", ""]
    assert set(rows["source"]) == {"elsewhere"}


def test_a_decision_about_an_image_that_is_gone_is_reported(decided: Path, images) -> None:
    for name in ("b.png", "near-copy-of-b.jpg"):
        (images / name).unlink()
    left_out = build_background_set(from_folder(images, "x", "y"), decided, replace=True)
    gone = left_out[left_out["reason"] == "gone, and its decision with it"]
    assert gone["file"].tolist() == ["b.png"]


def test_a_manifest_from_before_reads_and_takes_decisions(images: Path) -> None:
    write_manifest(images, "x", "y")
    text = (images / "manifest.csv").read_text()
    assert text.startswith("file,sha256,source,licence\n")
    assert len(read_background_set(images)) == 6
    assert set(read_manifest(images)["decision"]) == {""}
    decide(images, drop=["a.png"])
    assert len(read_background_set(images)) == 5
    decide(images, keep=["a.png"])
    assert len(read_background_set(images)) == 6


def test_what_is_no_decision_is_refused(decided: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.png: not in the background set"):
        decide(decided, drop=["nowhere.png"])
    with pytest.raises(ValueError, match="to be dropped and to be kept"):
        decide(decided, drop=["a.png"], keep=["a.png"])
    with pytest.raises(ValueError, match=r"a\.png: .*keep or drop"):
        record(decided, {"a.png": {"decision": "maybe"}})
    manifest = decided / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("drop", "dropp"))
    with pytest.raises(DatasetError, match=r"b\.png has the decision 'dropp'"):
        read_background_set(decided)


# Scene data sets


def scenes(root: Path, paths: list[str]) -> Path:
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        blobs(100 + i).save(root / path)
    return root


PLACES = [f"data_256/f/field/wild/{i:08d}.jpg" for i in range(1, 7)]
PLACES += [f"data_256/f/forest_path/{i:08d}.jpg" for i in range(1, 6)]
PLACES += [f"data_256/a/aquarium/{i:08d}.jpg" for i in range(1, 4)]


@pytest.mark.parametrize(
    ("kind", "path", "category"),
    [
        ("places365", "data_256/f/field/wild/00000001.jpg", "field/wild"),
        ("places365", "data_256_standard/a/airfield/00000001.jpg", "airfield"),
        ("places365", "data_large_standard/a/airfield/00000001.jpg", "airfield"),
        ("places365", "a/airfield/00000001.jpg", "airfield"),
        ("places365", "train/airfield/1.jpg", "airfield"),
        ("places365", "airfield/1.jpg", "airfield"),
        ("places365", "val_256/Places365_val_00000001.jpg", "val_256"),
        ("dtd", "images/banded/banded_0002.jpg", "banded"),
        ("dtd", "dtd/images/banded/banded_0002.jpg", "banded"),
        ("dtd", "banded/banded_0002.jpg", "banded"),
        ("folder", "images/banded/1.jpg", "images/banded"),
        ("folder", "1.jpg", ""),
    ],
)
def test_the_category_follows_from_the_layout(kind: str, path: str, category: str) -> None:
    assert category_of(path, kind) == category


def test_a_rule_draws_what_it_says(tmp_path: Path) -> None:
    root = scenes(tmp_path / "places", PLACES)
    rule = Rule(include=("field*", "forest*", "aquarium"), exclude=("aq*",), per_category=4)
    drawn = sample_scenes(root, "places365", rule)
    categories = [category_of(one.file.partition("/")[2], "places365") for one in drawn]
    assert sorted(categories) == ["field/wild"] * 4 + ["forest_path"] * 4
    assert all(one.path.is_file() for one in drawn)
    assert all("non-commercial research" in one.licence for one in drawn)
    assert drawn[0].source.startswith("http://places2.csail.mit.edu/ data_256/f/")
    assert len(sample_scenes(root, "places365", Rule(total=5))) == 5


def test_the_same_rule_draws_the_same_and_another_seed_others(tmp_path: Path) -> None:
    root = scenes(tmp_path / "places", PLACES)
    rule = Rule(per_category=3, seed=1)
    drawn = sample_scenes(root, "places365", rule)
    assert sample_scenes(root, "places365", rule) == drawn
    assert sample_scenes(root, "places365", Rule(per_category=3, seed=2)) != drawn
    fewer = sample_scenes(root, "places365", Rule(include=("field*",), per_category=3, seed=1))
    assert set(fewer) < set(drawn)  # a category's do not depend on the others


def test_a_rule_that_fits_nothing_says_what_there_is(tmp_path: Path) -> None:
    root = scenes(tmp_path / "dtd", ["images/banded/1.jpg", "images/woven/1.jpg"])
    with pytest.raises(DatasetError, match="no category that the rule takes; it has banded, woven"):
        sample_scenes(root, "dtd", Rule(include=("striped",)))
    with pytest.raises(ValueError, match="needs a source and a licence"):
        sample_scenes(root, "folder", Rule())
    with pytest.raises(ValueError, match="per_category is 0"):
        Rule(per_category=0)


# The whole way


def test_a_set_is_built_added_to_checked_and_decided_about(images, data, tmp_path) -> None:
    out, candidates = tmp_path / "set", from_folder(images, "a walk", "CC0-1.0")
    assert len(build_background_set(candidates, out)) == 2
    with pytest.raises(FileExistsError, match="is there already"):
        build_background_set(candidates, out)
    root = scenes(tmp_path / "dtd", [f"images/banded/banded_{i}.jpg" for i in range(5)])
    drawn = sample_scenes(root, "dtd", Rule(total=3))
    for _ in range(2):  # once more changes nothing
        assert len(build_background_set(drawn, out, add=True)) == 0
    assert len(files(out)) == 7
    prepared = prepared_data(data, tmp_path / "hashes.sqlite")
    assert len(check_background_set(out)) == 0
    leaks = check_background_set(out, prepared)
    assert copy_lines(leaks) == ["c.png: near copy of test id-2, 0 bits"]
    check_background_set(out, prepared, drop=True)
    assert len(check_background_set(out, prepared)) == 0
    assert read_manifest(out).set_index("file").loc["c.png", "note"] == "near copy of test id-2"
    decide(out, drop=["a.png"], keep=["c.png"])
    assert len(files(out)) == 6


def test_an_earlier_set_can_be_added_to(decided: Path, tmp_path: Path) -> None:
    blobs(70).save(tmp_path / "more.png")
    more = Candidate(tmp_path / "more.png", "more.png", "x", "y")
    left_out = build_background_set([more], decided, add=True)
    assert len(left_out) == 0
    assert files(decided) == ["a.png", "c.png", "deeper/d.png", "more.png"]
    assert read_manifest(decided)["decision"].tolist() == ["", "drop", "keep", "", ""]
