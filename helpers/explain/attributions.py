"""Every way to explain a picture, through one call: images in, heatmaps in [0, 1] out.

The CAM methods are those of :mod:`helpers.explain.cams`. Beside them stand methods that hide parts
of the image (occlusion, LIME, KernelSHAP, sampled and exact Shapley values), guided
backpropagation, and three baselines that know nothing of the network: every measure must tell them
from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import Occlusion
from numpy.typing import ArrayLike
from torch import Tensor
from torch.overrides import TorchFunctionMode

from helpers.explain import cams as cam
from helpers.explain import lime, shapley
from helpers.explain.segments import segment
from helpers.measure import agreement
from helpers.nets.models import Classifier
from helpers.nets.parts import fast_layout
from helpers.run.errors import WorkbookError, unknown

__all__ = ["BASELINES", "METHODS", "explain", "mean_colour", "scaled"]


@dataclass(frozen=True)
class Task:
    """What is to be explained, and how thoroughly; see :func:`explain`."""

    classifier: Classifier
    images: Tensor
    classes: Tensor
    segments: Sequence[ArrayLike]
    samples: int
    seed: int
    batch_size: int


def explain(
    method: str, classifier: Classifier, images: Tensor, classes: Tensor,
    segments: Sequence[ArrayLike] | None = None, *, samples: int = 500, seed: int = 0,
    batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Explain each image's score of a given class with a heatmap.

    What speaks against the class is left out, as CAM methods do: negative values become zero.
    The network's modes, gradients and hooks are left as they were.

    Args:
        method: one of :data:`METHODS`, such as ``"gradcam"`` or ``"kernel shap"``.
        images: float32 [N, 3, H, W] in [0, 1].
        classes: int64 [N], the class index to explain for each image.
        segments: superpixels int [H, W] for each image, for the methods that hide them;
            ``lime.segment`` makes them if None.
        samples: how many hidden versions of each image LIME and KernelSHAP look at; sampled
            Shapley values take as many, whole orders of all superpixels.
        seed: of everything random.
        batch_size: images per pass at the most.

    Returns:
        float32 [N, H, W] on the CPU, each map scaled to a maximum of 1; all zero where nothing
        speaks for the class.

    Raises:
        WorkbookError: unknown method, or images and classes that do not fit together.
    """
    if method not in METHODS:
        raise unknown("explanation method", method, METHODS)
    classes = torch.as_tensor(classes)
    if images.ndim != 4 or classes.shape != images.shape[:1]:
        raise WorkbookError(
            "images [N, 3, H, W] need as many class indices [N], not "
            f"{list(images.shape)} and {list(classes.shape)}"
        )
    if method in HIDING and segments is None:
        segments = [segment(image) for image in images]
    task = Task(classifier, images, classes, segments, samples, seed, batch_size)
    with cam.frozen(classifier.network):
        maps = METHODS[method](task)
    if maps.shape[-2:] != images.shape[-2:]:
        maps = F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear")[:, 0]
    return scaled(maps)


def scaled(maps: Tensor) -> Tensor:
    """Return signed maps [N, H, W] as heatmaps: negative values 0, the largest 1."""
    heat = maps.detach().float().cpu().clamp(min=0)
    largest = heat.flatten(1).amax(dim=1)[:, None, None]
    return torch.where(largest > 0, heat / largest.clamp(min=1e-30), 0.0)


# ---- methods that hide parts of the image ------------------------------------------------------


def mean_colour(image: Tensor) -> Tensor:
    """Return what hidden parts of an image [3, H, W] show here: its mean colour, [3, 1, 1].

    LIME's own default, the mean colour of each superpixel, hides little where superpixels are
    small: the mosaic of their colours is still a picture of the object.
    """
    return image.mean(dim=(1, 2), keepdim=True)


