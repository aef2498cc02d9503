"""Check the exercises on network dissection."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.course.checks import answers


def unit_concept_iou(answer: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise 8.1: ``answer(maps, concept, share)`` gives the IoU over the whole probe set."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(40, 20, 30, generator=generator)
    maps[:10] *= 3  # the threshold belongs to the set, not to the image
    concept = (maps > 2.2) ^ (torch.rand(maps.shape, generator=generator) < 0.05)
    concept[20:] = False
    for share in (0.05, 0.01):
        on = maps > maps.flatten().sort().values[-round(share * maps.numel()) - 1]
        expected = ((on & concept).sum() / (on | concept).sum()).item()
        found = answers.numbers("8.1", answer(maps.clone(), concept.clone(), share), 1)
        dice = 2 * expected / (1 + expected)
        if abs(found[0] - dice) < 0.01:
            answers.not_yet("8.1", "this is twice the intersection over the sum; divide by the "
                            "union")  # fmt: skip
        if abs(found[0] - expected) > 0.01:
            answers.not_yet(
                "8.1",
                f"with share {share} the IoU is {expected:.3f}, not {found[0]:.3f}: one threshold "
                "for all images together, then count pixels over all images",
            )
    nothing = answers.numbers("8.1", answer(maps.clone(), torch.zeros_like(concept), 0.05), 1)
    answers.close("8.1", nothing, [0.0], 1e-6, "a concept that has no pixels")
    answers.correct("8.1")


def log_probability(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 8.2: ``answer(activations, share, p)`` gives log P(word | unit) of soft-WPMI."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(30, generator=generator)
    share = (4 * torch.rand(30, 7, generator=generator)).softmax(dim=1)
    p = torch.linspace(0.95, 0.5, 6)
    found = answers.tensor("8.2", answer(activations.clone(), share.clone(), p.clone()), (7,))
    top = activations.argsort(descending=True)[:6]
    expected = (1 + p[:, None] * (share[top] - 1)).log().sum(dim=0)
    if torch.allclose(found, share[top].log().sum(dim=0), atol=1e-3):
        answers.not_yet("8.2", "this is WPMI, where every image counts fully: use p")
    if torch.allclose(found, expected.exp(), atol=1e-3):
        answers.not_yet("8.2", "this is P(word | unit); take its logarithm")
    answers.close("8.2", found, expected, 1e-3, "the seven words of a random unit")
    answers.correct("8.2")
