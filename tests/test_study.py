"""The tables of the study say what they claim."""

from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from committed import skip_unless_committed

from wsol.evaluation.boxes import TAUS
from wsol.evaluation.table import LocalizationTable
from wsol.methods import get_method
from wsol.notebook.parameters import load_yaml
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

ROOT = Path(__file__).parents[1]
PARAMS = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDY = load_yaml((ROOT / "study" / "params" / "study.yaml").read_text(encoding="utf-8"))
METHODS_COMPARED = ("CAM", "Background images")
EXPECTED = {"written": "before", "why": "so"}


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


def _tables(hits: int, folder: Path, method="background", seed=0, dataset="d") -> None:
    """Tables of 40 images, at tau = .1 so many boxes right; both splits are the same."""
    iou = np.zeros((40, len(TAUS)))
    iou[:hits, 100] = 0.6
    rows = pd.DataFrame({"image_id": [f"{i:02d}" for i in range(40)], "label": 0, "prediction": 0})
    rows["rank"] = 0
    rows.loc[:3, ["prediction", "rank"]] = 1
    meta = {"method": method, "map": "class", "read_out": "sigmoid", "dataset": dataset}
    meta |= {"seed": str(seed), "backbone": "b", "protocol": "choe2020"}
    for split in ("test", "train-fullsup"):
        table = LocalizationTable(rows, TAUS, iou, iou, meta=meta | {"split": split})
        table.save(folder / f"{method}-{seed}-class-{split}.npz")


def test_the_search_chooses_the_first_of_the_best_on_train_fullsup(tmp_path):
    folders = {f"has_{i}": tmp_path / str(i) for i in range(3)}
    for folder, hits in zip(folders.values(), (20, 30, 30), strict=True):
        _tables(hits, folder, "has")
        (folder / "has-0-class-test.npz").unlink()  # it is not read
    trials = {name: {"method": "has", "patch_size": i} for i, name in enumerate(folders)}
    table = search_table(trials, folders)
    assert table["settings"].tolist() == ["patch_size=0", "patch_size=1", "patch_size=2"]
    assert table["gt_known_loc_error"].tolist() == [50, 25, 25]
    assert table["top1_loc_error"].tolist() == [60, 35, 35]
    assert table["cls_error"].tolist() == [10] * 3
    assert table["chosen"].tolist() == [False, True, False]
    row = readable_search(table).loc["HaS"].iloc[1]
    assert row[["Top-1 loc.", "Chosen"]].tolist() == ["35.0", "yes"]


def test_a_trial_is_better_or_worse_by_the_interval_of_its_difference(tmp_path):
    for name, hits in (("chosen", 20), ("near", 21), ("far", 4), ("good", 40)):
        _tables(hits, tmp_path / name)
    folders = {name: tmp_path / name for name in ("near", "far", "good")}
    settings = {name: {"pooling": name} for name in folders}
    expected = dict.fromkeys(folders, EXPECTED | {"expected": "worse"})
    table = trial_table(folders, settings, expected, class_pair(tmp_path / "chosen"))
    assert table["test_gt_known_loc_error"].tolist() == [50, 47.5, 90, 0]
    assert table["outcome"].tolist()[1:] == ["same", "worse", "better"]
    assert table["came"].tolist()[1:] == [False, True, False]
    assert table.at[2, "difference"] == pytest.approx(40)
    assert table.at[2, "settings"] == "pooling=far"


def test_readable_tables_have_the_outcome_and_its_reason() -> None:
    judged = {"difference": 21.04, "low": 16.5, "high": 26.0, "expected": "same"}
    judged |= {"written": "before", "why": "it did as well", "outcome": "worse", "came": False}
    errors = dict(test_gt_known_loc_error=40.55, test_top1_loc_error=44.5, test_cls_error=8.45)
    chosen = {"trial": "as_chosen", "settings": ""} | errors
    trials = pd.DataFrame([chosen, {"trial": "head", "settings": "head=conv"} | errors | judged])
    texts = readable_trials(trials)
    why = "it did as well (written before the run)"
    outcome = ["21.0 (16.5 to 26.0)", "same", "no: worse", why]
    assert texts.loc["head=conv"].tolist() == ["40.6", "44.5", "8.5", *outcome]
    assert texts.loc["as chosen", ["Difference", "Expected", "Came", "Why"]].tolist() == [""] * 4
    alone = readable_trials(trials[:1].dropna(axis=1))
    pd.testing.assert_frame_equal(alone[texts.columns], texts[:1])
    control = pd.DataFrame([{"control": "gap_1", "seed": 0} | judged | {"came": True}])
    assert readable_outcomes(control).loc["gap 1", "Came"] == "yes"


def test_a_control_without_a_cam_is_compared_with_that_of_the_main_set(tmp_path):
    for seed in (0, 1):
        _tables(10, tmp_path / "main" / "evaluate", "cam", seed)
    folders = {name: tmp_path / name for name in ("noise", "even", "worse")}
    for (name, folder), hits in zip(folders.items(), (36, 9, 1), strict=True):
        _tables(hits, folder / "evaluate", dataset=name)
    table = control_table(folders, tmp_path / "main")
    assert set(table["method"]) == {"CAM", "Background images"}
    assert table["n_seeds"].tolist() == [1] * 6  # CAM with the seeds of the control alone
    expected = dict.fromkeys(folders, EXPECTED | {"expected": "loses"})
    outcomes = control_outcomes(folders, expected, tmp_path / "main")
    assert outcomes["outcome"].tolist() == ["wins", "neither", "loses"]
    assert outcomes["came"].tolist() == [False, False, True]
    for _, part in table.groupby("dataset"):
        cam, background = part["gt_known_loc_error_mean"]
        assert part["gt_known_ratio"].tolist() == pytest.approx([1, background / cam])
    assert len(readable_controls(table)) == len(table)


def test_of_every_control_and_trial_something_is_expected() -> None:
    study = STUDY["study"]
    assert set(study["controls"]) <= set(STUDY["controls"])
    assert set(study["trials"]) <= {*STUDY["trials"], "two_stages"}
    outcomes = {"trials": {"better", "same", "worse"}, "controls": {"wins", "loses"}}
    for kind, expectations in STUDY["expectations"].items():
        assert set(study[kind]) <= set(expectations)
        for name, expected in expectations.items():
            assert expected["expected"] in outcomes[kind], name
            assert expected["written"] in ("before", "after"), name


def test_a_trial_changes_one_thing() -> None:
    defaults = asdict(get_method("background").Config()) | PARAMS["background"]
    defaults |= {"n_background": PARAMS["data"]["n_background"]}
    for name, changes in STUDY["trials"].items():
        changed = {key for key, value in changes.items() if value != defaults[key]}
        assert changed, name
        assert len(changed) == 1 or changed <= {"ramp_start", "ramp_end"}, name
