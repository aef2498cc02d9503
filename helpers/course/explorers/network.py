"""Explorers of one network and its images: feature maps, class activation maps, LIME."""

import warnings
from collections.abc import Sequence
from functools import cache

import ipywidgets
import numpy as np
import torch
from lime.lime_image import ImageExplanation
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from helpers.course.explorers.explorer import Explorer, image_menu, menu
from helpers.explain import METHODS, explain, of_family
from helpers.explain import lime as engine
from helpers.nets.models import Classifier
from helpers.nets.recording import activations
from helpers.run import figures

DIMMED = 0.15  # what is left of the brightness of superpixels that are not shown


def layer_maps(classifier: Classifier, layer: str, images: Tensor) -> Tensor:
    """Return what a layer answers above zero, as maps [N, C, h, w]."""
    return activations(classifier, layer, images).relu()


def feature_maps(classifier: Classifier, images: Tensor) -> Explorer:
    """Explore the answer of every channel of the first layer and of every stage.

    Controls are the image (of float32 [N, 3, H, W] in [0, 1], a few dozen at the most), the layer
    and the channel. Each layer begins with the channel that answers most strongly to the image.
    Answers below zero are drawn as zero; a channel has one scale for all images.
    """
    maps = cache(lambda name: layer_maps(classifier, name, images))
    image = image_menu(classifier, images)
    family = classifier.architecture
    layer = menu("layer", list(dict.fromkeys([family.first, *family.stages])))
    channel = ipywidgets.BoundedIntText(description="channel", min=0, max=0)

    def adapt(changed: ipywidgets.ValueWidget) -> None:
        if changed is layer:
            channel.max = maps(layer.value).shape[1] - 1
            channel.value = int(maps(layer.value)[image.value].amax(dim=(1, 2)).argmax())

    def draw() -> tuple[Figure, str]:
        all_maps = maps(layer.value)
        shown = all_maps[image.value, channel.value]
        peaks = all_maps[image.value].amax(dim=(1, 2))
        top = all_maps[:, channel.value].max().item() or 1.0
        figure, axes = figures.grid(1, 3, cell=2.6)
        figures.show_image(axes[0, 0], images[image.value], "image")
        drawn = axes[0, 1].imshow(shown, vmin=0, vmax=top)
        axes[0, 1].set_title("feature map", fontsize=8, pad=3)
        figure.colorbar(drawn, ax=axes[0, 1], fraction=0.045, label="activation")
        figures.show_heatmap(axes[0, 2], images[image.value], shown / top, "on the image")
        rank = int((peaks > peaks[channel.value]).sum()) + 1
        n_channels, height, width = all_maps.shape[1:]
        return figure, (
            f"{layer.value}, channel {channel.value}: a map of {height} x {width}, largest "
            f"activation {shown.max():.2f}; on this image number {rank} of {n_channels} channels."
        )

    adapt(layer)
    return Explorer([image, layer, channel], draw, adapt)


def cam(classifier: Classifier, images: Tensor, n_classes: int = 10) -> Explorer:
    """Explore class activation maps of images float32 [N, 3, H, W] in [0, 1].

    Controls are the image, the method, the layer, the class (the ``n_classes`` most probable ones
    are offered) and the opacity of the heat. A map is computed when it is first asked for;
    AblationCAM and Score-CAM take a while on large networks.
    """
    probabilities, stages = classifier.probabilities(images), classifier.architecture.stages

    @cache
    def heatmap(method: str, layer: str, i: int, c: int) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the picture itself says "no heat"
            (heat,) = explain(method, classifier, images[i : i + 1], torch.tensor([c]), layer)
            return heat

    def classes(i: int) -> list[tuple[str, int]]:
        likely = probabilities[i].argsort(descending=True)[:n_classes].tolist()
        return [(f"{classifier.class_names[c]} ({probabilities[i, c]:.1%})", c) for c in likely]

    image = image_menu(classifier, images)
    method = menu("method", [(METHODS[name].title, name) for name in of_family("CAM")])
    layer = menu("layer", stages, stages[-1])
    explained = menu("class", classes(0))
    opacity = ipywidgets.BoundedFloatText(
        description="opacity", value=0.75, min=0, max=1, step=0.05
    )

    def adapt(changed: ipywidgets.ValueWidget) -> None:
        if changed is image:
            explained.options = classes(image.value)

    def draw() -> tuple[Figure, str]:
        heat = heatmap(method.value, layer.value, image.value, explained.value)
        figure, axes = figures.grid(1, 2, cell=3.2)
        figures.show_image(axes[0, 0], images[image.value])
        figures.show_heatmap(axes[0, 1], images[image.value], heat, opacity=opacity.value)
        figures.heat_bar(figure, axes)
        c, title = explained.value, METHODS[method.value].title
        return figure, (
            f"{title} at {layer.value}: what speaks for {classifier.class_names[c]}, to which the "
            f"network gives {probabilities[image.value, c]:.1%}."
        )

    return Explorer([image, method, layer, explained, opacity], draw, adapt)


def lime(
    classifier: Classifier, images: Tensor, classes: Tensor | None = None,
    explanations: Sequence[ImageExplanation] | None = None, **parameters: object,
) -> Explorer:  # fmt: skip
    """Explore LIME explanations.

    Controls are the image, whether the borders of the superpixels are drawn, and how many of the
    superpixels that support the class are shown, the strongest first.

    Args:
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
        weights, mask = engine.weights(found, c), engine.mask(found, c, top.value)
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
