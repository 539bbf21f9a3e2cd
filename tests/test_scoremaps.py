"""Anybody's score maps and predictions: read as they are, refused with a reason."""

import pickle
import tracemalloc
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsol.datasets.checks import DatasetError
from wsol.datasets.index import parse_boxes
from wsol.datasets.metadata import read_split_metadata
from wsol.evaluation.heatmaps import ScoreMapError, open_score_maps, read_predictions
from wsol.evaluation.localize import rank_labels

CUB_TEST = Path(__file__).parents[2] / "shared" / "wsolevaluation-metadata" / "CUB" / "test"
IDS = ["001.Black/x.jpg", "001.Black/y, z.jpg", "v.png"]
HEADER = "image_id,class_1,class_2,class_3,class_4,class_5"


def random_maps(n: int, size: int = 224, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(n, size, size))


def write_folder(folder: Path, maps, ids=IDS) -> Path:
    for image_id, score in zip(ids, maps, strict=True):
        file = folder / f"{image_id}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, score)
    return folder


def write_stack(file: Path, maps) -> Path:
    np.save(file, maps)
    return file


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f8"])
@pytest.mark.parametrize("form", ["folder", "stack"])
def test_maps_of_the_frame_come_back_as_they_are_in_the_order_asked(form, dtype, tmp_path):
    written = random_maps(3).astype(dtype)
    if form == "folder":
        path = write_folder(tmp_path / "maps", written)
        maps, expected = open_score_maps(path, IDS[::-1]), written[::-1]
    else:
        maps, expected = open_score_maps(write_stack(tmp_path / "m.npy", written), IDS), written
    assert len(maps) == 3
    for score, own in zip(maps, expected, strict=True):
        assert score.dtype == np.float64
        assert (score == own).all()
    assert (maps[-1] == expected[-1]).all()
    assert (pickle.loads(pickle.dumps(maps))[1] == expected[1]).all()
    with pytest.raises(IndexError):
        maps[3]


@settings(max_examples=30)
@given(arrays(np.float64, st.tuples(*[st.integers(1, 30)] * 2), elements=st.floats(0, 1)))
def test_other_sizes_are_resized_and_clipped(tmp_path_factory, score):
    folder = write_folder(tmp_path_factory.mktemp("maps"), [score], ["a.png"])
    resized = cv2.resize(score, (224, 224), interpolation=cv2.INTER_CUBIC)
    score_map = open_score_maps(folder, ["a.png"])[0]
    assert score_map.shape == (224, 224)
    assert (score_map == np.minimum(np.maximum(resized, 0.0), 1.0)).all()


def test_missing_and_unknown_maps_are_told_before_any_is_read(tmp_path):
    ids = [f"{i}.jpg" for i in range(9)]
    write_folder(tmp_path, np.zeros((2, 1)), ids[:2])
    with pytest.raises(ScoreMapError) as caught:
        open_score_maps(tmp_path, ids)
    assert "7 of 9 maps are missing: 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, ..." in str(caught.value)
    with pytest.raises(ScoreMapError, match=r"1 maps are of no image in the metadata: 1\.jpg$"):
        open_score_maps(tmp_path, ids[:1])
    with pytest.raises(ScoreMapError, match=r"missing: a\.jpg; 2 maps are of no image"):
        open_score_maps(tmp_path, ["a.jpg"])


@pytest.mark.parametrize("form", ["folder", "stack"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.where(np.arange(224**2) < 2, np.nan, 0.5), "2 of 50176 values are NaN or infinite"),
        (np.where(np.arange(224**2) < 1, np.inf, 0.5), "1 of 50176"),
        (np.linspace(-0.25, 1, 224**2), r"values from -0.25 to 1, not in \[0, 1\]"),
        (np.linspace(0, 1.5, 224**2), r"values from 0 to 1.5, not in \[0, 1\]"),
    ],
)
def test_bad_values_are_refused_with_the_image_and_the_reason(form, values, reason, tmp_path):
    written = np.stack([np.zeros((224, 224)), values.reshape(224, 224)])
    place = tmp_path / ("maps" if form == "folder" else "maps.npy")
    write = write_stack if form == "stack" else partial(write_folder, ids=IDS[:2])
    maps = open_score_maps(write(place, written), IDS[:2])
    assert not maps[0].any()
    with pytest.raises(ScoreMapError, match=rf"001\.Black/y, z\.jpg.*{reason}"):
        maps[1]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (np.zeros((224, 224), np.uint8), "not uint8: divide grey levels by 255"),
        (np.zeros((224, 224), np.int64), "not int64: write them as float32"),
        (np.zeros((224, 224), bool), "not bool"),
        (np.zeros((224, 224), complex), "not complex128"),
        (np.zeros((3, 224, 224)), r"two dimensions \(H, W\), this one \(3, 224, 224\)"),
        (np.zeros(224), r"this one \(224,\)"),
        (np.float64(0.5), r"this one \(\)"),
        (np.zeros((0, 5)), r"this one \(0, 5\)|cannot be read"),
    ],
)
def test_maps_of_another_kind_are_refused(written, reason, tmp_path):
    maps = open_score_maps(write_folder(tmp_path, [written], ["a.jpg"]), ["a.jpg"])
    with pytest.raises(ScoreMapError, match=rf"a\.jpg\.npy: .*({reason})"):
        maps[0]


