"""Evaluation of score maps on disk, whatever made them: the command `wsol evaluate`.

The maps are read one by one and thresholded as they are; tau is chosen on the score maps of
`train-fullsup`, and without them the only tau is the oracle of the split itself, and called so.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsol.datasets.index import TEST, TRAIN_FULLSUP
from wsol.datasets.metadata import read_split_metadata
from wsol.datasets.openimages import names_masks, read_masked_split
from wsol.evaluation import metrics, stats
from wsol.evaluation.failures import failure_reasons, failure_shares
from wsol.evaluation.heatmaps import open_score_maps, read_predictions
from wsol.evaluation.localize import localize
from wsol.evaluation.masks import MaskReader, with_masks
from wsol.evaluation.protocols import CHOE2020, ProtocolResult, evaluate_under, get_protocol
from wsol.evaluation.table import LocalizationTable, join_tables, part_of

ORACLE = "oracle"
MAP_CLASSES = ("label", "predicted")
UNDEFINED = {  # numbers that maps of the predicted class say nothing of
    "predicted": ("gt_known_loc_error", "top5_loc_error", "maxboxacc", "maxboxacc_v2"),
    "label": (),
}


def read_table(
    score_maps: str | Path,
    metadata: str | Path,
    split: str,
    *,
    predictions: str | Path | None = None,
    masks: str | Path | None = None,
    map_class: str = "label",
    workers: int = 1,
    progress: bool = False,
    shard: str = "1/1",
) -> LocalizationTable:
    """Localization table of score maps on disk; the maps are read one by one.

    score_maps, metadata : as the command takes them; a prepared data set is metadata too
    split : "train-fullsup" or "test"
    predictions : CSV of image_id and five ranked classes, see `read_predictions`
    masks : folder of ``<image id without ending>.png``, at least 128 = object, for PxAP; a
        ``..._ignore.png`` beside it marks pixels that do not count. Where the metadata names masks
        (OpenImages30k), the folder that their paths start from; a prepared data set needs none
    map_class : "label" or "predicted", the class whose map each score map is
    workers : threads
    shard : "i/n" for the i-th of n parts of the images, see `join_tables`

    Raises ScoreMapError or DatasetError, which name the file and what is wrong with it.
    """
    about = dict(score_maps=score_maps, predictions=predictions, map_class=map_class)
    about |= dict(workers=workers, progress=progress, shard=shard)
    if names_masks(Path(metadata)):
        if masks is None:
            raise ValueError(f"{metadata} names masks: give the folder that they start from")
        with TemporaryDirectory() as united:
            rows = read_masked_split(masks, metadata, split, united)
            return _table_of(rows, MaskReader(Path(masks)), **about)
    rows, reader = read_split_metadata(metadata, split), None
    if masks is not None:
        rows, reader = with_masks(rows, Path(masks)), MaskReader(Path(masks))
    elif (masked := rows["mask"] != "").all():
        reader = MaskReader(Path(metadata))
    elif masked.any():
        warnings.warn(f"{metadata}: no PxAP, since images have no mask", stacklevel=2)
    return _table_of(rows, reader, **about)


def _table_of(
    rows: pd.DataFrame,
    masks: MaskReader | None,
    score_maps: str | Path,
    predictions: str | Path | None,
    map_class: str,
    workers: int,
    progress: bool,
    shard: str,
) -> LocalizationTable:
    maps, split = open_score_maps(score_maps, rows["image_id"]), rows.at[0, "split"]
    part = part_of(len(rows), shard)
    if predictions is not None:  # first, because maps take longer to check
        answers = read_predictions(predictions, rows["image_id"], rows["label"])
        ranks, classes = (answer[part] for answer in answers)
    about = {"split": split, "protocol": CHOE2020.name, "map_class": map_class}
    if shard != "1/1":
        said = rows.to_csv().encode() + (Path(predictions).read_bytes() if predictions else b"")
        said += maps[0].tobytes()  # other maps are another evaluation
        about |= {"shard": shard, "of": hashlib.sha256(said).hexdigest()}
    rows, maps = rows[part].reset_index(drop=True), maps.part(part)
    table = localize(
        maps,
        rows,
        score_of=lambda score: score,  # score maps are not normalized again
        masks=masks,
        workers=workers,
        progress=f"maps of {split}" if progress else None,
        meta=about,
    )
    if predictions is not None:
        table.rows["rank"], table.rows["prediction"] = ranks, classes[:, 0]
    return table


def summarize(test: LocalizationTable, fullsup: LocalizationTable | None = None) -> dict[str, Any]:
    """Everything that is reported of a table: errors and accuracies in %, None where undefined.

    Keys: protocol, map_class, n_images; tau and tau_source ("train-fullsup" or "oracle"); the
    errors at it with Wilson's 95 % intervals (none at the oracle), the same at tau_oracle;
    maxboxacc; maxboxacc_v2 (mean and parts at IoU 30, 50, 70); pxap, pixel_iou; failures, the
    shares of the reasons; curves, the errors against tau.
    """
    source = ORACLE if fullsup is None else TRAIN_FULLSUP
    numbers = metrics.evaluate(test, test if fullsup is None else fullsup)
    tau, undefined = numbers["tau"], UNDEFINED[map_class := test.meta.get("map_class", "label")]
    v2 = {part: numbers.pop(f"maxboxacc_v2_{part}") for part in metrics.PARTS}
    numbers["maxboxacc_v2"] = {"mean": numbers["maxboxacc_v2"], **v2}
    numbers |= {name: None for name in numbers if name.removesuffix("_oracle") in undefined}
    if fullsup is None:  # with nothing but an oracle, every number at tau is one
        numbers = {k: v for k, v in numbers.items() if not k.endswith("_oracle")}
    # A rate has an interval where tau was chosen on other images.
    known = fullsup is not None and (test.rows["rank"] >= 0).all()
    names = list(metrics.ERRORS) if known else [] if fullsup is None else [metrics.GT_KNOWN]
    names = [name for name in names if name not in undefined]
    leave_out = dict(columns=[*undefined], errors="ignore")
    summary = {
        "protocol": test.meta["protocol"],
        "map_class": map_class,
        "n_images": len(test.rows),
        "tau_source": source,
        **numbers,
        "intervals": {n: stats.error_interval(test, tau, n, tau_source=source) for n in names},
        "failures": failure_shares(*_at(test, tau)).drop(**leave_out).to_dict(),
        "curves": metrics.error_curve(test).drop(**leave_out).to_dict("list"),
    }
    return _without_nan(summary)


def _at(
    table: LocalizationTable, tau: float
) -> tuple[NDArray[np.int64], list[NDArray], NDArray[np.int64] | None]:
    ranks = table.rows["rank"].to_numpy()
    known = ranks if (ranks >= 0).all() else None
    return table.level_boxes.at(tau), table.level_boxes.ground_truth(), known


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def summarize_under(test: ProtocolResult, fullsup: ProtocolResult | None = None) -> dict[str, Any]:
    """As `summarize`, of a preset other than choe2020: errors in %, at tau and at the oracle.

    Where the source of the protocol fixes a tau, the errors at it are there too, under
    "at_published_tau".
    """
    chosen, oracle = (fullsup or test).best_tau(), test.best_tau()
    published, curves = test.protocol.published_tau, test.errors
    summary = {
        "protocol": test.protocol.name,
        "n_images": len(test.labels),
        "tau_source": ORACLE if fullsup is None else TRAIN_FULLSUP,
        "tau": chosen,
        **test.at(chosen),
        "averaged_over": test.protocol.average,
        "curves": curves.to_dict("list"),
    }
    if fullsup is not None:
        summary |= {"tau_oracle": oracle} | {f"{n}_oracle": e for n, e in test.at(oracle).items()}
    if published is not None:
        summary["at_published_tau"] = {"tau": published, **test.at(published)}
    return summary


def evaluate_score_maps(
    score_maps: str | Path,
    metadata: str | Path,
    *,
    fullsup: tuple[str | Path, str | Path] | None = None,
    predictions: str | Path | None = None,
    masks: str | Path | None = None,
    map_class: str = "label",
    protocol: str = CHOE2020.name,
    workers: int = 1,
    progress: bool = False,
    shard: str = "1/1",
    parts: str | Path | None = None,
) -> tuple[dict[str, Any] | None, LocalizationTable | None]:
    """What the command does: the numbers of `summarize`, and the localization table behind them.

    With `parts`, the tables of a shard are written into that folder instead, for `join_parts`.
    `fullsup` are the score maps and the metadata of `train-fullsup`; the other parameters are those
    of `read_table`, which says what is raised. Another protocol than choe2020 has no table; its
    numbers are those of `summarize_under`.

    ValueError if `map_class` or `protocol` is unknown, if maps are of the predicted class and there
    are no predictions, or masks or the predicted class are asked of another protocol.
    """
    if fullsup is not None and Path(fullsup[0]).resolve() == Path(score_maps).resolve():
        raise ValueError(f"{score_maps} is evaluated: tau is to be chosen on other score maps")
    if shard != "1/1" and parts is None:
        raise ValueError("a shard needs parts, the folder of its table")
    if map_class not in MAP_CLASSES:
        raise ValueError(f"unknown map class {map_class}; there are {', '.join(MAP_CLASSES)}")
    if map_class == "predicted" and predictions is None:
        raise ValueError("maps of the predicted class need the predictions: give their CSV")
    preset, chosen_on = get_protocol(protocol), None
    if preset is not CHOE2020:
        others = masks is not None or map_class != "label" or parts is not None
        if others or names_masks(Path(metadata)):
            raise ValueError(f"{protocol} takes maps of the label's class, no masks, no shards")
        as_it_is = dict(score_of=lambda score, protocol: score)
        rows = read_split_metadata(metadata, TEST)
        maps, ranks = open_score_maps(score_maps, rows["image_id"]), None
        if predictions is not None:
            ranks, _ = read_predictions(predictions, rows["image_id"], rows["label"])
        test = evaluate_under(preset, maps, rows, ranks, **as_it_is)
        if fullsup is not None:
            rows = read_split_metadata(fullsup[1], TRAIN_FULLSUP)
            maps = open_score_maps(fullsup[0], rows["image_id"])
            chosen_on = evaluate_under(preset, maps, rows, **as_it_is)
        return summarize_under(test, chosen_on), None
    common = dict(map_class=map_class, workers=workers, progress=progress, shard=shard)
    if fullsup is not None:
        own = masks if names_masks(Path(fullsup[1])) else None
        chosen_on = read_table(*fullsup, TRAIN_FULLSUP, masks=own, **common)
    table = read_table(score_maps, metadata, TEST, predictions=predictions, masks=masks, **common)
    if parts is None:
        return summarize(table, chosen_on), table
    table.meta["chosen_on"] = chosen_on.meta.get("of", "") if chosen_on else ""
    for one in (table, chosen_on):
        if one is not None:
            one.save(Path(parts) / f"{one.meta['split']}-{shard.replace('/', '-of-')}.npz")
    return None, table


def join_parts(folder: str | Path) -> tuple[dict[str, Any], LocalizationTable]:
    """The numbers and the table of all shards in a folder, as `evaluate_score_maps` gives them.

    Raises ValueError if a shard is missing, or the shards are of different evaluations.
    """
    if not (tables := [*map(LocalizationTable.load, sorted(Path(folder).glob("*-of-*.npz")))]):
        raise ValueError(f"no table of a shard in {folder}")
    by_split = {s: [t for t in tables if t.meta["split"] == s] for s in (TEST, TRAIN_FULLSUP)}
    table, fullsup = join_tables(by_split[TEST]), by_split[TRAIN_FULLSUP]
    chosen_on = {t.meta.get("of", "") for t in fullsup} or {""}
    if chosen_on != {t.meta.get("chosen_on", "") for t in by_split[TEST]}:
        raise ValueError(f"{folder}: the tables of train-fullsup are of another evaluation")
    return summarize(table, join_tables(fullsup) if fullsup else None), table


def image_rows(table: LocalizationTable, tau: float) -> pd.DataFrame:
    """One row per image: prediction, the box in the frame at tau, its IoU, and why it failed."""
    at_tau = _at(table, tau)
    return table.rows.assign(
        tau=tau,
        **dict(zip(("x0", "y0", "x1", "y1"), at_tau[0].T, strict=True)),
        iou=np.round(table.iou_largest[:, metrics.column_of(table, tau)], 4),
        outcome=failure_reasons(*at_tau),
    )
