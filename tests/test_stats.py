"""Uncertainty: against explicit loops, normal theory and repeated experiments."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.evaluation import stats
from wsol.evaluation.metrics import ERRORS, GT_KNOWN, localization_errors
from wsol.evaluation.stats import paired_bootstrap
from wsol.evaluation.table import LocalizationTable

TAUS = np.array([0.2, 0.4, 0.6])


def table_of(right, rank=None, split: str = "test") -> LocalizationTable:
    """A table whose boxes are right where `right` (N, T) says so."""
    right = np.asarray(right)
    N, T = right.shape
    rows = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(N)], "label": 0, "prediction": 0})
    rows["rank"] = np.zeros(N, int) if rank is None else rank
    iou = np.where(right, 0.5, 0.49)
    return LocalizationTable(rows, np.linspace(0.2, 0.6, T), iou, iou, meta={"split": split})


def two_tables(n: int, seed: int, taus: int = 3) -> tuple[LocalizationTable, LocalizationTable]:
    """Two models that often fail on the same images, the first the better one."""
    rng = np.random.default_rng(seed)
    hardness, rank = rng.uniform(size=(n, 1)), rng.integers(0, 8, size=n)
    easy = [np.linspace(level - 0.1, level, taus) for level in (0.7, 0.5)]
    right = [hardness + rng.normal(0, 0.2, size=(n, taus)) < level for level in easy]
    return table_of(right[0], rank), table_of(right[1], rank)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_wilsons_equation(case):
    """Its ends are the p for which the observed error lies 1.96 standard errors of p away."""
    failures, n = case
    error = failures / n
    low, high = stats.wilson_interval(failures, n)
    assert -1e-9 <= low <= 100 * error + 1e-9
    assert 100 * error - 1e-9 <= high <= 100 + 1e-9
    for p in (low / 100, high / 100):
        assert (error - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, abs=1e-6)


def test_an_interval_belongs_to_the_error_at_its_tau():
    table, _ = two_tables(300, 0)
    for tau in TAUS:
        for error, percent in localization_errors(table, tau).items():
            if error != "cls_error":
                interval = stats.error_interval(table, tau, error, tau_source="train-fullsup")
                assert interval == stats.wilson_interval(round(percent * 3), 300)


@pytest.mark.parametrize(
    ("split", "tau", "source", "message"),
    [
        ("test", 0.4, "oracle", "oracle"),
        ("train-fullsup", 0.4, "train-fullsup", "oracle"),
        ("test", 0.4, "test set", "unknown source"),
        ("test", 0.3, "fixed", "not among the thresholds"),
    ],
)
def test_an_oracle_or_unknown_tau_has_no_interval(split, tau, source, message):
    table = table_of(np.ones((20, 3), bool), split=split)
    with pytest.raises(ValueError, match=message):
        stats.error_interval(table, tau, tau_source=source)


def test_what_a_table_does_not_have_is_refused():
    table, other = two_tables(20, 0)
    with pytest.raises(ValueError, match="at least one image"):
        stats.wilson_interval(0, 0)
    with pytest.raises(ValueError, match="unknown error"):
        paired_bootstrap(table, other, "pxap")
    unclassified = table_of(np.ones((20, 3), bool), rank=np.full(20, -1))
    with pytest.raises(ValueError, match="needs the rank"):
        paired_bootstrap(table, unclassified, "top1_loc_error")
    assert paired_bootstrap(table, unclassified, resamples=50).difference > 0


@pytest.mark.parametrize("N", [1, 7, 2 * stats.CHUNK + 5])
def test_a_resamples_error_is_that_of_its_images(N):
    wrong = np.random.default_rng(0).uniform(size=(N, 3)) < 0.4
    indices = np.random.default_rng(1).integers(0, N, size=(40, N))
    expected = [100 * wrong[images].mean(axis=0).min() for images in indices]
    assert stats.resampled_errors(wrong, indices) == pytest.approx(expected)


@pytest.mark.parametrize("taus", [(0.4, 0.6), None], ids=["fixed", "oracle"])
@pytest.mark.parametrize("error", ERRORS)
def test_the_interval_is_that_of_a_plain_loop_over_resamples(error, taus):
    a, b = two_tables(150, 3)
    interval = paired_bootstrap(a, b, error, taus=taus, resamples=4000)

    def difference(images: np.ndarray) -> float:
        errors = []
        for table, tau in zip((a, b), taus or (None, None), strict=True):
            rows = table.rows.iloc[images].reset_index(drop=True)
            part = LocalizationTable(rows, TAUS, *[table.iou_largest[images]] * 2)
            choices = TAUS if tau is None else [tau]
            errors.append(min(localization_errors(part, t)[error] for t in choices))
        return errors[0] - errors[1]

    rng = np.random.default_rng(11)
    loop = [difference(rng.integers(0, 150, size=150)) for _ in range(500)]
    low, high = np.percentile(loop, [2.5, 97.5])
    assert interval.difference == pytest.approx(difference(np.arange(150)))
    assert interval.low == pytest.approx(low, abs=2)  # the loop's ends have a Monte Carlo sd of 0.6
    assert interval.high == pytest.approx(high, abs=2)
    assert (interval.n_images, interval.resamples) == (150, 4000)
    assert interval.tau == ("oracle" if taus is None else "fixed")


def test_at_fixed_tau_many_images_follow_normal_theory():
    a, b = two_tables(4000, 1)
    interval = paired_bootstrap(a, b, taus=(0.4, 0.4))
    each = 100.0 * (a.iou_largest[:, 1] < 0.5) - 100.0 * (b.iou_largest[:, 1] < 0.5)
    half = 1.96 * each.std() / np.sqrt(4000)
    assert interval.difference == pytest.approx(each.mean())
    assert interval.low == pytest.approx(each.mean() - half, abs=0.15)
    assert interval.high == pytest.approx(each.mean() + half, abs=0.15)


def test_pairing_narrows_the_interval_of_models_that_fail_together():
    a, b = two_tables(1000, 2)
    shuffled = table_of(b.iou_largest[np.random.default_rng(0).permutation(1000)] >= 0.5)
    paired, unpaired = (paired_bootstrap(a, other, taus=(0.4, 0.4)) for other in (b, shuffled))
    assert paired.difference == pytest.approx(unpaired.difference)
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    true = 100 * (0.3 - 0.4)  # independent failures of probability .3 and .4
    covered = 0
    for i in range(200):
        right = np.random.default_rng(i).uniform(size=(120, 2)) > [0.3, 0.4]
        a, b = table_of(right[:, :1]), table_of(right[:, 1:])
        interval = paired_bootstrap(a, b, taus=(0.2, 0.2), level=0.9, resamples=300, seed=i)
        covered += interval.low <= true <= interval.high
    assert 0.84 < covered / 200 < 0.96


def test_the_level_widens_the_interval_and_the_seed_repeats_it():
    a, b = two_tables(200, 5)
    narrow, wide, again = (paired_bootstrap(a, b, level=x, resamples=300) for x in (0.8, 0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow == again
    assert narrow != paired_bootstrap(a, b, level=0.8, resamples=300, seed=1)


@pytest.mark.parametrize("taus", [(0.4, 0.4), None])
def test_equal_models_and_perfect_models_do_not_differ(taus):
    for one in (two_tables(60, 0)[0], table_of(np.ones((60, 3), bool))):
        interval = paired_bootstrap(one, one, GT_KNOWN, taus=taus, resamples=100)
        assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_other_images_are_refused():
    a, b = two_tables(20, 0)
    with pytest.raises(ValueError, match=r"row 19 is 19\.jpg in one, nothing in the other"):
        paired_bootstrap(a, table_of(np.ones((19, 3), bool)))
    b.rows["image_id"] = b.rows["image_id"].to_numpy()[::-1]
    with pytest.raises(ValueError, match=r"row 0 is 0\.jpg in one, 19\.jpg in the other"):
        paired_bootstrap(a, b)


def test_memory_stays_flat_at_a_thousand_thresholds():
    """The indices of all resamples alone would be 20 MB, floats of the curves 40 MB."""
    rng = np.random.default_rng(0)
    tables = [table_of(rng.uniform(size=(5000, 1000)) < p) for p in (0.5, 0.6)]
    peaks = []
    for resamples in (100, 500):
        tracemalloc.start()
        paired_bootstrap(*tables, resamples=resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 30e6
    assert peaks[1] < 1.1 * peaks[0]
