"""Evaluation of a trained network: its maps, their read-outs, localization tables.

Every map of every method may be read out in three ways (`wsol.evaluation.predict.READ_OUTS`) before
the min-max normalization of the protocol. The read-out is chosen on `train-fullsup`, per run and
map, by GT-known error, so that a better read-out does not pass for a better method.

Shapes: N images, K classes, h w map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.files import file_sha256
from wsol.datasets.images import load_split
from wsol.datasets.index import TEST, TRAIN_FULLSUP, rows_of
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import MaskReader
from wsol.evaluation.metrics import choose_tau, max_box_acc
from wsol.evaluation.predict import predict, predict_split, read_out_map, read_outs
from wsol.evaluation.table import LocalizationTable
from wsol.methods import get_method
from wsol.training.config import Execution, TrainConfig
from wsol.training.runs import load_network

PROTOCOL = "choe2020"
WEIGHTS_SHA256 = "weights_sha256"  # what tables and settings call the weights that they belong to


@dataclass(frozen=True)
class RunEvaluation:
    """What the evaluation of a run leaves.

    tables : one localization table per (map, split)
    choices : map, read_out, gt_known_loc_error (% on `train-fullsup`), tau, chosen
    maps : per split, what `wsol.evaluation.predict.predict` returns
    """

    tables: dict[tuple[str, str], LocalizationTable]
    choices: pd.DataFrame
    maps: dict[str, dict[str, NDArray]]

    def save_tables(self, folder: str | Path, key: str) -> None:
        """Write each table as ``<key>-<map>-<split>.npz``."""
        for (kind, split), table in self.tables.items():
            table.save(Path(folder) / f"{key}-{kind}-{split}.npz")


def evaluate_run(
    weights: str | Path,
    index: pd.DataFrame,
    root: str | Path,
    *,
    kinds: tuple[str, ...] = ("class", "foreground", "product"),
    n_background: int | None = None,
    meta: Mapping[str, str] | None = None,
    workers: int = 1,
    maps: str | Path | None = None,
    execution: Execution | None = None,
    resume_dir: str | Path | None = None,
) -> RunEvaluation:
    """Localize with one trained network on `train-fullsup` and `test`.

    Parameters
    ----------
    weights : file that `wsol.training.loop.train` wrote
    index, root : index table of the data set and the folder its paths start from
    kinds : maps to evaluate; those that the network does not have are passed over
    n_background : background images that it was trained with; None for the whole set
    meta : what the tables should say beside method, backbone, seed, n_background, map, ...
    workers : threads that turn maps into boxes
    maps : folder for the maps of the splits, `predict_split` writes them; without, they stay in
        memory, and `execution` and `resume_dir` mean nothing

    The tables name the sha256 of the weights. Raises ValueError if the run learned other classes.
    """
    network, config = load_network(weights, index)
    rows = {split: rows_of(index, split) for split in (TRAIN_FULLSUP, TEST)}
    if maps is None:
        predicted = {
            s: predict(network, *load_split(index, root, s, config.input_size)) for s in rows
        }
    else:
        predicted = {
            s: predict_split(weights, some, root, Path(maps) / s, execution, resume_dir)
            for s, some in rows.items()
        }
    about = about_run(weights, config, root, n_background) | dict(meta or {})
    return evaluate_maps(predicted, rows, root, kinds, about, workers)


def evaluate_maps(
    predicted: Mapping[str, Mapping[str, NDArray]],
    rows: Mapping[str, pd.DataFrame],
    root: str | Path,
    kinds: tuple[str, ...],
    about: Mapping[str, str],
    workers: int = 1,
) -> RunEvaluation:
    """Localize with maps of `train-fullsup` and `test`; read-out and tau are of the former.

    Parameters
    ----------
    predicted : by split what `wsol.evaluation.predict.predict` returns: ``logits`` (N, K) and maps
        (N, h, w) by kind
    rows : by split, the N rows of the index table, in the order of the maps
    root : folder that the paths of the masks start from
    kinds : maps to evaluate
    about : what the tables say of the run: method, backbone, seed, protocol, dataset, ...
    workers : threads that turn maps into boxes

    Raises ValueError if maps and rows differ in number, or a row has no box.
    """
    masks = MaskReader(Path(root)) if (rows[TEST]["mask"] != "").all() else None

    def table(split: str, kind: str, name: str, values: NDArray) -> LocalizationTable:
        return localize(
            values,
            rows[split],
            predicted[split]["logits"],
            masks=masks if split == TEST else None,
            workers=workers,
            meta=dict(about) | {"map": kind, "read_out": name, "split": split},
        )

    tried = {
        key: table(TRAIN_FULLSUP, *key, values)
        for key, values in read_outs(predicted[TRAIN_FULLSUP], kinds).items()
    }
    choices = _choose(tried)
    tables = {}
    for kind, name in choices.loc[choices["chosen"], ["map", "read_out"]].itertuples(index=False):
        tables[kind, TRAIN_FULLSUP] = tried[kind, name]
        values = read_out_map(predicted[TEST], kind, name)
        tables[kind, TEST] = table(TEST, kind, name, values)
    return RunEvaluation(tables, choices, dict(predicted))


def about_run(
    weights: str | Path, config: TrainConfig, root: str | Path, n_background: int | None
) -> dict[str, str]:
    """What the tables of a run say of it."""
    if not get_method(config.method).USES_BACKGROUND:
        n_background = 0
    elif n_background is None:
        n_background = len(read_background_set(Path(root) / "background"))
    about = {"method": config.method, "backbone": config.backbone, "seed": str(config.seed)}
    about |= {"n_background": str(n_background), "protocol": PROTOCOL}
    return about | {WEIGHTS_SHA256: file_sha256(weights)}


def _choose(tried: Mapping[tuple, LocalizationTable]) -> pd.DataFrame:
    """All read-outs with their errors; of each map the first of lowest error is chosen."""
    choices = pd.DataFrame(
        {
            "map": [kind for kind, _ in tried],
            "read_out": [name for _, name in tried],
            "gt_known_loc_error": [100 - max_box_acc(table) for table in tried.values()],
            "tau": [choose_tau(table) for table in tried.values()],
        }
    )
    best = choices.groupby("map", sort=False)["gt_known_loc_error"].idxmin()
    choices["chosen"] = choices.index.isin(best)
    return choices.sort_values("map", kind="stable", ignore_index=True)
