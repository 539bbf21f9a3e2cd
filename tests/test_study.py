"""The study: a control goes from drawing to table, and its tables say what they claim."""

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wsol.boxes import TAUS
from wsol.config import TrainConfig
from wsol.controls import run_control
from wsol.datasets.birds import BirdsConfig
from wsol.localization_table import LocalizationTable
from wsol.study_tables import control_table, readable_controls, trial_table
from wsol.yaml12 import load

ROOT = Path(__file__).parents[1]
PARAMS = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
METHODS_COMPARED = ("CAM", "Background images")
SMALL = dict(
    backbone="small4", epochs=1, batch_size=10, background_batch=4, input_size=32, threads=1
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """A control of both methods: its folder, and what it returned."""
    out = tmp_path_factory.mktemp("control")
    birds = BirdsConfig(n_train=20, n_fullsup=4, n_test=4, n_background=6, gap=1.0)
    trainings = [TrainConfig(method, **SMALL) for method in ("cam", "background")]
    return out, run_control("far", birds, trainings, out)


@pytest.fixture
def control(ran: tuple[Path, list]) -> Path:
    return ran[0]


def test_a_control_returns_the_tables_that_it_leaves(ran: tuple[Path, list]) -> None:
    out, pairs = ran
    kept = list((out / "evaluate").glob("*.npz"))
    assert len(kept) == 2 * len(pairs) == 8  # CAM has one map, the method three
    for test, fullsup in pairs:
        for table, split in ((test, "test"), (fullsup, "train-fullsup")):
            meta = table.meta
            assert meta["split"] == split
            name = f"{meta['method']}-{meta['seed']}-{meta['map']}-{split}.npz"
            read = LocalizationTable.load(out / "evaluate" / name)
            assert np.abs(read.iou_largest - table.iou_largest).max() < 1e-3


def test_a_control_puts_both_methods_on_one_set(control: Path) -> None:
    table = control_table({"far": control}).set_index("method")
    assert list(table.index)[:2] == ["CAM", "Background images"]
    assert set(table["dataset"]) == {"far"}
    error = table["gt_known_loc_error_mean"]
    assert table.loc["CAM", "gt_known_ratio"] == 1
    expected = error["Background images"] / error["CAM"]
    assert table.loc["Background images", "gt_known_ratio"] == pytest.approx(expected)
    assert len(readable_controls(table.reset_index())) == len(table)


def test_a_control_is_drawn_again_when_its_drawing_is_to_differ(control: Path) -> None:
    before = (control / "birds" / "birds.json").stat().st_mtime_ns
    birds = BirdsConfig(n_train=20, n_fullsup=4, n_test=4, n_background=6, gap=1.0)
    run_control("far", birds, [], control)
    assert (control / "birds" / "birds.json").stat().st_mtime_ns == before
    run_control("near", BirdsConfig(n_train=20, n_fullsup=4, n_test=4, n_background=6), [], control)
    assert (control / "birds" / "birds.json").stat().st_mtime_ns > before


def test_the_readme_quotes_the_controls() -> None:
    committed = ROOT / "reports" / "study" / "controls.csv"
    if not committed.is_file():
        pytest.skip("there is no report of the study yet")
    table = pd.read_csv(committed, dtype=str).set_index(["dataset", "method"])

    def quoted(name: str, method: str, column: str, unit: str = "0.1") -> str:
        value = Decimal(table.at[(name, method), column])  # the digits of the file, not a float's
        return str(value.quantize(Decimal(unit), ROUND_HALF_UP))

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in table.index.unique("dataset"):
        cells = []
        for error, ratio in (("gt_known_loc_error", "0.01"), ("top1_loc_error", None)):
            cells += [quoted(name, method, f"{error}_mean") for method in METHODS_COMPARED]
            cells += [quoted(name, METHODS_COMPARED[1], "gt_known_ratio", ratio)] if ratio else []
        cells += [" / ".join(quoted(name, method, "cls_error_mean") for method in METHODS_COMPARED)]
        assert f"| {' | '.join(cells)} |" in readme, name


def test_a_trial_is_judged_on_train_fullsup_alone(tmp_path: Path) -> None:
    iou = np.zeros((4, len(TAUS)))
    iou[:3, 100] = 0.6  # at tau = .1 three of four boxes are right, on the other split none
    rows = pd.DataFrame({"image_id": list("abcd"), "label": 0, "prediction": [0, 0, 1, 0]})
    rows["rank"] = rows["prediction"]
    meta = {"method": "background", "map": "class", "read_out": "sigmoid", "split": "train-fullsup"}
    LocalizationTable(rows, TAUS, iou, iou, meta=meta).save(tmp_path / "x-class-train-fullsup.npz")
    none = np.zeros_like(iou)
    other = LocalizationTable(rows, TAUS, none, none, meta=meta | {"split": "test"})
    other.save(tmp_path / "x-class-test.npz")
    row = trial_table({"changed": tmp_path}).iloc[0]
    assert (row["trial"], row["read_out"], row["tau"]) == ("changed", "sigmoid", TAUS[100])
    assert [row["gt_known_loc_error"], row["top1_loc_error"], row["cls_error"]] == [25, 50, 25]


def test_the_study_lists_controls_and_trials_that_there_are() -> None:
    assert PARAMS["study"]["controls"] == list(PARAMS["controls"])
    assert set(PARAMS["study"]["trials"]) <= set(PARAMS["trials"])


def test_a_trial_changes_one_thing() -> None:
    for name, changes in PARAMS["trials"].items():
        changed = {key for key, value in changes.items() if value != PARAMS["background"][key]}
        assert changed, name
        assert len(changed) == 1 or changed <= {"ramp_start", "ramp_end"}, name
