"""Boxes for anybody's pictures: the evaluation's boxes, in the pictures' own pixels."""

import json
import shutil
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import wsol
from wsol import localize_own
from wsol.datasets.images import ArrayImages
from wsol.datasets.index import index_table, write_index
from wsol.evaluation.boxes import FRAME, largest_box, resize_boxes
from wsol.evaluation.metrics import choose_tau
from wsol.evaluation.run import evaluate_run
from wsol.evaluation.table import LocalizationTable
from wsol.inference.export import found_table, overlay, to_coco, to_csv
from wsol.inference.inputs import picture_files, read_picture
from wsol.inference.localize import Found, box_in_image, iterate_images
from wsol.training.batches import TrainData
from wsol.training.config import TrainConfig
from wsol.training.loop import train

K, N = 3, 24
NAMES = ("red", "green", "blue")
CONFIG = TrainConfig(
    "background", backbone="small4", input_size=32, epochs=2, batch_size=8, threads=1
)


def picture(number: int) -> np.ndarray:
    """Noise of its own size with a patch in the colour of one of K classes."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 90, (40 + number, 61, 3), dtype=np.uint8)
    image[10:30, 8 + number : 30 + number, number % K] = 230
    return image


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A data set in data/, a run in background-0/ and its localization tables in tables/."""
    home = tmp_path_factory.mktemp("home")
    (home / "data" / "pictures").mkdir(parents=True)
    rows = []
    for number in range(N):
        image, name = picture(number), f"pictures/{number:02d}.png"
        Image.fromarray(image).save(home / "data" / name)
        height, width = image.shape[:2]
        split = "train-fullsup" if number < N // 2 else "test"
        rows.append(
            dict(image_id=name, path=name, split=split, label=number % K)
            | dict(class_name=NAMES[number % K], width=width, height=height)
            | dict(boxes=f"{8 + number} 10 {30 + number} 30")
        )
    index = index_table(rows)
    write_index(index, home / "data" / "index.csv")
    squares = [Image.fromarray(picture(i)).resize((36, 36)) for i in range(N)]
    images = torch.from_numpy(np.stack([np.asarray(s).transpose(2, 0, 1) for s in squares]))
    threads = torch.get_num_threads()
    extra = ArrayImages(images[:8])
    data = TrainData(ArrayImages(images), torch.arange(N) % K, K, extra)
    train(CONFIG, data, home / "background-0")
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    weights = home / "background-0" / "weights.safetensors"
    result = evaluate_run(weights, index, home / "data", n_background=8)
    result.save_tables(home / "tables", "background-0")
    return home


def localize(home: Path, images: object, **settings: object) -> list[Found]:
    settings = {"evaluation": home / "tables"} | settings
    return wsol.localize(images, home / "background-0", **settings)


# --- import


