"""Contours of full-size maps of 28 kinds compared with OpenCV's at every level.

    python benchmarks/oracle.py [--n 180] [--workers 2]

Prints for each kind how many of n maps differ from OpenCV in any box at any level; exits with 1 if
one does. 180 of each are 5,040 maps and take half an hour on two cores.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
from kinds_of_maps import KINDS
from reference_loop import contour_boxes

from wsol.evaluation.boxes import FRAME, contours, quantize


def differs(kind: str, seed: int) -> bool:
    """Whether a map has another box than OpenCV at some level."""
    cv2.setNumThreads(1)
    score = KINDS[kind](np.random.default_rng(seed), FRAME)
    levels, result = quantize(score), contours(score)
    for v in np.unique(levels[levels > 0]).tolist():  # between two of them nothing changes
        boxes, largest = contour_boxes((levels >= v).astype(np.uint8))
        there = (result.low <= v) & (v <= result.high)
        if tuple(result.largest[v]) != boxes[largest]:
            return True
        if sorted(map(tuple, result.boxes[there].tolist())) != sorted(boxes):
            return True
    return bool((result.high > levels.max()).any())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=180, help="maps of each kind")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    wrong = 0
    with ProcessPoolExecutor(given.workers) as pool:
        for kind in KINDS:
            count = sum(pool.map(differs, [kind] * given.n, range(given.n), chunksize=5))
            print(f"{kind:>24}: {count} of {given.n} maps differ", flush=True)
            wrong += count
    print(f"OpenCV {cv2.__version__}: {wrong} of {given.n * len(KINDS)} maps differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
