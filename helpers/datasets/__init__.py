"""Data sets by name; all hand out one type, :class:`~helpers.datasets.images.ImageSet`."""

import hashlib

from helpers import assets
from helpers.datasets import cifar, folders, imagenet, shapes
from helpers.datasets.images import ImageSet
from helpers.errors import unknown

__all__ = ["NAMES", "SPLITS", "ImageSet", "class_names", "identity", "load"]

NAMES = ("shapes", "cifar10", "cifar100", "imagenet_ten", "imagenet_samples")
SPLITS = ("train", "validation", "test")


def load(name: str, split: str = "test", n: int | None = None, size: int = 32) -> ImageSet:
    """Load a split of a data set by name.

    Args:
        name: one of :data:`NAMES`; ``"shapes:CLASS"`` for Shapes with the shortcut planted in
            that class; or ``"folder:PATH"`` for a folder, zip or tar of the
            reader's own images in ``train/<class>/`` and ``test/<class>/``.
        split: ``"train"``, ``"validation"`` or ``"test"``; the ImageNet sets have only a test
            split.
        n: at most this many images; the whole split if None.
        size: height and width of ``folder:`` images in pixels; the others have their own.

    Raises:
        WorkbookError: no such data set or split, or its files cannot be had or read.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    match name.partition(":"):
        case ("shapes", _, shortcut):
            return shapes.load(split, n, shortcut=shortcut or None)
        case ("cifar10" | "cifar100", "", ""):
            return cifar.load(name, split, n)
        case ("imagenet_ten", "", ""):
            return imagenet.load_ten()[:n]
        case ("imagenet_samples", "", ""):
            return imagenet.load_samples(n)
        case ("folder", ":", path) if path:
            return folders.load(path, split, n, size=size)
    raise unknown("data set", name, [*NAMES, "folder:PATH"])


def class_names(name: str) -> tuple[str, ...]:
    """Return the class names of a data set, without loading more than needed."""
    return load(name, "test", 10).class_names


def identity(name: str) -> str:
    """Return a short text that changes when the images of a data set change."""
    digest = hashlib.sha256()
    match name.partition(":"):
        case ("shapes", _, _):
            digest.update(load(name, "train", 20).pixels.numpy().tobytes())
        case ("folder", _, path):
            digest.update(folders.fingerprint(path).encode())
        case _:
            asset = assets.fetch(name)
            digest.update(f"{asset.format} {asset.note} {asset.path.stat().st_size}".encode())
    return f"{name} {digest.hexdigest()[:12]}"