def test_importing_wsol_loads_torch_only_when_it_localizes():
    code = (
        "import sys, wsol; light = 'torch' not in sys.modules;"
        "print(light, wsol.localize.__module__, hasattr(wsol, 'nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "wsol.inference.localize", "False"]


# --- boxes


@given(
    st.lists(st.integers(0, FRAME - 2), min_size=4, max_size=4),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_a_box_goes_back_to_the_pixels_it_came_from(box, size):
    found = box_in_image(box, size)
    exact = [Fraction(c * side, FRAME) for c, side in zip(box, size * 2, strict=True)]
    assert found == pytest.approx([float(c) for c in exact], rel=1e-12)
    # What truncation takes away is put back: a corner may come out a rounding error too low.
    assert resize_boxes(found + 1e-7, size)[0].tolist() == box


def test_a_box_that_ends_with_the_frame_ends_with_the_image():
    assert box_in_image((0, 0, FRAME - 1, FRAME - 1), (641, 427)).tolist() == [0, 0, 641, 427]
    assert box_in_image((56, 0, 112, FRAME - 1), (400, 300)).tolist() == [100, 0, 200, 300]
    assert box_in_image((0, 0, 0, 0), (400, 300)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["class", "foreground", "product"])
def test_boxes_are_those_of_the_evaluation_where_the_class_is_right(home, kind):
    fullsup, test = (
        LocalizationTable.load(home / "tables" / f"background-0-{kind}-{split}.npz")
        for split in ("train-fullsup", "test")
    )
    files = [home / "data" / image for image in test.rows["image_id"]]
    found = localize(home, files, map=kind)
    assert [one.label for one in found] == test.rows["prediction"].tolist()
    boxes = test.level_boxes.at(choose_tau(fullsup))
    right = test.rows["rank"].to_numpy() == 0
    assert right.any()
    for one, box in zip(np.array(found, object)[right], boxes[right], strict=True):
        _, width, height, *_, got, _ = one
        assert got == pytest.approx(box_in_image(box, (width, height)))


def test_the_box_is_cut_from_the_map_that_is_handed_out(home):
    for one in localize(home, [picture(i) for i in range(4)], tau=0.3):
        assert (one.score_map.min(), one.score_map.max()) == (0, 1)
        assert one.score_map.shape == (FRAME, FRAME)
        box = largest_box(one.score_map.astype(np.float64), 0.3)
        # float32 may round a score to the other side of a grey level
        near = box_in_image(box, (one.width, one.height))
        assert np.abs(one.box - near).max() <= 2 * max(one.width, one.height) / FRAME


def test_boxes_scale_with_the_picture(home):
    small = picture(1)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    (one,), (other,) = localize(home, small, tau=0.5), localize(home, large, tau=0.5)
    assert other.box == pytest.approx(4 * one.box, abs=4)
    assert (other.width, other.height) == (4 * one.width, 4 * one.height)


def test_the_box_is_that_of_the_predicted_class(home):
    """Of two classes, each with the map of its own: they come in the order of their scores."""
    found = localize(home, [picture(0), picture(1)], top=K, tau=0.5)
    for first in (0, K):
        three = found[first : first + K]
        assert [one.rank for one in three] == [1, 2, 3]
        assert sorted(one.label for one in three) == list(range(K))
        scores = [one.score for one in three]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-6)
        assert not np.array_equal(three[0].score_map, three[1].score_map)


# --- pictures


def test_files_folders_and_arrays_give_the_same(home):
    folder = home / "data" / "pictures"
    by_folder = localize(home, folder)
    assert [one.image for one in by_folder] == [p.as_posix() for p in sorted(folder.iterdir())]
    by_arrays = localize(home, [picture(i) for i in range(N)])
    assert by_arrays[3].image == "array 3"
    by_files = localize(home, [str(folder / "02.png"), picture(3), folder / "04.png"])
    for number, one in zip((2, 3, 4), by_files, strict=True):
        for other in (by_folder[number], by_arrays[number]):
            assert (one.label, one.width, one.height) == other[4:5] + other[1:3]
            assert one.box == pytest.approx(other.box, abs=1)


def test_batches_change_nothing_and_are_read_one_at_a_time(home):
    taken = []

    def pictures():
        for number in range(7):
            taken.append(number)
            yield picture(number)

    found = iterate_images(pictures(), home / "background-0", tau=0.5, batch_size=2)
    assert taken == []
    one_by_one = [(next(found), len(taken)) for _ in range(7)]
    assert [count for _, count in one_by_one] == [2, 2, 4, 4, 6, 6, 7]
    together = localize(home, [picture(i) for i in range(7)], tau=0.5)
    for (one, _), other in zip(one_by_one, together, strict=True):
        assert one.label == other.label
        assert one.box == pytest.approx(other.box, abs=1)


def test_a_picture_is_looked_at_as_its_orientation_says(tmp_path):
    image = Image.fromarray(picture(0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "turned.png"), np.rot90(picture(0), -1))


def test_a_picture_that_cannot_be_read_is_named(home, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    for bad, name in (
        (tmp_path / "broken.jpg", "broken.jpg: cannot be read as an image"),
        (tmp_path / "none.png", "none.png: there is no such file or folder"),
        (np.zeros((5, 5)), "array 1: a picture is an array of"),
    ):
        with pytest.raises(ValueError, match=name):
            localize(home, [picture(0), bad])
    with pytest.raises(ValueError, match="no picture below"):
        picture_files(tmp_path / "nothing")


def test_skipped_pictures_are_collected_or_warned_of(home, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    images, skipped = [tmp_path / "broken.jpg", picture(0)], []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = localize(home, images, errors="skip", skipped=skipped, batch_size=1)
    assert [one.image for one in found] == ["array 1"]
    assert len(skipped) == 1
    assert skipped[0].startswith(f"{tmp_path}/broken.jpg: cannot be read")
    with pytest.warns(UserWarning, match="skipped .*broken.jpg"):
        localize(home, images, errors="skip")


# --- settings


def test_without_evaluation_or_tau_it_is_said_what_to_run(home):
    with pytest.raises(ValueError, match=r"40_evaluate\.ipynb .* `evaluation`, or give `tau`"):
        localize(home, picture(0), evaluation=None)
    with pytest.raises(ValueError, match=r"no .*background-0-class-train-fullsup\.npz; notebooks"):
        localize(home, picture(0), evaluation=home)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(map="saliency"), "map is 'saliency'; known: class, foreground, product"),
        (dict(tau=1.0), "tau is 1.0; it must be at least 0 and below 1"),
        (dict(tau=0.2, read_out="tanh"), "read_out is 'tanh'; known: raw, relu, sigmoid"),
        (dict(read_out="relu"), "give tau together with read_out"),
        (dict(top=4), "top is 4; it must be 1 to 3"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(errors="ignore"), "errors is 'ignore'"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_at_once(home, settings, message):
    with pytest.raises(ValueError, match=message):
        iterate_images([], home / "background-0", **{"evaluation": home / "tables"} | settings)


def test_tables_of_another_run_are_refused(home, tmp_path):
    name = "background-0-class-train-fullsup.npz"
    table = LocalizationTable.load(home / "tables" / name)
    table.meta["seed"] = "5"
    table.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"of another run: seed 5, where .* has 0"):
        localize(home, picture(0), evaluation=tmp_path)


def test_a_run_without_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"30_train\.ipynb"):
        wsol.localize([], tmp_path, tau=0.5)


def test_a_run_of_the_pipeline_needs_no_further_word(home, tmp_path):
    """Its evaluation lies where the pipeline puts it, and its classes stand in run.json."""
    run = tmp_path / "train" / "background-0"
    shutil.copytree(home / "background-0", run)
    with pytest.raises(ValueError, match="no threshold for the maps"):
        wsol.localize(picture(0), run)
    shutil.copytree(home / "tables", tmp_path / "evaluate" / "background-0" / "localization")
    (found,) = wsol.localize(picture(0), run)
    (expected,) = localize(home, picture(0))
    assert found.box.tolist() == expected.box.tolist()
    assert found.class_name == str(found.label)  # this run knows no names
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"class_names": list(NAMES)}))
    assert wsol.localize(picture(0), run)[0].class_name == NAMES[found.label]


