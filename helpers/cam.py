"""Class activation maps: one call for every method, images in and heatmaps out.

The methods are those of the ``grad-cam`` library (``pytorch_grad_cam``).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from helpers.errors import WorkbookError, unknown

METHODS = {
    "gradcam": pytorch_grad_cam.GradCAM,
}


def explain(
    method: str, model: nn.Module, layer: str | nn.Module, images: Tensor, classes: Tensor,
    batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Explain each image's logit of a given class with a heatmap.

    Args:
        method: a key of :data:`METHODS`, such as ``"gradcam"`` (Selvaraju et al. 2017, eq. 1-2).
        model: maps normalised images [N, 3, H, W] to logits [N, K]; put into eval mode for the
            call, and back as it was.
        layer: the target layer, or its dotted name; its output must be a map [N, C, h, w].
        images: float32 [N, 3, H, W], normalised as the model wants them.
        classes: int64 [N], the class index to explain for each image.
        batch_size: images per pass.

    Returns:
        float32 [N, H, W] on the CPU, each map scaled to [0, 1]. A map that is zero everywhere
        stays zero: nothing at this layer speaks for the class.

    Raises:
        WorkbookError: unknown method or layer, a class index out of range, a layer without
            height and width.
    """
    if method not in METHODS:
        raise unknown("CAM method", method, METHODS)
    layer = _resolve(model, layer)
    classes = torch.as_tensor(classes)
    if classes.shape != (len(images),):
        raise WorkbookError(
            f"{len(images)} images need as many class indices, not {list(classes.shape)}"
        )
    was_training = model.training
    model.eval()
    try:
        _check(model, layer, images[:1], classes)
        with METHODS[method](model=model, target_layers=[layer]) as explainer:
            parts = [
                _maps(explainer, batch, targets)
                for batch, targets in zip(
                    images.split(batch_size), classes.split(batch_size), strict=True
                )
            ]
    finally:
        model.train(was_training)
    return torch.cat(parts)


def _maps(explainer: pytorch_grad_cam.base_cam.BaseCAM, images: Tensor, classes: Tensor) -> Tensor:
    heatmaps = explainer(images, [ClassifierOutputTarget(int(c)) for c in classes])
    if not np.isfinite(heatmaps).all():
        warnings.warn("some heatmaps are NaN and are shown as zero", stacklevel=3)
    return torch.from_numpy(np.nan_to_num(heatmaps, posinf=0, neginf=0)).float()


def _resolve(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in modules.values()):
            raise WorkbookError(f"the layer {type(layer).__name__} is not part of this model")
        return layer
    if layer not in modules:
        raise unknown("layer", layer, modules)
    return modules[layer]


@torch.no_grad()
def _check(model: nn.Module, layer: nn.Module, image: Tensor, classes: Tensor) -> None:
    """Try one image: does the layer give a map, and are the classes among the logits?"""
    shapes: list[torch.Size] = []
    hook = layer.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape))
    try:
        n_classes = model(image).shape[1]
    finally:
        hook.remove()
    if not shapes or len(shapes[0]) != 4:
        raise WorkbookError(
            f"the layer {type(layer).__name__} has no height and width: choose one before the "
            "pooling, such as the classifier's target layer"
        )
    if classes.min() < 0 or classes.max() >= n_classes:
        raise WorkbookError(
            f"class index {int(classes.max() if classes.min() >= 0 else classes.min())} is out "
            f"of range: this model has classes 0 to {n_classes - 1}"
        )
