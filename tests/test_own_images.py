"""Boxes for images without ground truth: the evaluation's boxes, in pixels of each image."""

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
from wsol.datasets.images import ArrayImages
from wsol.datasets.index import index_table, write_index
from wsol.evaluation.boxes import FRAME, largest_box, resize_boxes
from wsol.evaluation.metrics import choose_tau
from wsol.evaluation.run import evaluate_run
from wsol.evaluation.table import LocalizationTable
from wsol.inference import export
from wsol.inference.export import detections_table, localize_to_folder, overlay, to_coco, to_csv
from wsol.inference.localize import Detection, box_in_image, iterate_images, read_image
from wsol.training.batches import TrainData
from wsol.training.config import TrainConfig
from wsol.training.loop import train

K, N = 3, 24
NAMES = ("red", "green", "blue")


def image_of(number: int) -> np.ndarray:
    """Noise of its own size with a patch in the colour of one of K classes."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 90, (40 + number, 61, 3), dtype=np.uint8)
    image[10:30, 8 + number : 30 + number, number % K] = 230
    return image


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A data set in data/, a run in background-0/ and its localization tables in tables/."""
    home = tmp_path_factory.mktemp("home")
    (home / "data" / "images").mkdir(parents=True)
    rows = []
    for number in range(N):
        name, label = f"images/{number:02d}.png", number % K
        Image.fromarray(image_of(number)).save(home / "data" / name)
        split = "train-fullsup" if number < N // 2 else "test"
        about = dict(image_id=name, path=name, split=split, label=label, class_name=NAMES[label])
        box = f"{8 + number} 10 {30 + number} 30"
        rows.append(about | dict(width=61, height=40 + number, boxes=box))
    index = index_table(rows)
    write_index(index, home / "data" / "index.csv")
    squares = [np.asarray(Image.fromarray(image_of(i)).resize((36, 36))) for i in range(N)]
    images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    data = TrainData(ArrayImages(images), torch.arange(N) % K, K, ArrayImages(images[:8]))
    sizes = dict(backbone="small4", input_size=32, epochs=2, batch_size=8, threads=1)
    train(TrainConfig("background", **sizes), data, home / "background-0")
    weights = home / "background-0" / "weights.safetensors"
    result = evaluate_run(weights, index, home / "data", n_background=8)
    result.save_tables(home / "tables", "background-0")
    return home


def localize(home: Path, images: object, **settings: object) -> list[Detection]:
    return wsol.localize(
        images, home / "background-0", **{"evaluation": home / "tables"} | settings
    )


def test_importing_wsol_loads_torch_only_when_it_localizes():
    code = "import sys, wsol; print('torch' in sys.modules, wsol.localize.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "wsol.inference.localize"]


@given(
    st.lists(st.integers(0, FRAME - 2), min_size=4, max_size=4),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_a_box_goes_back_to_the_pixels_it_came_from(box, size):
    in_image = box_in_image(box, size)
    if box[2] <= box[0] or box[3] <= box[1]:  # no area, no box
        assert np.isnan(in_image).all()
        return
    exact = [Fraction(c * side, FRAME) for c, side in zip(box, size * 2, strict=True)]
    assert in_image == pytest.approx([float(c) for c in exact], rel=1e-12)
    # Truncation may make a corner too low by a rounding error.
    assert resize_boxes(in_image + 1e-7, size)[0].tolist() == box


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, FRAME - 1, FRAME - 1), [0, 0, 400, 300]),
        ((56, 0, 112, FRAME - 1), [100, 0, 200, 300]),
    ],
)
def test_a_box_that_ends_with_the_frame_ends_with_the_image(box, expected):
    assert box_in_image(box, (400, 300)).tolist() == expected


@pytest.mark.parametrize("kind", ["class", "foreground", "product"])
def test_boxes_are_those_of_the_evaluation_where_the_class_is_right(home, kind):
    fullsup, test = (
        LocalizationTable.load(home / "tables" / f"background-0-{kind}-{split}.npz")
        for split in ("train-fullsup", "test")
    )
    detections = localize(home, [home / "data" / i for i in test.rows["image_id"]], map=kind)
    assert [d.label for d in detections] == test.rows["prediction"].tolist()
    boxes, ranks = test.level_boxes.at(choose_tau(fullsup)), test.rows["rank"].to_numpy()
    assert (ranks == 0).any()
    for d, box, rank in zip(detections, boxes, ranks, strict=True):
        if rank == 0:
            assert d.box == pytest.approx(box_in_image(box, (d.width, d.height)))


def test_the_box_is_cut_from_the_returned_map(home):
    for d in localize(home, [image_of(i) for i in range(4)], tau=0.3):
        assert (d.score_map.min(), d.score_map.max()) == (0, 1)
        assert d.score_map.shape == (FRAME, FRAME)
        box = box_in_image(largest_box(d.score_map.astype(np.float64), 0.3), (d.width, d.height))
        # float32 may round a score to the other side of a grey level
        assert np.abs(d.box - box).max() <= 2 * max(d.width, d.height) / FRAME


