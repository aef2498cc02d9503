"""What all checkers share: looking at an answer, and saying what is wrong with it."""

from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from helpers.run.errors import WorkbookError


class NotYet(WorkbookError):
    """An exercise is not solved yet; the message says what to look at."""


def correct(exercise: str) -> None:
    """Say that an exercise is solved."""
    print(f"Exercise {exercise}: correct.")


def not_yet(exercise: str, why: str) -> NoReturn:
    """Say in one line what is not right yet."""
    raise NotYet(f"Exercise {exercise} is not right yet: {why}")


def numbers(exercise: str, answer: Any, n: int) -> np.ndarray:
    """Return an answer of n numbers as an array, or say that it is none."""
    try:
        values = np.atleast_1d(np.asarray(answer, dtype=float))
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (n,) or not np.isfinite(values).all():
        wanted = "a number" if n == 1 else f"{n} numbers"
        shown = " ".join(repr(answer).split())[:80]  # an array's repr has several lines
        not_yet(exercise, f"the function must return {wanted}, not {shown}")
    return values


def tensor(exercise: str, answer: Any, shape: tuple[int, ...]) -> Tensor:
    """Return an answer of a given shape, or say how it differs."""
    if not isinstance(answer, Tensor) or tuple(answer.shape) != tuple(shape):
        got = f"shape {list(answer.shape)}" if isinstance(answer, Tensor) else repr(answer)[:40]
        not_yet(exercise, f"the function must return a tensor of shape {list(shape)}, not {got}")
    if not answer.isfinite().all():
        not_yet(exercise, "the result has NaN or infinite values")
    return answer.detach()


def close(exercise: str, found, expected, tolerance: float, what: str) -> None:
    """Compare numbers with what is expected, or say how they differ."""
    if not np.allclose(found, expected, atol=tolerance):
        not_yet(
            exercise,
            f"{what}: got {np.round(found, 4).tolist()}, expected {np.round(expected, 4).tolist()}",
        )
