"""Class activation maps: one call for every method, images in and heatmaps out.

The methods are those of the ``grad-cam`` library (``pytorch_grad_cam``), except AblationCAM and
Score-CAM, which are our own: the same maps, sooner.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from helpers.explain.gradient_free import AblationCAM, Recorder, Reshape, ScoreCAM
from helpers.run.errors import WorkbookError, unknown

__all__ = ["METHODS", "AblationCAM", "ScoreCAM", "explain", "frozen"]

# How each turns the activations A_k and the gradients G_k of the score there into one map.
METHODS = {
    # ReLU(sum_k mean(G_k) A_k): Selvaraju et al. 2017, eq. 1-2
    "gradcam": pytorch_grad_cam.GradCAM,
    # positive gradients, weighted by higher derivatives: Chattopadhyay et al. 2018, eq. 19
    "gradcam++": pytorch_grad_cam.GradCAMPlusPlus,
    # gradients weighted by the share of the activation: Fu et al. 2020
    "xgradcam": pytorch_grad_cam.XGradCAM,
    # ReLU(sum_k G_k A_k), place by place: Draelos & Carin 2020
    "hirescam": pytorch_grad_cam.HiResCAM,
    # ReLU(sum_k ReLU(G_k) A_k), place by place: Jiang et al. 2021
    "layercam": pytorch_grad_cam.LayerCAM,
    # first principal component of A; no class enters: Muhammad & Yeasin 2020
    "eigencam": pytorch_grad_cam.EigenCAM,
    # ReLU(sum_k w_k A_k), w_k what the score loses without A_k: Desai & Ramaswamy 2020
    "ablationcam": AblationCAM,
    # the same, w_k the score of the image seen through A_k: Wang et al. 2020, algorithm 1
    "scorecam": ScoreCAM,
}


def explain(
    method: str, model: nn.Module, layer: str | nn.Module, images: Tensor, classes: Tensor,
    batch_size: int = 64, reshape: Reshape | None = None,
) -> Tensor:  # fmt: skip
    """Explain each image's logit of a given class with a heatmap.

    The model's modes, gradients and hooks are left as they were, whatever happens.

    Args:
        method: a key of :data:`METHODS`, such as ``"gradcam"``.
        model: maps normalised images [N, 3, H, W] to logits [N, K]; explained in eval mode.
        layer: the target layer, or its dotted name; its output must be a map [N, C, h, w].
        images: float32 [N, 3, H, W], normalised as the model wants them.
        classes: int64 [N], the class index to explain for each image.
        batch_size: images per pass at the most.
        reshape: turns the layer's output into a map, such as the tokens of a transformer
            [N, T, C] into [N, C, h, w].

    Returns:
        float32 [N, H, W] on the CPU, each map scaled to [0, 1]. A map without heat (zero
        everywhere: nothing at this layer speaks for the class) or with NaN is all zero, and a
        warning names its image.

    Raises:
        WorkbookError: unknown method or layer, a class index out of range, a layer without
            height and width or one that is called several times, images and classes of
            different number.
    """
    if method not in METHODS:
        raise unknown("CAM method", method, METHODS)
    layer = _resolve(model, layer)
    classes = torch.as_tensor(classes)
    if images.ndim != 4 or classes.shape != images.shape[:1]:
        raise WorkbookError(
            "images [N, 3, H, W] need as many class indices [N], not "
            f"{list(images.shape)} and {list(classes.shape)}"
        )
    if not len(images):
        return torch.zeros(0, *images.shape[-2:])
    batches = list(zip(images.split(batch_size), classes.split(batch_size), strict=True))
    with frozen(model):
        _check(model, layer, images[:1], classes, reshape)
        explainer = METHODS[method](model, [layer], reshape_transform=reshape)
        if isinstance(explainer, AblationCAM | ScoreCAM):
            explainer.batch_size = batch_size
        explainer.activations_and_grads.release()
        explainer.activations_and_grads = Recorder(model, [layer], reshape)
        # Not as a context manager: the library's swallows every IndexError.
        heatmaps = np.concatenate([_maps(explainer, *batch) for batch in batches])
    return torch.from_numpy(_without_nan(heatmaps, method))


def _maps(explainer: pytorch_grad_cam.base_cam.BaseCAM, images: Tensor, classes: Tensor):
    with np.errstate(all="ignore"):  # a NaN is reported once, by name
        return explainer(images, [ClassifierOutputTarget(int(c)) for c in classes])


def _without_nan(heatmaps: np.ndarray, method: str) -> np.ndarray:
    heatmaps[~np.isfinite(heatmaps).all(axis=(1, 2))] = 0
    cold = np.flatnonzero(~heatmaps.any(axis=(1, 2)))
    if len(cold):
        named = ", ".join(map(str, cold[:10])) + (", …" if len(cold) > 10 else "")
        warnings.warn(
            f"{method} finds nothing (zero everywhere or NaN) in {len(cold)} of {len(heatmaps)} "
            f"images: index {named}; their maps are all zero",
            stacklevel=3,
        )
    return heatmaps


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, without gradients for its weights, and then back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    weights = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    model.eval()
    model.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, wanted, gradient in weights:
            weight.requires_grad_(wanted)
            weight.grad = gradient


def _resolve(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in modules.values()):
            raise WorkbookError(
                f"the layer {type(layer).__name__} is not part of this model: take one of its "
                "own, such as model.get_submodule(name)"
            )
        return layer
    if layer not in modules:
        near = get_close_matches(str(layer), modules, n=3, cutoff=0.5) or list(modules)[-3:]
        raise WorkbookError(
            f"unknown layer {layer!r}: did you mean {' or '.join(near)}? "
            "model.named_modules() lists them all"
        )
    return modules[layer]


@torch.no_grad()
def _check(
    model: nn.Module, layer: nn.Module, image: Tensor, classes: Tensor, reshape: Reshape | None
) -> None:
    """Try one image: does the layer give one map, and are the classes among the logits?"""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    try:
        n_classes = model(image.to(next(model.parameters()).device)).shape[1]
    finally:
        hook.remove()
    name = type(layer).__name__
    if len(outputs) > 1:
        raise WorkbookError(
            f"the layer {name} is called {len(outputs)} times in one pass: choose the block "
            "around it"
        )
    maps = (reshape or (lambda output: output))(outputs[0]) if outputs else None
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps[0, 0].numel() == 1:
        raise WorkbookError(
            f"the layer {name} has no height and width: choose one before the pooling, such as "
            "the classifier's target layer"
        )
    wrong = classes[(classes < 0) | (classes >= n_classes)]
    if classes.is_floating_point() or len(wrong):
        raise WorkbookError(
            f"class index {wrong[0] if len(wrong) else classes[0]} is out of range: this model "
            f"has classes 0 to {n_classes - 1}"
        )
