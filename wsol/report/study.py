"""All methods side by side: what stands beside the headline's columns, and two more questions.

Which class with which box (one network's class with another one's box), and how the error depends
on the size of the object.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from wsol.evaluation.boxes import FRAME
from wsol.evaluation.metrics import choose_tau, column_of, localization_errors
from wsol.evaluation.stats import Difference, paired_bootstrap, wrong_images
from wsol.evaluation.table import LocalizationTable
from wsol.report.format import HEADERS, rounded
from wsol.report.names import METHODS
from wsol.report.tables import in_order, localization_error, per_run, read_pair, read_pairs

# Tables of the study beside the report: the random search, trials and controls.

ERRORS = ["gt_known_loc_error", "top1_loc_error", "cls_error"]  # %
JUDGE = "top1_loc_error"  # by which the search chooses
BETTER, SAME, WORSE = "better", "same", "worse"
WINS, LOSES, DRAWS = "wins", "loses", "neither"

Pair = tuple[LocalizationTable, LocalizationTable]  # of test and of train-fullsup


def class_pair(folder: Path) -> Pair:
    """The only pair of tables of a class map in a folder."""
    (pair,) = [pair for pair in read_pairs(folder) if pair[0].meta["map"] == "class"]
    return pair


def difference(pair: Pair, other: Pair) -> Difference:
    """GT-known error on `test` less that of the other, in points, each at its own tau."""
    taus = choose_tau(pair[1]), choose_tau(other[1])
    return paired_bootstrap(pair[0], other[0], taus=taus)


def _errors(pair: Pair) -> dict[str, float]:
    """The three errors on both splits, at the tau of `train-fullsup`, in %."""
    tau = choose_tau(pair[1])
    found = {}
    for split, table in (("fullsup", pair[1]), ("test", pair[0])):
        errors = localization_errors(table, tau)
        found |= {f"{split}_{error}": errors[error] for error in ERRORS}
    return found


def _text(settings: Mapping[str, object], leave: tuple[str, ...] = ()) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items() if name not in leave)


def search_table(
    trials: Mapping[str, Mapping[str, object]], folders: Mapping[str, Path]
) -> pd.DataFrame:
    """Errors of every trial of the random search on `train-fullsup`, %, and which was chosen.

    trials : settings by the name of the trial, ``<method>_<number>``
    folders : where the tables of each lie; those of `test` are not read

    Columns: method (as a reader says it), trial, settings, ERRORS, chosen: of each method the
    first of lowest `JUDGE`.
    """
    rows = []
    for name, settings in trials.items():
        (file,) = folders[name].glob("*-class-train-fullsup.npz")
        table = LocalizationTable.load(file)
        errors = localization_errors(table, choose_tau(table))
        about = {"method": METHODS[table.meta["method"], "class"], "trial": name}
        about |= {"settings": _text(settings, ("method",))}
        rows.append(about | {error: errors[error] for error in ERRORS})
    found = pd.DataFrame(rows)
    best = found.groupby("method", sort=False)[JUDGE].idxmin()
    return found.assign(chosen=found.index.isin(best))


def trial_table(
    folders: Mapping[str, Path],
    settings: Mapping[str, Mapping[str, object]],
    expectations: Mapping[str, Mapping[str, str]],
    chosen: Pair,
) -> pd.DataFrame:
    """One row per trial: errors of its class map, and whether what was expected of it came.

    folders : of localization tables, by trial
    chosen : the tables of the settings as chosen, which are the first row

    Columns: trial, settings, errors on both splits in %, difference of the GT-known error on `test`
    from that of the settings as chosen in points, low, high (95 %), expected, written, why,
    outcome (better, same or worse, by the interval), came.
    """
    rows = [{"trial": "as_chosen", "settings": ""} | _errors(chosen)]
    for name, folder in folders.items():
        pair, expected = class_pair(folder), expectations[name]
        d = difference(pair, chosen)
        outcome = WORSE if d.low > 0 else BETTER if d.high < 0 else SAME
        about = {"trial": name, "settings": _text(settings[name])} | _errors(pair)
        about |= {"difference": d.difference, "low": d.low, "high": d.high}
        rows.append(about | _judged(expected, outcome))
    return pd.DataFrame(rows)


def _judged(expected: Mapping[str, str], outcome: str) -> dict[str, object]:
    about = {name: expected[name] for name in ("expected", "written", "why")}
    return about | {"outcome": outcome, "came": outcome == expected["expected"]}


def control_table(folders: Mapping[str, Path], main: Path | None = None) -> pd.DataFrame:
    """The headline's columns, one row per control and map, from the folder of each control.

    ``gt_known_ratio`` and ``top1_ratio`` are the error over that of CAM on the same set. A control
    without a CAM of its own has the birds of the main set, and `main` is the folder of its tables,
    of which those with the seeds of the control are taken.
    """
    tables = []
    for name, folder in folders.items():
        runs = per_run(folder)
        if "CAM" not in set(runs["method"]):
            cam = _main_cam(main, set(runs["seed"]))
            runs = pd.concat([cam.assign(dataset=name), runs], ignore_index=True)
        tables.append(localization_error(runs))
    table = pd.concat(tables, ignore_index=True)
    cam = table[table["method"] == "CAM"].set_index("dataset")
    for name, error in (("gt_known_ratio", "gt_known_loc_error"), ("top1_ratio", "top1_loc_error")):
        reference = table["dataset"].map(cam[f"{error}_mean"])
        table[name] = table[f"{error}_mean"] / reference
    return table


def _main_cam(main: Path, seeds: set[int]) -> pd.DataFrame:
    runs = per_run(main)
    return runs[(runs["method"] == "CAM") & runs["seed"].isin(seeds)]


def control_outcomes(
    folders: Mapping[str, Path], expectations: Mapping[str, Mapping[str, str]], main: Path
) -> pd.DataFrame:
    """Whether the background method beats CAM in each control, as expected or not.

    Columns: control, seed, difference of the GT-known error on `test` from CAM's in points, low,
    high (95 %), expected, written, why, outcome (wins or loses if the interval lies below or
    above 0, else neither), came. The class maps of both.
    """
    rows = []
    for name, folder in folders.items():
        cams = _by_seed(folder, "cam") or _by_seed(main, "cam")
        for seed, pair in _by_seed(folder, "background").items():
            d = difference(pair, cams[seed])
            about = {"control": name, "seed": int(seed), "difference": d.difference}
            about |= {"low": d.low, "high": d.high}
            outcome = WINS if d.high < 0 else LOSES if d.low > 0 else DRAWS
            rows.append(about | _judged(expectations[name], outcome))
    return pd.DataFrame(rows)


def _by_seed(folder: Path, method: str) -> dict[str, Pair]:
    """Pairs of tables of a method's class maps, by seed."""
    pairs = read_pairs(folder / "evaluate")
    of = {"method": method, "map": "class"}
    return {p[0].meta["seed"]: p for p in pairs if of.items() <= p[0].meta.items()}