def _occlusion(task: Task) -> Tensor:
    """Slide a square of a quarter of the width over the image (Zeiler & Fergus 2014)."""
    side = max(2, task.images.shape[-1] // 4)

    def probability(images: Tensor) -> Tensor:
        return task.classifier.probabilities(fast_layout(images), task.batch_size)

    occlusion = Occlusion(probability)
    found = [
        occlusion.attribute(
            image[None], (3, side, side), (3, side // 2, side // 2), target=int(c),
            baselines=mean_colour(image).expand_as(image)[None],
            perturbations_per_eval=task.batch_size,
        )[0, 0]
        for image, c in zip(task.images, task.classes, strict=True)
    ]  # fmt: skip
    return torch.stack(found)


def _lime(task: Task) -> Tensor:
    """Fit a linear model to the probabilities of hidden versions (Ribeiro et al. 2016)."""
    found = []
    cases = zip(task.images, task.classes.tolist(), task.segments, strict=True)
    for image, c, segments in cases:
        (explanation,) = lime.explain(
            task.classifier, image[None], [c], segments=[segments], num_samples=task.samples,
            seed=task.seed, hide_color=mean_colour(image).flatten().numpy(),
        )  # fmt: skip
        found.append(lime.heatmap(explanation, c))
    return torch.stack(found)


def _shapley(solve: Callable[[shapley.Game, int, Task], Tensor]) -> Callable[[Task], Tensor]:
    """Return the method that paints the Shapley values of an image's superpixels."""

    def maps(task: Task) -> Tensor:
        found = []
        for image, c, segments in zip(task.images, task.classes, task.segments, strict=True):
            labels = torch.as_tensor(np.asarray(segments)).long()
            game = shapley.superpixel_game(
                task.classifier, image, int(c), labels, mean_colour(image)
            )
            found.append(solve(game, int(labels.max()) + 1, task)[labels])
        return torch.stack(found)

    return maps


# ---- guided backpropagation --------------------------------------------------------------------

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


def _guided_backprop(task: Task) -> Tensor:
    """Return the absolute guided gradient at each pixel, over colours (Springenberg et al. 2015).

    The largest hundredth is capped, as is usual (Smilkov et al. 2017, section 3.1): one pixel in
    a thousand would otherwise set the scale, and leave the map black.

    Raises:
        WorkbookError: the network has no ReLU.
    """
    found = []
    batches = zip(
        task.images.split(task.batch_size), task.classes.split(task.batch_size), strict=True
    )
    for images, classes in batches:
        inputs = task.classifier.preprocess(images).requires_grad_()
        with torch.enable_grad(), _Guided() as mode:
            logits = task.classifier.network(inputs)
            score = logits.gather(1, classes.to(logits.device)[:, None]).sum()
        if not mode.seen:
            raise WorkbookError(
                f"{task.classifier.name} has no ReLU: guided backpropagation is defined for "
                "networks with ReLUs only; take another method"
            )
        (gradient,) = torch.autograd.grad(score, inputs)
        heat = gradient.abs().sum(dim=1)
        cap = heat.flatten(1).quantile(0.99, dim=1)[:, None, None]
        found.append(heat.minimum(cap))
    return torch.cat(found)


# ---- baselines ---------------------------------------------------------------------------------


def _random(task: Task) -> Tensor:
    """Return smooth noise, as coarse as a CAM: 8 x 8 random cells, drawn over the image."""
    generator = torch.Generator().manual_seed(task.seed)
    cells = torch.rand(len(task.images), 1, 8, 8, generator=generator)
    return F.interpolate(cells, task.images.shape[-2:], mode="bilinear")[:, 0]


def _centre(task: Task) -> Tensor:
    """Return a blob in the middle."""
    return agreement.centre(tuple(task.images.shape[-2:])).repeat(len(task.images), 1, 1)


def _edges(task: Task) -> Tensor:
    """Return the edges of the image."""
    return agreement.edges(task.images)


def _cam(method: str) -> Callable[[Task], Tensor]:
    """Return a CAM method at the classifier's target layer."""

    def maps(task: Task) -> Tensor:
        classifier = task.classifier
        return cam.explain(
            method, classifier.network, classifier.target, classifier.preprocess(task.images),
            task.classes, task.batch_size, classifier.architecture.reshape,
        )  # fmt: skip

    return maps


HIDING = {
    "lime": _lime,
    "kernel shap": _shapley(lambda game, k, t: shapley.kernel(game, k, t.samples, t.seed)),
    "sampled shapley": _shapley(
        lambda game, k, t: shapley.sampled(game, k, max(1, t.samples // k), t.seed)
    ),
    "exact shapley": _shapley(lambda game, k, _: shapley.exact(game, k)),
}
BASELINES = {"random": _random, "centre": _centre, "edges": _edges}
METHODS: dict[str, Callable[[Task], Tensor]] = {
    **{name: _cam(name) for name in cam.METHODS},
    "guided backprop": _guided_backprop,
    "occlusion": _occlusion,
    **HIDING,
    **BASELINES,
}
