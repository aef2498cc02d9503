"""Estimates with their 95 % confidence intervals.

Too few cases are no error, as a run may well find no wrong prediction: what cannot be told is NaN.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from helpers.run.errors import WorkbookError
from helpers.run.results import CONFIDENCE, Estimate

_UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


def proportion(hits: int, n: int) -> Estimate:
    """Return hits / n with its Wilson (1927) score interval.

    Raises:
        WorkbookError: there are more hits than cases.
    """
    if not 0 <= hits <= n:
        raise WorkbookError(f"a proportion needs 0 <= hits <= n, not {hits} of {n}")
    if n == 0:
        return _UNKNOWN
    interval = stats.binomtest(int(hits), int(n)).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(hits / n, interval.low, interval.high, int(n))


def mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """Return the mean of the values [n] with its bootstrap percentile interval (Efron 1979)."""
    return _bootstrap((_sample(values),), np.mean, seed)


def difference(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Estimate:
    """Return mean(a) - mean(b) of two independent samples, with its bootstrap interval."""

    def gap(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    return _bootstrap((_sample(a), _sample(b)), gap, seed)


def spearman(x: ArrayLike, y: ArrayLike, seed: int = 0) -> tuple[Estimate, float]:
    """Return Spearman's rank correlation of the pairs (x, y), and its p-value.

    The interval is that of the bootstrap over pairs. The two-sided p-value is that of a permutation
    test: how often would pairs put together at random correlate as strongly? All are NaN where
    there are fewer than four pairs, or x or y is constant and has no order.

    Raises:
        WorkbookError: x and y differ in number.
    """
    x, y = _sample(x), _sample(y)
    if len(x) != len(y):
        raise WorkbookError(f"a rank correlation needs pairs, not {len(x)} and {len(y)} values")
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return _UNKNOWN._replace(n=len(x)), np.nan
    estimate = _bootstrap((x, y), _ranks_agree, seed, paired=True)
    test = stats.permutation_test(
        (x, y), _ranks_agree, permutation_type="pairings", n_resamples=9999, batch=1000,
        vectorized=True, random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return estimate._replace(n=len(x)), float(test.pvalue)


def _ranks_agree(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    a, b = (stats.rankdata(values, axis=axis) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=axis, keepdims=True) for ranks in (a, b))
    size = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    # A resample of one and the same pair has no order: no relation.
    return (a * b).sum(axis=axis) / np.maximum(size, 1e-12)


def _sample(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=float).ravel()


def _bootstrap(
    samples: tuple[np.ndarray, ...], statistic, seed: int, paired: bool = False
) -> Estimate:
    n = sum(map(len, samples))
    if not all(map(len, samples)):
        return _UNKNOWN._replace(n=n)
    value = float(statistic(*samples, axis=0))
    if min(map(len, samples)) == 1:
        return Estimate(value, np.nan, np.nan, n)
    interval = stats.bootstrap(
        samples, statistic, confidence_level=CONFIDENCE, n_resamples=2000, batch=100,
        method="percentile", paired=paired, vectorized=True,
        random_state=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(interval.low), float(interval.high), n)
