"""ImageNet images: the ten of the coursework, and 1,000 samples, one of each class."""

import re
import zipfile
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import torch
from torchvision.models import ResNet18_Weights

from helpers.data import assets, masks
from helpers.data.folders import DAMAGED, decode
from helpers.data.images import ImageSet
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

# Where the objects are, as drawn by us, and why an image has no outline (asset name -> why).
OUTLINES = {name: masks.read(name.removeprefix("imagenet_")) for name in TEN}
MASK_NOTES = {name: drawn.note for name, drawn in OUTLINES.items() if not drawn.polygons}


def load_ten(size: int = 224) -> ImageSet:
    """Load the ten coursework images, the central 7/8 of the shorter side, ``size`` x ``size``.

    Their masks are False everywhere in the images of :data:`MASK_NOTES`.
    """
    fetched = [assets.fetch(name) for name in TEN]
    pixels = [decode(a.path.read_bytes(), a.path.name, size, crop=0.875) for a in fetched]
    drawn = [masks.rasterise(OUTLINES[name], size) for name in TEN]
    ten = _image_set("imagenet_ten", pixels, list(TEN.values()), list(TEN), fetched[0].note)
    return replace(ten, masks=torch.from_numpy(np.stack(drawn)))


def load_samples(n: int | None = None, size: int = 224) -> ImageSet:
    """Load ``n`` of the 1,000 sample images, evenly spread over the classes; all if None.

    Raises:
        WorkbookError: the archive does not hold one image for each of the 1,000 classes.
    """
    asset = assets.fetch("imagenet_samples")
    try:
        with zipfile.ZipFile(asset.path) as archive:
            files = {
                match[0]: name
                for name in archive.namelist()
                if (match := re.match(r"n\d{8}(?=_)", PurePosixPath(name).name))
            }
            if len(files) != len(CLASSES):
                raise WorkbookError(
                    f"{asset.path.name} holds images of {len(files)} classes instead of 1,000: "
                    "delete it and download it again"
                )
            rows = np.linspace(0, len(files) - 1, n or len(files)).round().astype(int)
            ids = [sorted(files)[row] for row in rows]
            pixels = [decode(archive.read(files[i]), files[i], size, crop=0.875) for i in ids]
    except DAMAGED as error:
        raise WorkbookError(
            f"{asset.path.name} is not a whole zip archive: delete it and download it again"
        ) from error
    return _image_set("imagenet_samples", pixels, rows.tolist(), ids, asset.note)


def _image_set(
    name: str, pixels: list[np.ndarray], labels: list[int], ids: list[str], note: str
) -> ImageSet:
    return ImageSet(
        name=name,
        split="test",
        pixels=torch.from_numpy(np.stack(pixels)),
        labels=torch.tensor(labels),
        class_names=CLASSES,
        ids=tuple(ids),
        note=note,
    )
