"""Check the exercises on filters."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.course.checks import answers


@torch.random.fork_rng(devices=[])  # the reader's own random numbers go on as they were
def normalise_filters(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.1: ``answer(weights)`` scales each filter [C, h, w] to [0, 1], zero at 0.5."""
    torch.default_generator.manual_seed(0)
    weights = torch.randn(4, 3, 5, 5) * torch.tensor([0.01, 0.1, 1, 10]).view(4, 1, 1, 1) + 0.002
    scaled = answers.tensor("2.1", answer(weights.clone()), weights.shape)
    if scaled.min() < 0 or scaled.max() > 1:
        answers.not_yet(
            "2.1", f"values must lie in [0, 1], not {scaled.min():.2f} to {scaled.max():.2f}"
        )
    reach = (scaled - 0.5).abs().amax(dim=(1, 2, 3))
    if not torch.allclose(reach, torch.full((4,), 0.5), atol=1e-3):
        answers.not_yet("2.1", "every filter must reach 0 or 1 by its own largest weight")
    expected = 0.5 + weights / weights.abs().amax(dim=(1, 2, 3), keepdim=True) / 2
    if not torch.allclose(scaled, expected, atol=1e-3):
        answers.not_yet(
            "2.1", "a weight of zero must become 0.5: divide by the largest absolute weight"
        )
    zero = answers.tensor("2.1", answer(torch.zeros(1, 3, 3, 3)), (1, 3, 3, 3))
    if not torch.allclose(zero, torch.full_like(zero, 0.5)):
        answers.not_yet("2.1", "a filter of zeros must become grey (0.5), not NaN")
    answers.correct("2.1")


@torch.random.fork_rng(devices=[])  # the reader's own random numbers go on as they were
def colour_share(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.2: ``answer(weights)`` gives the share of a filter's energy that is not grey."""
    torch.default_generator.manual_seed(0)
    weights = torch.randn(4, 3, 5, 5)
    weights[0] = weights[0, :1]
    weights[1] -= weights[1].mean(dim=0)
    weights[3] *= 10
    found = answers.tensor("2.2", answer(weights.clone()), (4,))
    grey = 3 * (weights.mean(dim=1) ** 2).sum(dim=(1, 2))
    expected = 1 - grey / (weights**2).sum(dim=(1, 2, 3))
    for i, what in enumerate(("a grey filter (0)", "a filter of pure colour (1)",
                              "a random filter", "a strong random filter")):  # fmt: skip
        if not torch.isclose(found[i], expected[i], atol=1e-3):
            answers.not_yet(
                "2.2", f"{what} came out as {found[i]:.3f} instead of {expected[i]:.3f}"
            )
    answers.correct("2.2")
