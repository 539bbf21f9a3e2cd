"""Tables of the study: the random search, trials and controls, all methods and object sizes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.datasets.index import TEST, TRAIN_FULLSUP
from wsol.evaluation.boxes import FRAME
from wsol.evaluation.metrics import choose_tau, column_of, localization_errors, wrong_images
from wsol.evaluation.stats import Difference, check_same_images, paired_bootstrap
from wsol.evaluation.table import LocalizationTable
from wsol.report.format import HEADERS, rounded
from wsol.report.tables import (
    Pair,
    in_order,
    localization_error,
    per_run,
    read_pair,
    read_pairs,
    row_name,
)

ERRORS = ["gt_known_loc_error", "top1_loc_error", "cls_error"]  # %
SEARCH_ERROR = "top1_loc_error"  # which the random search minimizes
WINS = "wins"
OF_TRIALS, OF_CONTROLS = ("better", "same", "worse"), (WINS, "neither", "loses")
CROSSED = "cam+foreground"  # CAM's class with the box of the background method's foreground map
N_BINS = 4  # of object sizes, each with as many images


def class_pair(folder: Path) -> Pair:
    """Read the only pair of tables of a class map in a folder."""
    (pair,) = [pair for pair in read_pairs(folder) if pair[0].meta["map"] == "class"]
    return pair


def difference(pair: Pair, other: Pair) -> Difference:
    """Compare the GT-known errors on `test`, each at its own tau: `pair` minus `other`, points."""
    return paired_bootstrap(pair[0], other[0], taus=(choose_tau(pair[1]), choose_tau(other[1])))


def _judged(
    pair: Pair, other: Pair, outcomes: tuple[str, str, str], expected: Mapping[str, str]
) -> dict:
    d = difference(pair, other)
    outcome = outcomes[0] if d.high < 0 else outcomes[2] if d.low > 0 else outcomes[1]
    about = {name: expected[name] for name in ("expected", "written", "why")}
    numbers = {"difference": d.difference, "low": d.low, "high": d.high}
    return numbers | about | {"outcome": outcome, "came": outcome == expected["expected"]}


def _errors(pair: Pair) -> dict[str, float]:
    tau = choose_tau(pair[1])
    errors = {
        s: localization_errors(t, tau) for s, t in zip(("test", "fullsup"), pair, strict=True)
    }
    return {f"{s}_{error}": errors[s][error] for s in ("fullsup", "test") for error in ERRORS}


def _settings_text(settings: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items() if name != "method")


def search_table(
    trials: Mapping[str, Mapping[str, object]], folders: Mapping[str, Path]
) -> pd.DataFrame:
    """Errors of every trial of the random search on `train-fullsup`, in %.

    trials, folders : settings and folder of tables by the name of the trial

    Columns: method, trial, settings, `ERRORS`, chosen (of each method the first trial of lowest
    `SEARCH_ERROR`).
    """
    rows = []
    for name, settings in trials.items():
        (file,) = folders[name].glob(f"*-class-{TRAIN_FULLSUP}.npz")
        table = LocalizationTable.load(file)
        errors = localization_errors(table, choose_tau(table))
        about = {"method": row_name(table), "trial": name, "settings": _settings_text(settings)}
        rows.append(about | {error: errors[error] for error in ERRORS})
    table = pd.DataFrame(rows)
    best = table.groupby("method", sort=False)[SEARCH_ERROR].idxmin()
    return table.assign(chosen=table.index.isin(best))


def trial_table(
    folders: Mapping[str, Path],
    settings: Mapping[str, Mapping[str, object]],
    expectations: Mapping[str, Mapping[str, str]],
    chosen: Pair,
) -> pd.DataFrame:
    """One row per trial: errors of its class map, compared with the chosen settings.

    folders : of tables, by trial; chosen : tables of the chosen settings, which are the first row

    Columns: trial, settings, `ERRORS` on both splits in %, difference of the GT-known error on
    `test` from that of the chosen settings in points, low, high (95 %), expected, written, why,
    outcome (better, same or worse, by the interval), came (whether it is the expected one).
    """
    rows = [{"trial": "as_chosen", "settings": ""} | _errors(chosen)]
    for name, folder in folders.items():
        pair = class_pair(folder)
        about = {"trial": name, "settings": _settings_text(settings[name])} | _errors(pair)
        rows.append(about | _judged(pair, chosen, OF_TRIALS, expectations[name]))
    return pd.DataFrame(rows)


def control_table(folders: Mapping[str, Path], main: Path | None = None) -> pd.DataFrame:
    """The headline's columns, one row per control and map, from the folder of each control.

    ``gt_known_ratio`` and ``top1_ratio`` are the error over that of CAM on the same set. A control
    without a CAM of its own has the birds of the main set; its CAM is that of the same seeds in
    `main`, the folder of the main tables.
    """
    tables = []
    for name, folder in folders.items():
        runs = per_run(folder)
        if "CAM" not in set(runs["method"]):
            cam = per_run(main)
            cam = cam[(cam["method"] == "CAM") & cam["seed"].isin(runs["seed"])]
            runs = pd.concat([cam.assign(dataset=name), runs], ignore_index=True)
        tables.append(localization_error(runs))
    table = pd.concat(tables, ignore_index=True)
    cam = table[table["method"] == "CAM"].set_index("dataset")
    for name, error in (("gt_known_ratio", "gt_known_loc_error"), ("top1_ratio", "top1_loc_error")):
        reference = table["dataset"].map(cam[f"{error}_mean"])
        table[name] = table[f"{error}_mean"] / reference
    return table


def control_outcomes(
    folders: Mapping[str, Path], expectations: Mapping[str, Mapping[str, str]], main: Path
) -> pd.DataFrame:
    """Compare the class maps of the background method and of CAM in each control.

    Columns: control, seed, difference of the GT-known error on `test` from CAM's in points, low,
    high (95 %), expected, written, why, outcome (wins or loses if the interval lies below or
    above 0, else neither), came (whether it is the expected one).
    """
    rows = []
    for name, folder in folders.items():
        cams = _by_seed(folder, "cam") or _by_seed(main, "cam")
        for seed, pair in _by_seed(folder, "background").items():
            judged = _judged(pair, cams[seed], OF_CONTROLS, expectations[name])
            rows.append({"control": name, "seed": int(seed)} | judged)
    return pd.DataFrame(rows)


def _by_seed(folder: Path, method: str) -> dict[str, Pair]:
    about = {"method": method, "map": "class"}
    pairs = read_pairs(folder / "evaluate")
    return {p[0].meta["seed"]: p for p in pairs if about.items() <= p[0].meta.items()}


def _error_texts(table: pd.DataFrame, prefix: str = "") -> dict[str, list[str]]:
    return {HEADERS[error]: list(map(rounded, table[prefix + error])) for error in ERRORS}


def _judgement_texts(table: pd.DataFrame) -> pd.DataFrame:
    texts = pd.DataFrame("", table.index, ["Difference", "Expected", "Came", "Why"], dtype=object)
    for i, row in table.iterrows():
        if pd.notna(row.get("difference")):
            d, low, high = (rounded(row[name]) for name in ("difference", "low", "high"))
            came = "yes" if row["came"] else f"no: {row['outcome']}"
            why = f"{row['why']} (written {row['written']} the run)"
            texts.loc[i] = [f"{d} ({low} to {high})", row["expected"], came, why]
    return texts


def readable_search(table: pd.DataFrame) -> pd.DataFrame:
    """Format `search_table` as text."""
    about = {"Method": table["method"], "Settings": table["settings"]}
    chosen = {"Chosen": ["yes" if chosen else "" for chosen in table["chosen"]]}
    return pd.DataFrame(about | _error_texts(table) | chosen).set_index("Method")


def readable_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Format `trial_table` as text: errors on `test`, differences in points.

    A trial is called by its settings, or by its name where these are none or long.
    """
    short = table["settings"].str.len().between(1, 40)
    changed = table["settings"].where(short, table["trial"].str.replace("_", " "))
    texts = pd.DataFrame({"Changed": changed} | _error_texts(table, "test_"))
    return texts.join(_judgement_texts(table)).set_index("Changed")


