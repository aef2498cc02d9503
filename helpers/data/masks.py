"""Outlines of objects, drawn by hand: JSON in data/masks, one file per image."""

import json
from typing import NamedTuple

import numpy as np
from skimage.draw import polygon2mask

from helpers.run import files
from helpers.run.errors import WorkbookError

_SUPERSAMPLE = 4


class Outline(NamedTuple):
    """Where the object of an image is, as drawn in ``data/masks/<name>.json``.

    Attributes:
        width, height: of the whole image, in pixels.
        object: what was outlined; empty where there is nothing to outline.
        note: what to know about it: why it is missing, or what the crop cuts off.
        drawn: how the outline was made.
        polygons: each a list of corners (x, y) in pixels of the whole image, (0, 0) being the
            upper left corner of the upper left pixel; the object is their union.
    """

    width: int
    height: int
    object: str
    note: str
    drawn: str
    polygons: tuple[tuple[tuple[float, float], ...], ...]


def read(name: str) -> Outline:
    """Read the outline of an image by name, such as ``"n01443537_goldfish"``.

    Raises:
        WorkbookError: there is no such outline, or its file is damaged.
    """
    path = files.ROOT / "data" / "masks" / f"{name}.json"
    try:
        given = json.loads(path.read_text())
        polygons = tuple(tuple((x, y) for x, y in polygon) for polygon in given["polygons"])
        return Outline(*(given[key] for key in Outline._fields[:-1]), polygons)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WorkbookError(
            f"data/masks/{path.name} is missing or damaged: restore it from the repository"
        ) from error


def rasterise(outline: Outline, size: int, crop: float = 0.875) -> np.ndarray:
    """Return bool [size, size], True where at least half of a pixel is on the object.

    The view is the central square of side ``crop`` x the shorter side, as
    :func:`helpers.data.folders.decode` cuts it out of the image.
    """
    side = crop * min(outline.width, outline.height)
    corner = np.array([outline.width - side, outline.height - side]) / 2
    canvas = np.zeros((size, _SUPERSAMPLE, size, _SUPERSAMPLE), bool)
    for polygon in outline.polygons:
        # scikit-image counts from the centre of the first pixel.
        x, y = ((np.array(polygon) - corner) * (size * _SUPERSAMPLE / side) - 0.5).T
        canvas |= polygon2mask((size * _SUPERSAMPLE,) * 2, np.stack([y, x], 1)).reshape(
            canvas.shape
        )
    return canvas.mean(axis=(1, 3)) >= 0.5
