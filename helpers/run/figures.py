"""The look of all figures: one style, image grids, heatmap overlays, saving.

Small images are drawn pixel by pixel, heatmaps smoothly; heatmaps run from 0 to 1 on one scale.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor

from helpers.run import files, results

STYLE = Path(__file__).with_name("look_inside.mplstyle")
HEAT = "inferno"  # heat, 0 to 1
SIGNED = "RdBu_r"  # values on both sides of zero
RIGHT, WRONG = "#0072B2", "#D55E00"  # correct and incorrect predictions, everywhere

# Of a PNG at the most: a gallery of photographs takes 1.3 bytes for each.
PIXELS = 2_000_000

plt.style.use(STYLE)


def save(figure: Figure, name: str) -> None:
    """Write ``figures/<profile>/<name>.png`` and ``.pdf``, each whole or not at all."""
    # The layout of a gallery takes seconds: find it once, for both files and the notebook.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    dpi = min(plt.rcParams["savefig.dpi"], (PIXELS / (width * height)) ** 0.5)
    for suffix in (".png", ".pdf"):
        # No dates inside, so that the same figure is the same file.
        metadata = {"Software": None} if suffix == ".png" else {"CreationDate": None}
        with files.atomic(results.folder() / f"{name}{suffix}") as partial:
            figure.savefig(partial, metadata=metadata, dpi=dpi)


def show_image(ax: Axes, image: Tensor, title: str = "", colour: str = "black") -> None:
    """Draw an image [3, H, W] in [0, 1] without axes, its title in a colour."""
    ax.imshow(image.permute(1, 2, 0).clip(0, 1).numpy(), interpolation="nearest")
    ax.set_title(title, color=colour, fontsize=8, pad=3)
    ax.axis("off")


def show_heatmap(ax: Axes, image: Tensor, heatmap: Tensor, title: str = "", colour: str = "black",
                 opacity: float = 0.75) -> None:  # fmt: skip
    """Draw an image [3, H, W] and on it a heatmap [H, W] in [0, 1].

    The image is grey, so that all colour is heat; the hotter, the more of it is covered. A map
    that is zero everywhere is labelled as such.
    """
    grey = image.mean(dim=0).numpy()
    height, width = grey.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
    heat = heatmap.numpy()
    ax.imshow(heat, cmap=HEAT, vmin=0, vmax=1, interpolation="bilinear", extent=extent,
              alpha=opacity * np.clip(heat, 0, 1) ** 0.7)  # fmt: skip
    if not heat.any():
        label = {"facecolor": "black", "edgecolor": "none", "alpha": 0.6, "pad": 1.5}
        ax.text(0.5, 0.06, "no heat", transform=ax.transAxes, ha="center", color="white",
                fontsize=8, bbox=label)  # fmt: skip
    ax.set_title(title, color=colour, fontsize=8, pad=3)
    ax.axis("off")


def grid(rows: int, columns: int, cell: float = 1.1, title_space: float = 0.0) -> tuple:
    """Return a figure and its axes [rows, columns], each ``cell`` inches wide, all axes off."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * cell, rows * (cell + title_space)), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes


def nothing(sentence: str) -> Figure:
    """Return a figure that only says why this run has nothing to show here."""
    figure = plt.figure(figsize=(6, 0.6))
    figure.text(0.5, 0.5, sentence, ha="center", va="center")
    return figure


def show_images(
    images: Tensor, titles: Sequence[str] | None = None, columns: int = 10, cell: float = 1.1,
    colours: Sequence[str] | None = None,
) -> Figure:  # fmt: skip
    """Draw images [N, 3, H, W] in [0, 1] in a grid, row by row, each with its title."""
    columns = min(columns, len(images))
    lines = max((t.count("\n") + 1 for t in titles), default=1) if titles else 0
    figure, axes = grid(-(-len(images) // columns), columns, cell, 0.17 * lines)
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        show_image(ax, image, titles[i] if titles else "", colours[i] if colours else "black")
    return figure


def heat_bar(figure: Figure, axes, label: str = "heat") -> None:
    """Add the colour bar of the common heat scale, 0 to 1."""
    scale = ScalarMappable(plt.Normalize(0, 1), HEAT)
    figure.colorbar(scale, ax=axes, label=label, fraction=0.02, pad=0.01, aspect=30)


def show_intervals(
    ax: Axes, labels: Sequence[str], estimates: Sequence, colour: str = RIGHT
) -> None:
    """Draw estimates as dots with their 95 % intervals, one line each, the first on top."""
    y = np.arange(len(labels))
    values = np.array([e.value for e in estimates])
    spread = np.abs(np.array([[e.low, e.high] for e in estimates]).T - values)
    ax.errorbar(values, y, xerr=spread, fmt="o", color=colour, capsize=3)
    ax.set_yticks(y, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
