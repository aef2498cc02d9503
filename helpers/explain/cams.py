"""Class activation maps: a weighted sum of the maps of one layer.

The methods are those of the ``grad-cam`` library (``pytorch_grad_cam``), except AblationCAM and
Score-CAM, which are our own: the same maps, sooner.
"""

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from helpers.explain.gradient_free import AblationCAM, Recorder, Reshape, ScoreCAM
from helpers.nets.models import Classifier
from helpers.nets.recording import Layer, as_maps, find_layer, record
from helpers.run.errors import WorkbookError

__all__ = ["AblationCAM", "ScoreCAM", "heatmaps"]


def heatmaps(
    kind: type[BaseCAM], classifier: Classifier, images: Tensor, classes: Tensor,
    layer: Layer | None = None, batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Return the maps of a CAM method, which the library has scaled to [0, 1].

    Args:
        kind: the method, a class of the library or of this module.
        classifier: with a network in eval mode, see :func:`.recording.frozen`.
        images, classes: float [N, 3, H, W] in [0, 1], and int [N].
        layer: dotted name or module; the target layer if None.
        batch_size: images per pass at the most.

    Returns:
        float32 [N, h, w] of the network's input size, NaN where the method divides by zero.

    Raises:
        WorkbookError: unknown layer, one without height and width, or one that is called several
            times in one pass.
    """
    name, target = find_layer(classifier, layer or classifier.architecture.target)
    reshape = _reshape(classifier, name)
    explainer = kind(classifier.network, [target], reshape_transform=reshape)
    if isinstance(explainer, AblationCAM | ScoreCAM):
        explainer.batch_size = batch_size
    explainer.activations_and_grads.release()
    explainer.activations_and_grads = Recorder(classifier.network, [target], reshape)
    found = []
    for batch, c in zip(images.split(batch_size), classes.split(batch_size), strict=True):
        targets = [ClassifierOutputTarget(i) for i in c.tolist()]
        with np.errstate(all="ignore"):  # a NaN is reported once, by name
            # Not as a context manager: the library's swallows every IndexError.
            found.append(explainer(classifier.preprocess(batch), targets))
    return torch.from_numpy(np.concatenate(found))


def _reshape(classifier: Classifier, layer: str) -> Reshape | None:
    """Try a layer: return what turns its output into maps, None if these are maps already."""
    size = classifier.input_size
    with record(classifier, layer, "graph") as seen:
        classifier.logits(torch.zeros(1, 3, size, size))
    output = seen[layer]
    maps = as_maps(classifier, output)
    if maps.ndim != 4 or maps[0, 0].numel() == 1:
        raise WorkbookError(
            f"the layer {layer} has no height and width: choose one before the pooling, such as "
            f"the target layer {classifier.architecture.target}"
        )
    return None if maps is output else classifier.architecture.reshape