def test_class_names_come_from_the_index_of_the_data_set(home, tmp_path):
    found = localize(home, [picture(i) for i in range(6)])
    assert [one.class_name for one in found] == [str(one.label) for one in found]
    named = localize(home, [picture(i) for i in range(6)], data=home / "data")
    assert [o.class_name for o in named] == [NAMES[o.label] for o in named]
    row = dict(image_id="a", split="test", label=7, width=1, height=1)
    write_index(index_table([row]), tmp_path / "index.csv")
    with pytest.raises(ValueError, match="has 8 classes, the network 3"):
        localize(home, [], data=tmp_path)


# --- exports

MAP = np.zeros((FRAME, FRAME), np.float32)
FOUND = [
    Found("a/ä.jpg", 64, 48, 1, 2, "blue tit", 0.75, np.array([1.004, 2, 64, 48]), MAP),
    Found("a/ä.jpg", 64, 48, 2, 0, "wren", 0.25, np.array([0, 0, 10.5, 20.25]), MAP),
    Found("b.png", 32, 20, 1, 0, "wren", 0.5, np.zeros(4), MAP),
]


def test_csv_comes_back_as_the_table(tmp_path):
    to_csv(iter(FOUND), tmp_path / "new" / "boxes.csv")
    table = pd.read_csv(tmp_path / "new" / "boxes.csv")
    pd.testing.assert_frame_equal(table, found_table(FOUND), check_dtype=False)
    assert table.loc[0].tolist() == [*FOUND[0][:7], 1.0, 2.0, 64.0, 48.0]
    assert list(found_table([])) == list(table)