def _shown_errors(table: pd.DataFrame, prefix: str = "") -> dict[str, list[str]]:
    """The three errors as text, by their header."""
    return {HEADERS[error]: list(map(rounded, table[prefix + error])) for error in ERRORS}


def _shown_judgement(table: pd.DataFrame) -> dict[str, list[str]]:
    """Difference and interval, what was expected and came, and why; a row may have none."""
    found: dict[str, list[str]] = {"Difference": [], "Expected": [], "Came": [], "Why": []}
    for row in table.to_dict("records"):
        cells = ["", "", "", ""]
        if not pd.isna(row.get("difference")):
            d, low, high = (rounded(row[name]) for name in ("difference", "low", "high"))
            came = "yes" if row["came"] else f"no: {row['outcome']}"
            why = f"{row['why']} (written {row['written']} the run)"
            cells = [f"{d} ({low} to {high})", row["expected"], came, why]
        for column, cell in zip(found.values(), cells, strict=True):
            column.append(cell)
    return found


def readable_search(table: pd.DataFrame) -> pd.DataFrame:
    """What a person reads of `search_table`, as text."""
    about = {"Method": table["method"], "Settings": table["settings"]}
    chosen = {"Chosen": ["yes" if chosen else "" for chosen in table["chosen"]]}
    return pd.DataFrame(about | _shown_errors(table) | chosen).set_index("Method")


def readable_trials(table: pd.DataFrame) -> pd.DataFrame:
    """What a person reads of `trial_table`, as text: errors on `test`, differences in points.

    A trial is called by its settings, or by its name where it has none or many.
    """
    short = table["settings"].str.len().between(1, 40)
    changed = table["settings"].where(short, table["trial"].str.replace("_", " "))
    shown = _shown_errors(table, "test_") | _shown_judgement(table)
    return pd.DataFrame({"Changed": changed} | shown).set_index("Changed")


