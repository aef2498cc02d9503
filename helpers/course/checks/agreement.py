"""Check the exercises on the agreement of explanations."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from helpers.course.checks import answers
from helpers.measure import agreement


def iou(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 7.1: ``answer(a, b)`` gives the IoU of two masks, NaN where both are empty."""
    torch.manual_seed(0)
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
        found = answers.numbers("7.1", answer(x.clone(), y.clone()), 1)
        answers.close("7.1", found, [float(agreement.iou(x, y))], 1e-4, what)
    try:
        found = float(answer(nothing.clone(), nothing.clone()))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        answers.not_yet("7.1", f"two empty masks: {type(error).__name__}; return float('nan')")
    if not np.isnan(found):
        answers.not_yet(
            "7.1",
            f"two empty masks came out as {found:.0f}: they name no place on which they could "
            "agree, so return float('nan')",
        )
    answers.correct("7.1")


def equal_area(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 7.2: ``answer(heatmap, mask)`` marks the hottest pixels, as many as the mask has."""
    torch.manual_seed(0)
    heatmap = torch.rand(10, 12)
    steps = (heatmap * 3).floor() / 3
    for what, case, share in (("a map", heatmap, 0.2), ("a map with equal values", steps, 0.5),
                              ("an empty mask", heatmap, 0.0)):  # fmt: skip
        mask = torch.rand(10, 12) < share
        found = answers.tensor("7.2", answer(case.clone(), mask.clone()), case.shape)
        if found.dtype != torch.bool:
            answers.not_yet("7.2", f"the mask must be of type bool, not {found.dtype}")
        if found.sum() != mask.sum():
            answers.not_yet(
                "7.2", f"{what}: {int(found.sum())} pixels are marked instead of {int(mask.sum())}"
            )
        if found.any() and case[found].min() < case[~found].max():
            answers.not_yet("7.2", f"{what}: a pixel is marked that is colder than one that is not")
    answers.correct("7.2")


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
        found = answers.numbers("7.3", answer(x.copy(), y.copy()), 1)
        answers.close("7.3", found, [_exact_p(x, y)], 0.04, what)
    answers.correct("7.3")


def _exact_p(x: np.ndarray, y: np.ndarray) -> float:
    """Return the p-value from all orders of the seven values."""
    a, b = rankdata(x) - 4, rankdata(y) - 4
    all_orders = np.array(list(permutations(b))) @ a
    return float(np.mean(np.abs(all_orders) >= abs(b @ a) - 1e-9))