def test_coco_has_the_structure_that_its_readers_expect(tmp_path):
    to_coco(iter(FOUND), tmp_path / "boxes.json")
    content = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    assert content["images"] == [
        {"id": 1, "file_name": "a/ä.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.png", "width": 32, "height": 20},
    ]
    assert content["categories"] == [{"id": 1, "name": "wren"}, {"id": 3, "name": "blue tit"}]
    keys = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score"}
    for annotation in content["annotations"]:
        assert set(annotation) == keys
        whole = keys - {"bbox", "area", "score"}
        assert {type(annotation[key]) for key in whole} == {int}
        assert {type(value) for value in annotation["bbox"]} == {float}
        width, height = annotation["bbox"][2:]
        assert annotation["area"] == pytest.approx(width * height, abs=0.01)


def test_coco_holds_the_boxes_and_nothing_for_a_picture_without_one(tmp_path):
    to_coco(FOUND, tmp_path / "boxes.json")
    content = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    assert len(content["annotations"]) == 2
    for annotation, one in zip(content["annotations"], FOUND, strict=False):
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(one.box, abs=0.01)
        assert content["images"][annotation["image_id"] - 1]["file_name"] == one.image
        assert (annotation["category_id"], annotation["score"]) == (one.label + 1, one.score)


def test_an_overlay_leaves_the_picture_where_the_score_is_0():
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    before = image.copy()
    score = np.zeros((FRAME, FRAME))
    assert np.array_equal(overlay(image, score, np.zeros(4)), image)
    score[:, : FRAME // 2] = 1
    drawn = overlay(image, score, np.zeros(4))
    assert np.array_equal(drawn[:, 62:], image[:, 62:])
    assert (drawn[:, :58] != image[:, :58]).any(axis=2).mean() > 0.99
    assert np.array_equal(image, before)


def test_an_overlay_has_the_box_where_it_belongs():
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = overlay(image, np.zeros((FRAME, FRAME)), (50, 40, 250, 160))
    rows, columns = np.nonzero((drawn == (0, 158, 115)).all(axis=2))
    assert {*rows} >= {40, 159}
    assert {*columns} >= {50, 249}
    assert abs(rows.min() - 40) <= 1
    assert abs(rows.max() - 159) <= 1
    assert abs(columns.min() - 50) <= 1
    assert abs(columns.max() - 249) <= 1
    assert (drawn[60:140, 70:230] == 128).all()


# --- command


def test_the_command_writes_boxes_and_overlays(home, tmp_path, capsys):
    folder = home / "data" / "pictures"
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    words = [str(home / "background-0"), str(folder), str(tmp_path / "broken.jpg")]
    words += ["--evaluation", str(home / "tables"), "--out", str(tmp_path / "out"), "--top", "2"]
    words += ["--data", str(home / "data"), "--overlays"]
    assert localize_own.main(words) == 2
    assert "broken.jpg: cannot be read as an image" in capsys.readouterr().err
    assert localize_own.main([*words, "--skip"]) == 0
    table = pd.read_csv(tmp_path / "out" / "boxes.csv")
    found = localize(home, folder, top=2, data=home / "data")
    pd.testing.assert_frame_equal(table, found_table(found), check_dtype=False)
    content = json.loads((tmp_path / "out" / "boxes.coco.json").read_text())
    assert len(content["images"]) == N
    drawn = sorted((tmp_path / "out" / "overlays").iterdir())
    assert [path.name for path in drawn] == [f"{i + 1:05d}-{i:02d}.jpg" for i in range(N)]
    with Image.open(drawn[5]) as image:
        assert image.size == picture(5).shape[1::-1]
    assert "24 pictures with a box, 1 skipped" in capsys.readouterr().out


def test_the_command_names_the_pictures_without_a_box(home, tmp_path, capsys, monkeypatch):
    boxes = {"a.jpg": np.zeros(4), "b.jpg": np.array([1.0, 2.0, 5.0, 6.0])}
    found = [Found(name, 9, 9, 1, 0, "0", 1.0, box, None) for name, box in boxes.items()]
    monkeypatch.setattr(localize_own, "localize_files", lambda given: (found, []))
    words = [str(home / "background-0"), "a.jpg", "b.jpg", "--out", str(tmp_path / "out")]
    assert localize_own.main(words) == 0
    out, err = capsys.readouterr()
    assert "1 pictures with a box, 0 skipped" in out
    assert err.count("no box") == 1
    assert "no box: a.jpg" in err
