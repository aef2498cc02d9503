"""Check the exercises on LIME, for images and for text."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge

from helpers.course.checks import answers
from helpers.course.checks.answers import NotYet, exercise


@exercise("6.1")
def proximity(answer: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Exercise 6.1: ``answer(states, width)`` gives each state's proximity to the whole image."""
    states = np.random.default_rng(0).integers(0, 2, (6, 16))
    states[0], states[1], states[2] = 1, 0, np.arange(16) < 4
    # Cosine distances 0 (all shown), 1 (nothing is shown) and 1/2 (a quarter is).
    distance = 1 - np.sqrt(states.mean(axis=1))
    for width in (0.25, 0.6):
        found = answers.numbers(answer(states.copy(), width), 6)
        expected = np.exp(-(distance**2) / width**2 / 2)
        if not np.isclose(found[0], 1, atol=1e-6):
            raise NotYet(f"the whole image has proximity 1, not {found[0]:.3f}")
        if np.allclose(found, expected**2, atol=1e-6):
            raise NotYet("this is exp(-d²/width²); the kernel is its square root")
        what = f"width {width}: all, none, a quarter, and three random states"
        answers.close(found, expected, 1e-6, what)


@exercise("6.2")
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
            raise NotYet("the function must return two things: weights [k], intercept")
        found = answers.numbers(result[0], 7)
        intercept = answers.numbers(result[1], 1)[0]
        expected, shift = _librarys_fit(states, y, near, alpha)
        if np.allclose(found, Ridge(alpha=alpha).fit(states, y).coef_, atol=1e-6):
            raise NotYet("the proximities are not used: near states must count more")
        no_intercept = Ridge(alpha=alpha, fit_intercept=False).fit(states, y, near).coef_
        if np.allclose(found, no_intercept, atol=1e-6):
            raise NotYet("subtract the weighted means first: the line has an intercept")
        answers.close(found, expected, 1e-6, f"alpha {alpha:g}: the library's weights")
        answers.close(intercept, shift, 1e-6, f"alpha {alpha:g}: the intercept")


def _librarys_fit(
    states: np.ndarray, y: np.ndarray, near: np.ndarray, alpha: float
) -> tuple[np.ndarray, float]:
    """Return the weights [k] and the intercept that LIME fits to y [n] of states [n, k]."""
    n, k = states.shape
    intercept, weights, *_ = LimeBase(lambda _distances: near).explain_instance_with_data(
        states, y[:, None], np.zeros(n), 0, k, "none", Ridge(alpha=alpha)
    )
    return np.array([weight for _, weight in sorted(weights)]), intercept


@exercise("6.3")
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
        found = answers.numbers(answer(seconds.copy(), ious.copy()), len(ious)).astype(bool)
        t, i = seconds[:, None], ious[:, None]
        beaten = (seconds <= t) & (ious >= i) & ((seconds < t) | (ious > i))
        expected = ~beaten.any(axis=1)
        if not np.array_equal(found, expected):
            wrong = np.flatnonzero(found != expected)[0]
            verdict = "not beaten" if expected[wrong] else "beaten"
            raise NotYet(
                f"{what}: setting {wrong} ({seconds[wrong]:.2g} s, IoU {ious[wrong]:.2g}) "
                f"is {verdict} by another"
            )


@exercise("11.1")
def local_weights(
    answer: Callable[[Sequence[str], Callable, np.ndarray, float], np.ndarray],
) -> None:
    """Exercise 11.1: ``answer(tokens, predict, masks, width)`` equals the library's local fit."""
    tokens = re.findall(r"\w+", "we saw the glacier near a barn and the glacier saw we")
    words = list(dict.fromkeys(tokens))
    effects = np.array([0.1, 0.0, 0.2, 1.5, 0.0, -0.4, -1.5, 0.0])
    rng = np.random.default_rng(0)
    masks = rng.random((40, len(words))) < rng.random((40, 1))
    masks[0], masks[1] = True, False  # the whole document, and nothing of it

    def predict(texts: Sequence[str]) -> np.ndarray:
        kept = np.array([[text.split().count(word) for word in words] for text in texts])
        return 1 / (1 + np.exp(0.5 - kept @ effects))

    probabilities = predict([
        " ".join(token for token in tokens if mask[words.index(token)]) for mask in masks
    ])  # fmt: skip
    distances = 1 - np.sqrt(masks.mean(axis=1))
    for width in (0.25, 0.6):
        found = answers.numbers(answer(list(tokens), predict, masks.copy(), width), 8)
        near = np.exp(-((distances / width) ** 2) / 2)
        expected, _ = _librarys_fit(masks.astype(float), probabilities, near, alpha=1)
        if np.allclose(found, -expected, atol=1e-3):
            raise NotYet("the signs are reversed: True keeps a word, False hides it")
        if np.abs(found - expected).max() > 1e-3:
            raise NotYet(
                f"for width {width} the weight of 'glacier' is {found[3]:.3f} instead of "
                f"{expected[3]:.3f}: keep every occurrence of a word that stays, weigh texts by "
                "their proximity, fit an intercept too, and add 1 to the diagonal"
            )


@exercise("11.2")
def word_recall(answer: Callable[[Mapping[str, float], Collection[str]], float]) -> None:
    """Exercise 11.2: ``answer(weights, deciding)`` gives the share of deciding words found."""
    weights = {"from": 0.02, "tide": 0.4, "soup": -0.6, "bay": 0.3, "clara": 0.35, "barn": -0.9,
               "pier": 0.1, "the": 0.0}  # fmt: skip
    for what, deciding, expected in (
        ("two deciding words, both on top", {"tide", "clara"}, 1.0),
        ("three deciding words, of which one is fourth", {"tide", "bay", "pier"}, 2 / 3),
        ("a deciding word with negative weight", {"tide", "barn"}, 0.5),
        ("a deciding word with negative weight alone", {"barn"}, 0.0),
        ("more deciding words than support the class", {*weights} - {"from"}, 4 / 7),
    ):
        answers.number(answer(dict(weights), set(deciding)), expected, 1e-3, what)
