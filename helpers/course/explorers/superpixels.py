"""Explorer of LIME explanations: superpixels, and the strongest of them."""

from collections.abc import Sequence
from functools import cache

import ipywidgets
import numpy as np
from lime.lime_image import ImageExplanation
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from helpers.course.explorers.explorer import Explorer, image_menu
from helpers.explain import lime as engine
from helpers.nets.models import Classifier
from helpers.run import figures

DIMMED = 0.15  # what is left of the brightness of superpixels that are not shown


def lime(
    classifier: Classifier, images: Tensor, classes: Tensor | None = None,
    explanations: Sequence[ImageExplanation] | None = None, **parameters: object,
) -> Explorer:  # fmt: skip
    """Explore LIME explanations.

    Controls are the image, whether the borders of the superpixels are drawn, and how many of the
    superpixels that support the class are shown, the strongest first.

    Args:
        classifier: the model.
        images: float32 [N, 3, H, W] in [0, 1].
        classes: int64 [N], the class explained for each image; the predicted one if None.
        explanations: of these images and classes, one each, where they have been made already;
            otherwise each is made when its image is first shown.
        parameters: of :func:`helpers.explain.lime.explain`, such as ``num_samples`` and ``seed``.
    """
    classes = classifier.logits(images).argmax(dim=1) if classes is None else classes

    @cache
    def explanation(i: int) -> ImageExplanation:
        if explanations is not None:
            return explanations[i]
        return engine.explain(classifier, images[i : i + 1], classes[i : i + 1], **parameters)[0]

    image = image_menu(classifier, images)
    borders = ipywidgets.Checkbox(description="superpixels", value=True)
    top = ipywidgets.BoundedIntText(description="strongest", value=5, min=0, max=5)

    def adapt(changed: ipywidgets.ValueWidget) -> None:
        if changed is image:
            weights = engine.weights(explanation(image.value), int(classes[image.value]))
            top.max = max(int((weights > 0).sum()), 1)

    def draw() -> tuple[Figure, str]:
        picture, c = images[image.value], int(classes[image.value])
        found = explanation(image.value)
        weights = engine.weights(found, c)
        mask = engine.mask(found, c, top.value)
        supporting = int((weights > 0).sum())
        k = min(top.value, supporting)
        figure, axes = figures.grid(1, 3, cell=2.6)
        figures.show_image(axes[0, 0], picture, "image")
        shown = picture * mask.float().clamp(min=DIMMED)
        figures.show_image(axes[0, 1], shown, f"the {k} strongest")
        limit = float(abs(weights).max()) or 1.0
        drawn = axes[0, 2].imshow(engine.heatmap(found, c), cmap=figures.SIGNED,
                                  vmin=-limit, vmax=limit)  # fmt: skip
        axes[0, 2].set_title("weights", fontsize=8, pad=3)
        figure.colorbar(drawn, ax=axes[0, 2], fraction=0.045, label="weight")
        if borders.value:
            for ax, colour in zip(axes[0], ("white", "white", "black"), strict=True):
                _show_borders(ax, found.segments, colour)
        return figure, (
            f"LIME for {classifier.class_names[c]}: the {k} strongest of {supporting} supporting "
            f"superpixels ({len(weights)} in all) cover {mask.float().mean():.0%} of the image; "
            f"fit R² {found.score:.2f}."
        )

    adapt(image)
    return Explorer([image, borders, top], draw, adapt)


def _show_borders(ax: Axes, segments: np.ndarray, colour: str) -> None:
    """Draw the borders of superpixels [H, W], between the pixels and not on them."""
    y, x = np.nonzero(segments[:, 1:] != segments[:, :-1])
    upright = np.stack([[x + 0.5, y - 0.5], [x + 0.5, y + 0.5]]).transpose(2, 0, 1)
    y, x = np.nonzero(segments[1:] != segments[:-1])
    level = np.stack([[x - 0.5, y + 0.5], [x + 0.5, y + 0.5]]).transpose(2, 0, 1)
    ax.add_collection(LineCollection([*upright, *level], colors=colour, linewidths=0.5))
