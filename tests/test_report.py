"""The report follows from the localization tables, the committed one from the committed tables."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from committed import skip_unless_committed

from wsol.evaluation.failures import REASONS
from wsol.evaluation.table import LevelBoxes, LocalizationTable
from wsol.report import format as tables
from wsol.report import tables as report
from wsol.report.figures import error_against_background_images, save

ROOT = Path(__file__).parents[1]


def _table(ranks: list[int], iou: list[list[float]], **meta: str) -> LocalizationTable:
    """A table of as many images as ranks at the thresholds 0, .5."""
    rows = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(len(ranks))], "label": 0})
    rows = rows.assign(prediction=0, rank=ranks)
    return LocalizationTable(
        rows, np.array([0.0, 0.5]), np.array(iou), np.array(iou), meta=dict(dataset="d") | meta
    )


def _save(pair: tuple[LocalizationTable, LocalizationTable], folder: Path, name: str) -> None:
    for table, split in zip(pair, ("test", "train-fullsup"), strict=True):
        table.save(folder / f"{name}-{split}.npz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images. CAM right on one; the method on two (seed 0) and four (seed 1)."""
    about = dict(backbone="b", map="class", read_out="raw", n_background="0")
    wrong, right = [0.1, 0.1], [0.1, 0.6]
    fullsup = _table([0], [right])  # the second threshold is the one to choose
    for seed, hits in ((0, 1), (1, 1)):
        iou = [right] * hits + [wrong] * (4 - hits)
        test = _table([0, 0, 0, 9], iou, method="cam", seed=str(seed), **about)
        _save((test, fullsup), tmp_path / "evaluate", f"cam-{seed}-class")
    about |= dict(method="background", n_background="8")
    for seed, hits in ((0, 2), (1, 4)):
        iou = [right] * hits + [wrong] * (4 - hits)
        test = _table([3, 0, 0, 0], iou, seed=str(seed), **about)
        _save((test, fullsup), tmp_path / "evaluate", f"background-{seed}-class")
    test = _table([0] * 4, [right] * 2 + [wrong] * 2, seed="0", **about | {"n_background": "2"})
    _save((test, fullsup), tmp_path / "ablate", "background-2-class")
    test = _table([-1] * 4, [right] * 3 + [wrong], method="constant-box", map="reference")
    _save((test, fullsup), tmp_path / "references", "constant-box")
    return tmp_path


def test_a_table_of_two_protocols_is_refused(folder: Path) -> None:
    test, _ = report.read_pair(folder / "evaluate", "cam-0-class")
    other = replace(test, meta=test.meta | {"protocol": "bas2022"})
    other.save(folder / "evaluate" / "cam-0-class-test.npz")
    with pytest.raises(ValueError, match="bas2022"):
        report.per_run(folder)


def test_errors_are_means_and_sample_deviations_over_seeds(folder: Path) -> None:
    table = report.localization_error(report.per_run(folder)).set_index("method")
    assert list(table.index) == ["CAM", "Background images", "Constant box"]
    assert list(table["n_seeds"]) == [2, 2, 1]
    assert list(table["gt_known_loc_error_mean"]) == [75, 25, 25]  # 75 75, 50 0, 25
    assert table["gt_known_loc_error_sd"].round(3).tolist()[:2] == [0, 35.355]
    assert table.at["Background images", "top1_loc_error_mean"] == 50  # 75 25: rank 3 is wrong
    assert table.at["Background images", "top5_loc_error_mean"] == 25  # and among the five first
    assert table["cls_error_mean"].tolist()[:2] == [25, 25]
    assert list(table["tau_mean"]) == [0.5, 0.5, 0.5]
    undefined = table.loc["Constant box", ["top1_loc_error_mean", "cls_error_mean", "pxap_mean"]]
    assert undefined.isna().all()
    assert np.isnan(table.at["Constant box", "gt_known_loc_error_sd"])  # one seed has no spread


def test_the_ablation_goes_from_cam_to_the_whole_set_with_one_seed(folder: Path) -> None:
    table = report.background_images(report.per_run(folder))
    assert list(table["n_background"]) == [0, 2, 8]
    assert list(table["gt_known_loc_error"]) == [75, 50, 50]
    assert set(table["seed"]) == {0}


