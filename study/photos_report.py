"""Tables of the study on photographs, from runs/photos to reports/tables/photos*.csv.

    python study/photos_report.py

photos.csv, .md, .tex    errors per data set and method, mean and deviation over the seeds
photos_runs.csv          the same per run
photos_comparisons.csv   differences on the same images with 95 % intervals, seeds averaged
photos_sets.csv          background sets: distance from the birds' surroundings, and errors
photos_tuning.csv        every trial that a setting was chosen by, on training images alone

What a table says of runs that are not below runs/photos stays.
"""

import sys

import numpy as np
import pandas as pd
import photos
import photos_finetuned
import photos_sets
from scipy import stats

from wsol.backbones import build_backbone
from wsol.datasets.index import INDEX, TEST, TRAIN_FULLSUP, read_index
from wsol.evaluation.metrics import choose_tau, column_of, evaluate, wrong_images
from wsol.evaluation.table import LocalizationTable
from wsol.report.format import write_csv, write_headline
from wsol.report.tables import Pair, mean_over_seeds, read_pairs, row_name

STUDY = photos.read_params()
ROWS_OF = {group: [*settings["rows"]] for group, settings in STUDY["groups"].items()}
ROWS_OF[photos_finetuned.GROUP] = [*STUDY[photos_finetuned.GROUP]["rows"]]
TABLES = photos.ROOT / "reports" / "tables"
ROWS = {  # rows of the study that are no method of their own
    "negatives_alone": "Negatives alone, no background image",
    "negatives_alone_q3": "Negatives alone, share 0.3",
    "background_plus_embedding": "Background images and negatives + linear probe",
    "cam_embedding": "CAM + linear probe",
}
SUFFIXES = {  # of the names of rows, by group
    group: f", {STUDY['groups'][group]['train']['input_size']} px"
    for group in ("large", "heldout_large")
} | {photos_finetuned.GROUP: ", fine-tuned"}
GROUPS = ["main", "large", "finetuned", "others", "bas", "references", "heldout", "heldout_large"]
GROUPS += ["pets", "sets", "large_sets", "sizes"]
COMPARED = [  # GROUP/ROW, and the one that is subtracted from it
    ("main/background_plus", "main/cam"),
    ("main/background_plus", "main/background"),
    ("main/background_plus", "main/negatives_alone"),
    ("main/background_plus", "others/negatives_alone_q3"),
    ("main/background_plus", "bas/bas"),
    ("main/background_plus_embedding", "main/background_plus"),
    ("main/background_plus_embedding", "main/cam_embedding"),
    ("large/background_plus_embedding", "main/cam"),
    ("large/background_plus_embedding", "large/cam"),
    ("large/background_plus_embedding", "large/cam_embedding"),
    ("large/background_plus_embedding", "large/negatives_alone"),
    ("large/background_plus_embedding", "main/background_plus_embedding"),
    ("finetuned/background_plus", "finetuned/cam"),
    ("finetuned/background_plus", "finetuned/bas"),
    ("finetuned/bas", "finetuned/cam"),
]


def pairs_of(group: str, row: str) -> dict[int, dict[str, Pair]]:
    """Tables of `test` and `train-fullsup` by seed and map."""
    pairs: dict[int, dict[str, Pair]] = {}
    for folder in sorted((photos.RUNS / group).glob(f"{row}-[0-9]*")):
        if read := read_pairs(folder / "localization"):
            seed = int(folder.name.rpartition("-")[2])
            pairs[seed] = {pair[0].meta["map"]: pair for pair in read}
    return pairs


def name_of(group: str, row: str, table: LocalizationTable) -> str:
    """Name of a row of the report."""
    kind = table.meta["map"]
    name, _, of = row_name(table).partition(": ")
    if row in ROWS:
        name, of = ROWS[row], "" if kind == "class" else f"{kind} map"
    name += SUFFIXES.get(group, "")
    return f"{name}: {of}" if of else name


def numbers_of(group: str, row: str, split: str = TEST) -> list[dict[str, object]]:
    """One row per run and map: what it is, and all errors in % on a split."""
    numbers = []
    for seed, kinds in pairs_of(group, row).items():
        for kind, (test, fullsup) in kinds.items():
            if row == "cam_embedding" and kind != "class":  # its foreground head is not trained
                continue
            meta = test.meta
            about = {"group": group, "row": row, "dataset": meta["dataset"]}
            about |= {"method": name_of(group, row, test), "backbone": meta["backbone"]}
            about |= {"map": kind, "seed": seed, "n_background": int(meta.get("n_background", 0))}
            evaluated = test if split == TEST else fullsup
            numbers.append(about | evaluate(evaluated, fullsup))
    return numbers


