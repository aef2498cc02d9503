"""Feature maps: what a layer answers to images, and which pixels it sees."""

import torch
from torch import Tensor

from helpers.nets.models import Classifier


@torch.inference_mode()
def activations(
    classifier: Classifier, layer: str, images: Tensor, batch_size: int = 256
) -> Tensor:
    """Return the output of a layer for images [N, 3, H, W] in [0, 1], float32 on the CPU.

    Raises:
        WorkbookError: no layer has that name.
    """
    parts: list[Tensor] = []
    hook = classifier.layer(layer).register_forward_hook(
        # A copy: the next layer may work in place.
        lambda _module, _inputs, output: parts.append(output.float().cpu().clone())
    )
    try:
        classifier.logits(images, batch_size)
    finally:
        hook.remove()
    return torch.cat(parts)


def receptive_field(classifier: Classifier, layer: str) -> int:
    """Return the width in pixels of the square that one cell of a layer's map depends on.

    Found by asking which pixels have a gradient; at most the input size.
    """
    size = classifier.input_size
    maps: list[Tensor] = []
    hook = classifier.layer(layer).register_forward_hook(lambda _m, _i, output: maps.append(output))
    image = torch.rand(4, 3, size, size, device=classifier.device, requires_grad=True)
    try:
        classifier.network.eval()(image)
    finally:
        hook.remove()
    middle = maps[0].shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[0][..., middle, middle].sum(), image)
    touched = gradient.abs().amax(dim=(0, 1, 2)).nonzero()
    return int(touched.max() - touched.min() + 1) if len(touched) else 0