def test_a_reader_gets_rounded_numbers_and_a_note_on_tau(folder: Path, tmp_path: Path) -> None:
    table, out = report.localization_error(report.per_run(folder)), tmp_path / "out"
    tables.write_headline(table, out)
    markdown, tex = (
        (out / f"localization_error.{end}").read_text("utf-8") for end in ("md", "tex")
    )
    assert "25.0 ± 35.4" in markdown
    assert "oracle tau" in markdown
    assert "nan" not in markdown
    assert r"25.0 $\pm$ 35.4" in tex
    assert tex.count(r"\\") == len(table) + 1
    tables.write_metrics(table, out / "metrics.json")
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["d"]["Constant box"] == {"gt_known_loc_error": 25.0}


def test_halves_are_rounded_away_from_zero_as_they_stand_in_the_csv() -> None:
    # Even, below the half in binary, negative, 75.25 in the CSV, plain, not defined.
    values = [65.25, 75.35, -0.25, 75.24996, 75.16667, np.nan]
    assert [*map(tables.rounded, values)] == ["65.3", "75.4", "-0.3", "75.3", "75.2", "-"]
    assert tables.rounded(0.0, 3) == "0.000"
    assert tables.rounded(np.float64(0.3105), 2) == "0.31"


def test_collecting_replaces_only_what_it_collected(folder: Path, tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "out" / "evaluate" / "notes.txt"
    references, ablation = [folder / "references"], [folder / "ablate"]
    report.collect({"evaluate": ablation}, out)
    kept.write_text("mine")
    report.collect({"evaluate": references}, out)
    names = [path.name for path in sorted(out.rglob("*.npz"))]
    assert names == ["constant-box-test.npz", "constant-box-train-fullsup.npz"]
    assert kept.read_text() == "mine"
    (out / report.COLLECTED).unlink()  # as in a clone of the repository
    report.collect({"evaluate": references}, out)
    before = sorted(folder.glob("*/*.npz"))
    with pytest.raises(ValueError, match="has tables from elsewhere"):
        report.collect({"evaluate": references}, folder)
    with pytest.raises(FileNotFoundError, match="no localization table"):
        report.collect({"evaluate": [tmp_path / "nowhere"]}, out)
    assert sorted(folder.glob("*/*.npz")) == before
    assert len(list(out.rglob("*.npz"))) == 2


def test_the_last_line_of_the_pipeline_shows_the_headline(tmp_path: Path) -> None:
    assert "| CAM " in report.report_text(ROOT)
    with pytest.raises(FileNotFoundError, match="no report yet"):
        report.report_text(tmp_path)


HIT, SMALL, LARGE = (50, 50, 150, 150), (50, 50, 80, 80), (0, 0, 223, 223)
IOU = {HIT: 1.0, SMALL: 961 / 10201, LARGE: 10201 / 50176}


def save_boxes(folder: Path, name: str, boxes: list, ranks: list[int], **meta: str) -> None:
    """Tables of `test` with these boxes at every level, and of a `train-fullsup` that is right."""
    for split, drawn in (("test", boxes), ("train-fullsup", [HIT])):
        N = len(drawn)
        rows = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(N)], "label": 0})
        rows = rows.assign(prediction=0, rank=ranks[:N])
        iou = np.array([[IOU[box]] * 2 for box in drawn])
        level_boxes = LevelBoxes(
            np.repeat(np.array(drawn, np.uint8)[:, None], 256, axis=1),
            np.full(N, 255, np.uint8),
            np.array([HIT] * N, np.int16),
            np.ones(N, np.int16),
        )
        meta |= {"dataset": "d", "protocol": "choe2020", "split": split}
        table = LocalizationTable(rows, np.array([0.0, 0.5]), iou, iou, None, meta, level_boxes)
        table.save(folder / f"{name}-{split}.npz")


@pytest.fixture
def boxes_folder(tmp_path: Path) -> Path:
    """Two seeds of CAM with small boxes, of the method with right ones, and a constant box."""
    for seed in ("0", "1"):
        about = dict(map="class", seed=seed)
        boxes = [SMALL] * 3 + [HIT]
        save_boxes(tmp_path / "evaluate", f"cam-{seed}", boxes, [0, 0, 0, 3], method="cam", **about)
        boxes, about["method"] = [HIT, HIT, LARGE if seed == "0" else HIT, HIT], "background"
        save_boxes(tmp_path / "evaluate", f"background-{seed}", boxes, [0] * 4, **about)
    about = dict(method="constant-box", map="reference", seed="0")
    save_boxes(tmp_path / "references", "constant-box", [LARGE] * 4, [-1] * 4, **about)
    return tmp_path


