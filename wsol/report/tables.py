"""Tables of the report, computed from localization tables with pandas.

Columns are in % unless they are tau or differences (percentage points).
"""

import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from wsol.datasets.files import write_text, written_whole
from wsol.datasets.index import TEST, TRAIN_FULLSUP
from wsol.evaluation.failures import failure_shares
from wsol.evaluation.metrics import choose_tau, evaluate
from wsol.evaluation.stats import paired_bootstrap
from wsol.evaluation.table import LocalizationTable, one_protocol
from wsol.report.format import KEYS
from wsol.report.names import METHODS

STAGES = ("evaluate", "references", "ablate")
SPREAD = ("top1_loc_error", "top5_loc_error", "gt_known_loc_error", "cls_error")  # mean and sd
MEAN_AND_SD = (("mean", "mean"), ("sd", "std"))
MEANS = ("maxboxacc", "maxboxacc_v2", "pxap", "tau", "gt_known_loc_error_oracle")
COMPARED = ("gt_known_loc_error", "top1_loc_error")
COLLECTED = ".collected"  # marks a folder that `collect` made; ignored by Git and DVC

Pair = tuple[LocalizationTable, LocalizationTable]  # of test and of train-fullsup


def collect(sources: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Copy the localization tables in the folders of each stage to out/<stage>.

    Tables of an earlier call are removed. Raises, before anything changes, FileNotFoundError if a
    folder has no table, ValueError if `out` has tables that no earlier call copied.
    """
    copies: dict[Path, Path] = {}
    for stage, folders in sources.items():
        for folder in folders:
            files = sorted(folder.glob("*.npz"))
            if not files:
                raise FileNotFoundError(f"{folder}: no localization table here")
            copies |= {out / stage / file.name: file for file in files}
    stale = sorted(set(out.glob("*/*.npz")) - set(copies))
    if stale and not (out / COLLECTED).is_file():
        raise ValueError(f"{out} has tables from elsewhere, such as {stale[0].name}; use another")
    write_text(out / COLLECTED, "Tables in this folder are replaced by wsol.report.tables.\n")
    for file in stale:
        file.unlink()
    for copy, file in copies.items():
        with written_whole(copy) as partial:
            shutil.copyfile(file, partial)


def read_pair(folder: Path, name: str) -> Pair:
    """Read the tables of `test` and of `train-fullsup` of a name such as ``cam-0-class``."""
    test, fullsup = (folder / f"{name}-{split}.npz" for split in (TEST, TRAIN_FULLSUP))
    return LocalizationTable.load(test), LocalizationTable.load(fullsup)


def read_pairs(folder: Path) -> list[Pair]:
    """Read all pairs of a folder, sorted by name."""
    files = sorted(folder.glob(f"*-{TEST}.npz"))
    return [read_pair(folder, file.name.removesuffix(f"-{TEST}.npz")) for file in files]


def row_name(table: LocalizationTable) -> str:
    """Return the name of a table's row in the report."""
    return METHODS[table.meta["method"], table.meta["map"]]


def per_run(folder: Path) -> pd.DataFrame:
    """All numbers of `wsol.evaluation.metrics.evaluate`, one row per run and map.

    Columns before them: stage, dataset, method (its name in the report), backbone, seed, read_out,
    n_background. Raises ValueError if the tables are not of one protocol.
    """
    pairs = [(stage, pair) for stage in STAGES for pair in read_pairs(folder / stage)]
    one_protocol([table for _, pair in pairs for table in pair])
    rows = []
    for stage, (test, fullsup) in pairs:
        meta = test.meta
        about = {"stage": stage, "dataset": meta["dataset"], "method": row_name(test)}
        about |= {"backbone": meta.get("backbone", ""), "seed": int(meta.get("seed", 0))}
        about |= {"read_out": meta.get("read_out", "")}
        about |= {"n_background": int(meta.get("n_background", 0))}
        rows.append(about | evaluate(test, fullsup))
    return pd.DataFrame(rows)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by the order of the methods in `METHODS`, others last; stable within a method."""
    order = {name: place for place, name in enumerate(METHODS.values())}
    return table.sort_values("method", key=lambda names: names.map(order), kind="stable")


def localization_error(runs: pd.DataFrame) -> pd.DataFrame:
    """`mean_over_seeds` of `per_run`, in the order of the report; the ablation is left out."""
    table = in_order(mean_over_seeds(runs[runs["stage"] != "ablate"]))
    return table.sort_values("dataset", kind="stable", ignore_index=True)


def mean_over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds, and sample standard deviation (n - 1) of `SPREAD`.

    runs : one row per run and map, with `KEYS`, seed and the numbers of `evaluate`

    One row per data set, method and backbone, in the order of their first runs.
    """
    numbers = {f"{name}_{of}": (name, how) for name in SPREAD for of, how in MEAN_AND_SD}
    numbers |= {f"{name}_mean": (name, "mean") for name in MEANS}
    groups = runs.groupby(KEYS, sort=False)
    return groups.agg(n_seeds=("seed", "size"), **numbers).reset_index()


def background_images(runs: pd.DataFrame) -> pd.DataFrame:
    """Errors of the class map against the number of background images; 0 is CAM.

    Takes the seeds of the ablation only.
    """
    ablated = runs[runs["stage"] == "ablate"]
    main = runs.query("stage == 'evaluate' and method in ['CAM', 'Background images']")
    main = main[main["seed"].isin(ablated["seed"])]
    both = pd.concat([main, ablated]).sort_values(["dataset", "n_background"])
    columns = ["dataset", "n_background", "method", "seed", *SPREAD, "tau"]
    return both[columns].reset_index(drop=True)


def histories(runs: Sequence[Path]) -> pd.DataFrame:
    """Losses per epoch of the run folders <method>-<seed>, with columns method and seed."""
    parts = []
    for run in runs:
        method, _, seed = run.name.rpartition("-")
        history = pd.read_csv(run / "history.csv")
        if "class_loss" not in history:
            history["class_loss"] = history["loss"]  # of a classifier, this is all
        parts.append(history.assign(method=METHODS[method, "class"], seed=int(seed)))
    return pd.concat(parts, ignore_index=True)


def mean_losses(histories: pd.DataFrame) -> pd.DataFrame:
    """Total loss per epoch, mean over the seeds: epoch and one column per method."""
    means = histories.pivot_table(index="epoch", columns="method", values="loss", sort=False)
    keys = {name: method for (method, kind), name in METHODS.items() if kind == "class"}
    return means.rename(columns=keys).reset_index().rename_axis(columns=None)


def failures(folder: Path) -> pd.DataFrame:
    """Share of images per reason of failure at tau, in %, mean over the seeds.

    Columns: dataset, method, reason (in the order of `wsol.evaluation.failures.REASONS`),
    top1_loc_error, gt_known_loc_error; Top-1 is NaN for a map without a classifier.
    """
    parts = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        boxes, ranks = test.level_boxes, test.rows["rank"].to_numpy()
        ranks = None if (ranks < 0).any() else ranks
        shares = failure_shares(boxes.at(choose_tau(fullsup)), boxes.ground_truth(), ranks)
        about = {"dataset": test.meta["dataset"], "method": row_name(test)}
        parts.append(shares.reset_index().assign(**about))
    keys = ["dataset", "method", "reason"]
    means = pd.concat(parts).groupby(keys, sort=False)[["top1_loc_error", "gt_known_loc_error"]]
    return in_order(means.mean().reset_index())


def differences(folder: Path, resamples: int = 2000) -> pd.DataFrame:
    """Error of each run minus that of CAM with the same seed, in points, with 95 % intervals.

    Paired bootstrap over the images of `test`. tau is "fixed", as chosen on `train-fullsup`, or
    the "oracle", maximized again in each resample. Columns: dataset, method, seed, error, tau,
    difference, low, high.
    """
    pairs = read_pairs(folder / "evaluate")
    cams = {pair[0].meta["seed"]: pair for pair in pairs if row_name(pair[0]) == "CAM"}
    rows = []
    for test, fullsup in pairs:
        method, seed = row_name(test), test.meta["seed"]
        if method == "CAM" or seed not in cams:
            continue
        about = {"dataset": test.meta["dataset"], "method": method, "seed": int(seed)}
        cam, cam_fullsup = cams[seed]
        fixed = choose_tau(fullsup), choose_tau(cam_fullsup)
        for error, taus in product(COMPARED, (fixed, None)):
            d = paired_bootstrap(test, cam, error, taus=taus, resamples=resamples)
            values = {"tau": d.tau, "difference": d.difference, "low": d.low, "high": d.high}
            rows.append(about | {"error": error} | values)
    return in_order(pd.DataFrame(rows))


def report_text(root: Path) -> str:
    """Return the headline table and where the report is; root : folder of the project.

    Raises FileNotFoundError if there is no report.
    """
    reports = root / "reports"
    headline = reports / "tables" / "localization_error.md"
    if not headline.is_file():
        raise FileNotFoundError("There is no report yet: `make reproduce` writes it.")
    places = {
        "tables": "this table as CSV, Markdown and LaTeX, ablation",
        "figures": "figures",
        "pages/index.html": "the executed notebooks",
    }
    lines = [f"{(reports / name).as_posix()}: {text}" for name, text in places.items()]
    return "\n".join([headline.read_text(encoding="utf-8"), *lines])
