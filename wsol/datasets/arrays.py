"""Large arrays on disk, filled once by whichever process needs them first and shared by all.

Filling can be interrupted.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from torch import Tensor

from wsol.datasets.files import locked, write_text
from wsol.datasets.progress import ProgressBar

ZEROS = 2**20  # bytes written at a time where disk space is not allocated otherwise
CHUNK = 256  # items between two records of the progress of filling


def fill_array(
    path: Path,
    shape: tuple[int, ...],
    item: Callable[[int], Tensor],
    dtype: type,
    gigabytes: float,
    workers: int | None = None,
) -> bool:
    """Make the npy file `path` of ``item(0), item(1), ...`` unless it is there or does not fit.

    It fits if it takes at most so many gigabytes (10^9 bytes) and half of the free disk. One
    process fills it, others wait; what is interrupted resumes. `workers` threads call `item`, by
    default one per core. Returns whether the file is there.
    """
    if path.is_file():
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = np.dtype(dtype).itemsize * math.prod(shape)
    with locked(path.with_suffix(".lock")):
        if not path.is_file():
            room = shutil.disk_usage(path.parent).free + _taken(path)
            if needed > min(gigabytes * 1e9, room / 2):
                return False
            _fill(path, shape, item, dtype, workers)
    return True


def _taken(path: Path) -> int:
    partial = path.with_suffix(".partial")
    return partial.stat().st_size if partial.is_file() else 0


def make_array(path: Path, kind: type, shape: tuple[int, ...]) -> None:
    """Write an npy file of zeros with its disk space allocated, or raise OSError.

    Writing to a memory map without space kills the process when the disk is full.
    """
    start, end = open_memmap(path, "w+", kind, shape).offset, path.stat().st_size
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, end)
        except (AttributeError, OSError) as error:  # macOS; a file system that cannot
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            file.seek(start)
            for left in range(end - start, 0, -ZEROS):
                file.write(bytes(min(left, ZEROS)))


def _fill(
    path: Path, shape: tuple[int, ...], item: Callable, dtype: type, workers: int | None
) -> None:
    """Write all items into an array that is renamed when complete.

    A file beside it says how many are in it, and is written after their values.
    """
    partial, progress = path.with_suffix(".partial"), path.with_suffix(".progress")
    done = int(progress.read_text() or 0) if progress.is_file() and partial.is_file() else 0
    if not done:
        progress.unlink(missing_ok=True)  # its array is gone
        make_array(partial, dtype, shape)
    array = open_memmap(partial, "r+")
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in ProgressBar(range(done, len(array), CHUNK), desc="cache", unit="chunk"):
            rows = range(start, min(start + CHUNK, len(array)))
            for i, value in zip(rows, pool.map(item, rows), strict=True):
                array[i] = value.numpy()
            array.flush()
            write_text(progress, str(rows.stop))
    del array
    partial.replace(path)
    progress.unlink(missing_ok=True)