class Trap:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_nothing_is_ever_unpickled(tmp_path):
    sprung, objects = tmp_path / "sprung", np.empty((1, 1), dtype=object)
    objects[0, 0] = Trap(sprung)
    write_folder(tmp_path / "maps", [objects], ["a.jpg"])
    (tmp_path / "maps" / "b.jpg.npy").write_bytes(pickle.dumps(Trap(sprung)))
    maps = open_score_maps(tmp_path / "maps", ["a.jpg", "b.jpg"])
    for place in (0, 1):
        with pytest.raises(ScoreMapError, match=r"cannot be read as a \.npy of numbers"):
            maps[place]
    with pytest.raises(ScoreMapError, match="cannot be read"):
        open_score_maps(tmp_path / "maps" / "a.jpg.npy", ["a.jpg"])
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array", "cut", "zip"])
def test_a_broken_file_is_refused_by_name(content, tmp_path):
    file = write_stack(tmp_path / "a.jpg.npy", random_maps(1)[0])
    if content == "cut":
        content = file.read_bytes()[:5000]
    elif content == "zip":
        np.savez(tmp_path / "z", a=np.zeros(3))
        content = (tmp_path / "z.npz").read_bytes()
    file.write_bytes(content)
    with pytest.raises(ScoreMapError, match=r"a\.jpg\.npy: cannot be read"):
        open_score_maps(tmp_path, ["a.jpg"])[0]


@pytest.mark.parametrize(
    ("name", "stack", "ids", "reason"),
    [
        ("m.npy", np.zeros((2, 4, 4)), IDS, "2 maps for 3 images"),
        ("m.npy", np.zeros((4, 4)), IDS, r"\(N, H, W\), this one \(4, 4\)"),
        ("m.npy", np.zeros((3, 4, 4), np.uint8), IDS, "divide grey levels by 255"),
        ("m.npy", np.zeros((2, 4, 4)), ["a", "a"], "more than once"),
        ("nowhere", np.zeros((3, 4, 4)), IDS, "neither a folder"),
        ("nowhere.npy", np.zeros((3, 4, 4)), IDS, r"nowhere\.npy: cannot be read"),
    ],
)
def test_a_stack_that_does_not_fit_the_images_is_refused(name, stack, ids, reason, tmp_path):
    write_stack(tmp_path / "m.npy", stack)
    with pytest.raises(ScoreMapError, match=reason):
        open_score_maps(tmp_path / name, ids)


def test_one_map_at_a_time_is_in_memory(tmp_path):
    ids = [f"{i}.jpg" for i in range(40)]
    stack = random_maps(40)  # 16 MB
    paths = write_folder(tmp_path / "maps", stack, ids), write_stack(tmp_path / "maps.npy", stack)
    for path in paths:
        tracemalloc.start()
        total = sum(score.sum() for score in open_score_maps(path, ids))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == pytest.approx(stack.sum())
        assert peak < 2e6


@given(st.integers(1, 12).flatmap(lambda n: arrays(np.int64, n, elements=st.integers(0, 7))))
def test_predictions_give_the_ranks_of_the_logits(tmp_path_factory, labels):
    ids = [f'{i}, "quoted".jpg' if i % 2 else f"{i}.jpg" for i in range(len(labels))]
    logits = np.random.default_rng(len(ids)).normal(size=(len(ids), 8))
    top = np.argsort(-logits, axis=1)[:, :5]
    file = tmp_path_factory.mktemp("predictions") / "p.csv"
    # In any order of rows, with or without quotes.
    quoted = ['"' + image.replace('"', '""') + '"' if "," in image else image for image in ids]
    lines = [f"{q},{','.join(map(str, row))}" for q, row in zip(quoted, top, strict=True)]
    file.write_text("\n".join([HEADER, *lines[::-1]]))
    ranks, predictions = read_predictions(file, ids, labels)
    assert (predictions == top).all()
    assert (ranks == np.minimum(rank_labels(logits, labels)[1], 5)).all()


