"""Beside the headline: why images fail, and how sure the difference from CAM is."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from wsol import project_root
from wsol.evaluation.failures import failure_shares
from wsol.evaluation.metrics import choose_tau, evaluate
from wsol.evaluation.stats import paired_bootstrap
from wsol.evaluation.table import LocalizationTable, one_protocol
from wsol.report.format import KEYS
from wsol.report.names import METHODS

# The report: from localization tables to the tables that are read, by pandas alone.

FULLSUP, TEST = "train-fullsup", "test"
STAGES = ("evaluate", "references", "ablate")

SPREAD = ("top1_loc_error", "top5_loc_error", "gt_known_loc_error", "cls_error")  # mean and sd
MEANS = ("maxboxacc", "maxboxacc_v2", "pxap", "tau", "gt_known_loc_error_oracle")


def collect(sources: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Copy the tables in the folders of each stage to out/<stage>, which they then are alone in.

    Raises FileNotFoundError if a folder has none.
    """
    shutil.rmtree(out, ignore_errors=True)
    for stage, folders in sources.items():
        (out / stage).mkdir(parents=True)
        for folder in folders:
            files = sorted(folder.glob("*.npz"))
            if not files:
                raise FileNotFoundError(f"{folder}: no localization table here")
            for file in files:
                shutil.copyfile(file, out / stage / file.name)


def read_pair(folder: Path, name: str) -> tuple[LocalizationTable, LocalizationTable]:
    """The tables of `test` and of `train-fullsup` under a name such as ``cam-0-class``."""
    files = (folder / f"{name}-{split}.npz" for split in (TEST, FULLSUP))
    test, fullsup = map(LocalizationTable.load, files)
    return test, fullsup


def read_pairs(folder: Path) -> list[tuple[LocalizationTable, LocalizationTable]]:
    """All pairs of a folder, sorted by name."""
    files = sorted(folder.glob(f"*-{TEST}.npz"))
    return [read_pair(folder, file.name.removesuffix(f"-{TEST}.npz")) for file in files]


def per_run(folder: Path) -> pd.DataFrame:
    """All numbers of `wsol.evaluation.metrics.evaluate`, one row per run and map.

    Columns before them: stage, dataset, method (as a reader says it), backbone, seed, read_out,
    n_background. Raises ValueError if the tables are not of one protocol.
    """
    pairs = {stage: read_pairs(folder / stage) for stage in STAGES}
    one_protocol([table for found in pairs.values() for pair in found for table in pair])
    rows = []
    for stage, found in pairs.items():
        for test, fullsup in found:
            meta = test.meta
            about = {
                "stage": stage,
                "dataset": meta["dataset"],
                "method": METHODS[meta["method"], meta["map"]],
                "backbone": meta.get("backbone", ""),
                "seed": int(meta.get("seed", 0)),
                "read_out": meta.get("read_out", ""),
                "n_background": int(meta.get("n_background", 0)),
            }
            rows.append(about | evaluate(test, fullsup))
    return pd.DataFrame(rows)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by the order of the methods in `METHODS`, others last; rows of one keep theirs."""
    order = {name: place for place, name in enumerate(METHODS.values())}
    places = lambda names: names.map(order).fillna(len(order))  # noqa: E731
    return table.sort_values("method", key=places, kind="stable")


def localization_error(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, method and backbone: mean, and sd where asked for, over the seeds.

    The sd is that of a sample (n - 1); with one seed there is none.
    """
    groups = runs[runs["stage"] != "ablate"].groupby(KEYS, sort=False)
    columns = {"n_seeds": groups.size()}
    for name in SPREAD:
        columns[f"{name}_mean"] = groups[name].mean()
        columns[f"{name}_sd"] = groups[name].std()
    columns |= {f"{name}_mean": groups[name].mean() for name in MEANS}
    table = in_order(pd.DataFrame(columns).reset_index())
    return table.sort_values("dataset", kind="stable", ignore_index=True)


def background_images(runs: pd.DataFrame) -> pd.DataFrame:
    """Errors against the number of background images; 0 is CAM, which has no use for any.

    Takes the class map of one seed, the ablation's own.
    """
    ablated = runs[runs["stage"] == "ablate"]
    main = runs[(runs["stage"] == "evaluate") & runs["seed"].isin(ablated["seed"])]
    main = main[main["method"].isin(["CAM", "Background images"])]
    both = pd.concat([main, ablated]).sort_values(["dataset", "n_background"])
    columns = ["dataset", "n_background", "method", "seed", *SPREAD, "tau"]
    return both[columns].reset_index(drop=True)


