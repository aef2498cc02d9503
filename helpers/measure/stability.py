"""How much of an explanation stays when its sampling is repeated: VSI and CSI.

The stability indices of Visani et al. 2020 for LIME, carried over to superpixels: m runs on the
*same* superpixels, which differ only in the states that were drawn.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from helpers.measure.intervals import CONFIDENCE
from helpers.run.errors import WorkbookError


class Fit(NamedTuple):
    """One local fit: the weight of each superpixel and its 95 % interval, all float [k]."""

    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit(
    states: np.ndarray, probabilities: np.ndarray, proximity: np.ndarray, alpha: float = 1.0
) -> Fit:
    """Fit LIME's weighted ridge regression, with an interval for each weight.

    The weights are those of the library. Their covariance is s^2 B A B with B = (A + alpha I)^-1,
    A = X' W X, X being centred, and s^2 = sum w r^2 / (n - k - 1) (Visani et al. 2020,
    section 3, where the ridge penalty's own pull towards zero is left out as here).

    Args:
        states: 0 or 1 [n, k], which superpixels were shown.
        probabilities: float [n], of the class to explain.
        proximity: non-negative float [n], the weight of each state.
        alpha: the ridge penalty.

    Raises:
        WorkbookError: no more states than superpixels + 1: nothing is left to tell the noise.
    """
    n, k = states.shape
    if n < k + 2:
        raise WorkbookError(
            f"{n} states are too few for intervals of {k} superpixels: draw {k + 2} or more"
        )
    share = proximity / proximity.sum()
    x, y = states - share @ states, probabilities - share @ probabilities
    moments = (x * proximity[:, None]).T @ x
    inverse = np.linalg.inv(moments + alpha * np.eye(k))
    weights = inverse @ (x.T @ (proximity * y))
    noise = proximity @ (y - x @ weights) ** 2 / (n - k - 1)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - k - 1) * np.sqrt(
        noise * np.diag(inverse @ moments @ inverse)
    )
    return Fit(weights, weights - reach, weights + reach)


def strongest(weights: np.ndarray, k: int) -> np.ndarray:
    """Return bool [m, p], True on the k weights of each run [m, p] that are farthest from zero."""
    return stats.rankdata(-np.abs(weights), method="ordinal", axis=1) <= k


def vsi(chosen: np.ndarray) -> float:
    """Return the variables stability index: do repeated runs choose the same superpixels?

    The number of superpixels that two runs have in common, divided by the larger number chosen,
    averaged over all pairs of runs: in [0, 1], 1 being best; k of p at random reach k / p.

    Args:
        chosen: bool [m, p], what each of m runs chose among p superpixels.

    Raises:
        WorkbookError: fewer than two runs, or a run that chose nothing.
    """
    first, second = _pairs(chosen)
    sizes = chosen.sum(axis=1)
    if not sizes.all():
        raise WorkbookError("a run chose no superpixel: there is nothing to compare")
    common = (chosen[first] & chosen[second]).sum(axis=1)
    return float(np.mean(common / np.maximum(sizes[first], sizes[second])))


def csi(low: np.ndarray, high: np.ndarray, chosen: np.ndarray) -> float:
    """Return the coefficients stability index: do repeated runs agree on the weights?

    For each superpixel, the share of pairs of runs whose intervals overlap, among the runs that
    chose it; averaged over the superpixels that were chosen more than once. In [0, 1], 1 being
    best; NaN if none was chosen twice. Wide intervals overlap easily: read it with :func:`vsi`.

    Args:
        low, high: float [m, p], the interval of each weight in each run.
        chosen: bool [m, p], what each run chose.

    Raises:
        WorkbookError: fewer than two runs.
    """
    first, second = _pairs(chosen)
    both = chosen[first] & chosen[second]
    overlap = (low[first] <= high[second]) & (low[second] <= high[first])
    times = both.sum(axis=0)
    if not times.any():
        return float("nan")
    return float(np.mean((both & overlap).sum(axis=0)[times > 0] / times[times > 0]))


def _pairs(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(chosen) < 2:
        raise WorkbookError(f"stability needs at least two runs, not {len(chosen)}")
    return np.triu_indices(len(chosen), 1)
