"""Files that the tests of data sets write, damage and compare."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsol.datasets.checks import DatasetError
from wsol.datasets.index import INDEX, read_index
from wsol.evaluation.metrics import evaluate
from wsol.evaluation.run import evaluate_run
from wsol.training.config import config_from
from wsol.training.loop import train_from_disk


def noise_image(path: Path, size: tuple[int, int] = (30, 20), seed: int = 0) -> Path:
    """Write an image of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def change(file: Path, line: int, text: str) -> None:
    """Put other text on a line, counted from 1; one past the end appends."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[: line - 1] + [text] + lines[line:]) + "\n")


def files_below(folder: Path) -> dict[str, bytes]:
    """Content of all files by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def errors_of(call: Callable, *arguments: object, **options: object) -> list[str]:
    """The errors that a call raises."""
    with pytest.raises(DatasetError) as caught:
        call(*arguments, **options)
    return caught.value.errors


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member of an archive that is no file, such as a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sparse(name: str) -> tarfile.TarInfo:
    """A file of a terabyte that takes no room in the archive."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": f"0,0,{2**40},0"}
    return info


def trained_and_evaluated(data: Path, method: str) -> dict:
    """Metrics after one epoch of a small network on a prepared data set."""
    settings = dict(method=method, backbone="small16", epochs=1, batch_size=2, input_size=32)
    train_from_disk(config_from(settings | dict(background_batch=2, threads=1)), data, data / "run")
    tables = evaluate_run(data / "run/weights.safetensors", read_index(data / INDEX), data).tables
    return evaluate(tables["class", "test"], tables["class", "train-fullsup"])
