"""Published runs: small, complete, and consistent with the tables that they were made from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image

import wsol
from wsol.datasets.birds import SPECIES, bird_image
from wsol.evaluation.boxes import box_iou
from wsol.evaluation.metrics import choose_tau, localization_errors
from wsol.evaluation.table import LocalizationTable
from wsol.inference.export import localize_to_folder
from wsol.inference.published import publish
from wsol.report.format import rounded
from wsol.training import FOLDER

TABLES = Path(__file__).parents[1] / "reports" / "localization" / "evaluate"
NAMES = ["birds/background-0", "birds/cam-0"]
RUNS = [FOLDER / name for name in NAMES]
CAT = (0, 0, 400, 300)  # x0, y0, x1, y1 by eye
PHOTOS = ["photos/cub27", "photos/pets"]  # heads alone: the backbone is installed


def test_there_is_a_small_run_of_each_method_of_the_report() -> None:
    runs = RUNS + [FOLDER / name for name in PHOTOS]
    assert sorted(path.parent for path in FOLDER.rglob("weights.safetensors")) == runs
    assert [wsol.published(name) for name in NAMES + PHOTOS] == runs
    assert all((run / "weights.safetensors").stat().st_size < 700_000 for run in runs)
    with pytest.raises(ValueError, match=r"'birds/cam'; there are: birds/background-0, birds/cam"):
        wsol.published("birds/cam")


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_thresholds_and_card_follow_from_the_committed_tables(run: Path) -> None:
    boxes, card = json.loads((run / "boxes.json").read_text("utf-8")), (run / "card.md").read_text()
    assert boxes.pop("weights_sha256") in card
    for kind, settings in boxes.items():
        test, fullsup = (
            LocalizationTable.load(TABLES / f"{run.name}-{kind}-{split}.npz")
            for split in ("test", "train-fullsup")
        )
        tau = choose_tau(fullsup)
        assert settings["read_out"] == fullsup.meta["read_out"]
        assert settings["tau"] == pytest.approx(tau)
        error = rounded(localization_errors(test, tau)["top1_loc_error"])
        assert f"| Top-1 localization, {kind} map | {error} |" in card
    assert hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest() in card


def test_a_photograph_of_a_cat_is_localized() -> None:
    cat = skimage.data.chelsea()
    (detection,) = wsol.localize(cat, wsol.published("photos/pets"))
    truth = np.array([CAT])
    assert box_iou(detection.box[None], truth, plus=0)[0, 0] >= 0.5


@pytest.mark.parametrize("name", PHOTOS)
def test_card_of_a_photographs_run_has_its_digest_and_terms(name: str) -> None:
    folder = FOLDER / name
    card = (folder / "card.md").read_text("utf-8")
    assert hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest() in card
    assert "## Terms" in card


def test_the_background_run_localizes_birds_better_than_cam() -> None:
    """Twenty new images, one of each class; about 20 and 78 % of the test set are wrong."""
    rng = np.random.default_rng(3)
    drawn = [bird_image(rng, species) for species in SPECIES]
    right = dict.fromkeys(NAMES, 0)
    for name in NAMES:
        detections = wsol.localize([one.image for one in drawn], wsol.published(name))
        for d, (x, y, width, height) in zip(detections, (o.box for o in drawn), strict=True):
            truth = np.array([[x, y, x + width, y + height]])
            right[name] += box_iou(d.box[None], truth)[0, 0] >= 0.5
    assert right["birds/background-0"] >= 12
    assert right["birds/cam-0"] <= 10


@pytest.mark.parametrize("source", RUNS, ids=NAMES)
def test_publishing_again_gives_the_committed_bytes(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "train" / source.name
    run.mkdir(parents=True)
    (run / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    record = json.loads((source / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps(record | {"execution": {"device": "cpu"}}))
    out = publish(run, TABLES, tmp_path / "birds")
    for file in source.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_card_claims_nothing_about_another_data_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cam-0"):
        publish(RUNS[1], tmp_path, tmp_path / "out")  # there are no tables yet
    for split in ("test", "train-fullsup"):
        table = LocalizationTable.load(TABLES / f"cam-0-class-{split}.npz")
        table.meta["dataset"] = "cars"
        table.save(tmp_path / f"cam-0-class-{split}.npz")
    card = (publish(RUNS[1], tmp_path, tmp_path / "out") / "card.md").read_text("utf-8")
    assert "Cars: " in card
    assert not [word for word in ("wsol.datasets", "MIT", "birds") if word in card]


def test_a_given_threshold_wins_and_a_folder_can_be_localized_by_name(tmp_path: Path) -> None:
    image = bird_image(np.random.default_rng(0), SPECIES[0]).image
    Image.fromarray(image).save(tmp_path / "a.png")
    run = wsol.published("birds/background-0")
    boxes = json.loads((run / "boxes.json").read_text("utf-8"))["class"]
    (own,) = wsol.localize(tmp_path, run)
    (same,) = wsol.localize(tmp_path, run, **boxes)
    (other,) = wsol.localize(tmp_path, run, tau=0.9, read_out=boxes["read_out"])
    assert own.box.tolist() == same.box.tolist() != other.box.tolist()
    done = localize_to_folder([tmp_path / "a.png"], "birds/background-0", tmp_path / "boxes")
    (row,) = pd.read_csv(done.files[0]).itertuples()
    assert [row.x0, row.y0, row.x1, row.y1] == pytest.approx(own.box, abs=0.01)
