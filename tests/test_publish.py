"""Published runs: small, complete, and as good as the tables that they were made from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import wsol
from wsol.datasets.birds import SPECIES, bird_picture
from wsol.evaluation.metrics import choose_tau, localization_errors
from wsol.evaluation.table import LocalizationTable
from wsol.inference.published import FOLDER, publish
from wsol.localize_own import main
from wsol.report.format import rounded

ROOT = Path(__file__).parents[1]
RUNS = sorted(path.parent for path in FOLDER.rglob("weights.safetensors"))
NAMES = [path.relative_to(FOLDER).as_posix() for path in RUNS]


def _table(run: Path, kind: str, split: str) -> LocalizationTable:
    folder = ROOT / "reports" / "localization" / "evaluate"
    return LocalizationTable.load(folder / f"{run.name}-{kind}-{split}.npz")


def test_there_is_a_run_of_each_method_of_the_report() -> None:
    assert NAMES == ["birds/background-0", "birds/cam-0"]
    assert [wsol.published(name) for name in NAMES] == RUNS
    assert all((run / "weights.safetensors").stat().st_size < 500_000 for run in RUNS)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'birds/cam'; there are: birds/background-0, birds/cam"):
        wsol.published("birds/cam")


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_its_thresholds_are_those_that_train_fullsup_chose(run: Path) -> None:
    boxes = json.loads((run / "boxes.json").read_text("utf-8"))
    for kind, told in boxes.items():
        fullsup = _table(run, kind, "train-fullsup")
        assert told["read_out"] == fullsup.meta["read_out"]
        assert told["tau"] == pytest.approx(choose_tau(fullsup))


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_its_card_quotes_the_report_and_names_the_very_weights(run: Path) -> None:
    card = (run / "card.md").read_text("utf-8")
    test, tau = _table(run, "class", "test"), choose_tau(_table(run, "class", "train-fullsup"))
    errors = localization_errors(test, tau)
    assert f"| Top-1 localization, class map | {rounded(errors['top1_loc_error'])} |" in card
    assert hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest() in card


def test_the_background_run_finds_birds_that_the_head_alone_does_not_give() -> None:
    """Twenty new pictures, one of each class; 19.5 and 77.3 % of the test set are wrong."""
    rng = np.random.default_rng(3)
    drawn = [bird_picture(rng, species) for species in SPECIES]
    right = {}
    for name in NAMES:
        found = wsol.localize([one.image for one in drawn], wsol.published(name))
        right[name] = sum(_iou(f.box, one.box) >= 0.5 for f, one in zip(found, drawn, strict=True))
    assert right["birds/background-0"] >= 12
    assert right["birds/cam-0"] <= 10


def _iou(box: np.ndarray, drawn: tuple[int, int, int, int]) -> float:
    x, y, width, height = drawn
    sides = np.minimum(box[2:], (x + width, y + height)) - np.maximum(box[:2], (x, y))
    overlap = np.prod(np.maximum(sides, 0))
    return float(overlap / (np.prod(box[2:] - box[:2]) + width * height - overlap))


def test_a_run_is_published_without_what_changes_from_one_execution_to_the_next(
    tmp_path: Path,
) -> None:
    run, tables = (
        tmp_path / "train" / "background-0",
        ROOT / "reports" / "localization" / "evaluate",
    )
    run.mkdir(parents=True)
    source = wsol.published("birds/background-0")
    (run / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    record = json.loads((source / "run.json").read_text("utf-8"))
    record["cost"] |= {"seconds": 1.23}
    (run / "run.json").write_text(json.dumps(record | {"git_commit": "abc"}), encoding="utf-8")
    made = publish(run, tables, tmp_path / "birds")
    for file in source.iterdir():
        assert (made / file.name).read_bytes() == file.read_bytes(), file.name


def test_without_tables_nothing_is_published(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no tables of the class map of cam-0"):
        publish(wsol.published("birds/cam-0"), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_given_threshold_wins_over_the_published_one(tmp_path: Path) -> None:
    image = bird_picture(np.random.default_rng(0), SPECIES[0]).image
    Image.fromarray(image).save(tmp_path / "a.png")
    run = wsol.published("birds/background-0")
    boxes = json.loads((run / "boxes.json").read_text("utf-8"))["class"]
    (own,) = wsol.localize(tmp_path, run)
    (same,) = wsol.localize(tmp_path, run, **boxes)
    (other,) = wsol.localize(tmp_path, run, tau=0.9, read_out=boxes["read_out"])
    assert own.box.tolist() == same.box.tolist() != other.box.tolist()


def test_the_command_takes_the_name_of_a_published_run(tmp_path: Path) -> None:
    image = bird_picture(np.random.default_rng(0), SPECIES[0]).image
    Image.fromarray(image).save(tmp_path / "a.png")
    words = ["birds/background-0", str(tmp_path / "a.png"), "--out", str(tmp_path / "boxes")]
    assert main(words) == 0
    (found,) = wsol.localize(tmp_path / "a.png", wsol.published("birds/background-0"))
    (row,) = pd.read_csv(tmp_path / "boxes" / "boxes.csv").itertuples()
    assert [row.x0, row.y0, row.x1, row.y1] == pytest.approx(found.box, abs=0.01)
