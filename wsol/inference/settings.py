"""What localizing images without ground truth needs of a run: network, threshold, class names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from wsol.datasets.files import file_sha256, read_json
from wsol.datasets.index import INDEX, TRAIN_FULLSUP, index_table, read_index
from wsol.evaluation.metrics import choose_tau
from wsol.evaluation.predict import READ_OUTS, run_network
from wsol.evaluation.run import WEIGHTS_SHA256
from wsol.evaluation.table import LocalizationTable
from wsol.training import WEIGHTS
from wsol.training.config import TrainConfig
from wsol.training.runs import check_classes, load_network

KINDS = ("class", "foreground", "product")
BOXES = "boxes.json"  # of a published run: read-out and tau of each map


class BoxSettings(NamedTuple):
    """How a map becomes a box."""

    kind: str  # which map, of `KINDS`
    read_out: str  # of `wsol.evaluation.predict.READ_OUTS`
    tau: float  # score-map threshold


def open_run(
    run: str | Path, kind: str, device: torch.device | str = "cpu"
) -> tuple[nn.Module, TrainConfig, int]:
    """Load the network of a run; return it with its configuration and number of classes.

    Raises FileNotFoundError if there are no weights, ValueError if the network has no map `kind`.
    """
    if kind not in KINDS:
        raise ValueError(f"map is {kind!r}; known: {', '.join(KINDS)}")
    weights = Path(run) / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"no {weights}: give a run's folder, or a published one's name")
    network, config = load_network(weights)
    network = network.to(device)
    size = config.input_size
    outputs = run_network(network, torch.zeros(1, 3, size, size, dtype=torch.uint8))
    if kind != "class" and outputs.foreground is None:
        raise ValueError(f"the method {config.method!r} has no {kind} map, only the class map")
    return network, config, outputs.logits.shape[1]


def _fullsup_table(folder: Path, run: Path, kind: str) -> LocalizationTable:
    path = folder / f"{run.resolve().name}-{kind}-{TRAIN_FULLSUP}.npz"
    if not path.is_file():
        raise ValueError(
            f"no {path}; notebooks/40_evaluate.ipynb with run={run} and out={folder} writes it, "
            "or give tau yourself"
        )
    table = LocalizationTable.load(path)
    check_weights(path, table.meta.get(WEIGHTS_SHA256), run)
    return table


def check_weights(path: Path, measured: str | None, run: Path, digest: str = "") -> None:
    """Raise ValueError unless the sha256 that `path` was measured on is that of the run's weights.

    Names bind nothing: another run may have the same, and a training may be repeated. `digest` is
    that of the weights, where it is known.
    """
    if measured != (digest or file_sha256(run / WEIGHTS)):
        raise ValueError(
            f"{path} does not belong to {run / WEIGHTS}, whose sha256 is not the one in it: "
            "evaluate this run (`wsol evaluate`), or give tau yourself"
        )


def box_settings(
    run: str | Path,
    evaluation: str | Path | None,
    kind: str,
    tau: float | None,
    read_out: str | None,
) -> BoxSettings:
    """Return tau and read-out: the given ones, or those chosen on `train-fullsup`.

    Without an evaluation or tau they are those of `find_evaluation`, else of a published run.
    Raises ValueError if there are none, one is out of range, or the tables are of another run.
    """
    if read_out is not None and tau is None:
        raise ValueError("a tau belongs to one read-out: give tau together with read_out")
    if evaluation is None and tau is None:
        evaluation = find_evaluation(run)
    if evaluation is not None:
        table = _fullsup_table(Path(evaluation), Path(run), kind)
        tau = choose_tau(table) if tau is None else tau
        read_out = read_out or table.meta["read_out"]
    elif tau is None and (Path(run) / BOXES).is_file():
        chosen = read_json(Path(run) / BOXES)
        check_weights(Path(run) / BOXES, chosen.get(WEIGHTS_SHA256), Path(run))
        try:
            tau, read_out = float(chosen[kind]["tau"]), chosen[kind]["read_out"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{Path(run) / BOXES} has no tau of the {kind} map") from error
    if tau is None:
        raise ValueError(
            f"no threshold for the maps of {run}: run notebooks/40_evaluate.ipynb for it and give "
            "the folder of its localization tables as `evaluation`, or give `tau` yourself"
        )
    if not 0 <= tau < 1:
        raise ValueError(f"tau is {tau}; it must be at least 0 and below 1")
    read_out = read_out or "raw"
    if read_out not in READ_OUTS:
        raise ValueError(f"read_out is {read_out!r}; known: {', '.join(READ_OUTS)}")
    return BoxSettings(kind, read_out, float(tau))


def find_evaluation(run: str | Path) -> Path | None:
    """Return the folder of a run's localization tables, or None.

    It is RUN/localization or, for runs/train/KEY, runs/evaluate/KEY/localization.
    """
    run = Path(run).resolve()
    usual = (run / "localization", run.parent.parent / "evaluate" / run.name / "localization")
    return next((folder for folder in usual if folder.is_dir()), None)


def class_names(run: str | Path, data: str | Path | None, num_classes: int) -> list[str]:
    """Return the class names by label: of the run, else of data/index.csv, else the numbers.

    Raises ValueError if that data set has other classes than those that the run learned.
    """
    index = index_table([]) if data is None else read_index(Path(data) / INDEX)
    return check_classes(Path(run) / WEIGHTS, num_classes, index)


def display_name(class_name: str) -> str:
    """Return a class name for people: "001.Red_capped_Finch" becomes "Red capped Finch"."""
    return class_name.rpartition(".")[2].replace("_", " ")
