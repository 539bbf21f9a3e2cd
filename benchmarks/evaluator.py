"""How much faster the evaluation is than a loop over 1,000 thresholds, and the memory it takes.

    python benchmarks/evaluator.py [--out reports/tables/benchmark.csv]

* Rows `<kind>_<mode>`: the same score maps in one process on one thread, from score map to IoU
  curve; the answers are compared first. The sweep answers both modes at once; it is set against
  the loop of one mode at a time.
* Rows `command_...`: `wsol evaluate` from its start to its JSON file, on files of float32, against
  the time that the loop of both modes takes for as many (measured on 50 of them).

Ratios belong to one run on one machine, so compare ratios, not seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from reference_loop import iou_curve, iou_curve_of_distinct_levels

from wsol.evaluation.boxes import best_iou, score_map

TRUTH = np.array([[40, 50, 150, 180]])
LAUNCHER = """if True:
    import resource, subprocess, sys, time
    start = time.perf_counter()
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
    taken = time.perf_counter() - start
    print(taken, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
MODES = {"largest": False, "all": True}
TEST, FULLSUP = 5_794, 1_000  # images of CUB-200-2011 and of CUBV2


def cam_like(grid: int, count: int, seed: int) -> list[np.ndarray]:
    """Score maps of a class activation map's kind: a hill or two on a rough ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:grid, :grid] / grid
    maps = []
    for _ in range(count):
        cam = 0.25 * rng.normal(size=(grid, grid))
        for _ in range(rng.integers(1, 3)):
            cx, cy, width = *rng.uniform(0.2, 0.8, 2), rng.uniform(0.08, 0.25)
            cam += rng.uniform(0.5, 1.5) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
        maps.append(score_map(cam))
    return maps


def noise(count: int, seed: int) -> list[np.ndarray]:
    """Score maps of independent pixels: the worst that can be asked."""
    rng = np.random.default_rng(seed)
    return [score_map(rng.random((224, 224))) for _ in range(count)]


def seconds(function, maps: list, passes: int) -> float:
    """Time of one pass over the maps, the best of several."""
    best = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        for score in maps:
            function(score)
        best = min(best, time.perf_counter() - start)
    return best


def compare(name: str, maps: list[np.ndarray], mode: str, reference) -> dict:
    """One row of the benchmark. Raises AssertionError if the answers differ."""
    every = MODES[mode]
    for score in maps[:3]:
        assert (best_iou(score, TRUTH)[every] == reference(score, TRUTH, every)).all()
    ours = seconds(lambda score: best_iou(score, TRUTH), maps, passes=20)
    theirs = seconds(lambda score: reference(score, TRUTH, every), maps, passes=2)
    return {"name": name, "ours_seconds": ours, "reference_seconds": theirs, "n": len(maps)}


def write_files(folder: Path, count: int) -> None:
    """`count` maps of a 14 px grid as files of float32, and metadata with a box each."""
    (folder / "maps").mkdir(parents=True)
    ids = [f"{i:05d}" for i in range(count)]
    for name, score in zip(ids, cam_like(14, count, seed=count), strict=True):
        np.save(folder / "maps" / f"{name}.npy", score.astype(np.float32))
    lines = {"image_ids": "", "class_labels": ",0", "image_sizes": ",500,375"}
    lines["localization"] = ",90,80,340,300"
    for file, rest in lines.items():
        (folder / f"{file}.txt").write_text("".join(f"{name}{rest}\n" for name in ids))


def command(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds of `wsol evaluate` with a choice of tau, and its largest memory, MB."""
    test, fullsup = folder / "test", folder / "fullsup"
    line = [sys.executable, "-m", "wsol.cli", "evaluate", test / "maps", "--metadata", test]
    line += ["--fullsup", fullsup / "maps", fullsup, "--json", folder / "result.json"]
    # Started by a small process: Linux counts the memory of the one that starts it as its own.
    launcher = [sys.executable, "-c", LAUNCHER, *line, "--workers", str(workers)]
    taken, kilobytes = subprocess.check_output(launcher, text=True).split()
    return float(taken), int(kilobytes) / 1024


def whole_commands() -> list[dict]:
    """Rows of the command: one and two workers, and a tenth of the maps for the memory."""

    def loop(file: Path) -> None:
        score = score_map(np.load(file))
        for every in MODES.values():
            iou_curve(score, TRUTH, every)

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder, small = Path(name) / "whole", Path(name) / "tenth"
        for where, part in ((folder, 1), (small, 10)):
            write_files(where / "test", TEST // part)
            write_files(where / "fullsup", FULLSUP // part)
        some = sorted((folder / "test" / "maps").iterdir())[:50]
        each = seconds(loop, some, passes=1) / len(some)
        for where, n, workers in (
            (small, TEST // 10 + FULLSUP // 10, 1),
            (folder, TEST + FULLSUP, 1),
            (folder, TEST + FULLSUP, 2),
        ):
            taken, memory = min(command(where, workers) for _ in range(2))
            row = {"name": f"command_{n}_maps_{workers}_workers", "ours_seconds": taken, "n": n}
            rows.append(row | {"reference_seconds": each * n, "memory_mb": round(memory)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/tables/benchmark.csv"))
    out = parser.parse_args().out
    cv2.setNumThreads(1)
    kinds = {f"cam_{g}px": cam_like(g, 30, seed=g) for g in (7, 14, 28)} | {"noise": noise(3, 0)}
    rows = [compare(f"{k}_{mode}", kinds[k], mode, iou_curve) for k in kinds for mode in MODES]
    for kind in ("cam_28px", "noise"):
        for mode in MODES:
            name = f"{kind}_{mode}_against_255_levels"
            rows.append(compare(name, kinds[kind], mode, iou_curve_of_distinct_levels))
    table = pd.DataFrame(rows + whole_commands())
    table.insert(3, "ratio", (table["reference_seconds"] / table["ours_seconds"]).round(1))
    table["memory_mb"] = table["memory_mb"].astype("Int64")
    out.parent.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(out, index=False, lineterminator="\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