def readable_outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """What a person reads of `control_outcomes`, as text, differences in points."""
    about = {"Control": table["control"].str.replace("_", " "), "Seed": table["seed"].astype(str)}
    return pd.DataFrame(about | _shown_judgement(table)).set_index("Control")


def readable_controls(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that a person compares, as text, with names in words."""
    columns = {
        **{f"{error}_mean": (HEADERS[error], 1) for error in ERRORS},
        "gt_known_ratio": ("GT-known / CAM's", 2),
        "top1_ratio": ("Top-1 / CAM's", 2),
    }
    shown = table[["dataset", "method", "n_seeds"]].set_axis(["Set", "Method", "Seeds"], axis=1)
    shown["Set"] = shown["Set"].str.replace("_", " ")
    for name, (header, digits) in columns.items():
        shown[header] = [rounded(value, digits) for value in table[name]]
    return shown.set_index("Set")


ANSWERS = ["prediction", "rank"]
CROSSED = "cam+foreground"  # CAM's class with the box of the background method's foreground map
N_BINS = 4  # of object sizes, each with as many images


def crossed(boxes: LocalizationTable, classes: LocalizationTable) -> LocalizationTable:
    """The boxes of one network with the classes that another one says.

    Raises ValueError if the tables are not about the same images in the same order.
    """
    if list(boxes.rows["image_id"]) != list(classes.rows["image_id"]):
        raise ValueError("the tables are not about the same images in the same order")
    rows = boxes.rows.assign(**classes.rows[ANSWERS].to_dict("list"))
    return replace(boxes, rows=rows, meta=boxes.meta | {"method": CROSSED})


def write_crossed(folder: Path, seeds: list[int]) -> None:
    """Add the crossed tables of each seed to a folder that has both networks' tables."""
    for seed in seeds:
        boxes = read_pair(folder, f"background-{seed}-foreground")
        classes = read_pair(folder, f"cam-{seed}-class")
        for box, label, split in zip(boxes, classes, ("test", "train-fullsup"), strict=True):
            crossed(box, label).save(folder / f"{CROSSED}-{seed}-foreground-{split}.npz")


def methods_table(
    runs: pd.DataFrame, search_trials: Mapping[str, int], parameters: Mapping[str, int]
) -> pd.DataFrame:
    """The headline's table of all methods with two more columns.

    search_trials : trainings behind the settings, by the row's name
    parameters : trainable parameters of the network, by the row's name

    Both are missing (NaN) where a row has no settings to search or no network.
    """
    table = localization_error(runs)
    for name, values in (("search_trials", search_trials), ("parameters", parameters)):
        table[name] = table["method"].map(values).astype("Int64")
    return table


def error_by_size(folder: Path) -> pd.DataFrame:
    """GT-known error on `test` by the size of the object, in % of the images of that size.

    Sizes are shares of the frame that the ground-truth box covers, cut into `N_BINS` ranges of
    equally many images. Columns: dataset, method, size_low, size_high (%), n_images,
    gt_known_loc_error, mean over the seeds. Takes the folder that the report's tables lie in.
    """
    rows = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        if test.level_boxes is None:
            continue
        size = 100 * _shares(test)
        wrong = wrong_images(test)[:, column_of(test, choose_tau(fullsup))]
        edges = np.quantile(size, np.linspace(0, 1, N_BINS + 1))
        bins = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, N_BINS - 1)
        about = {"dataset": test.meta["dataset"]}
        about |= {"method": METHODS[test.meta["method"], test.meta["map"]]}
        for b in range(N_BINS):
            here = bins == b
            row = {"size_low": edges[b], "size_high": edges[b + 1], "n_images": int(here.sum())}
            rows.append(about | row | {"gt_known_loc_error": 100 * wrong[here].mean()})
    keys = ["dataset", "method", "size_low", "size_high", "n_images"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)["gt_known_loc_error"].mean()
    return in_order(table.reset_index())


def _shares(table: LocalizationTable) -> np.ndarray:
    """Share of the frame that the (largest) ground-truth box of each image covers, (N,)."""
    boxes = table.level_boxes.ground_truth()
    return np.array([(box[:, 2:] - box[:, :2]).prod(axis=1).max() for box in boxes]) / FRAME**2
