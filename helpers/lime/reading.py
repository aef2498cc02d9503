"""Read an explanation: weights, heatmap and mask of one class."""

import numpy as np
import torch
from lime.lime_image import ImageExplanation
from torch import Tensor

from helpers.errors import unknown


def weights(explanation: ImageExplanation, c: int) -> np.ndarray:
    """Return the weight of each superpixel for class ``c``, float32 [k].

    A positive weight supports the class; a superpixel without weight has 0.

    Raises:
        WorkbookError: the class was not explained.
    """
    if c not in explanation.local_exp:
        raise unknown("class of this explanation", c, map(str, explanation.local_exp))
    found = np.zeros(int(explanation.segments.max()) + 1, dtype=np.float32)
    for superpixel, weight in explanation.local_exp[c]:
        found[superpixel] = weight
    return found


def heatmap(explanation: ImageExplanation, c: int) -> Tensor:
    """Return float32 [H, W]: each superpixel painted with its signed weight for class ``c``."""
    return torch.from_numpy(weights(explanation, c)[explanation.segments])


def mask(explanation: ImageExplanation, c: int, k: int) -> Tensor:
    """Return bool [H, W], True on the ``k`` superpixels that support class ``c`` most.

    Fewer where fewer have a positive weight.
    """
    found = weights(explanation, c)
    strongest = np.argsort(-found, kind="stable")[:k]
    chosen = strongest[found[strongest] > 0]
    return torch.from_numpy(np.isin(explanation.segments, chosen))
