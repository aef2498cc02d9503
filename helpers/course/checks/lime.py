"""Check the exercises on LIME."""

from collections.abc import Callable

import numpy as np
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge

from helpers.course.checks import answers


def proximity(answer: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Exercise 6.1: ``answer(states, width)`` gives each state's proximity to the whole image."""
    rng = np.random.default_rng(0)
    states = rng.integers(0, 2, (6, 16))
    states[0], states[1], states[2] = 1, 0, np.arange(16) < 4
    # Cosine distances 0 (all shown), 1 (nothing is shown) and 1/2 (a quarter is).
    distance = 1 - np.sqrt(states.mean(axis=1))
    for width in (0.25, 0.6):
        found = answers.numbers("6.1", answer(states.copy(), width), 6)
        expected = np.exp(-(distance**2) / width**2 / 2)
        if not np.isclose(found[0], 1, atol=1e-6):
            answers.not_yet("6.1", f"the whole image has proximity 1, not {found[0]:.3f}")
        if np.allclose(found, expected**2, atol=1e-6):
            answers.not_yet("6.1", "this is exp(-d²/width²); the kernel is its square root")
        answers.close("6.1", found, expected, 1e-6,
                      f"width {width}: all, none, a quarter, and three random states")  # fmt: skip
    answers.correct("6.1")


def weighted_ridge(
    answer: Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, float]],
) -> None:
    """Exercise 6.2: ``answer(states, y, proximity, alpha)`` gives LIME's weights and intercept."""
    rng = np.random.default_rng(0)
    states = rng.integers(0, 2, (40, 7)).astype(float)
    states[0] = 1
    y = 0.3 + states @ rng.normal(0, 0.2, 7) + 0.1 * states[:, 0] * states[:, 1]
    near = rng.uniform(0.05, 1, 40)
    for alpha in (1.0, 20.0):
        result = answer(states.copy(), y.copy(), near.copy(), alpha)
        if not isinstance(result, tuple) or len(result) != 2:
            answers.not_yet("6.2", "the function must return two things: weights [k], intercept")
        found = answers.numbers("6.2", result[0], 7)
        intercept = answers.numbers("6.2", result[1], 1)[0]
        library = LimeBase(lambda _distances: near).explain_instance_with_data(
            states, y[:, None], np.zeros(40), 0, 7, "none", Ridge(alpha=alpha)
        )
        expected = np.array([weight for _, weight in sorted(library[1])])
        if np.allclose(found, Ridge(alpha=alpha).fit(states, y).coef_, atol=1e-6):
            answers.not_yet("6.2", "the proximities are not used: near states must count more")
        no_intercept = Ridge(alpha=alpha, fit_intercept=False).fit(states, y, near).coef_
        if np.allclose(found, no_intercept, atol=1e-6):
            answers.not_yet("6.2", "subtract the weighted means first: the line has an intercept")
        answers.close("6.2", found, expected, 1e-6, f"alpha {alpha:g}: the library's weights")
        answers.close("6.2", intercept, library[0], 1e-6, f"alpha {alpha:g}: the intercept")
    answers.correct("6.2")


def pareto_front(answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Exercise 6.3: ``answer(seconds, ious)`` marks the settings that no other one beats."""
    rng = np.random.default_rng(0)
    cases = {
        "four settings in a row, one of them beaten": ([1, 2, 3, 4], [0.2, 0.5, 0.4, 0.6]),
        "two of the same time": ([1, 1, 2], [0.3, 0.5, 0.6]),
        "two of the same IoU": ([1, 2], [0.5, 0.5]),
        "two equal ones": ([1, 1, 2], [0.5, 0.5, 0.4]),
        "thirty at random": (rng.random(30), rng.random(30)),
    }
    for what, (seconds, ious) in cases.items():
        seconds, ious = np.asarray(seconds, float), np.asarray(ious, float)
        found = answers.numbers("6.3", answer(seconds.copy(), ious.copy()), len(ious)).astype(bool)
        expected = np.array([
            not any(s <= t and j >= i and (s < t or j > i)
                    for s, j in zip(seconds, ious, strict=True))
            for t, i in zip(seconds, ious, strict=True)
        ])  # fmt: skip
        if not np.array_equal(found, expected):
            wrong = np.flatnonzero(found != expected)[0]
            verdict = "not beaten" if expected[wrong] else "beaten"
            answers.not_yet(
                "6.3", f"{what}: setting {wrong} ({seconds[wrong]:.2g} s, IoU {ious[wrong]:.2g}) "
                f"is {verdict} by another",
            )  # fmt: skip
    answers.correct("6.3")
