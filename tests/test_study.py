"""The study: a control goes from drawing to table, and its tables say what they claim."""

from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from committed import skip_unless_committed

from wsol.controls import run_control
from wsol.datasets.birds import BirdsConfig
from wsol.evaluation.boxes import TAUS
from wsol.evaluation.table import LocalizationTable
from wsol.methods import get_method
from wsol.notebook import load
from wsol.report.study import (
    class_pair,
    control_outcomes,
    control_table,
    readable_controls,
    readable_outcomes,
    readable_search,
    readable_trials,
    search_table,
    trial_table,
)
from wsol.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
PARAMS = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDY = load((ROOT / "params" / "study.yaml").read_text(encoding="utf-8"))
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


def test_the_page_of_the_methods_quotes_the_controls() -> None:
    skip_unless_committed("reports/tables")
    committed = ROOT / "reports" / "tables" / "controls.csv"
    if not committed.is_file():
        pytest.skip("there is no report of the study yet")
    table = pd.read_csv(committed, dtype=str).set_index(["dataset", "method"])

    def quoted(name: str, method: str, column: str, unit: str = "0.1") -> str:
        value = Decimal(table.at[(name, method), column])  # the digits of the file, not a float's
        return str(value.quantize(Decimal(unit), ROUND_HALF_UP))

    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name in table.index.unique("dataset"):
        cells = []
        for error, ratio in (("gt_known_loc_error", "0.01"), ("top1_loc_error", None)):
            cells += [quoted(name, method, f"{error}_mean") for method in METHODS_COMPARED]
            cells += [quoted(name, METHODS_COMPARED[1], "gt_known_ratio", ratio)] if ratio else []
        cells += [" / ".join(quoted(name, method, "cls_error_mean") for method in METHODS_COMPARED)]
        assert f"| {' | '.join(cells)} |" in page, name


def _tables(hits: int, folder: Path, method: str = "background", seed: int = 0) -> None:
    """Tables of 40 images, at tau = .1 so many boxes right; both splits are the same."""
    iou = np.zeros((40, len(TAUS)))
    iou[:hits, 100] = 0.6
    rows = pd.DataFrame({"image_id": [f"{i:02d}" for i in range(40)], "label": 0, "prediction": 0})
    rows["rank"] = 0
    rows.loc[:3, ["prediction", "rank"]] = 1
    meta = {"method": method, "map": "class", "read_out": "sigmoid", "dataset": "d"}
    meta |= {"seed": str(seed), "backbone": "b", "protocol": "choe2020"}
    for split in ("test", "train-fullsup"):
        table = LocalizationTable(rows, TAUS, iou, iou, meta=meta | {"split": split})
        table.save(folder / f"{method}-{seed}-class-{split}.npz")


def test_the_search_is_judged_on_train_fullsup_and_the_first_of_the_best_is_chosen(tmp_path):
    folders = {f"has_{i}": tmp_path / str(i) for i in range(3)}
    for folder, hits in zip(folders.values(), (20, 30, 30), strict=True):
        _tables(hits, folder, "has")
        (folder / "has-0-class-test.npz").unlink()  # nobody may ask for it
    trials = {name: {"method": "has", "patch_size": i} for i, name in enumerate(folders)}
    table = search_table(trials, folders)
    assert table["settings"].tolist() == ["patch_size=0", "patch_size=1", "patch_size=2"]
    assert table["gt_known_loc_error"].tolist() == [50, 25, 25]
    assert table["top1_loc_error"].tolist() == [60, 35, 35]
    assert table["cls_error"].tolist() == [10] * 3
    assert table["chosen"].tolist() == [False, True, False]


def test_a_trial_is_better_or_worse_by_the_interval_of_its_difference(tmp_path):
    for name, hits in (("chosen", 20), ("near", 21), ("far", 4), ("good", 40)):
        _tables(hits, tmp_path / name)
    folders = {name: tmp_path / name for name in ("near", "far", "good")}
    expected = {"expected": "worse", "written": "before", "why": "so"}
    table = trial_table(
        folders,
        {name: {"pooling": name} for name in folders},
        dict.fromkeys(folders, expected),
        class_pair(tmp_path / "chosen"),
    ).set_index("trial")
    assert table["test_gt_known_loc_error"].to_dict() == {
        **{"as_chosen": 50, "near": 47.5},
        **{"far": 90, "good": 0},
    }
    assert table["outcome"].to_dict() == {
        **{"as_chosen": table.at["as_chosen", "outcome"], "near": "same"},
        **{"far": "worse", "good": "better"},
    }
    assert table["came"].tolist()[1:] == [False, True, False]
    assert table.at["far", "difference"] == pytest.approx(40)
    assert table.at["far", "settings"] == "pooling=far"


