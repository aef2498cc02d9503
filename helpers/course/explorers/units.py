"""Explorer of dissected units: what each was called, and the images that excite it most."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import ipywidgets
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from helpers.course.explorers.explorer import Explorer, menu
from helpers.course.explorers.network import layer_maps
from helpers.dissect.units import Unit, UnitLabels
from helpers.nets.models import Classifier
from helpers.run import figures
from helpers.run.errors import WorkbookError

ANY = "any"


def units(labels: UnitLabels, top_images: Callable[[str, int], tuple[Tensor, Tensor]]) -> Explorer:
    """Browse the units of dissected layers.

    Controls are the layer, the label (or any), and the rank of the unit among those that carry
    the label, the highest score first.

    Args:
        labels: from any way of labelling; units without a label are left out.
        top_images: of a layer and a unit; returns images float32 [n, 3, H, W] in [0, 1] and the
            unit's heatmaps on them, float32 [n, H, W] in [0, 1]. See :func:`most_exciting`.

    Raises:
        WorkbookError: no unit has a label.
    """
    if not labels.named:
        raise WorkbookError(
            f"{labels.name or 'this table'} labels no unit: dissect more layers, or lower the cut"
        )
    rows = sorted(labels.named.rows, key=lambda unit: -unit.score)
    layer = menu("layer", labels.named.layers)
    label = menu("label", [ANY])
    rank = ipywidgets.BoundedIntText(description="rank", min=1, max=1)

    def chosen() -> list[Unit]:
        return [u for u in rows if u.layer == layer.value and label.value in (ANY, u.label)]

    def adapt(changed: ipywidgets.ValueWidget) -> None:
        if changed is layer:
            label.options = [ANY, *sorted({u.label for u in rows if u.layer == layer.value})]
            label.value = ANY
        if changed is not rank:
            rank.max = len(chosen())
            rank.value = 1

    def draw() -> tuple[Figure, str]:
        shown = chosen()[rank.value - 1]
        images, heatmaps = top_images(shown.layer, shown.unit)
        figure, axes = figures.grid(2, len(images), cell=1.15)
        for above, below, image, heat in zip(*axes, images, heatmaps, strict=True):
            figures.show_image(above, image)
            figures.show_heatmap(below, image, heat)
        of = f"units called {label.value}" if label.value != ANY else "units"
        return figure, (
            f"{shown.layer}, unit {shown.unit}: {shown.label}, score {shown.score:.3f}; number "
            f"{rank.value} of {len(chosen())} {of}. The {len(images)} images that excite it most, "
            "and where."
        )

    adapt(layer)
    return Explorer([layer, label, rank], draw, adapt)


def most_exciting(
    classifier: Classifier, images: Tensor, n: int = 8
) -> Callable[[str, int], tuple[Tensor, Tensor]]:
    """Return the ``top_images`` of :func:`units` for a classifier and a set of images.

    Args:
        classifier: whose units they are.
        images: float32 [N, 3, H, W] in [0, 1]; the activations of a layer are held in memory.
        n: images per unit: those with the largest activation. A unit's heatmaps share one scale,
            from 0 to that activation.
    """
    maps = cache(lambda layer: layer_maps(classifier, layer, images))

    def top_images(layer: str, unit: int) -> tuple[Tensor, Tensor]:
        of_unit = maps(layer)[:, unit]
        top = of_unit.amax(dim=(1, 2)).topk(min(n, len(images))).indices
        heat = F.interpolate(of_unit[top][:, None], images.shape[-2:], mode="bilinear")[:, 0]
        return images[top], heat / heat.max().clamp(min=1e-9)

    return top_images
