"""The list of all methods that explain a prediction, and the one call that runs them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Literal

import pytorch_grad_cam as library
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from helpers.explain import baselines, by_hiding, cams, gradients
from helpers.explain.segments import segment
from helpers.nets.models import Classifier
from helpers.nets.recording import Layer, frozen
from helpers.run.errors import WorkbookError, unknown


@dataclass(frozen=True)
class Method:
    """A way to explain, and what tables and figures say of it.

    ``maps`` returns float maps [N, h, w] of any scale. It takes by name what it needs of
    :func:`explain`'s arguments ``classifier``, ``images``, ``classes``, ``layer``, ``segments``,
    ``samples``, ``seed`` and ``batch_size``: images on the CPU, and a network in eval mode whose
    weights want no gradients.
    """

    name: str  # its key in METHODS
    title: str  # its printed name
    family: Literal["CAM", "gradient", "hiding", "baseline"]
    needs: Literal["gradients", "forward passes", "nothing"]  # of the network
    signed: bool  # whether negative values speak against the class
    paper: str  # who proposed it
    maps: Callable[..., Tensor]

    @property
    def takes(self) -> frozenset[str]:
        """The arguments of :func:`explain` that count for this method."""
        return frozenset(signature(self.maps).parameters)


def explain(
    method: str, classifier: Classifier, images: Tensor, classes: Tensor,
    layer: Layer | None = None, *, signed: bool = False,
    segments: Sequence[ArrayLike] | None = None, samples: int = 500, seed: int = 0,
    batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Explain each image's score of a given class with a heatmap; the network is left as it was.

    Args:
        method: one of :data:`METHODS`, such as ``"gradcam"`` or ``"kernel shap"``.
        images: float [N, 3, H, W] in [0, 1], not normalised.
        classes: int [N], the class index to explain for each image.
        layer: of the CAM methods, a dotted name (or module) whose output is a map, or tokens
            that the classifier's architecture turns into one; the target layer if None.
        signed: keep what speaks against the class as negative values.
        segments: superpixels int [H, W] for each image, for the methods that hide them; those of
            :func:`.segments.segment` if None.
        samples: how many hidden versions of each image LIME and KernelSHAP look at; sampled
            Shapley values take as many, whole orders of all superpixels.
        seed: of everything random.
        batch_size: images per pass at the most.

    Returns:
        float32 [N, H, W] on the CPU: the positive part, scaled to a maximum of 1; with ``signed``
        both parts, scaled to a largest absolute value of 1. A map without heat (nothing speaks
        for the class) or with NaN is all zero, and a warning names its image.

    Raises:
        WorkbookError: unknown method or layer, a layer without places or called several times,
            images and classes (or segments) that do not fit together, a class index out of range,
            a layer or a sign for a method that has none.
    """
    if method not in METHODS:
        raise unknown("explanation method", method, METHODS)
    entry, images, classes = METHODS[method], images.detach().cpu(), torch.as_tensor(classes).cpu()
    _check(entry, classifier, images, classes, layer, signed)
    if not len(images):
        return torch.zeros(0, *images.shape[-2:])
    if "segments" in entry.takes:
        segments = [segment(image) for image in images] if segments is None else list(segments)
        if len(segments) != len(images):
            raise WorkbookError(
                f"{len(images)} images need as many segmentations, not {len(segments)}"
            )
    given = {
        "classifier": classifier, "images": images, "classes": classes.long(), "layer": layer,
        "segments": segments, "samples": samples, "seed": seed, "batch_size": batch_size,
    }  # fmt: skip
    with frozen(classifier.network):
        maps = entry.maps(**{name: given[name] for name in entry.takes})
    maps = maps.detach().float().cpu()
    fits = maps.shape[-2:] == images.shape[-2:]
    if not fits:
        maps = F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear")[:, 0]
    if entry.family != "CAM" or not fits:  # a CAM comes scaled
        maps = scaled(maps, signed)
    return _without_nan(maps, entry.title)


def scaled(maps: Tensor, signed: bool = False) -> Tensor:
    """Scale maps [N, H, W] to a largest (absolute) value of 1; negative ones are 0, or kept."""
    heat = maps.detach().float().cpu()
    heat = heat if signed else heat.clamp(min=0)
    largest = heat.abs().flatten(1).amax(dim=1)[:, None, None]
    return torch.where(largest > 0, heat / largest.clamp(min=1e-30), 0.0)


def of_family(family: str) -> list[str]:
    """Return the names of the methods of a family, such as ``"CAM"``."""
    found = [name for name, method in METHODS.items() if method.family == family]
    if not found:
        raise unknown("family of methods", family, {m.family for m in METHODS.values()})
    return found