def test_reasons_are_means_over_the_seeds_and_add_up(boxes_folder: Path) -> None:
    table = report.failures(boxes_folder)
    for _, part in table.groupby("method"):
        assert tuple(part["reason"]) == REASONS
        assert part["gt_known_loc_error"].sum() == pytest.approx(100)
    shares = table.set_index(["method", "reason"])[["gt_known_loc_error", "top1_loc_error"]]
    known, top1 = shares["gt_known_loc_error"], shares["top1_loc_error"]
    assert known["CAM", "too small"] == 75
    assert known["Background images", "too large"] == 12.5
    assert known["Background images", "right"] == 87.5
    assert known["Constant box", "too large"] == 100
    assert top1["CAM", "wrong class"] == 25
    assert np.isnan(top1["Constant box", "right"])


def test_differences_are_from_cam_with_the_same_seed(boxes_folder: Path) -> None:
    table = report.differences(boxes_folder, resamples=200)
    assert set(table["method"]) == {"Background images"}
    assert table["difference"].between(table["low"], table["high"]).all()
    fixed = table[table["tau"] == "fixed"].pivot(index="error", columns="seed", values="difference")
    assert fixed.loc["gt_known_loc_error"].tolist() == [-50, -75]
    assert fixed.loc["top1_loc_error"].tolist() == [-75, -100]


def test_the_committed_report_follows_from_the_committed_tables(tmp_path: Path) -> None:
    committed = ROOT / "reports" / "tables"
    if not (committed / "localization_error.csv").is_file():
        pytest.skip("no report yet")
    runs = report.per_run(ROOT / "reports" / "localization")
    tables.write_headline(report.localization_error(runs), tmp_path)
    for name, table in (
        ("per_run", runs),
        ("background_images", report.background_images(runs)),
        ("failures", report.failures(ROOT / "reports" / "localization")),
        ("differences", report.differences(ROOT / "reports" / "localization")),
    ):
        tables.write_csv(table, tmp_path / f"{name}.csv")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (committed / path.name).read_bytes(), path.name


def test_figures_for_papers_are_the_same_bytes_and_have_truetype_fonts(tmp_path: Path) -> None:
    table = pd.DataFrame({"n_background": [0, 8], "seed": 0, "cls_error": [20.0, 21.0]})
    table = table.assign(gt_known_loc_error=[60.0, 20.0], top1_loc_error=[70.0, 40.0])
    for name in ("a.pdf", "b.pdf"):
        save(error_against_background_images(table), tmp_path / name)
    text = (tmp_path / "a.pdf").read_bytes()
    assert text == (tmp_path / "b.pdf").read_bytes()
    assert b"CIDFontType2" in text
    assert b"/Type3" not in text


def test_the_readme_quotes_the_report() -> None:
    skip_unless_committed("reports/tables")
    committed = ROOT / "reports" / "tables" / "localization_error.md"
    if not committed.is_file():
        pytest.skip("there is no report yet")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("*", "")
    table = [line for line in committed.read_text(encoding="utf-8").splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    named = ("CAM", "Background images", "Constant box")  # the others are in the report
    for cells in (row for row in rows if row[1] in named):
        quoted = [cells[1], *cells[4:9]]  # method, and errors from Top-1 to the oracle's
        assert f"| {' | '.join(quoted)} |" in readme


def test_the_readme_quotes_the_photographs() -> None:
    committed = ROOT / "reports" / "tables" / "photos.csv"
    if not committed.is_file():
        pytest.skip("there is no study of photographs yet")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("*", "")
    table = pd.read_csv(committed).query("dataset == 'cub27'").fillna({"backbone": ""})
    text = tables.readable(table).set_index("Method")
    columns = ["Seeds", "Top-1 loc.", "GT-known loc.", "Classification", "MaxBoxAccV2"]
    part = readme[readme.index("\nPhotographs.") : readme.index("\nDrawn birds")]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line[:2] == "| "][1:]
    assert len(rows) >= 6
    for name, *cells in rows:
        assert cells == text.loc[name, columns].tolist(), name


def test_the_photographs_text_quotes_its_tables() -> None:
    folder = ROOT / "reports" / "tables"
    names = ("photos", "photos_runs", "photos_comparisons", "photos_sets", "photos_tuning")
    read = [pd.read_csv(folder / f"{name}.csv") for name in names]
    trials = read[-1].groupby("row").mean(numeric_only=True)  # over the two seeds
    numbers = [t.select_dtypes("number").to_numpy().ravel() for t in (*read, trials)]
    known = {f"{abs(value):.1f}" for value in np.concatenate(numbers) if np.isfinite(value)}
    text = (ROOT / "docs" / "photographs.md").read_text(encoding="utf-8")
    text = text[text.index("## What was found") :]
    quoted = set(re.findall(r"(?<![\d.])\d+\.\d(?![\d.])", text))
    assert len(quoted) > 40
    assert quoted - known == set()
