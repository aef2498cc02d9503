"""Check the exercises on LIME for text."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from lime.lime_base import LimeBase

from helpers.course.checks import answers


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
    distances = 100 * (1 - np.sqrt(masks.mean(axis=1)))
    for width in (0.25, 0.6):
        found = answers.numbers("11.1", answer(list(tokens), predict, masks.copy(), width), 8)
        base = LimeBase(lambda d, w=width: np.exp(-((d / (100 * w)) ** 2) / 2), random_state=0)
        told = base.explain_instance_with_data(
            masks.astype(float), probabilities[:, None], distances, 0, 8, feature_selection="none"
        )[1]
        expected = np.array([weight for _, weight in sorted(told)])
        if np.allclose(found, -expected, atol=1e-3):
            answers.not_yet("11.1", "the signs are reversed: True keeps a word, False hides it")
        if np.abs(found - expected).max() > 1e-3:
            answers.not_yet(
                "11.1",
                f"for width {width} the weight of 'glacier' is {found[3]:.3f} instead of "
                f"{expected[3]:.3f}: keep every occurrence of a word that stays, weigh texts by "
                "their proximity, fit an intercept too, and add 1 to the diagonal",
            )
    answers.correct("11.1")


def word_recall(answer: Callable[[Mapping[str, float], Collection[str]], float]) -> None:
    """Exercise 11.2: ``answer(weights, deciding)`` gives the share of deciding words found."""
    weights = {"from": 0.02, "tide": 0.4, "soup": -0.6, "bay": 0.3, "clara": 0.35, "barn": -0.9,
               "pier": 0.1, "the": 0.0}  # fmt: skip
    cases = (
        ("two deciding words, both on top", {"tide", "clara"}, 1.0),
        ("three deciding words, of which one is fourth", {"tide", "bay", "pier"}, 2 / 3),
        ("a deciding word with negative weight", {"tide", "barn"}, 0.5),
        ("a deciding word with negative weight alone", {"barn"}, 0.0),
        ("more deciding words than support the class", {*weights} - {"from"}, 4 / 7),
    )
    for what, deciding, expected in cases:
        found = answers.numbers("11.2", answer(dict(weights), set(deciding)), 1)
        answers.close("11.2", found, [expected], 1e-3, what)
    answers.correct("11.2")
