"""Methods that draw the gradient at the pixels: guided backpropagation."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

_RECTIFIERS = {
    F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
    F.hardtanh,  # what nn.ReLU6 calls
}  # fmt: skip


class _Guided(TorchFunctionMode):
    """Lets only positive gradients into every ReLU, however the network calls it.

    captum and ``grad-cam`` guide ``nn.ReLU`` modules alone. A ReLU that is called as a function,
    as in the ResNets here, or an ``nn.ReLU6`` would pass unnoticed, and the result would be the
    plain gradient. A hook on the ReLU's output also works where it overwrites its input.
    """

    seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS and output.requires_grad:
            self.seen += 1
            output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output


def guided_backprop(
    classifier: Classifier, images: Tensor, classes: Tensor, batch_size: int = 64
) -> Tensor:
    """Return the absolute guided gradient at each pixel, over colours (Springenberg et al. 2015).

    The largest hundredth is capped, as is usual (Smilkov et al. 2017, section 3.1): one pixel in
    a thousand would otherwise set the scale, and leave the map black.

    Returns:
        float [N, h, w] of the network's input size.

    Raises:
        WorkbookError: the network has no ReLU.
    """
    found = []
    for batch, c in zip(images.split(batch_size), classes.split(batch_size), strict=True):
        inputs = classifier.preprocess(batch).requires_grad_()
        with torch.enable_grad(), _Guided() as mode:
            logits = classifier.answer(inputs)
            score = logits.gather(1, c.to(logits.device)[:, None]).sum()
        if not mode.seen:
            raise WorkbookError(
                f"{classifier.name} has no ReLU: guided backpropagation is defined for "
                "networks with ReLUs only; take another method"
            )
        (gradient,) = torch.autograd.grad(score, inputs)
        heat = gradient.abs().sum(dim=1)
        cap = heat.flatten(1).quantile(0.99, dim=1)[:, None, None]
        found.append(heat.minimum(cap).cpu())
    return torch.cat(found)
