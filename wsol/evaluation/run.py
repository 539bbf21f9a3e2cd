"""Evaluation of a trained network: its maps, their read-outs, localization tables.

Every map of every method may be read out in three ways (`wsol.evaluation.predict.READ_OUTS`) before
the min-max normalization of the protocol. The read-out is chosen on `train-fullsup`, per run and
map, by GT-known error, so that a better read-out does not pass for a better method.

Shapes: N images, K classes, h w map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from wsol.datasets.backgrounds.manifest import read_background_set
from wsol.datasets.images import load_split
from wsol.datasets.index import rows_of
from wsol.evaluation.localize import localize, rank_labels
from wsol.evaluation.masks import MaskReader
from wsol.evaluation.metrics import choose_tau, max_box_acc
from wsol.evaluation.predict import (
    READ_OUTS,
    predict,
    predict_split,
    read_out_map,
    read_outs,
)
from wsol.evaluation.protocols import PROTOCOLS, Protocol, ProtocolResult, evaluate_under
from wsol.evaluation.table import LocalizationTable
from wsol.methods import get_method
from wsol.training.config import Execution, TrainConfig
from wsol.training.runs import load_network

FULLSUP, TEST = "train-fullsup", "test"
PROTOCOL = "choe2020"


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
    """
    network, config = load_network(weights)
    rows = {split: rows_of(index, split) for split in (FULLSUP, TEST)}
    if maps is None:
        predicted = {
            s: predict(network, *load_split(index, root, s, config.input_size)) for s in rows
        }
    else:
        predicted = {
            s: predict_split(weights, some, root, Path(maps) / s, execution, resume_dir)
            for s, some in rows.items()
        }
    about = about_run(config, root, n_background) | dict(meta or {})
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
        key: table(FULLSUP, *key, values)
        for key, values in read_outs(predicted[FULLSUP], kinds).items()
    }
    choices = _choose(tried)
    tables = {}
    for kind, name in choices.loc[choices["chosen"], ["map", "read_out"]].itertuples(index=False):
        tables[kind, FULLSUP] = tried[kind, name]
        values = read_out_map(predicted[TEST], kind, name)
        tables[kind, TEST] = table(TEST, kind, name, values)
    return RunEvaluation(tables, choices, dict(predicted))


def about_run(config: TrainConfig, root: str | Path, n_background: int | None) -> dict[str, str]:
    """What the tables of a run say of it."""
    if not get_method(config.method).USES_BACKGROUND:
        n_background = 0
    elif n_background is None:
        n_background = len(read_background_set(Path(root) / "background"))
    about = {"method": config.method, "backbone": config.backbone, "seed": str(config.seed)}
    return about | {"n_background": str(n_background), "protocol": PROTOCOL}


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


def frame_images(
    index: pd.DataFrame, root: str | Path, split: str, input_size: int, protocol: Protocol
) -> tuple[Tensor, Tensor]:
    """Images (N, 3, input_size, input_size) of the protocol's frame, and labels (N,).

    The frame is the centre crop of the squashed image, in the proportion of the protocol.
    """
    side = round(input_size * protocol.squash / protocol.frame)
    images, labels = load_split(index, root, split, side)
    start = (side - input_size) // 2
    part = slice(start, start + input_size)
    return images[:, :, part, part].contiguous(), labels


def _results(
    protocol: Protocol, maps: NDArray, rows: pd.DataFrame, ranks: NDArray
) -> dict[str, ProtocolResult]:
    """The result of each read-out of the maps."""
    return {
        name: evaluate_under(protocol, read_out(maps), rows, ranks)
        for name, read_out in READ_OUTS.items()
    }


def evaluate_protocols(
    weights: str | Path,
    index: pd.DataFrame,
    root: str | Path,
    protocols: Sequence[str] = tuple(PROTOCOLS),
) -> pd.DataFrame:
    """Errors of the class map on `test` under each protocol preset, inference included, %.

    Each protocol shows the network its own part of the image; the read-out is chosen on
    `train-fullsup` under the protocol itself.

    Columns: protocol, method, seed, read_out, averaged_over, tau (chosen on `train-fullsup`), the
    three errors at it, cls_error (of the protocol's frame), and gt_known_loc_error_oracle.
    """
    network, config = load_network(weights)
    rows = {split: rows_of(index, split) for split in (FULLSUP, TEST)}
    table = []
    for name in protocols:
        protocol, predicted, ranks = PROTOCOLS[name], {}, {}
        for split in rows:
            images, labels = frame_images(index, root, split, config.input_size, protocol)
            predicted[split] = predict(network, images, labels)
            _, ranks[split] = rank_labels(predicted[split]["logits"], labels.numpy())
        tried = _results(protocol, predicted[FULLSUP]["class"], rows[FULLSUP], ranks[FULLSUP])
        lowest = {key: result.errors["gt_known_loc_error"].min() for key, result in tried.items()}
        read_out = min(lowest, key=lowest.__getitem__)
        tau = tried[read_out].best_tau()
        maps = READ_OUTS[read_out](predicted[TEST]["class"])
        test = evaluate_under(protocol, maps, rows[TEST], ranks[TEST])
        about = {"protocol": name, "method": config.method, "seed": config.seed}
        about |= {"read_out": read_out, "averaged_over": protocol.average, "tau": tau}
        oracle = test.at(test.best_tau())["gt_known_loc_error"]
        cls_error = 100 * float((ranks[TEST] > 0).mean())
        numbers = {"cls_error": cls_error, "gt_known_loc_error_oracle": oracle}
        table.append(about | test.at(tau) | numbers)
    return pd.DataFrame(table)
