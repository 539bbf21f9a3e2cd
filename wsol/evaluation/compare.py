"""The errors of one network under each protocol preset, inference included."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from wsol.datasets.images import load_split
from wsol.datasets.index import TEST, TRAIN_FULLSUP, rows_of
from wsol.evaluation.localize import rank_labels
from wsol.evaluation.predict import READ_OUTS, predict
from wsol.evaluation.protocols import PROTOCOLS, Protocol, evaluate_under
from wsol.training.runs import load_network


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
    network, config = load_network(weights, index)
    rows = {split: rows_of(index, split) for split in (TRAIN_FULLSUP, TEST)}
    table = []
    for name in protocols:
        protocol, predicted, ranks = PROTOCOLS[name], {}, {}
        for split in rows:
            images, labels = frame_images(index, root, split, config.input_size, protocol)
            predicted[split] = predict(network, images, labels)
            _, ranks[split] = rank_labels(predicted[split]["logits"], labels.numpy())
        maps = predicted[TRAIN_FULLSUP]["class"]
        fullsup = rows[TRAIN_FULLSUP], ranks[TRAIN_FULLSUP]
        tried = {key: evaluate_under(protocol, f(maps), *fullsup) for key, f in READ_OUTS.items()}
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
