"""The loop of LIME: ask a model about states of one image, keep its answers, fit lines to them.

A state is the image with some superpixels hidden. Kernel width, regressor, and the number of
superpixels with a weight change the fit alone, so one :func:`draw` serves many :func:`refit`. With
one seed the first n states of many are those of a few.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from lime.lime_base import LimeBase
from lime.lime_image import ImageExplanation
from sklearn.metrics import pairwise_distances
from sklearn.utils import check_random_state
from torch import Tensor

from helpers.explain.hiding import Predictor, by_function, each_once, hidden_image
from helpers.explain.segments import checked, height_width_channels, seeded
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError


class Neighbourhood(NamedTuple):
    """The states of one image and the model's answers."""

    image: np.ndarray  # [H, W, 3], as it was given
    segments: np.ndarray  # int64 [H, W], the superpixels 0 to k-1
    states: np.ndarray  # 0 or 1 [n, k], which of them were shown; the first row is all 1
    probabilities: np.ndarray  # float32 [n, K], of every class
    segmenting: float  # seconds spent on superpixels
    answering: float  # seconds spent on the model's answers

    def seconds(self, num_samples: int) -> float:
        """The time for this many of the states; answers cost in proportion to their number."""
        return self.segmenting + self.answering * num_samples / len(self.states)


def draw(
    model: Classifier | Predictor | Callable, image: np.ndarray | Tensor, *,
    num_samples: int = 1000, seed: int = 0, segmentation_fn: Callable | None = None,
    hide_color: object = None, batch_size: int | None = None, bf16: bool = False,
    progress_bar: bool = False,
) -> Neighbourhood:  # fmt: skip
    """Ask a model about states of an image, about each different one once.

    Args:
        model: a classifier; a :class:`.hiding.Predictor`, made ready once for many images; or a
            function of images [B, H, W, 3] that returns probabilities [B, K].
        image: [3, H, W], or an array [H, W, 3]; for a classifier uint8, or float in [0, 1].
        num_samples: how many states, the whole image included.
        seed: of segmentation and sampling.
        segmentation_fn: of an image [H, W, 3]; :func:`.segments.segment` if None.
        hide_color: see :func:`.hiding.hidden_image`.
        batch_size: images per pass; what suits the device if None.
        bf16: compute a classifier in bfloat16.

    Raises:
        WorkbookError: fewer than four superpixels.
    """
    image, random = height_width_channels(image), check_random_state(seed)
    start = time.perf_counter()
    # The library's order: its first draw is spent on the segmentation.
    segments = checked(seeded(segmentation_fn, random.randint(0, high=1000))(image), image.shape)
    segmented = time.perf_counter()
    k = int(segments.max()) + 1
    states = random.randint(0, 2, num_samples * k).reshape(num_samples, k)
    states[0] = 1
    different, which = each_once(states.astype(bool))
    if isinstance(model, Classifier):
        model = Predictor(model, bf16)
    answer = model if isinstance(model, Predictor) else partial(by_function, model)
    hidden = hidden_image(image, segments, hide_color)
    found = answer(image, hidden, segments, different, batch_size, progress_bar)
    seconds = segmented - start, time.perf_counter() - segmented
    return Neighbourhood(image, segments, states, found[which], *seconds)


def refit(
    around: Neighbourhood, classes: int | Iterable[int], *, num_samples: int | None = None,
    num_features: int = 100_000, kernel_width: float = 0.25, kernel: Callable | None = None,
    distance_metric: str = "cosine", model_regressor: object = None,
    feature_selection: str = "auto", verbose: bool = False,
) -> ImageExplanation:  # fmt: skip
    """Fit a line to kept answers, for each class.

    Args:
        classes: class indices, one or several.
        num_samples: use the first of the states only.
        num_features: superpixels with a weight, at most.
        kernel, kernel_width: of the proximity: sqrt(exp(-d^2 / width^2)), or another function.
        distance_metric: between states, as in ``sklearn.metrics``.
        model_regressor: a scikit-learn regressor with ``coef_``; ridge regression if None.
        feature_selection: the library's; ``"none"`` gives every superpixel a weight, ``"auto"``
            selects forwards for 6 features or fewer.
        verbose: print the local fit.

    Raises:
        WorkbookError: a class out of range.
    """
    states, answers = around.states[:num_samples], around.probabilities[:num_samples]
    distances = pairwise_distances(states, states[:1], metric=distance_metric).ravel()
    kernel = kernel or (lambda d, kernel_width: np.sqrt(np.exp(-(d**2) / kernel_width**2)))
    base = _Base(partial(kernel, kernel_width=kernel_width), verbose)
    found = ImageExplanation(around.image, around.segments)
    last = answers.shape[1] - 1
    for c in map(int, classes if isinstance(classes, Iterable) else (classes,)):
        if not 0 <= c <= last:
            raise WorkbookError(
                f"class index {c} is out of range: this model has classes 0 to {last}"
            )
        fit = base.explain_instance_with_data(
            states, answers, distances, c, num_features,
            model_regressor=model_regressor, feature_selection=feature_selection,
        )  # fmt: skip
        found.intercept[c], found.local_exp[c], found.score, found.local_pred = fit
    return found


class _Base(LimeBase):
    """The library's local fit, with a quicker forward selection."""

    def forward_selection(
        self, data: np.ndarray, labels: np.ndarray, weights: np.ndarray, num_features: int
    ) -> np.ndarray:
        """Choose the features that one after the other raise the weighted R^2 most, int [m].

        The library fits a regression for each candidate. Here columns are made orthogonal to those
        chosen: what a candidate adds is its squared correlation with the rest.
        """
        root = np.sqrt(weights)
        x = (data - np.average(data, axis=0, weights=weights)) * root[:, None]
        rest = (labels - np.average(labels, weights=weights)) * root
        nothing = 1e-10 * (x**2).sum(axis=0) + 1e-30  # length of a column that adds nothing
        chosen: list[int] = []
        for _ in range(min(num_features, data.shape[1])):
            length = (x**2).sum(axis=0)
            gain = np.where(length > nothing, (x.T @ rest) ** 2 / np.maximum(length, nothing), 0)
            gain[chosen] = -1
            best = int(gain.argmax())
            chosen.append(best)
            if length[best] > nothing[best]:
                direction = x[:, best] / np.sqrt(length[best])
                rest = rest - direction * (direction @ rest)
                x = x - np.outer(direction, direction @ x)
        return np.array(chosen)