def mean_wrong(group: str, row: str, kind: str, error: str) -> np.ndarray:
    """Share of the seeds (N,) that err on each image of `test`, at the tau of `train-fullsup`."""
    wrong = []
    for kinds in pairs_of(group, row).values():
        test, fullsup = kinds[kind]
        wrong.append(wrong_images(test, error)[:, column_of(test, choose_tau(fullsup))])
    return np.mean(wrong, axis=0)


def renewed(rows: list[dict[str, object]], name: str, keys: list[str]) -> pd.DataFrame:
    """The table `name`.csv with these rows in the places of those with the same keys."""
    file, new = TABLES / f"{name}.csv", pd.DataFrame(rows)
    if not file.is_file():
        return new
    old = pd.read_csv(file).fillna({"backbone": ""})
    if new.empty:
        return old
    order = pd.concat([old[keys], new[keys]]).drop_duplicates()
    values = pd.concat([new, old]).drop_duplicates(keys)  # the new ones stay
    return order.merge(values, on=keys)[[*new.columns]]


def comparisons() -> list[dict[str, object]]:
    """Error of a row minus that of another one, percentage points."""
    rows = []
    for error in ("gt_known_loc_error", "top1_loc_error"):
        for row, other in COMPARED:
            if not pairs_of(*row.split("/")) or not pairs_of(*other.split("/")):
                continue
            own = mean_wrong(*row.split("/"), "class", error)
            difference = 100 * (own - mean_wrong(*other.split("/"), "class", error))
            options = dict(n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
            interval = stats.bootstrap((difference,), np.mean, **options).confidence_interval
            about = {"error": error, "row": row, "minus": other}
            numbers = {"difference": difference.mean(), "low": interval.low, "high": interval.high}
            rows.append(about | numbers)
    return rows


def sets() -> list[dict[str, object]]:
    """Background sets with their distance and the errors of background_plus on them."""
    data = photos.RUNS / "data" / "cub27"
    index = read_index(data / INDEX)
    backbone = build_backbone("efficientnet-lite0", "DEFAULT").eval()
    birds = photos_sets.statistics(photos_sets.surrounding_locations(backbone, index, data))
    rows = []
    for name in ("scenes", *ROWS_OF["sets"]):
        group, row = ("main", "background_plus") if name == "scenes" else ("sets", name)
        if name not in STUDY["background"] or not pairs_of(group, row):
            continue
        paths = photos.background_paths(name, STUDY["background"][name], None)
        features = photos_sets.locations(backbone, paths)
        own = photos_sets.statistics(features.reshape(-1, features.shape[-1]))
        about = {"set": name, "images": len(paths), "distance": photos_sets.frechet(own, birds)}
        errors = {
            r["map"]: r["gt_known_loc_error"] for r in numbers_of(group, row) if r["seed"] == 0
        }
        about |= {f"{k}_map_gt_known_loc_error": errors[k] for k in ("class", "foreground")}
        rows.append(about)
    return rows


def main() -> int:
    """Write the tables."""
    if not photos.RUNS.is_dir():
        print("no tables of photographs: python study/photos.py makes the runs")
        return 0
    rows: list[dict[str, object]] = []
    for group in GROUPS:
        for row in ROWS_OF.get(group, ()):
            rows += numbers_of(group, row)
    for row in ("posthoc", "few_shot", "constant-box", "centre-gaussian"):
        rows += [
            r for r in numbers_of("references", row) if (row, r["map"]) != ("posthoc", "class")
        ]
    trials = [("tuning", row) for row in ROWS_OF["tuning"]]
    trials += [(photos_finetuned.TUNING, row) for row in photos_finetuned.trials(STUDY)]
    tuning = [r for t in trials for r in numbers_of(*t, TRAIN_FULLSUP) if r["map"] == "class"]
    of_run = ["group", "row", "map", "seed"]
    runs = renewed(rows, "photos_runs", of_run)
    runs = runs.sort_values("group", kind="stable", key=lambda group: group.map(GROUPS.index))
    main_table = runs[~runs["group"].isin(["sets", "large_sets", "sizes"])]
    write_headline(mean_over_seeds(main_table), TABLES, "photos")
    write_csv(runs, TABLES / "photos_runs.csv")
    write_csv(renewed(tuning, "photos_tuning", of_run), TABLES / "photos_tuning.csv")
    differences = renewed(comparisons(), "photos_comparisons", ["error", "row", "minus"])
    write_csv(differences, TABLES / "photos_comparisons.csv")
    write_csv(renewed(sets(), "photos_sets", ["set"]), TABLES / "photos_sets.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
