"""Check the exercises on what is inside a network: filters, feature maps, attention."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.course.checks import answers
from helpers.course.checks.answers import NotYet, exercise


@exercise("2.1")
def normalise_filters(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.1: ``answer(weights)`` scales each filter [C, h, w] to [0, 1], zero at 0.5."""
    weights = torch.randn(4, 3, 5, 5) * torch.tensor([0.01, 0.1, 1, 10]).view(4, 1, 1, 1) + 0.002
    scaled = answers.tensor(answer(weights.clone()), weights.shape)
    if scaled.min() < 0 or scaled.max() > 1:
        raise NotYet(f"values must lie in [0, 1], not {scaled.min():.2f} to {scaled.max():.2f}")
    reach = (scaled - 0.5).abs().amax(dim=(1, 2, 3))
    if not torch.allclose(reach, torch.full((4,), 0.5), atol=1e-3):
        raise NotYet("every filter must reach 0 or 1 by its own largest weight")
    expected = 0.5 + weights / weights.abs().amax(dim=(1, 2, 3), keepdim=True) / 2
    if not torch.allclose(scaled, expected, atol=1e-3):
        raise NotYet("a weight of zero must become 0.5: divide by the largest absolute weight")
    zero = answers.tensor(answer(torch.zeros(1, 3, 3, 3)), (1, 3, 3, 3))
    if not torch.allclose(zero, torch.full_like(zero, 0.5)):
        raise NotYet("a filter of zeros must become grey (0.5), not NaN")


@exercise("2.2")
def colour_share(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.2: ``answer(weights)`` gives the share of a filter's energy that is not grey."""
    weights = torch.randn(4, 3, 5, 5)
    weights[0] = weights[0, :1]
    weights[1] -= weights[1].mean(dim=0)
    weights[3] *= 10
    found = answers.tensor(answer(weights.clone()), (4,))
    grey = 3 * (weights.mean(dim=1) ** 2).sum(dim=(1, 2))
    expected = 1 - grey / (weights**2).sum(dim=(1, 2, 3))
    answers.each(found, expected, ("a grey filter (0)", "a filter of pure colour (1)",
                                   "a random filter", "a strong random filter"))  # fmt: skip


@exercise("3.1")
def record_activations(answer: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
    """Exercise 3.1: ``answer(network, layer, images)`` returns the layer's output."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = network[1](network[0](images))
    output = answer(network, network[1], images)
    found = answers.tensor(output, expected.shape)
    if not torch.allclose(found, expected, atol=1e-5):
        raise NotYet("this is not the output of the layer that was asked for")
    if any(module._forward_hooks for module in network.modules()):
        raise NotYet("the hook is still on the layer: call handle.remove() at the end")
    if output.requires_grad:
        raise NotYet("nobody needs a gradient here: run the network under torch.no_grad()")


@exercise("3.2")
def inside_outside(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 3.2: ``answer(activations, masks)`` gives (in - out) / (in + out) per channel."""
    # Images differ in object size and in strength, so that averaging image by image shows.
    masks = torch.rand(6, 8, 8) < torch.linspace(0.1, 0.6, 6).view(6, 1, 1)
    activations = torch.rand(6, 5, 8, 8) * torch.arange(1, 7).view(6, 1, 1, 1)
    activations[:, 0] = masks.float()
    activations[:, 1] = (~masks).float()
    activations[:, 2] = 1.0
    found = answers.tensor(answer(activations, masks), (5,))
    inside = torch.stack([activations[:, c][masks].mean() for c in range(5)])
    outside = torch.stack([activations[:, c][~masks].mean() for c in range(5)])
    expected = (inside - outside) / (inside + outside)
    for channel, what in ((0, "lives on the object (index 1)"), (1, "avoids the object (index -1)"),
                          (2, "is the same everywhere (index 0)"), (4, "is random")):  # fmt: skip
        if not torch.isclose(found[channel], expected[channel], atol=1e-3):
            raise NotYet(f"the index of a channel that {what} came out as {found[channel]:.2f}")


@exercise("10.1")
def tokens_to_grid(answer: Callable[[Tensor, int, int], Tensor]) -> None:
    """Exercise 10.1: ``answer(tokens, h, w)`` lays tokens [N, 1 + h*w, C] into [N, C, h, w]."""
    tokens = torch.arange(2 * 7 * 4).float().view(2, 7, 4)
    found = answers.tensor(answer(tokens.clone(), 2, 3), (2, 4, 2, 3))
    if not torch.equal(found[:, :, 0, 0], tokens[:, 1]):
        raise NotYet("the first place must hold token 1: token 0 is the class token")
    if not torch.equal(found[:, :, 0, 2], tokens[:, 3]):
        raise NotYet("the places go row by row, and the token's numbers become channels")
    if not torch.equal(found[:, :, 1, 2], tokens[:, 6]):
        raise NotYet("the last place must hold the last token")


@exercise("10.2")
def rollout(answer: Callable[[list[Tensor]], Tensor]) -> None:
    """Exercise 10.2: ``answer(attentions)`` gives the shares [N, T - 1] of attention rollout."""
    layers = [torch.rand(2, 5, 5).softmax(dim=-1) for _ in range(3)]
    found = answers.tensor(answer([layer.clone() for layer in layers]), (2, 4))
    first, second, third = ((layer + torch.eye(5)) / 2 for layer in layers)
    if torch.allclose(found, (layers[2] @ layers[1] @ layers[0])[:, 0, 1:], atol=1e-5):
        raise NotYet("the residual connection is missing: mix in the identity")
    if torch.allclose(found, (first @ second @ third)[:, 0, 1:], atol=1e-5):
        raise NotYet("the order is turned round: the last layer reads from the one before")
    if not torch.allclose(found, (third @ second @ first)[:, 0, 1:], atol=1e-5):
        raise NotYet("row 0 of the product of (A + I) / 2, last layer leftmost, is asked for")