def test_what_a_person_reads_says_what_came_and_why() -> None:
    judged = {"difference": 21.04, "low": 16.5, "high": 26.0, "expected": "same"}
    judged |= {"written": "before", "why": "it did as well", "outcome": "worse", "came": False}
    errors = {"gt_known_loc_error": 40.55, "top1_loc_error": 44.5, "cls_error": 8.45}
    on_test = {f"test_{name}": error for name, error in errors.items()}
    chosen = {"trial": "as_chosen", "settings": ""} | on_test
    trial = {"trial": "head_conv", "settings": "head=conv"} | on_test | judged
    trials = pd.DataFrame([chosen, trial])
    shown = readable_trials(trials)
    why = "it did as well (written before the run)"
    assert shown.loc["head=conv"].to_dict() == {
        **{"GT-known loc.": "40.6", "Top-1 loc.": "44.5"},
        **{"Classification": "8.5", "Difference": "21.0 (16.5 to 26.0)", "Expected": "same"},
        **{"Came": "no: worse", "Why": why},
    }
    assert shown.loc["as chosen", ["Difference", "Expected", "Came", "Why"]].tolist() == [""] * 4
    pd.testing.assert_frame_equal(
        readable_trials(trials[:1].dropna(axis=1))[shown.columns], shown[:1]
    )
    (control,) = readable_outcomes(
        pd.DataFrame([{"control": "gap_1", "seed": 0} | judged | {"came": True}])
    ).to_dict("records")
    assert control["Came"] == "yes"
    searched = pd.DataFrame([{"method": "HaS", "settings": "x=1", "chosen": True} | errors])
    found = readable_search(searched).loc["HaS", ["Top-1 loc.", "Chosen"]]
    assert found.tolist() == ["44.5", "yes"]


def test_a_control_without_a_cam_is_compared_with_that_of_the_main_set(tmp_path):
    for seed in (0, 1):
        _tables(10, tmp_path / "main" / "evaluate", "cam", seed)
    _tables(36, tmp_path / "noise" / "evaluate", "background", 0)
    _tables(9, tmp_path / "even" / "evaluate", "background", 0)
    _tables(1, tmp_path / "worse" / "evaluate", "background", 0)
    folders = {name: tmp_path / name for name in ("noise", "even", "worse")}
    table = control_table(folders, tmp_path / "main")
    assert set(table["method"]) == {"CAM", "Background images"}
    assert table["n_seeds"].tolist() == [1] * 6  # CAM with the seeds of the control alone
    expected = {"expected": "loses", "written": "before", "why": "so"}
    found = control_outcomes(folders, dict.fromkeys(folders, expected), tmp_path / "main")
    assert found["outcome"].tolist() == ["wins", "neither", "loses"]
    assert found["came"].tolist() == [False, False, True]


def test_the_study_lists_controls_and_trials_that_there_are() -> None:
    assert set(STUDY["study"]["controls"]) <= set(STUDY["controls"])
    assert set(STUDY["study"]["trials"]) <= {*STUDY["trials"], "two_stages"}


def test_of_everything_something_is_expected() -> None:
    for kind, outcomes in (
        ("trials", {"better", "same", "worse"}),
        ("controls", {"wins", "loses"}),
    ):
        expectations = STUDY["expectations"][kind]
        assert set(STUDY["study"][kind]) <= set(expectations)
        for name, expected in expectations.items():
            assert expected["expected"] in outcomes, name
            assert expected["written"] in ("before", "after"), name


def test_a_trial_changes_one_thing() -> None:
    defaults = asdict(get_method("background").Config()) | PARAMS["background"]
    defaults |= {"n_background": PARAMS["data"]["n_background"]}
    for name, changes in STUDY["trials"].items():
        changed = {key for key, value in changes.items() if value != defaults[key]}
        assert changed, name
        assert len(changed) == 1 or changed <= {"ramp_start", "ramp_end"}, name
