"""Check the exercises on network dissection."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.course.checks import answers
from helpers.course.checks.answers import NotYet, exercise


@exercise("8.1")
def unit_concept_iou(answer: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise 8.1: ``answer(maps, concept, share)`` gives the IoU over the whole probe set."""
    maps = torch.rand(40, 20, 30)
    maps[:10] *= 3  # the threshold belongs to the set, not to the image
    concept = (maps > 2.2) ^ (torch.rand(maps.shape) < 0.05)
    concept[20:] = False
    for share in (0.05, 0.01):
        on = maps > maps.flatten().sort().values[-round(share * maps.numel()) - 1]
        expected = ((on & concept).sum() / (on | concept).sum()).item()
        (found,) = answers.numbers(answer(maps.clone(), concept.clone(), share), 1)
        if abs(found - 2 * expected / (1 + expected)) < 0.01:
            raise NotYet("this is twice the intersection over the sum; divide by the union")
        if abs(found - expected) > 0.01:
            raise NotYet(
                f"with share {share} the IoU is {expected:.3f}, not {found:.3f}: one threshold "
                "for all images together, then count pixels over all images"
            )
    nothing = answer(maps.clone(), torch.zeros_like(concept), 0.05)
    answers.number(nothing, 0.0, 1e-6, "a concept that has no pixels")


@exercise("8.2")
def log_probability(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 8.2: ``answer(activations, share, p)`` gives log P(word | unit) of soft-WPMI."""
    activations = torch.rand(30)
    share = (4 * torch.rand(30, 7)).softmax(dim=1)
    p = torch.linspace(0.95, 0.5, 6)
    found = answers.tensor(answer(activations.clone(), share.clone(), p.clone()), (7,))
    top = activations.argsort(descending=True)[:6]
    expected = (1 + p[:, None] * (share[top] - 1)).log().sum(dim=0)
    if torch.allclose(found, share[top].log().sum(dim=0), atol=1e-3):
        raise NotYet("this is WPMI, where every image counts fully: use p")
    if torch.allclose(found, expected.exp(), atol=1e-3):
        raise NotYet("this is P(word | unit); take its logarithm")
    answers.close(found, expected, 1e-3, "the seven words of a random unit")
