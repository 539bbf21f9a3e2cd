"""From maps that somebody has predicted to localization tables, each at its chosen read-out.

The part of `wsol.evaluation.evaluate_run` that comes after the prediction, for maps that no run
predicts by itself: post-hoc maps (`wsol.posthoc`), a few-shot localizer (`wsol.few_shot`).
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray

from wsol.evaluation import FULLSUP, TEST, RunEvaluation, _choose, read_outs
from wsol.localization import localize
from wsol.localization_table import LocalizationTable
from wsol.pixels import MaskReader

Found = Mapping[str, Mapping[str, NDArray]]  # by split: what `wsol.maps.predict` returns


def evaluate_maps(
    found: Found,
    rows: Mapping[str, pd.DataFrame],
    root: str | Path,
    kinds: tuple[str, ...],
    about: Mapping[str, str],
    workers: int = 1,
) -> RunEvaluation:
    """Localize with maps of `train-fullsup` and `test`; read-out and tau are of the former.

    Parameters
    ----------
    found : by split, ``logits`` (N, K) and under each kind a map (N, h, w)
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
            found[split]["logits"],
            masks=masks if split == TEST else None,
            workers=workers,
            meta=dict(about) | {"map": kind, "read_out": name, "split": split},
        )

    tried = {
        key: table(FULLSUP, *key, values)
        for key, values in read_outs(found[FULLSUP], kinds).items()
    }
    choices = _choose(tried)
    tables = {}
    for kind, name in choices.loc[choices["chosen"], ["map", "read_out"]].itertuples(index=False):
        tables[kind, FULLSUP] = tried[kind, name]
        values = read_outs(found[TEST], (kind,))[kind, name]
        tables[kind, TEST] = table(TEST, kind, name, values)
    return RunEvaluation(tables, choices, dict(found))
