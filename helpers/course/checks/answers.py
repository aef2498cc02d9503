"""What all checkers share: looking at an answer, and saying what is wrong with it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers.run.errors import WorkbookError

CHECKERS: dict[str, Callable[[Callable], None]] = {}


class NotYet(WorkbookError):
    """An exercise is not solved yet; the message says what to look at."""


def exercise(number: str) -> Callable[[Callable], Callable]:
    """Make a checker of a function that raises :class:`NotYet` where an answer is not right.

    It draws PyTorch's random numbers from seed 0, and the reader's own go on as they were. It is
    one of :data:`CHECKERS`, and so of ``helpers.course.checks``.
    """

    def decorate(check: Callable[[Callable], None]) -> Callable[[Callable], None]:
        @wraps(check)
        def checker(answer: Callable) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                try:
                    check(answer)
                except NotYet as why:
                    raise NotYet(f"Exercise {number} is not right yet: {why}") from None
            print(f"Exercise {number}: correct.")

        CHECKERS[check.__name__] = checker
        return checker

    return decorate


def numbers(answer: Any, n: int) -> np.ndarray:
    """Return an answer of n numbers as an array, or say that it is none."""
    try:
        values = np.atleast_1d(np.asarray(answer, dtype=float))
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (n,) or not np.isfinite(values).all():
        wanted = "a number" if n == 1 else f"{n} numbers"
        shown = " ".join(repr(answer).split())[:80]  # an array's repr has several lines
        raise NotYet(f"the function must return {wanted}, not {shown}")
    return values


def tensor(answer: Any, shape: tuple[int, ...]) -> Tensor:
    """Return an answer of a given shape, or say how it differs."""
    if not isinstance(answer, Tensor) or tuple(answer.shape) != tuple(shape):
        got = f"shape {list(answer.shape)}" if isinstance(answer, Tensor) else repr(answer)[:40]
        raise NotYet(f"the function must return a tensor of shape {list(shape)}, not {got}")
    if not answer.isfinite().all():
        raise NotYet("the result has NaN or infinite values")
    return answer.detach()


def mask(answer: Any, heat: Tensor, n: int, what: str, hint: str = "") -> None:
    """Compare an answer with the mask of the n hottest pixels, or say how it differs."""
    found = tensor(answer, heat.shape)
    if found.dtype != torch.bool:
        raise NotYet(f"the mask must be of type bool, not {found.dtype}")
    if found.sum() != n:
        raise NotYet(f"{what}: {int(found.sum())} pixels are marked instead of {n}{hint}")
    if found.any() and heat[found].min() < heat[~found].max():
        raise NotYet(f"{what}: a pixel is marked that is colder than one that is not")


def close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Compare numbers with what is expected, or say how they differ."""
    if not np.allclose(found, expected, atol=tolerance):
        got, wanted = np.round(found, 4).tolist(), np.round(expected, 4).tolist()
        raise NotYet(f"{what}: got {got}, expected {wanted}")


def number(answer: Any, expected: float, tolerance: float, what: str) -> None:
    """Compare an answer with the number that is expected, or say how it differs."""
    close(numbers(answer, 1), [expected], tolerance, what)


def each(found: Tensor, expected: Tensor, whats: tuple[str, ...]) -> None:
    """Compare value by value what stands for cases with names, or say which differs."""
    for what, value, wanted in zip(whats, found, expected, strict=True):
        if not torch.isclose(value, wanted, atol=1e-3):
            raise NotYet(f"{what} came out as {value:.3f} instead of {wanted:.3f}")