def readable_outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """Format `control_outcomes` as text, differences in points."""
    about = {"Control": table["control"].str.replace("_", " "), "Seed": table["seed"].astype(str)}
    return pd.DataFrame(about).join(_judgement_texts(table)).set_index("Control")


def readable_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Format the main columns of `control_table` as text."""
    texts = table[["dataset", "method", "n_seeds"]].set_axis(["Set", "Method", "Seeds"], axis=1)
    texts["Set"] = texts["Set"].str.replace("_", " ")
    for error in ERRORS:
        texts[HEADERS[error]] = table[f"{error}_mean"].map(rounded)
    for name, header in (("gt_known_ratio", "GT-known / CAM's"), ("top1_ratio", "Top-1 / CAM's")):
        texts[header] = [rounded(ratio, 2) for ratio in table[name]]
    return texts.set_index("Set")


def crossed(boxes: LocalizationTable, classes: LocalizationTable) -> LocalizationTable:
    """Combine the boxes of one network with the predicted classes of another.

    Raises ValueError if the tables are not about the same images in the same order.
    """
    check_same_images(boxes, classes)
    rows = boxes.rows.assign(**classes.rows[["prediction", "rank"]].to_dict("list"))
    return replace(boxes, rows=rows, meta=boxes.meta | {"method": CROSSED})


def write_crossed(folder: Path, seeds: list[int]) -> None:
    """Write the crossed tables of each seed into a folder that has both networks' tables."""
    for seed in seeds:
        boxes = read_pair(folder, f"background-{seed}-foreground")
        classes = read_pair(folder, f"cam-{seed}-class")
        for box, label, split in zip(boxes, classes, (TEST, TRAIN_FULLSUP), strict=True):
            crossed(box, label).save(folder / f"{CROSSED}-{seed}-foreground-{split}.npz")


