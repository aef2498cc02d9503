"""Methods that hide parts of an image and ask the network what it sees now, as maps.

Each takes images float [N, 3, H, W] in [0, 1] on the CPU, class indices int [N] and superpixels
int [H, W] per image, and returns signed maps float [N, H, W].
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from captum.attr import Occlusion
from numpy.typing import ArrayLike
from torch import Tensor

from helpers.explain import lime, shapley
from helpers.explain.hiding import Predictor
from helpers.nets.folding import fast_layout
from helpers.nets.models import Classifier


def mean_colour(image: Tensor) -> Tensor:
    """Return what hidden parts of an image [3, H, W] show here: its mean colour, [3, 1, 1].

    LIME's own default, the mean colour of each superpixel, hides little where superpixels are
    small: the mosaic of their colours is still a picture of the object.
    """
    return image.mean(dim=(1, 2), keepdim=True)


def occlusion(classifier: Classifier, images: Tensor, classes: Tensor, batch_size: int) -> Tensor:
    """Slide a square of a quarter of the width over the image (Zeiler & Fergus 2014)."""
    side = max(2, images.shape[-1] // 4)
    probability = Occlusion(lambda x: classifier.probabilities(fast_layout(x), batch_size))
    found = [
        probability.attribute(
            image[None], (3, side, side), (3, side // 2, side // 2), target=int(c),
            baselines=mean_colour(image).expand_as(image)[None],
            perturbations_per_eval=batch_size,
        )[0, 0]
        for image, c in zip(images, classes, strict=True)
    ]  # fmt: skip
    return torch.stack(found)


def lime_weights(
    classifier: Classifier, images: Tensor, classes: Tensor, segments: Sequence[ArrayLike],
    samples: int, seed: int,
) -> Tensor:  # fmt: skip
    """Fit a linear model to the probabilities of hidden versions (Ribeiro et al. 2016)."""
    predictor, found = Predictor(classifier), []  # made ready once, for all images
    for image, c, labels in zip(images, classes.tolist(), segments, strict=True):
        around = lime.draw(
            predictor, image, num_samples=samples, seed=seed,
            hide_color=mean_colour(image).flatten().numpy(),
            segmentation_fn=lambda _image, labels=labels: np.asarray(labels),
        )  # fmt: skip
        found.append(lime.heatmap(lime.refit(around, c, feature_selection="none"), c))
    return torch.stack(found)


def _shapley(solve: Callable[[shapley.Game, int, int, int], Tensor]) -> Callable[..., Tensor]:
    """Return the method that paints superpixels with their values in the game they play.

    ``solve`` takes a game, its number of players, the number of samples and a seed.
    """

    def maps(
        classifier: Classifier, images: Tensor, classes: Tensor, segments: Sequence[ArrayLike],
        samples: int, seed: int,
    ) -> Tensor:  # fmt: skip
        found = []
        for image, c, given in zip(images, classes.tolist(), segments, strict=True):
            labels = torch.as_tensor(np.asarray(given)).long()
            game = shapley.superpixel_game(classifier, image, c, labels, mean_colour(image))
            found.append(solve(game, int(labels.max()) + 1, samples, seed)[labels])
        return torch.stack(found)

    return maps


exact_shapley = _shapley(lambda game, k, _samples, _seed: shapley.exact(game, k))
sampled_shapley = _shapley(
    lambda game, k, samples, seed: shapley.sampled(game, k, max(1, samples // k), seed)
)
kernel_shap = _shapley(shapley.kernel)