def test_all_errors_of_a_prediction_file_are_told_by_line(tmp_path):
    file = tmp_path / "p.csv"
    lines = [HEADER, "a,0,1,2,3,4", "b,0,1,2,3,3", "c,0,1,2,3,-4", "d,0,1,2,3,9", "e,0,1,2,3"]
    lines += ["a,4,3,2,1,0", "f,0,1,2,3,4", "g,0,1.0,2,3,4", HEADER]
    file.write_text("\n".join(lines))
    with pytest.raises(DatasetError) as caught:
        read_predictions(file, list("abcdegh"), [0] * 7)
    told = "\n".join(caught.value.errors)
    for part in (
        f"{file}:3: image b has a class more than once",
        f"{file}:4: malformed line 'c,0,1,2,3,-4'",
        f"{file}:6: malformed line 'e,0,1,2,3'",
        f"{file}:7: duplicate id a, first on line 2",
        f"{file}:8: image f is not in the metadata",
        f"{file}:9: malformed line 'g,0,1.0,2,3,4'",
        f"{file}: 4 images without prediction: c, e, g, h",
        f"{file}: the header {HEADER} is to be the first line, and once",
    ):
        assert part in told
    assert len(caught.value.errors) == 8


def test_a_prediction_file_and_its_header_are_needed(tmp_path):
    file = tmp_path / "p.csv"
    with pytest.raises(DatasetError, match=r"p\.csv: missing file"):
        read_predictions(file, ["a"], [0])
    for first in ("", "image,class_1,class_2,class_3,class_4,class_5", "x,a,b", "image_id"):
        file.write_text(f"{first}\na,0,1,2,3,4\n")
        with pytest.raises(DatasetError, match="the header"):
            read_predictions(file, ["a"], [0])
    with pytest.raises(ValueError, match="2 labels for 1 images"):
        read_predictions(file, ["a"], [0, 1])


def write_metadata(folder: Path, box: str) -> Path:
    """A split of one image of 30 x 20 pixels, which is not on disk."""
    files = {"image_ids": "a.jpg", "class_labels": "a.jpg,3", "image_sizes": "a.jpg,30,20"}
    for name, line in (files | {"localization": f"a.jpg,{box}"}).items():
        (folder / f"{name}.txt").write_text(line)
    return folder


def test_metadata_is_enough_without_images(tmp_path):
    (row,) = read_split_metadata(write_metadata(tmp_path, "1,2,30,20"), "test").itertuples()
    assert (row.image_id, row.label, row.width, row.height) == ("a.jpg", 3, 30, 20)
    assert parse_boxes(row.boxes).tolist() == [[1, 2, 30, 20]]


@pytest.mark.parametrize("box", ["1,2,40,20", "-5,2,10,20", "1,2,30,25", "40,2,50,20"])
def test_a_box_outside_its_image_is_refused_without_image_files(box, tmp_path):
    with pytest.raises(DatasetError, match=r"localization\.txt:1: box .* outside the image"):
        read_split_metadata(write_metadata(tmp_path, box), "test")


@pytest.mark.skipif(not CUB_TEST.is_dir(), reason="the published metadata of CUB is not here")
def test_the_published_test_split_of_cub_can_be_evaluated_without_images(tmp_path):
    index = read_split_metadata(CUB_TEST, "test")
    ids, labels = index["image_id"].tolist(), index["label"].to_numpy()
    assert ids == (CUB_TEST / "image_ids.txt").read_text().splitlines()
    published = (CUB_TEST / "localization.txt").read_text().splitlines()
    boxes = np.array([line.split(",")[1:] for line in published], dtype=float)
    assert (np.concatenate([parse_boxes(text) for text in index["boxes"]]) == boxes).all()

    maps = np.random.default_rng(0).uniform(size=(5794, 3, 3)).astype(np.float32)
    scores = open_score_maps(write_stack(tmp_path / "maps.npy", maps), ids)
    assert len(scores) == 5794
    assert scores[5793].shape == (224, 224)
    file = tmp_path / "p.csv"
    top = (labels[:, None] + np.arange(5)) % 200
    lines = [f"{name},{','.join(map(str, row))}" for name, row in zip(ids, top, strict=True)]
    file.write_text("\n".join([HEADER, *lines]))
    ranks, _ = read_predictions(file, ids, (labels + 2) % 200)
    assert (ranks == 2).all()