def _check(
    entry: Method, classifier: Classifier, images: Tensor, classes: Tensor, layer: Layer | None,
    signed: bool,
) -> None:  # fmt: skip
    if images.ndim != 4 or classes.shape != images.shape[:1]:
        raise WorkbookError(
            "images [N, 3, H, W] need as many class indices [N], not "
            f"{list(images.shape)} and {list(classes.shape)}"
        )
    if len(images):  # other faults of their shape or dtype
        classifier.preprocess(images[:1])
    if (images < -0.01).any() or (images > 1.01).any():
        raise WorkbookError(
            f"images must be in [0, 1], not {images.min():.2f} to {images.max():.2f}: explain "
            "normalises them itself"
        )
    last = len(classifier.class_names) - 1
    wrong = classes[classes.is_floating_point() | (classes < 0) | (classes > last)]
    if len(wrong):
        raise WorkbookError(
            f"class index {wrong[0]} is out of range: this model has classes 0 to {last}"
        )
    if layer is not None and "layer" not in entry.takes:
        raise WorkbookError(f"{entry.title} looks at no layer: leave layer out")
    if signed and not entry.signed:
        able = ", ".join(m.title for m in METHODS.values() if m.signed)
        raise WorkbookError(f"{entry.title} has no sign: leave signed out, or take one of {able}")


def _cam(
    name: str, title: str, paper: str, kind: type[library.base_cam.BaseCAM],
    needs: Literal["gradients", "forward passes"] = "gradients",
) -> Method:  # fmt: skip
    return Method(name, title, "CAM", needs, False, paper, partial(cams.heatmaps, kind))


def _hiding(name: str, title: str, paper: str, maps: Callable[..., Tensor]) -> Method:
    return Method(name, title, "hiding", "forward passes", True, paper, maps)


def _without_nan(maps: Tensor, title: str) -> Tensor:
    maps[~maps.isfinite().flatten(1).all(dim=1)] = 0
    cold = (~maps.flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if cold:
        named = ", ".join(map(str, cold[:10])) + (", …" if len(cold) > 10 else "")
        warnings.warn(
            f"{title} finds nothing (zero everywhere or NaN) in {len(cold)} of {len(maps)} "
            f"images: index {named}; their maps are all zero",
            stacklevel=3,
        )
    return maps


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        # What CAM methods do with the activations A_k and the gradients G_k of the score there:
        # ReLU(sum_k mean(G_k) A_k)
        _cam("gradcam", "Grad-CAM", "Selvaraju et al. 2017, eq. 1-2", library.GradCAM),
        # positive gradients, weighted by higher derivatives
        _cam("gradcam++", "Grad-CAM++", "Chattopadhay et al. 2018, eq. 19",
             library.GradCAMPlusPlus),
        # gradients weighted by the share of the activation
        _cam("xgradcam", "XGrad-CAM", "Fu et al. 2020", library.XGradCAM),
        # ReLU(sum_k G_k A_k), place by place
        _cam("hirescam", "HiResCAM", "Draelos & Carin 2020", library.HiResCAM),
        # ReLU(sum_k ReLU(G_k) A_k), place by place
        _cam("layercam", "LayerCAM", "Jiang et al. 2021", library.LayerCAM),
        # first principal component of A; no class enters
        _cam("eigencam", "Eigen-CAM", "Muhammad & Yeasin 2020", library.EigenCAM,
             needs="forward passes"),
        # ReLU(sum_k w_k A_k), w_k what the score loses without A_k
        _cam("ablationcam", "Ablation-CAM", "Desai & Ramaswamy 2020", cams.AblationCAM,
             needs="forward passes"),
        # the same, w_k the score of the image seen through A_k
        _cam("scorecam", "Score-CAM", "Wang et al. 2020, algorithm 1", cams.ScoreCAM,
             needs="forward passes"),
        Method("guided backprop", "guided backpropagation", "gradient", "gradients", False,
               "Springenberg et al. 2015", gradients.guided_backprop),
        _hiding("occlusion", "occlusion", "Zeiler & Fergus 2014", by_hiding.occlusion),
        _hiding("lime", "LIME", "Ribeiro et al. 2016", by_hiding.lime_weights),
        _hiding("kernel shap", "KernelSHAP", "Lundberg & Lee 2017, theorem 2",
                by_hiding.kernel_shap),
        _hiding("sampled shapley", "sampled Shapley", "Castro et al. 2009",
                by_hiding.sampled_shapley),
        _hiding("exact shapley", "exact Shapley", "Shapley 1953, eq. 13", by_hiding.exact_shapley),
        Method("random", "random", "baseline", "nothing", False, "ours", baselines.random),
        Method("centre", "centre", "baseline", "nothing", False, "ours", baselines.centre),
        Method("edges", "edges", "baseline", "nothing", False, "Sobel & Feldman 1968",
               baselines.edges),
    )
}  # fmt: skip
BASELINES = of_family("baseline")
