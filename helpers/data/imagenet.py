"""ImageNet images: the ten of the coursework, and 1,000 samples, one of each class."""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from skimage.draw import polygon2mask
from torchvision.models import ResNet18_Weights

from helpers.data import assets
from helpers.data.folders import decode, official
from helpers.data.images import ImageSet
from helpers.run import files
from helpers.run.errors import WorkbookError

# The 1,000 names in the order of the networks' outputs (WordNet ids, sorted).
CLASSES = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])

# The ten images: asset name -> index of the class that the image was taken for.
TEN = {
    "imagenet_n01443537_goldfish": 1,
    "imagenet_n01491361_tiger_shark": 3,
    "imagenet_n01608432_kite": 21,
    "imagenet_n01616318_vulture": 23,
    "imagenet_n01677366_common_iguana": 39,
    "imagenet_n02007558_flamingo": 130,
    "imagenet_n02018207_American_coot": 137,
    "imagenet_n02098286_West_Highland_white_terrier": 203,
    "imagenet_n04037443_racer": 751,
    "imagenet_n07747607_orange": 950,
}

_SUPERSAMPLE = 4


def load_ten(size: int = 224) -> ImageSet:
    """Load the ten coursework images, the central 7/8 of the shorter side, ``size`` x ``size``.

    Their masks are False everywhere in the images of :func:`mask_notes`.

    Raises:
        WorkbookError: an image cannot be had, or its outline is damaged.
    """
    fetched = [assets.fetch(name) for name in TEN]
    pixels = [decode(a.path.read_bytes(), a.path.name, size, crop=0.875) for a in fetched]
    masks = torch.from_numpy(np.stack([rasterise(outline(name), size) for name in TEN]))
    return _image_set("imagenet_ten", pixels, TEN.values(), TEN, note=fetched[0].note, masks=masks)


def load_samples(n: int | None = None) -> ImageSet:
    """Load ``n`` of the 1,000 sample images, evenly spread over the classes; all if None.

    Raises:
        WorkbookError: the archive does not hold one image for each of the 1,000 classes.
    """
    asset = assets.fetch("imagenet_samples")
    with official(asset.path, "a whole zip archive"), zipfile.ZipFile(asset.path) as archive:
        found = {
            match[0]: name
            for name in archive.namelist()
            if (match := re.match(r"n\d{8}(?=_)", PurePosixPath(name).name))
        }
        if len(found) != len(CLASSES):
            raise WorkbookError(
                f"{asset.path.name} holds images of {len(found)} classes instead of 1,000: "
                "delete it and download it again"
            )
        rows = np.linspace(0, len(found) - 1, n or len(found)).round().astype(int).tolist()
        ids = [sorted(found)[row] for row in rows]
        pixels = [decode(archive.read(found[i]), found[i], 224, crop=0.875) for i in ids]
    return _image_set("imagenet_samples", pixels, rows, ids, note=asset.note)


def _image_set(
    name: str, pixels: list[np.ndarray], labels: Iterable[int], ids: Iterable[str], **known: object
) -> ImageSet:
    stacked, labels = torch.from_numpy(np.stack(pixels)), torch.tensor([*labels])
    return ImageSet(name, "test", stacked, labels, CLASSES, tuple(ids), **known)


# ---- where the objects of the ten images are: outlines in data/masks, drawn by hand -------------


class Outline(NamedTuple):
    """Where the object of an image is, as drawn in ``data/masks/<name>.json``.

    The object is the union of ``polygons``, each a list of corners (x, y) in pixels of the whole
    image, (0, 0) being the upper left corner of the upper left pixel.
    """

    width: int  # of the whole image, in pixels
    height: int
    object: str  # what was outlined; empty where there is nothing to outline
    note: str  # what to know about it: why it is missing, or what the crop cuts off
    drawn: str  # how the outline was made
    polygons: tuple[tuple[tuple[float, float], ...], ...]


def outline(name: str) -> Outline:
    """Read where the object of one of :data:`TEN` is.

    Raises:
        WorkbookError: there is no such outline, or its file is damaged.
    """
    path = files.ROOT / "data" / "masks" / f"{name.removeprefix('imagenet_')}.json"
    try:
        given = json.loads(path.read_text())
        polygons = tuple(tuple((x, y) for x, y in polygon) for polygon in given["polygons"])
        return Outline(*(given[key] for key in Outline._fields[:-1]), polygons)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WorkbookError(
            f"data/masks/{path.name} is missing or damaged: restore it from the repository"
        ) from error


def rasterise(drawn: Outline, size: int, crop: float = 0.875) -> np.ndarray:
    """Return bool [size, size], True where at least half of a pixel is on the object.

    The view is the central square of side ``crop`` x the shorter side, as
    :func:`helpers.data.folders.decode` cuts it out of the image.
    """
    side = crop * min(drawn.width, drawn.height)
    corner = np.array([drawn.width - side, drawn.height - side]) / 2
    canvas = np.zeros((size * _SUPERSAMPLE, size * _SUPERSAMPLE), bool)
    for polygon in drawn.polygons:
        # scikit-image counts rows and columns from the centre of the first pixel.
        corners = (np.array(polygon) - corner) * (size * _SUPERSAMPLE / side) - 0.5
        canvas |= polygon2mask(canvas.shape, corners[:, ::-1])
    return canvas.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE).mean(axis=(1, 3)) >= 0.5


def mask_notes() -> dict[str, str]:
    """Return why an image of :data:`TEN` has no outline, for those that have none."""
    drawn = {name: outline(name) for name in TEN}
    return {name: each.note for name, each in drawn.items() if not each.polygons}
