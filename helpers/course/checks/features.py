"""Check the exercises on feature maps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.course.checks import answers


@torch.random.fork_rng(devices=[])  # the reader's own random numbers go on as they were
def record_activations(answer: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
    """Exercise 3.1: ``answer(network, layer, images)`` returns the layer's output."""
    torch.default_generator.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = network[1](network[0](images))
    output = answer(network, network[1], images)
    found = answers.tensor("3.1", output, expected.shape)
    if not torch.allclose(found, expected, atol=1e-5):
        answers.not_yet("3.1", "this is not the output of the layer that was asked for")
    if any(module._forward_hooks for module in network.modules()):
        answers.not_yet("3.1", "the hook is still on the layer: call handle.remove() at the end")
    if output.requires_grad:
        answers.not_yet(
            "3.1", "nobody needs a gradient here: run the network under torch.no_grad()"
        )
    answers.correct("3.1")


@torch.random.fork_rng(devices=[])  # the reader's own random numbers go on as they were
def inside_outside(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 3.2: ``answer(activations, masks)`` gives (in - out) / (in + out) per channel."""
    torch.default_generator.manual_seed(0)
    # Images differ in object size and in strength, so that averaging image by image shows.
    masks = torch.rand(6, 8, 8) < torch.linspace(0.1, 0.6, 6).view(6, 1, 1)
    activations = torch.rand(6, 5, 8, 8) * torch.arange(1, 7).view(6, 1, 1, 1)
    activations[:, 0] = masks.float()
    activations[:, 1] = (~masks).float()
    activations[:, 2] = 1.0
    found = answers.tensor("3.2", answer(activations, masks), (5,))
    inside = torch.stack([activations[:, c][masks].mean() for c in range(5)])
    outside = torch.stack([activations[:, c][~masks].mean() for c in range(5)])
    expected = (inside - outside) / (inside + outside)
    for channel, what in ((0, "lives on the object (index 1)"), (1, "avoids the object (index -1)"),
                          (2, "is the same everywhere (index 0)"), (4, "is random")):  # fmt: skip
        if not torch.isclose(found[channel], expected[channel], atol=1e-3):
            answers.not_yet(
                "3.2", f"the index of a channel that {what} came out as {found[channel]:.2f}"
            )
    answers.correct("3.2")