def test_classes_come_in_the_order_of_their_scores_each_with_its_own_map(home):
    detections = localize(home, [image_of(0), image_of(1)], top=K, tau=0.5)
    for three in (detections[:K], detections[K:]):
        assert [d.rank for d in three] == [1, 2, 3]
        assert sorted(d.label for d in three) == list(range(K))
        scores = [d.score for d in three]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-6)
        assert not np.array_equal(three[0].score_map, three[1].score_map)


def test_files_folders_and_arrays_give_the_same(home):
    folder = home / "data" / "images"
    by_folder = localize(home, folder)
    assert [d.image for d in by_folder] == [p.as_posix() for p in sorted(folder.iterdir())]
    by_arrays = localize(home, [image_of(i) for i in range(N)])
    assert by_arrays[3].image == "array 3"
    mixed = localize(home, [str(folder / "02.png"), image_of(3), folder / "04.png"])
    for number, one in zip((2, 3, 4), mixed, strict=True):
        for other in (by_folder[number], by_arrays[number]):
            assert (one.label, one.width, one.height) == (other.label, other.width, other.height)
            assert one.box == pytest.approx(other.box, abs=1)


def test_batches_change_nothing_and_are_read_one_at_a_time(home):
    taken = []
    stream = (taken.append(i) or image_of(i) for i in range(7))
    detections = iterate_images(stream, home / "background-0", tau=0.5, batch_size=2)
    assert taken == []
    streamed = [(next(detections), len(taken)) for _ in range(7)]
    assert [count for _, count in streamed] == [2, 2, 4, 4, 6, 6, 7]
    at_once = localize(home, [image_of(i) for i in range(7)], tau=0.5)
    for (one, _), other in zip(streamed, at_once, strict=True):
        assert one.label == other.label
        assert one.box == pytest.approx(other.box, abs=1)


def test_an_image_is_rotated_as_its_exif_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    Image.fromarray(image_of(0)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(image_of(0), -1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("broken.jpg", "does not decode.*broken.jpg"),
        ("none.png", "missing image.*none.png"),
        ("empty", "no image below"),
        (np.zeros((5, 5)), "array 1: an image is an array"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(home, tmp_path, bad, message):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        localize(home, [image_of(0), tmp_path / bad if isinstance(bad, str) else bad])


def test_skipped_images_are_collected_or_warned_of(home, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    images, skipped = [tmp_path / "broken.jpg", image_of(0)], []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detections = localize(home, images, errors="skip", skipped=skipped, batch_size=1)
    assert [d.image for d in detections] == ["array 1"]
    assert ["broken.jpg" in line for line in skipped] == [True]
    with pytest.warns(UserWarning, match=r"broken\.jpg"):
        localize(home, images, errors="skip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(evaluation=None), "40_evaluate"),
        (dict(evaluation="elsewhere"), "background-0-class-train-fullsup.npz"),
        (dict(map="saliency"), "map is 'saliency'"),
        (dict(tau=1.0), "tau is 1.0"),
        (dict(tau=0.2, read_out="tanh"), "read_out is 'tanh'"),
        (dict(read_out="relu"), "tau together with read_out"),
        (dict(top=4), "top is 4; it must be 1 to 3"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(errors="ignore"), "errors is 'ignore'"),
    ],
)
def test_bad_settings_are_refused_at_once(home, settings, message):
    with pytest.raises(ValueError, match=message):
        iterate_images([], home / "background-0", **{"evaluation": home / "tables"} | settings)


def test_tables_of_other_weights_and_a_run_without_weights_are_refused(home, tmp_path):
    name = "background-0-class-train-fullsup.npz"
    for digest in ("0" * 64, None):  # of another run of the same name, of an older version
        table = LocalizationTable.load(home / "tables" / name)
        table.meta["weights_sha256"] = digest
        table.save(tmp_path / name)
        with pytest.raises(ValueError, match="evaluate this run"):
            localize(home, image_of(0), evaluation=tmp_path)
        assert localize(home, image_of(0), tau=0.5)
    with pytest.raises(FileNotFoundError, match="published one"):
        wsol.localize([], tmp_path, tau=0.5)


def test_a_run_of_the_pipeline_needs_no_settings_and_names_come_from_run_or_data(home, tmp_path):
    run = tmp_path / "train" / "background-0"
    shutil.copytree(home / "background-0", run)
    shutil.copytree(home / "tables", tmp_path / "evaluate" / "background-0" / "localization")
    (one,), (expected,) = wsol.localize(image_of(0), run), localize(home, image_of(0))
    assert one.box.tolist() == expected.box.tolist()
    assert one.class_name == str(one.label)  # this run has no names
    assert localize(home, image_of(0), data=home / "data")[0].class_name == NAMES[one.label]
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"class_names": list(NAMES)}))
    assert wsol.localize(image_of(0), run)[0].class_name == NAMES[one.label]
    row = dict(image_id="a", split="test", label=7, width=1, height=1)
    write_index(index_table([row]), tmp_path / "index.csv")
    with pytest.raises(ValueError, match="learned 3 classes"):
        localize(home, [], data=tmp_path)


