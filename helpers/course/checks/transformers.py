"""Check the exercises on Vision Transformers."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.course.checks import answers


def tokens_to_grid(answer: Callable[[Tensor, int, int], Tensor]) -> None:
    """Exercise 10.1: ``answer(tokens, h, w)`` lays tokens [N, 1 + h*w, C] into [N, C, h, w]."""
    tokens = torch.arange(2 * 7 * 4).float().view(2, 7, 4)
    found = answers.tensor("10.1", answer(tokens.clone(), 2, 3), (2, 4, 2, 3))
    if not torch.equal(found[:, :, 0, 0], tokens[:, 1]):
        answers.not_yet("10.1", "the first place must hold token 1: token 0 is the class token")
    if not torch.equal(found[:, :, 0, 2], tokens[:, 3]):
        answers.not_yet("10.1", "the places go row by row, and the token's numbers become channels")
    if not torch.equal(found[:, :, 1, 2], tokens[:, 6]):
        answers.not_yet("10.1", "the last place must hold the last token")
    answers.correct("10.1")


@torch.random.fork_rng(devices=[])  # the reader's own random numbers go on as they were
def rollout(answer: Callable[[list[Tensor]], Tensor]) -> None:
    """Exercise 10.2: ``answer(attentions)`` gives the shares [N, T - 1] of attention rollout."""
    torch.default_generator.manual_seed(0)
    layers = [torch.rand(2, 5, 5).softmax(dim=-1) for _ in range(3)]
    found = answers.tensor("10.2", answer([layer.clone() for layer in layers]), (2, 4))
    eye = torch.eye(5)
    first, second, third = ((layer + eye) / 2 for layer in layers)
    if torch.allclose(found, (layers[2] @ layers[1] @ layers[0])[:, 0, 1:], atol=1e-5):
        answers.not_yet("10.2", "the residual connection is missing: mix in the identity")
    if torch.allclose(found, (first @ second @ third)[:, 0, 1:], atol=1e-5):
        answers.not_yet(
            "10.2", "the order is turned round: the last layer reads from the one before"
        )
    if not torch.allclose(found, (third @ second @ first)[:, 0, 1:], atol=1e-5):
        answers.not_yet(
            "10.2", "row 0 of the product of (A + I) / 2, last layer leftmost, is asked for"
        )
    answers.correct("10.2")
