"""The study on photographs: its settings, its skip, and a run on generated images."""

import re
import shutil

import numpy as np
import pandas as pd
import photos
import photos_finetuned
import photos_report
import photos_sets
import pytest
from dataset_files import noise_image
from ruamel.yaml import YAML

from wsol.datasets.index import INDEX, read_index, rows_of
from wsol.notebook.parameters import load_yaml
from wsol.report.tables import mean_over_seeds
from wsol.training.config import Execution, config_from

PARAMS = load_yaml(photos.PARAMS.read_text(encoding="utf-8"))


def test_every_row_is_a_training_and_no_class_is_in_both_halves():
    finetuned = PARAMS["finetuned"]
    for row in finetuned["rows"].values():
        assert config_from(PARAMS["train"] | finetuned["train"] | row).freeze == "none"
    for group in PARAMS["groups"].values():
        for row in group["rows"].values():
            values = PARAMS["train"] | group.get("train", {}) | row
            assert config_from(values).freeze == "all"
            assert values.get("background_set", "scenes") in PARAMS["background"]
    halves = [set(PARAMS["data"][name]["classes"]) for name in ("tuning", "heldout")]
    assert not halves[0] & halves[1]
    assert [len(half) for half in halves] == [14, 13]


def test_without_the_archives_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(photos, "RAW", tmp_path)
    assert photos.main([]) == 0
    assert "skipped: no CUB_200_2011 and no oxford-iiit-pet" in capsys.readouterr().out


def test_a_row_that_is_not_there_is_an_error(capsys):
    assert photos.main(["main/cam", "main/background_pls", "others"]) == 2
    assert capsys.readouterr().out == "photos.yaml has no group or GROUP/ROW main/background_pls\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Folders of a study with a CUB of 12 images in 2 classes and 6 scenes."""
    root = tmp_path / "raw" / "CUB_200_2011"
    paths = [f"{c:03}.Bird_{c}/{i}.png" for c in (1, 2) for i in range(6)]
    for seed, path in enumerate(paths):
        noise_image(root / "images" / path, (40, 30), seed)
    rows = list(enumerate(paths, start=1))
    for name, line in {
        "images.txt": lambda i, path: f"{i} {path}",
        "image_class_labels.txt": lambda i, path: f"{i} {int(path[:3])}",
        "train_test_split.txt": lambda i, path: f"{i} {int(path[-5] < '4')}",
        "bounding_boxes.txt": lambda i, path: f"{i} 12 10 16 12",
    }.items():
        (root / name).write_text("".join(f"{line(*row)}\n" for row in rows))
    (root / "classes.txt").write_text("1 001.Bird_1\n2 002.Bird_2\n3 003.Absent\n")
    for seed in range(6):
        noise_image(tmp_path / "raw" / "scenes" / "coast" / f"{seed}.png", (50, 40), 100 + seed)
    for module in (photos, photos_sets):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "RAW", tmp_path / "raw")
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(photos, "RAW_FOLDERS", ("CUB_200_2011", "scenes"))
    monkeypatch.setattr(photos, "EXECUTION", Execution(cache=str(tmp_path / "cache"), device="cpu"))
    params = {
        "data": {"cub27": {"fullsup": 1}, "tuning": {"fullsup": 1}},
        "background": {"scenes": ["scenes"], "scenes_near": [], "objects": []},
        "train": PARAMS["train"] | {"input_size": 64, "epochs": 1, "batch_size": 4, "threads": 1},
        "finetuned": {
            "train": {"freeze": "none"},
            "learning_rates": [0.001, 0.01],
            "seeds": [0],
            "rows": {"background_plus": {}},
        },
        "groups": {
            "main": {"data": "cub27", "rows": {"cam": {"method": "cam"}, "background_plus": {}}},
            "sets": {
                "data": "cub27",
                "rows": {
                    "near": {"background_set": "scenes_near"},
                    "objects": {"background_set": "objects"},
                },
            },
        },
    }
    monkeypatch.setattr(photos, "PARAMS", tmp_path / "photos.yaml")
    YAML().dump(params, photos.PARAMS)
    return tmp_path


