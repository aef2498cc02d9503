"""LIME on images: the library's interface on our own loop, and how to read an explanation.

The loop, :func:`draw` and :func:`refit`, is in :mod:`.states`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature

import numpy as np
import torch
from lime.lime_image import ImageExplanation
from skimage.color import gray2rgb
from torch import Tensor

from helpers.explain.hiding import Predictor
from helpers.explain.states import Neighbourhood, draw, refit
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError, unknown

__all__ = [
    "LimeImageExplainer", "Neighbourhood", "Predictor", "draw", "explain", "heatmap", "mask",
    "refit", "weights",
]  # fmt: skip


@dataclass
class LimeImageExplainer:
    """LIME (Ribeiro et al. 2016), eq. 1 with superpixels as interpretable features.

    The library's arguments, results type and local fit; for the same segmentation, seed and
    sample count the same perturbations, probabilities and weights. What is different:

    * Images are composed on the model's device, in passes of a suitable size, each state once.
    * Superpixels are numbered 0 to k-1 whatever the segmentation calls them.
    * One seed governs segmentation and sampling, and each explanation begins with it anew.

    Its fields are arguments of :func:`draw` (``seed``, ``bf16``) and :func:`refit`.
    """

    kernel_width: float = 0.25
    kernel: Callable | None = None
    verbose: bool = False
    feature_selection: str = "auto"
    seed: int = 0
    bf16: bool = False

    def explain_instance(
        self, image: np.ndarray, classifier_fn: Classifier | Predictor | Callable,
        labels: Iterable[int] | None = (1,), hide_color: object = None, top_labels: int | None = 5,
        num_features: int = 100_000, num_samples: int = 1000, batch_size: int | None = None,
        segmentation_fn: Callable | None = None, distance_metric: str = "cosine",
        model_regressor: object = None, random_seed: int | None = None, progress_bar: bool = True,
    ) -> ImageExplanation:  # fmt: skip
        """Explain a prediction for one image; what is not named here, see :func:`draw` and refit.

        Args:
            image: [H, W, 3] or grey [H, W]; for a classifier uint8, or float in [0, 1].
            labels: the classes to explain where ``top_labels`` is None or 0.
            top_labels: explain this many classes of the highest probability.
            random_seed: takes the place of the explainer's own seed.

        Raises:
            WorkbookError: fewer than four superpixels, or a class out of range, or none.
        """
        if not top_labels and labels is None:
            raise WorkbookError("no class to explain: give labels, or top_labels")
        around = draw(
            classifier_fn, gray2rgb(image) if image.ndim == 2 else image,
            num_samples=num_samples, seed=self.seed if random_seed is None else random_seed,
            segmentation_fn=segmentation_fn, hide_color=hide_color, batch_size=batch_size,
            bf16=self.bf16, progress_bar=progress_bar,
        )  # fmt: skip
        if top_labels:
            labels = np.argsort(around.probabilities[0])[-top_labels:].tolist()
        explanation = refit(
            around, labels, num_features=num_features, distance_metric=distance_metric,
            model_regressor=model_regressor, kernel_width=self.kernel_width, kernel=self.kernel,
            feature_selection=self.feature_selection, verbose=self.verbose,
        )  # fmt: skip
        if top_labels:
            explanation.top_labels = labels[::-1]
        return explanation


def explain(
    classifier: Classifier, images: Tensor, classes: Tensor | Iterable[int], *,
    segments: Iterable | None = None, bf16: bool = False, feature_selection: str = "none",
    **parameters: object,
) -> list[ImageExplanation]:  # fmt: skip
    """Explain one class of each image with LIME, giving every superpixel a weight.

    Args:
        images, classes: float [N, 3, H, W] in [0, 1], and int [N], the class index for each.
        segments: int [N, H, W], the superpixels; :func:`.segments.segment` if None.
        bf16, feature_selection, parameters: of :func:`draw` (``num_samples``, ``seed``,
            ``hide_color`` in [0, 1], …) and :func:`refit` (``kernel_width``, …).

    Returns:
        one explanation per image, of the class asked for, whose ``score`` is the weighted R^2 of
        the local fit; read them with :func:`weights`, :func:`heatmap` and :func:`mask`.

    Raises:
        WorkbookError: these differ in number; fewer than four superpixels; a class out of range.
    """
    classes = torch.as_tensor(classes).tolist()
    segments = [None] * len(images) if segments is None else list(segments)
    if images.ndim != 4 or not len(images) == len(classes) == len(segments):
        raise WorkbookError(
            f"images {list(images.shape)} need as many class indices and segmentations, not "
            f"{len(classes)} and {len(segments)}"
        )
    drawing = {k: parameters.pop(k) for k in signature(draw).parameters if k in parameters}
    predictor, found = Predictor(classifier, bf16), []
    for image, c, labels in zip(images, classes, segments, strict=True):
        if labels is not None:
            drawing["segmentation_fn"] = lambda _image, labels=labels: np.asarray(labels)
        around = draw(predictor, image, **drawing)
        found.append(refit(around, c, feature_selection=feature_selection, **parameters))
    return found


# ---- reading an explanation --------------------------------------------------------------------


def weights(explanation: ImageExplanation, c: int) -> np.ndarray:
    """Return each superpixel's weight for class ``c``, float32 [k]; those that support it are > 0.

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
    """Return bool [H, W], True on the ``k`` superpixels that support class ``c`` most, or fewer."""
    found = weights(explanation, c)
    strongest = np.argsort(-found, kind="stable")[:k]
    chosen = strongest[found[strongest] > 0]
    return torch.from_numpy(np.isin(explanation.segments, chosen))
