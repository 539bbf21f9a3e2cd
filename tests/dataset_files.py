"""Files that the tests of data sets write, damage and compare."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsol.datasets.checks import DatasetError


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
