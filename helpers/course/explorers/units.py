"""Explorers of dissected units: what each was called, the images that excite it, the table."""

import html
from collections.abc import Callable, Mapping
from functools import cache

import ipywidgets
import torch.nn.functional as F
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from helpers.course.explorers.explorer import Explorer, menu
from helpers.course.explorers.network import layer_maps
from helpers.dissect.units import name_of
from helpers.nets.models import Classifier
from helpers.run import figures
from helpers.run.errors import WorkbookError

ANY = "any"


def units(labels: DataFrame, top_images: Callable[[str, int], tuple[Tensor, Tensor]]) -> Explorer:
    """Browse the units of dissected layers.

    Controls are the layer, the label (or any), and the rank of the unit among those that carry
    the label, the highest score first.

    Args:
        labels: a table of labelled units; those without a label are left out.
        top_images: of a layer and a unit; returns images float32 [n, 3, H, W] in [0, 1] and the
            unit's heatmaps on them, float32 [n, H, W] in [0, 1]. See :func:`most_exciting`.

    Raises:
        WorkbookError: no unit has a label.
    """
    rows = _best_first(labels)
    layer = menu("layer", labels.layer[labels.label.notna()].unique())
    label = menu("label", [ANY])
    rank = ipywidgets.BoundedIntText(description="rank", min=1, max=1)

    def chosen() -> DataFrame:
        found = rows[rows.layer == layer.value]
        return found if label.value == ANY else found[found.label == label.value]

    def adapt(changed: ipywidgets.ValueWidget) -> None:
        if changed is layer:
            label.options = [ANY, *sorted(rows.label[rows.layer == layer.value].unique())]
            label.value = ANY
        if changed is not rank:
            rank.max = len(chosen())
            rank.value = 1

    def draw() -> tuple[Figure, str]:
        shown = chosen().iloc[rank.value - 1]
        images, heatmaps = top_images(shown.layer, int(shown.unit))
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


def browse(tables: Mapping[object, DataFrame], rows: int = 12) -> Explorer:
    """Look units up in tables: by layer, by number, by a part of their label.

    Args:
        tables: of labelled units, the one that is shown first in front; the keys do not matter.
        rows: at most so many units are shown, the highest score first.
    """
    named = {name_of(labels): _best_first(labels) for labels in tables.values()}
    every_layer = dict.fromkeys(x for labels in tables.values() for x in labels.layer.unique())
    table, layer = menu("table", list(named)), menu("layer", [ANY, *every_layer])
    unit = ipywidgets.Text(description="unit", continuous_update=False)
    word = ipywidgets.Text(description="word", continuous_update=False)

    def find() -> tuple[DataFrame, str]:
        found = named[table.value]
        if layer.value != ANY:
            found = found[found.layer == layer.value]
        if unit.value.strip().isdigit():
            found = found[found.unit == int(unit.value)]
        found = found[found.label.str.contains(word.value.strip(), case=False, regex=False)]
        left_out = f", of which the first {rows} are shown" if len(found) > rows else ""
        return found.head(rows), f"{table.value}: {len(found) or 'no'} units{left_out}."

    return _Table([table, layer, unit, word], find)


class _Table(Explorer):
    """An explorer that shows a table in the place of a picture."""

    def show(self) -> None:
        """Find the rows for the controls as they are."""
        self.table, self.text = self.draw()
        self.caption.value = html.escape(self.text)
        self.picture.value = self.table.to_html(index=False, float_format="{:.3f}".format)

    def still(self) -> dict[str, str]:
        """Return what a page without widgets shows, by MIME type."""
        plain = f"{self.text}\n{self.table.to_string(index=False)}"
        return {"text/html": self.picture.value + self.caption.value, "text/plain": plain}


def _best_first(labels: DataFrame) -> DataFrame:
    """Return the units that have a label, the highest score first."""
    rows = labels.dropna(subset="label")
    if rows.empty:
        name = name_of(labels)
        raise WorkbookError(f"{name} labels no unit: dissect more layers, or lower the cut")
    return rows.sort_values("score", ascending=False, kind="stable")
