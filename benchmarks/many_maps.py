"""Time and memory of evaluating many full-size score maps from one file.

    python benchmarks/many_maps.py [--n 50000] [--workers 2] [--folder DIR]

Writes a memory-mapped array (N, 224, 224) of float16, 100 kB a map, to a temporary folder,
evaluates it by the default protocol as `wsol evaluate` does, and prints seconds and the
largest memory of the process, beside the memory that the localization table takes.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from evaluator import cam_like
from numpy.lib.format import open_memmap

from wsol.datasets.index import index_table
from wsol.evaluation.heatmaps import open_score_maps
from wsol.evaluation.localize import localize
from wsol.evaluation.metrics import max_box_acc


def write_maps(path: Path, n: int) -> None:
    """N maps, the same 300 over and over, a different 300th part of them shifted each time."""
    maps = np.array([m for g in (7, 14, 28) for m in cam_like(g, 100, seed=g)], np.float16)
    stack = open_memmap(path, "w+", np.float16, (n, 224, 224))
    for start in range(0, n, len(maps)):
        stack[start : start + len(maps)] = np.roll(maps, start, axis=2)[: n - start]


def index_of(n: int) -> pd.DataFrame:
    """One box an image, in images of 500 x 375."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 375, (n, 2, 2)), axis=1).reshape(n, 4)
    boxes = [f"{a} {b} {c + 1} {d + 1}" for a, b, c, d in corners]
    about = dict(split="test", label=0, class_name="x", width=500, height=376)
    ids = [f"{i:06d}.jpg" for i in range(n)]
    return index_table(
        [about | dict(image_id=i, path=i, boxes=b) for i, b in zip(ids, boxes, strict=True)]
    )


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "maps.npy"
        # In a process of its own: pages of the file that it has written would count as memory here.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_maps, args=(path, given.n)
        )
        writer.start()
        writer.join()
        index = index_of(given.n)
        before, start = peak_megabytes(), time.perf_counter()
        maps = open_score_maps(path, index["image_id"])
        table = localize(
            maps, index, score_of=lambda s: s, workers=given.workers, progress=f"{given.n} maps"
        )
        accuracy, seconds = max_box_acc(table), time.perf_counter() - start
        arrays = (table.steps_largest, table.steps_all, table.level_boxes.boxes)
        print(f"n = {given.n}: {seconds:.0f} s, {1e3 * seconds / given.n:.2f} ms a map, ", end="")
        print(
            f"memory {before:.0f} MB before, {peak_megabytes():.0f} MB at most; the table ", end=""
        )
        print(f"takes {sum(a.nbytes for a in arrays) / 2**20:.0f} MB; MaxBoxAcc {accuracy:.2f} %")


if __name__ == "__main__":
    main()
