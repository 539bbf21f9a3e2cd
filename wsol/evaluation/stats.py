"""Uncertainty of localization errors by the choice of images.

References: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
JASA 22 (1927); B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993).

Shapes: N images, T thresholds, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wsol.datasets.index import TRAIN_FULLSUP
from wsol.evaluation.metrics import GT_KNOWN, column_of, wrong_images
from wsol.evaluation.table import LocalizationTable

TAU_SOURCES = (TRAIN_FULLSUP, "fixed", "oracle")  # where a tau may come from

BATCH = 32  # resamples at a time: what bounds the memory
CHUNK = 1024  # images whose booleans are floats at a time

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """Error of model a minus error of model b on the same images, in percentage points."""

    difference: float  # on the images as they are
    low: float  # ends of the bootstrap interval
    high: float
    level: float  # of the interval
    resamples: int
    n_images: int
    tau: str  # "fixed" (given beforehand) or "oracle" (the best of each resample)


def wilson_interval(failures: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of an error, %: `failures` of n images.

    It holds for images that are drawn independently and a tau that was chosen without them.
    Raises ValueError if n < 1 or failures is not in 0..n.
    """
    if not 0 <= failures <= n or n < 1:
        raise ValueError(f"{failures} of {n} images: an error needs at least one image")
    # Not by scipy.stats, whose import takes longer than the evaluation of a thousand maps.
    z, p = NormalDist().inv_cdf(0.5 + level / 2), failures / n
    center = (2 * n * p + z**2) / (2 * (n + z**2))
    delta = z / (2 * (n + z**2)) * np.sqrt(4 * n * p * (1 - p) + z**2)
    low = center - delta if failures else 0.0
    return 100 * low, 100 * (center + delta if failures < n else 1.0)


def error_interval(
    table: LocalizationTable,
    tau: float,
    error: str = GT_KNOWN,
    *,
    tau_source: str,
    level: float = 0.95,
) -> tuple[float, float]:
    """Wilson's interval of an error of `table` at tau, %.

    `tau_source` says where tau comes from: "train-fullsup" or "fixed" (decided before any image
    was seen). Raises ValueError if it is the oracle, by name or because tau was chosen on the very
    split of the table: the lowest of many error rates is not a binomial proportion.
    """
    if tau_source not in TAU_SOURCES:
        raise ValueError(f"unknown source of tau {tau_source}; there are {', '.join(TAU_SOURCES)}")
    if tau_source in ("oracle", table.meta.get("split")):
        raise ValueError(
            "tau was chosen on the images whose error it is (oracle), which has no binomial "
            "interval; choose tau on train-fullsup, or compare two models by paired_bootstrap"
        )
    wrong = wrong_images(table, error)[:, column_of(table, tau)]
    return wilson_interval(int(wrong.sum()), len(wrong), level)


def resampled_errors(wrong: Bools, indices: Ints) -> Floats:
    """Lowest error over the thresholds in each of R resamples, (R,), %.

    wrong : (N, T), one column where tau is fixed; indices : (R, n) images of each resample
    """
    R, N = len(indices), len(wrong)
    rows = N * np.arange(R)[:, None]
    counts = np.bincount((indices + rows).ravel(), minlength=R * N).reshape(R, N)
    failures = np.zeros((R, wrong.shape[1]))
    for start in range(0, N, CHUNK):  # floats of everything at once would be four times as large
        part = slice(start, start + CHUNK)
        # Counts of images stay exact in float32, up to 2^24 of them.
        failures += counts[:, part].astype(np.float32) @ wrong[part].astype(np.float32)
    return 100 * failures.min(axis=1) / indices.shape[1]


def check_same_images(a: LocalizationTable, b: LocalizationTable) -> None:
    """Raise ValueError unless both tables are about the same images in the same order."""
    ids = [table.rows["image_id"].tolist() for table in (a, b)]
    if ids[0] != ids[1]:
        pairs = zip_longest(*ids, fillvalue="nothing")
        row, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise ValueError(
            f"the tables are not about the same images in the same order: row {row} is "
            f"{one} in one, {other} in the other"
        )


def paired_bootstrap(
    a: LocalizationTable,
    b: LocalizationTable,
    error: str = GT_KNOWN,
    *,
    taus: tuple[float, float] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Error of a minus error of b over the same images, with a percentile bootstrap interval.

    a, b : tables of the same images in the same order
    error : top1_loc_error, top5_loc_error or gt_known_loc_error
    taus : thresholds of a and of b, each chosen on `train-fullsup`; None for the oracle, the tau
        of lowest `error` for each model
    level, resamples, seed : of the interval

    Each resample draws N images with replacement and gives the same ones to both models, so what
    makes an image hard for both cancels. At the oracle the best tau is searched again *inside*
    every resample: another sample would have had another one, and an interval that kept it would be
    too narrow. Percentiles rather than BCa, which is undefined where all resamples agree; here such
    an interval is one point. Memory does not grow with `resamples`.

    Raises ValueError if the images differ, a tau is not in its table, the error needs a class that
    a table has not, or there are fewer than two images.
    """
    check_same_images(a, b)
    wrong = [wrong_images(table, error) for table in (a, b)]
    if taus is not None:
        columns = [column_of(table, tau) for table, tau in zip((a, b), taus, strict=True)]
        wrong = [w[:, [column]] for w, column in zip(wrong, columns, strict=True)]

    def statistic(indices: Ints, axis: int = -1) -> Floats:
        return resampled_errors(wrong[0], indices) - resampled_errors(wrong[1], indices)

    from scipy import stats

    images = np.arange(len(wrong[0]))
    settings = dict(n_resamples=resamples, batch=BATCH, vectorized=True, confidence_level=level)
    settings |= dict(method="percentile", rng=np.random.default_rng(seed))
    low, high = map(float, stats.bootstrap((images,), statistic, **settings).confidence_interval)
    tau, difference = "oracle" if taus is None else "fixed", float(statistic(images[None])[0])
    return Difference(difference, low, high, level, resamples, len(images), tau)