def cost(records: Sequence[Mapping]) -> pd.DataFrame:
    """Seconds, images/s and parameters from the contents of the run.json files, per method."""
    names = {method: name for (method, kind), name in METHODS.items() if kind == "class"}
    rows = [
        {"method": names[r["config"]["method"]], "backbone": r["config"]["backbone"], **r["cost"]}
        for r in records
    ]
    groups = pd.DataFrame(rows).groupby(["method", "backbone"], sort=False)
    return pd.DataFrame(
        {
            "n_seeds": groups.size(),
            "seconds_mean": groups["seconds"].mean().round(1),
            "images_per_second_mean": groups["images_per_second"].mean().round(1),
            "parameters": groups["parameters"].first(),
        }
    ).reset_index()


def histories(runs: Sequence[Path]) -> pd.DataFrame:
    """Losses per epoch of the run folders <method>-<seed>: method (as a reader says it), seed."""
    found = []
    for run in runs:
        method, _, seed = run.name.rpartition("-")
        history = pd.read_csv(run / "history.csv")
        if "class_loss" not in history:
            history["class_loss"] = history["loss"]  # of a classifier, this is all
        found.append(history.assign(method=METHODS[method, "class"], seed=int(seed)))
    return pd.concat(found, ignore_index=True)


def mean_losses(histories: pd.DataFrame) -> pd.DataFrame:
    """Total loss per epoch, mean over the seeds: epoch, cam, background."""
    means = histories.pivot_table(index="epoch", columns="method", values="loss", sort=False)
    names = {name: method for (method, kind), name in METHODS.items() if kind == "class"}
    return means.rename(columns=names).reset_index().rename_axis(columns=None)


def main() -> int:
    """Print the headline table and where the report lies; 1 if there is none yet."""
    reports = project_root() / "reports"
    headline = reports / "tables" / "localization_error.md"
    if not headline.is_file():
        print("There is no report yet: `make reproduce` writes it.", file=sys.stderr)
        return 1
    print(headline.read_text(encoding="utf-8"))
    for name, what in (
        ("tables", "this table as CSV, Markdown and LaTeX, cost, ablation"),
        ("figures", "figures"),
        ("notebooks/index.html", "the executed notebooks"),
    ):
        print(f"{(reports / name).as_posix()}: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

COMPARED = ("gt_known_loc_error", "top1_loc_error")
Pair = tuple[LocalizationTable, LocalizationTable]  # of test and of train-fullsup


def _name(table: LocalizationTable) -> str:
    return METHODS[table.meta["method"], table.meta["map"]]


def failures(folder: Path) -> pd.DataFrame:
    """Share of images per reason at tau, %, mean over the seeds, from committed tables.

    Columns: dataset, method, reason, top1_loc_error, gt_known_loc_error (the share of "right" is
    100 less the error); Top-1 is NaN for a map without a classifier. Rows in the order of the
    report and of `wsol.evaluation.failures.REASONS`.
    """
    parts = []
    for test, fullsup in read_pairs(folder / "evaluate") + read_pairs(folder / "references"):
        tau, found = choose_tau(fullsup), test.level_boxes
        ranks = test.rows["rank"].to_numpy()
        shares = failure_shares(
            found.at(tau), found.ground_truth(), None if (ranks < 0).any() else ranks
        )
        about = {"dataset": test.meta["dataset"], "method": _name(test)}
        parts.append(shares.reset_index().assign(**about))
    keys = ["dataset", "method", "reason"]
    means = pd.concat(parts).groupby(keys, sort=False)[["top1_loc_error", "gt_known_loc_error"]]
    return in_order(means.mean().reset_index())


def differences(folder: Path, resamples: int = 2000) -> pd.DataFrame:
    """Error of each run less that of CAM with the same seed, in points, with 95 % intervals.

    A paired bootstrap over the images of `test`; tau is fixed (chosen on `train-fullsup`), or the
    oracle, maximized again in each resample. Columns: dataset, method, seed, error, tau,
    difference, low, high.
    """
    pairs = read_pairs(folder / "evaluate")
    cam = {test.meta["seed"]: (test, fullsup) for test, fullsup in pairs if _name(test) == "CAM"}
    rows = []
    for test, fullsup in pairs:
        if _name(test) == "CAM" or test.meta["seed"] not in cam:
            continue
        for error in COMPARED:
            rows += _compared((test, fullsup), cam[test.meta["seed"]], error, resamples)
    return in_order(pd.DataFrame(rows))


def _compared(pair: Pair, cam: Pair, error: str, resamples: int) -> Sequence[dict]:
    """Two rows: at fixed tau and at the oracle."""
    tests, taus = (pair[0], cam[0]), tuple(choose_tau(fullsup) for _, fullsup in (pair, cam))
    meta = pair[0].meta
    about = {"dataset": meta["dataset"], "method": _name(pair[0]), "seed": int(meta["seed"])}
    found = []
    for fixed in (taus, None):
        d = paired_bootstrap(*tests, error, taus=fixed, resamples=resamples)
        values = {"tau": d.tau, "difference": d.difference, "low": d.low, "high": d.high}
        found.append(about | {"error": error} | values)
    return found
