"""Sanity checks (Adebayo et al. 2018): does an explanation change when the network forgets?

A map of what a network has learned must look different when the learned weights are replaced by
random ones. One that survives shows the image, or the architecture, but not the network.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from helpers.measure import agreement
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError


def cascade(
    classifier: Classifier, layers: tuple[str, ...] | None = None, seed: int = 0
) -> Iterator[tuple[str, Classifier]]:
    """Randomise a network from the top down, and stop at each of the layers to look at it.

    Args:
        layers: dotted names from the top (the output) down; the head, the architecture's stages
            and its first layer if None.
        seed: of the random weights.

    Yields:
        The name of the layer, and a copy of the classifier in which this layer and everything
        above it has new weights, drawn as before training, the same ones at each step.

    Raises:
        WorkbookError: unknown layer, or the layers are not ordered from the top down.
    """
    family = classifier.architecture
    layers = layers or (family.head, *reversed(family.stages), family.first)
    owners = _owners(classifier.network)
    depths = []
    for name in layers:
        inside = [d for d, (owner, _) in enumerate(owners) if _within(owner, name)]
        classifier.layer(name)  # an unknown name is an error
        if not inside or (depths and inside[0] >= depths[-1]):
            raise WorkbookError(
                f"the cascade {' → '.join(layers)} must go from the output down, through layers "
                f"with weights: {name} is out of order"
            )
        depths.append(inside[0])
    for name, depth in zip(layers, depths, strict=True):
        # On the CPU, whose random numbers are the same whatever the classifier runs on.
        step = replace(classifier, network=deepcopy(classifier.network).cpu())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            # From the top, so that what was random before gets the same weights again.
            for _, module in reversed(_owners(step.network)[depth:]):
                randomise(module)
        yield name, step.to(classifier.device)


def randomise(module: nn.Module) -> None:
    """Draw the weights that a module itself holds anew, as before training."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    with torch.no_grad():
        for weights in module.parameters(recurse=False):
            weights.normal_(0, weights.std() if weights.numel() > 1 else 1)


def likeness(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Return how much two sets of heatmaps [N, H, W] in [0, 1] look alike, per image.

    By ``"rank correlation"`` [N] of the pixels (Spearman), and by ``"SSIM"`` [N], the structural
    similarity of Wang et al. 2004. A map without heat is like none: 0.
    """
    rank = [agreement.rank_correlation(x, y) for x, y in zip(a, b, strict=True)]
    side = min(7, *(n - 1 + n % 2 for n in a.shape[-2:]))
    ssim = [
        structural_similarity(x.numpy(), y.numpy(), data_range=1.0, win_size=side)
        if x.any() and y.any() else 0.0
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    return {
        "rank correlation": torch.tensor(np.nan_to_num(rank), dtype=torch.float32),
        "SSIM": torch.tensor(ssim, dtype=torch.float32),
    }


def _owners(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules that hold weights themselves, in order from the input.

    What the network as a whole holds, such as the class token of a transformer, joins the image
    behind the first module.
    """
    owners = [
        (name, module)
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    stem = next((name for name, _ in network.named_children()), "")
    return sorted(owners, key=lambda owner: 0 if _within(owner[0], stem) else bool(owner[0]) + 1)


def _within(owner: str, layer: str) -> bool:
    return owner == layer or owner.startswith(f"{layer}.")
