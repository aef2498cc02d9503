"""Check the exercises on accuracy and calibration."""

from collections.abc import Callable

import numpy as np

from helpers.course.checks import answers
from helpers.measure import intervals


def wilson_interval(answer: Callable[[int, int], tuple[float, float]]) -> None:
    """Exercise 1.1: ``answer(hits, n)`` gives the Wilson interval (low, high)."""
    for hits, n in ((90, 100), (9013, 10000), (3, 3), (0, 5)):
        low, high = answers.numbers("1.1", answer(hits, n), 2)
        expected = intervals.proportion(hits, n)
        p = hits / n
        if hits not in (0, n) and abs(low - (p - 1.96 * (p * (1 - p) / n) ** 0.5)) < 1e-4:
            answers.not_yet("1.1", "this is the interval p ± 1.96 √(p(1-p)/n); Wilson's is another")
        answers.close(
            "1.1", (low, high), expected[1:3], 1e-3, f"the interval of {hits} hits in {n}"
        )
    answers.correct("1.1")


def calibration_error(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Exercise 1.2: ``answer(confidence, correct)`` gives the ECE over ten equal bins."""
    rng = np.random.default_rng(0)
    sure = np.full(200, 0.95)
    answers.close(
        "1.2",
        answers.numbers("1.2", answer(sure, np.arange(200) < 100), 1),
        [0.45],
        1e-6,
        "a network that is 95 % sure and right half of the time",
    )
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
    answers.close("1.2", answers.numbers("1.2", answer(confidence, correct), 1), [sum(gaps)], 1e-6,
           "bins of different sizes (did you weight each gap by the bin's share?)")  # fmt: skip
    answers.correct("1.2")
