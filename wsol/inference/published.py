"""Small trained networks that come with the package, each with its thresholds and a model card.

    python -m wsol.inference.published runs/train/cam-0 runs/train/background-0 --out wsol/published/birds

    found = wsol.localize("my pictures", wsol.published("birds/background-0"))

A published run is a folder that `wsol.localize` takes like any other: weights.safetensors, run.json
with what does not change from one execution to the next, boxes.json with read-out and tau of each
map as they were chosen on `train-fullsup`, and card.md, which says what the network is good for and
how often it errs.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from wsol.evaluation.metrics import choose_tau, cls_error, localization_errors
from wsol.evaluation.stats import error_interval, wilson_interval
from wsol.evaluation.table import LocalizationTable
from wsol.inference.settings import BOXES, KINDS, spoken
from wsol.report.format import rounded
from wsol.report.names import METHODS

FOLDER = Path(__file__).parents[1] / "published"
ERRORS = {
    "GT-known localization": "gt_known_loc_error",
    "Top-1 localization": "top1_loc_error",
    "Top-5 localization": "top5_loc_error",
}


def published(name: str) -> Path:
    """Folder of a published run, such as "birds/background-0".

    Raises ValueError if there is none of that name, and says which there are.
    """
    folder = FOLDER / name
    if not _is_published(name):
        known = sorted(path.parent for path in FOLDER.rglob("weights.safetensors"))
        names = ", ".join(path.relative_to(FOLDER).as_posix() for path in known) or "none"
        raise ValueError(f"no published run is called {name!r}; there are: {names}")
    return folder


def run_folder(name: str) -> Path:
    """Folder of a run, given by its path or, where there is no such folder, by a published name."""
    return published(name) if _is_published(name) and not Path(name).is_dir() else Path(name)


def _is_published(name: str) -> bool:
    return (FOLDER / name / "weights.safetensors").is_file()


def _tables(folder: Path, key: str, split: str) -> dict[str, LocalizationTable]:
    """Localization tables of a run on one split, by map."""
    files = {kind: folder / f"{key}-{kind}-{split}.npz" for kind in KINDS}
    return {kind: LocalizationTable.load(file) for kind, file in files.items() if file.is_file()}


def publish(run: Path, evaluation: Path, out: Path) -> Path:
    """Write a published run into out/<name of the run> and return that folder.

    run : folder of a trained run; evaluation : folder of its localization tables

    Raises FileNotFoundError if the tables of its class map are missing.
    """
    test, fullsup = (_tables(evaluation, run.name, split) for split in ("test", "train-fullsup"))
    if "class" not in test or "class" not in fullsup:
        raise FileNotFoundError(f"{evaluation} has no tables of the class map of {run.name}")
    folder = out / run.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "weights.safetensors", folder / "weights.safetensors")
    record = json.loads((run / "run.json").read_text("utf-8"))
    kept = {name: record[name] for name in ("config", "class_names") if name in record}
    kept["cost"] = {"parameters": record["cost"]["parameters"]}
    boxes = {
        kind: {"read_out": table.meta["read_out"], "tau": round(choose_tau(table), 4)}
        for kind, table in fullsup.items()
    }
    for name, content in (("run.json", kept), (BOXES, boxes)):
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    card = model_card(f"{out.name}/{run.name}", kept, test, boxes, digest)
    (folder / "card.md").write_text(card, encoding="utf-8", newline="\n")
    return folder


def _error_rows(test: dict[str, LocalizationTable], boxes: dict[str, dict]) -> list[str]:
    rows = []
    for kind, table in test.items():
        tau = boxes[kind]["tau"]
        found = localization_errors(table, tau)
        for name, error in ERRORS.items():
            low, high = error_interval(table, tau, error, tau_source="train-fullsup")
            rows.append(
                f"| {name}, {kind} map | {rounded(found[error])} | {low:.1f} to {high:.1f} |"
            )
    (some, *_) = test.values()
    wrong, images = int((some.rows["rank"] > 0).sum()), len(some.rows)
    low, high = wilson_interval(wrong, images)
    return [*rows, f"| Classification | {rounded(cls_error(some))} | {low:.1f} to {high:.1f} |"]


def model_card(
    name: str, run: dict, test: dict[str, LocalizationTable], boxes: dict[str, dict], sha256: str
) -> str:
    """The card of a published run in Markdown: what it is, what it is for, how often it errs.

    run : content of run.json; test : localization tables by map; boxes : content of boxes.json
    """
    config = run["config"]
    (some, *_) = test.values()
    images, data = len(some.rows), some.meta["dataset"].capitalize()
    told = [f"| {kind} | {boxes[kind]['read_out']} | {boxes[kind]['tau']:.3f} |" for kind in boxes]
    names = ", ".join(map(spoken, run["class_names"]))
    return f"""\
# {METHODS[config["method"], "class"]}, seed {config["seed"]}: {name}

A `{config["backbone"]}` network of {run["cost"]["parameters"]:,} parameters, trained by \
`wsol.methods.{config["method"]}` for {config["epochs"]} epochs on image labels alone, never on \
boxes, at {config["input_size"]} x {config["input_size"]} pixels. It says which of \
{config["num_classes"]} classes is in a picture and draws a box around it.

```python
import wsol

found = wsol.localize("my pictures", wsol.published("{name}"))
```

## Data

{data} (drawn by `wsol.datasets.birds`, seed 0): `train-weaksup` for training, \
`train-fullsup` for read-out and threshold of each map, `test` for the errors below. \
Classes: {names}.

## Errors

On the {images} images of `test`, in %, with Wilson's 95 % interval; protocol of Choe et al. \
(CVPR 2020), IoU at least 0.5. The interval is about these images, not about another training \
seed.

| error | % | 95 % interval |
|:--|--:|--:|
{chr(10).join(_error_rows(test, boxes))}

| map | read-out | tau, chosen on `train-fullsup` |
|:--|:--|--:|
{chr(10).join(told)}

## What it is for, and what not

To try the software and to compare methods on the drawn birds. It has never seen a photograph: \
what it says of one means nothing. One box per picture; several objects end up in one box or in \
part of one.

## Licence and integrity

MIT, as the repository; the training pictures are drawn by it. sha256 of weights.safetensors:
`{sha256}`
"""


def main(words: Sequence[str] | None = None) -> int:
    """Publish what the command line names."""
    parser = argparse.ArgumentParser(
        prog="wsol.inference.published", description="Runs with a model card."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders runs/train/KEY")
    parser.add_argument("--evaluations", type=Path, default=Path("runs/evaluate"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    for run in arguments.runs:
        evaluation = arguments.evaluations / run.name / "localization"
        print(publish(run, evaluation, arguments.out).as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
