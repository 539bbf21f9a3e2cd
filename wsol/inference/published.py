"""Small trained networks that come with the package, each with its thresholds and a model card.

    detections = wsol.localize("my images", wsol.published("birds/background-0"))

A published run is a folder that `wsol.localize` accepts like any other: weights.safetensors,
run.json (configuration, class names, number of parameters), boxes.json (read-out and tau of each
map, chosen on `train-fullsup`) and card.md (purpose and errors of the network).
"""

import json
import re
import shutil
from pathlib import Path

from wsol.datasets.files import file_sha256, write_text, written_whole
from wsol.datasets.index import TRAIN_FULLSUP
from wsol.evaluation.metrics import choose_tau, cls_error, localization_errors
from wsol.evaluation.run import WEIGHTS_SHA256
from wsol.evaluation.stats import error_interval, wilson_interval
from wsol.evaluation.table import LocalizationTable
from wsol.inference.settings import BOXES, KINDS, check_weights, display_name
from wsol.report.format import rounded
from wsol.report.names import METHODS
from wsol.report.tables import read_pair
from wsol.training import FOLDER, WEIGHTS

ERRORS = {
    "GT-known localization": "gt_known_loc_error",
    "Top-1 localization": "top1_loc_error",
    "Top-5 localization": "top5_loc_error",
}


def published(name: str) -> Path:
    """Return the folder of a published run, such as "birds/background-0".

    Raises ValueError if there is none of that name, and lists the known names.
    """
    if not (FOLDER / name / WEIGHTS).is_file():
        known = sorted(path.parent for path in FOLDER.rglob(WEIGHTS))
        names = ", ".join(path.relative_to(FOLDER).as_posix() for path in known) or "none"
        raise ValueError(f"no published run is called {name!r}; there are: {names}")
    return FOLDER / name


def publish(
    run: Path, evaluation: Path, out: Path, *, name: str = "", key: str = "", terms: str = ""
) -> Path:
    """Write a published run into out/<name> and return that folder.

    run : folder of a trained run; evaluation : folder of its localization tables, <key>-...
    name, key : by default the name of the run's folder
    terms : of the data that it learned from, for the card

    Raises FileNotFoundError if the tables of its class map are missing, ValueError if tables are of
    other weights.
    """
    name, key = name or run.name, key or run.name
    kinds = [k for k in KINDS if (evaluation / f"{key}-{k}-test.npz").is_file()]
    if "class" not in kinds:
        raise FileNotFoundError(f"{evaluation} has no tables of the class map of {key}")
    pairs = {kind: read_pair(evaluation, f"{key}-{kind}") for kind in kinds}
    digest = file_sha256(run / WEIGHTS)
    for kind, pair in pairs.items():
        for table in pair:
            path = evaluation / f"{key}-{kind}-{table.meta['split']}.npz"
            check_weights(path, table.meta.get(WEIGHTS_SHA256), run, digest)
    folder = out / name
    with written_whole(folder / WEIGHTS) as partial:
        shutil.copyfile(run / WEIGHTS, partial)
    record = json.loads((run / "run.json").read_text("utf-8"))
    kept = {k: record[k] for k in ("class_names", "config", "parameters") if k in record}
    boxes: dict = {
        kind: {"read_out": fullsup.meta["read_out"], "tau": round(choose_tau(fullsup), 4)}
        for kind, (_, fullsup) in pairs.items()
    }
    for file, content in (("run.json", kept), (BOXES, boxes | {WEIGHTS_SHA256: digest})):
        write_text(folder / file, json.dumps(content, indent=2, sort_keys=True) + "\n")
    test = {kind: table for kind, (table, _) in pairs.items()}
    card = model_card(f"{out.name}/{name}", kept, test, boxes, digest)
    write_text(folder / "card.md", f"{card}\n## Terms\n\n{terms}\n" if terms else card)
    return folder


def _error_rows(test: dict[str, LocalizationTable], boxes: dict[str, dict]) -> list[str]:
    rows = []
    for kind, table in test.items():
        tau = boxes[kind]["tau"]
        errors = localization_errors(table, tau)
        for name, error in ERRORS.items():
            low, high = error_interval(table, tau, error, tau_source=TRAIN_FULLSUP)
            value = rounded(errors[error])
            rows.append(f"| {name}, {kind} map | {value} | {low:.1f} to {high:.1f} |")
    table = test["class"]
    wrong, images = int((table.rows["rank"] > 0).sum()), len(table.rows)
    low, high = wilson_interval(wrong, images)
    return [*rows, f"| Classification | {rounded(cls_error(table))} | {low:.1f} to {high:.1f} |"]


def model_card(
    name: str, run: dict, test: dict[str, LocalizationTable], boxes: dict[str, dict], sha256: str
) -> str:
    """Return the model card of a published run as Markdown.

    It says only what run and tables say: the data set is called by the name in the tables.

    run : content of run.json; test : localization tables by map; boxes : content of boxes.json
    """
    config, table = run["config"], test["class"]
    images, data = len(table.rows), table.meta["dataset"].capitalize()
    read_outs = [f"| {kind} | {b['read_out']} | {b['tau']:.3f} |" for kind, b in boxes.items()]
    names = ", ".join(map(display_name, run.get("class_names", ["no names"])))
    names = re.sub(r"([\\`*<>\[\]|&])", r"\\\1", names)  # Markdown would take them for its own
    return f"""\
# {METHODS[config["method"], "class"]}, seed {config["seed"]}: {name}

A `{config["backbone"]}` network of {run["parameters"]:,} parameters, trained by \
`wsol.methods.{config["method"]}` for {config["epochs"]} epochs on image labels alone, never on \
boxes, at {config["input_size"]} x {config["input_size"]} pixels. It says which of \
{config["num_classes"]} classes is in an image and draws a box around it.

```python
import wsol

detections = wsol.localize("my images", wsol.published("{name}"))
```

## Data

{data}: `train-weaksup` for training, `train-fullsup` for read-out and threshold of each map, \
`test` for the errors below. Classes: {names}.

## Errors

On the {images} images of `test`, in %, with Wilson's 95 % interval; protocol of Choe et al. \
(CVPR 2020), IoU at least 0.5. The interval is about these images, not about another training \
seed.

| error | % | 95 % interval |
|:--|--:|--:|
{chr(10).join(_error_rows(test, boxes))}

| map | read-out | tau, chosen on `train-fullsup` |
|:--|:--|--:|
{chr(10).join(read_outs)}

## What it is for, and what not

To try the software and to compare methods on this data set. On images of another kind no error \
has been measured. One box per image; several objects end up in one box or in part of one.

## Integrity

sha256 of weights.safetensors:
`{sha256}`
"""
