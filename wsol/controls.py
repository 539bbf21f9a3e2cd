"""A control: the birds drawn with one thing changed, CAM and the background method on them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from wsol.datasets.birds import BirdsConfig
from wsol.datasets.index import INDEX, read_index
from wsol.datasets.prepare import RECORD, prepare_birds
from wsol.evaluation.run import FULLSUP, TEST, evaluate_run
from wsol.evaluation.table import LocalizationTable
from wsol.training.config import Execution, TrainConfig
from wsol.training.loop import train_from_disk


def run_control(
    name: str,
    birds: BirdsConfig,
    trainings: Sequence[TrainConfig],
    out: Path,
    resume: Path | None = None,
    workers: int = 1,
    execution: Execution | None = None,
) -> list[tuple[LocalizationTable, LocalizationTable]]:
    """Draw, train and evaluate below `out`; leaves birds/, <method>-<seed>/ and evaluate/*.npz.

    A set that is there with the same configuration is kept, so that an interrupted control goes on.
    Returns the tables of `test` and of `train-fullsup` of each training and map, in this order.
    """
    data = out / "birds"
    record = data / RECORD
    if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != asdict(birds):
        prepare_birds(data, birds, workers)
    pairs = []
    for config in trainings:
        key = f"{config.method}-{config.seed}"
        train_from_disk(config, data, out / key, resume_dir=resume, execution=execution)
        result = evaluate_run(
            out / key / "weights.safetensors",
            read_index(data / INDEX),
            data,
            meta={"dataset": name},
            workers=workers,
        )
        result.save_tables(out / "evaluate", key)
        kinds = [kind for kind, split in result.tables if split == TEST]
        pairs += [(result.tables[kind, TEST], result.tables[kind, FULLSUP]) for kind in kinds]
    return pairs
