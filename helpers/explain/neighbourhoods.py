"""What LIME asks a model about one image, kept, so that fits can be repeated without new images.

Kernel width, regressor, and the number of superpixels with a weight change the fit alone. For
the same seed the first n states of a long neighbourhood are those of a short one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from lime.lime_image import ImageExplanation
from sklearn.metrics import pairwise_distances
from sklearn.utils import check_random_state
from torch import Tensor

from helpers.explain.hiding import hidden_image
from helpers.explain.lime import LimeImageExplainer, weights
from helpers.explain.segments import checked, seeded
from helpers.nets.models import Classifier


class Neighbourhood(NamedTuple):
    """The states of one image and the model's answers.

    Attributes:
        image: uint8 [H, W, 3].
        c: the class that is explained.
        segments: int64 [H, W], the superpixels 0 to k-1.
        states: 0 or 1 [n, k], which of them were shown; the first row is all 1.
        probabilities: float [n], of class c.
        segmenting, answering: seconds spent on superpixels and on the model's answers.
    """

    image: np.ndarray
    c: int
    segments: np.ndarray
    states: np.ndarray
    probabilities: np.ndarray
    segmenting: float
    answering: float

    def seconds(self, num_samples: int) -> float:
        """The time for this many of the states; answers cost in proportion to their number."""
        return self.segmenting + self.answering * num_samples / len(self.states)


class Refit(NamedTuple):
    """A local fit: the weight of each superpixel float32 [k], and the weighted R^2."""

    weights: np.ndarray
    r2: float


def draw(
    classifier: Classifier, image: Tensor, c: int, *, num_samples: int, seed: int = 0,
    segmentation_fn: Callable | None = None, hide_color: object = None,
) -> Neighbourhood:  # fmt: skip
    """Ask a model about states of an image, as ``lime.LimeImageExplainer(seed=seed)`` does.

    Args:
        classifier: the model.
        image: uint8 [3, H, W].
        c: the class to explain.
        num_samples: how many states, the whole image included.
        seed: of segmentation and sampling.
        segmentation_fn: of an image [H, W, 3]; :func:`helpers.explain.segments.segment` if None.
        hide_color: None for mean colours, a colour 0 to 255, or ``"blur"``.

    Raises:
        WorkbookError: fewer than four superpixels.
    """
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    explainer = LimeImageExplainer(seed=seed)
    explainer.random_state = check_random_state(seed)
    start = time.perf_counter()
    segmentation = seeded(segmentation_fn, explainer.random_state.randint(0, high=1000))
    segments = checked(segmentation(pixels), pixels.shape)
    segmented = time.perf_counter()
    states, probabilities = explainer.data_labels(
        pixels, hidden_image(pixels, segments, hide_color), segments, classifier, num_samples,
        progress_bar=False,
    )  # fmt: skip
    return Neighbourhood(
        pixels, c, segments, states, probabilities[:, c],
        segmented - start, time.perf_counter() - segmented,
    )  # fmt: skip


def refit(
    around: Neighbourhood, *, num_samples: int | None = None, num_features: int = 100_000,
    kernel_width: float = 0.25, model_regressor: object = None,
) -> Refit:  # fmt: skip
    """Fit weights to the first ``num_samples`` states; all other arguments are the explainer's."""
    states, answers = around.states[:num_samples], around.probabilities[:num_samples, None]
    distances = pairwise_distances(states, states[:1], metric="cosine").ravel()
    base = LimeImageExplainer(kernel_width).base
    found = ImageExplanation(around.image, around.segments)
    _, found.local_exp[around.c], r2, _ = base.explain_instance_with_data(
        states, answers, distances, 0, num_features, "auto", model_regressor
    )
    return Refit(weights(found, around.c), float(r2))


def supporting(around: Neighbourhood, found: np.ndarray, k: int) -> Tensor:
    """Return bool [H, W], True on the ``k`` superpixels of the largest positive weights [k]."""
    strongest = np.argsort(-found, kind="stable")[:k]
    return torch.from_numpy(np.isin(around.segments, strongest[found[strongest] > 0]))