MAP = np.zeros((FRAME, FRAME), np.float32)
DETECTIONS = [
    Detection("a/ä.jpg", 64, 48, 1, 2, "blue tit", 0.75, np.array([1.004, 2, 64, 48]), MAP),
    Detection("a/ä.jpg", 64, 48, 2, 0, "wren", 0.25, np.array([0, 0, 10.5, 20.25]), MAP),
    Detection("b.png", 32, 20, 1, 0, "wren", 0.5, np.full(4, np.nan), MAP),
]


def test_csv_comes_back_as_the_table(tmp_path):
    to_csv(iter(DETECTIONS), tmp_path / "new" / "boxes.csv")
    table = pd.read_csv(tmp_path / "new" / "boxes.csv")
    pd.testing.assert_frame_equal(table, detections_table(DETECTIONS), check_dtype=False)
    assert table.loc[0].tolist() == [*DETECTIONS[0][:7], 1.0, 2.0, 64.0, 48.0]
    assert list(detections_table([])) == list(table)


def test_coco_has_the_structure_that_its_readers_expect(tmp_path):
    to_coco(iter(DETECTIONS), tmp_path / "boxes.json")
    content = json.loads((tmp_path / "boxes.json").read_text(encoding="utf-8"))
    assert content["images"] == [
        {"id": 1, "file_name": "a/ä.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.png", "width": 32, "height": 20},
    ]
    assert content["categories"] == [{"id": 1, "name": "wren"}, {"id": 3, "name": "blue tit"}]
    ids = {"image_id": 1, "iscrowd": 0}
    assert content["annotations"] == [  # the image without a box has none
        ids
        | dict(id=1, category_id=3, bbox=[1, 2, 63, 46], area=2898, score=0.75)
        | dict(segmentation=[[1, 2, 64, 2, 64, 48, 1, 48]]),
        ids
        | dict(id=2, category_id=1, bbox=[0, 0, 10.5, 20.25], area=212.62, score=0.25)
        | dict(segmentation=[[0, 0, 10.5, 0, 10.5, 20.25, 0, 20.25]]),
    ]


def test_an_overlay_leaves_the_image_where_the_score_is_0():
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    before, score = image.copy(), np.zeros((FRAME, FRAME))
    assert np.array_equal(overlay(image, score, np.zeros(4)), image)
    score[:, : FRAME // 2] = 1
    drawn = overlay(image, score, np.zeros(4))
    assert np.array_equal(drawn[:, 62:], image[:, 62:])
    assert (drawn[:, :58] != image[:, :58]).any(axis=2).mean() > 0.99
    assert np.array_equal(image, before)
    # And the box is where it belongs.
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = overlay(image, np.zeros((FRAME, FRAME)), (50, 40, 250, 160))
    rows, columns = np.nonzero((drawn == (0, 158, 115)).all(axis=2))
    assert {*rows} >= {40, 159}
    assert {*columns} >= {50, 249}
    edges = rows.min(), rows.max(), columns.min(), columns.max()
    assert edges == pytest.approx((40, 159, 50, 249), abs=1)
    assert (drawn[60:140, 70:230] == 128).all()


def test_a_folder_gets_boxes_and_overlays(home, tmp_path):
    folder, out = home / "data" / "images", tmp_path / "out"
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    settings = dict(evaluation=home / "tables", data=home / "data", top=2)
    args = [folder, tmp_path / "broken.jpg"], home / "background-0", out
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        localize_to_folder(*args, **settings)
    done = localize_to_folder(*args, overlays=True, skip=True, **settings)
    assert done.files == (out / "boxes.csv", out / "boxes.coco.json")
    assert len(done.skipped) == 1
    expected = detections_table(localize(home, folder, top=2, data=home / "data"))
    pd.testing.assert_frame_equal(pd.read_csv(done.files[0]), expected, check_dtype=False)
    assert len(json.loads(done.files[1].read_text())["images"]) == N
    drawn = sorted((out / "overlays").glob("*.jpg"))
    assert [path.name for path in drawn] == [f"{i + 1:05d}-{i:02d}.jpg" for i in range(N)]
    with Image.open(drawn[5]) as image:
        assert image.size == image_of(5).shape[1::-1]


def test_images_without_a_box_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "iterate_images", lambda *args, **settings: iter(DETECTIONS))
    assert localize_to_folder(["a/ä.jpg", "b.png"], "run", tmp_path).without_box == ["b.png"]