def test_a_study_trains_evaluates_and_does_nothing_twice(project, capsys):
    assert photos.main(["main", "sets"]) == 0
    assert "main cam-0 | class:" in capsys.readouterr().out
    weights = project / "runs" / "main" / "background_plus-0" / "train" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    photos.main(["main", "sets"])
    assert weights.stat().st_mtime_ns == before
    rows = pd.DataFrame(photos_report.numbers_of("main", "background_plus"))
    assert set(rows["map"]) == {"class", "foreground", "product"}
    assert set(rows["n_background"]) == {6}
    assert len(mean_over_seeds(rows)) == 3
    index = read_index(project / "runs" / "data" / "cub27" / INDEX)
    learned = rows_of(index, "train-weaksup")["path"]
    shown = {path.resolve() for path in (project / "runs" / "sets" / "objects").iterdir()}
    assert shown == {(project / "runs" / "data" / "cub27" / path).resolve() for path in learned}
    assert index["split"].value_counts().to_dict() == {
        "train-weaksup": 6,
        "train-fullsup": 2,
        "test": 4,
    }


def test_squares_lie_beside_the_box_and_in_the_image():
    squares = photos_sets.squares_beside(np.array([40.2, 20, 70, 60]), (100, 80))
    assert squares == [(0, 20, 40, 60), (70, 25, 100, 55), (40, 0, 60, 20), (40, 60, 60, 80)]


def test_the_distance_of_normal_distributions_is_known():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(20000, 3))
    own = photos_sets.statistics(one)
    assert photos_sets.frechet(own, own) == pytest.approx(0, abs=1e-6)
    other = photos_sets.statistics(2 * one + [3, 0, 0])
    assert photos_sets.frechet(own, other) == pytest.approx(9 + 3, rel=0.05)


def test_a_report_renews_the_rows_of_runs_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(photos_report, "TABLES", tmp_path)
    keys = ["group", "seed"]
    rows = [{"group": g, "seed": s, "error": 1.0} for g in ("main", "bas") for s in (0, 1)]
    assert photos_report.renewed(rows, "runs", keys).equals(pd.DataFrame(rows))
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    new = [{"group": "main", "seed": s, "error": 2.0} for s in (1, 2)]
    table = photos_report.renewed(new, "runs", keys)
    assert [tuple(row) for row in table.to_numpy()] == [
        ("main", 0, 1.0),
        ("main", 1, 2.0),
        ("bas", 0, 1.0),
        ("bas", 1, 1.0),
        ("main", 2, 2.0),
    ]
    assert len(photos_report.renewed([], "runs", keys)) == 4


def test_the_packed_file_has_all_that_a_training_needs(project, monkeypatch, capsys):
    monkeypatch.setattr(photos_finetuned, "PRECISION", "fp32")
    monkeypatch.setattr(photos_finetuned, "SIDE", 20)  # half of the images' 40 x 30 pixels
    packed = project / "packed.tar"
    assert photos_finetuned.pack(packed) < photos_finetuned.LIMIT
    for folder in ("raw", "runs/data"):
        shutil.rmtree(project / folder)
    photos_finetuned.run(packed, 1, ["background_plus"], images=4)
    lines = capsys.readouterr().out.splitlines()
    tried = {float(re.search("top1_loc_error ([0-9.]+)", line)[1]): line for line in lines[1::-1]}
    chosen = re.search("rate ([0-9.]+)", tried[min(tried)])[0]  # the first of equal ones
    assert re.match(f"finetuned/background_plus-0, {chosen}: gt_known_loc_error [0-9.]+,", lines[2])
    index = read_index(project / "runs" / "packed" / "cub27" / INDEX)
    assert {*index["boxes"]} == {"6 5 14 11"}  # 16 x 12 pixels at (12, 10)
    assert {*zip(index["width"], index["height"], strict=True)} == {(20, 15)}
    assert len(photos_report.numbers_of("finetuned", "background_plus")) == 3