def methods_table(
    runs: pd.DataFrame, search_trials: Mapping[str, int], parameters: Mapping[str, int]
) -> pd.DataFrame:
    """Add two columns to the headline: trainings behind the settings, and trainable parameters.

    Both are given by the name of the row; NaN where a row has none.
    """
    table = localization_error(runs)
    for name, values in (("search_trials", search_trials), ("parameters", parameters)):
        table[name] = table["method"].map(values).astype("Int64")
    return table


def error_by_size(folder: Path) -> pd.DataFrame:
    """GT-known error on `test` by the size of the object, in % of the images of that size.

    Sizes are shares of the frame that the largest ground-truth box covers, in `N_BINS` ranges of
    equally many images. Columns: dataset, method, size_low, size_high (%), n_images,
    gt_known_loc_error, mean over the seeds. folder : of the report's localization tables
    """
    rows = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        if test.level_boxes is None:
            continue
        truth = test.level_boxes.ground_truth()
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).max() for boxes in truth]
        size = 100 * (np.array(areas) / FRAME**2)
        wrong = wrong_images(test)[:, column_of(test, choose_tau(fullsup))]
        edges = np.quantile(size, np.linspace(0, 1, N_BINS + 1))
        bins = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, N_BINS - 1)
        about = {"dataset": test.meta["dataset"], "method": row_name(test)}
        for b, inside in enumerate(bins == np.arange(N_BINS)[:, None]):
            row = {"size_low": edges[b], "size_high": edges[b + 1], "n_images": int(inside.sum())}
            rows.append(about | row | {"gt_known_loc_error": 100 * wrong[inside].mean()})
    keys = ["dataset", "method", "size_low", "size_high", "n_images"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)["gt_known_loc_error"].mean()
    return in_order(table.reset_index())
