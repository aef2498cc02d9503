"""Check the exercises on measures: accuracy, calibration, agreement of explanations."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from helpers.course.checks import answers
from helpers.course.checks.answers import NotYet, exercise
from helpers.measure import agreement, intervals


@exercise("1.1")
def wilson_interval(answer: Callable[[int, int], tuple[float, float]]) -> None:
    """Exercise 1.1: ``answer(hits, n)`` gives the Wilson interval (low, high)."""
    for hits, n in ((90, 100), (9013, 10000), (3, 3), (0, 5)):
        found = answers.numbers(answer(hits, n), 2)
        p = hits / n
        if hits not in (0, n) and abs(found[0] - (p - 1.96 * (p * (1 - p) / n) ** 0.5)) < 1e-4:
            raise NotYet("this is the interval p ± 1.96 √(p(1-p)/n); Wilson's is another")
        expected = intervals.proportion(hits, n)[1:3]
        answers.close(found, expected, 1e-3, f"the interval of {hits} hits in {n}")


@exercise("1.2")
def calibration_error(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Exercise 1.2: ``answer(confidence, correct)`` gives the ECE over ten equal bins."""
    half_right = answer(np.full(200, 0.95), np.arange(200) < 100)
    answers.number(half_right, 0.45, 1e-6, "a network that is 95 % sure and right half of the time")
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 500)
    # Too timid and too bold by turns, so that gaps do not add up over wider bins.
    bold = (confidence * 10).astype(int) % 2 == 1
    correct = rng.random(500) < np.where(bold, confidence - 0.2, confidence + 0.2)
    confidence[:25], correct[:25] = 1.0, False  # exactly 1 belongs to the last bin
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        np.sum(bins == b) / 500 * abs(correct[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    what = "bins of different sizes (did you weight each gap by the bin's share?)"
    answers.number(answer(confidence, correct), sum(gaps), 1e-6, what)


@exercise("7.1")
def iou(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 7.1: ``answer(a, b)`` gives the IoU of two masks, NaN where both are empty."""
    a, b = torch.rand(2, 10, 12) < torch.tensor([0.4, 0.2])[:, None, None]
    nothing = torch.zeros_like(a)
    for what, x, y in (
        ("two random masks", a, b),
        ("a mask and itself", a, a),
        ("a mask and its complement", a, ~a),
        ("a mask and a part of it", a, a & b),
        ("a mask and an empty one", a, nothing),
        ("an empty mask and another", nothing, b),
    ):
        answers.number(answer(x.clone(), y.clone()), float(agreement.iou(x, y)), 1e-4, what)
    try:
        found = float(answer(nothing.clone(), nothing.clone()))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise NotYet(f"two empty masks: {type(error).__name__}; return float('nan')") from None
    if not np.isnan(found):
        raise NotYet(
            f"two empty masks came out as {found:.0f}: they name no place on which they could "
            "agree, so return float('nan')"
        )


@exercise("7.2")
def equal_area(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 7.2: ``answer(heatmap, mask)`` marks the hottest pixels, as many as the mask has."""
    heatmap = torch.rand(10, 12)
    steps = (heatmap * 3).floor() / 3
    for what, case, share in (("a map", heatmap, 0.2), ("a map with equal values", steps, 0.5),
                              ("an empty mask", heatmap, 0.0)):  # fmt: skip
        mask = torch.rand(10, 12) < share
        answers.mask(answer(case.clone(), mask.clone()), case, int(mask.sum()), what)


@exercise("7.3")
def permutation_test(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Exercise 7.3: ``answer(x, y)`` gives the two-sided permutation p-value of Spearman's rho."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=7)
    strong = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 60.0])[rankdata(x).astype(int) - 1]
    for what, y in (
        ("a strong relation", strong + np.array([0, 0, 0, 0, 0, 0, 1])),
        ("a falling relation", -np.roll(np.sort(x)[::-1], 1)[rankdata(-x).astype(int) - 1]),
        ("no relation", rng.normal(size=7)),
        ("hardly a relation", rng.normal(size=7)),
    ):
        answers.number(answer(x.copy(), y.copy()), _exact_p(x, y), 0.04, what)


def _exact_p(x: np.ndarray, y: np.ndarray) -> float:
    """Return the p-value from all orders of the seven values."""
    a, b = rankdata(x) - 4, rankdata(y) - 4
    all_orders = np.array(list(permutations(b))) @ a
    return float(np.mean(np.abs(all_orders) >= abs(b @ a) - 1e-9))
