"""Data sets by name; all hand out one type, :class:`~helpers.data.images.ImageSet`.

Texts come as :class:`~helpers.data.texts.TextSet`.
"""

import hashlib
from dataclasses import replace

import numpy as np

from helpers.data import assets, cifar, folders, imagenet, postcards, shapes, texts
from helpers.data.images import ImageSet
from helpers.data.texts import TextSet
from helpers.run.errors import WorkbookError, unknown

NAMES = ("shapes", "cifar10", "cifar100", "imagenet_ten", "imagenet_samples")
SPLITS = ("train", "validation", "test")
TEXTS = ("postcards", texts.NEWSGROUPS)


def load(name: str, split: str = "test", n: int | None = None, size: int = 32) -> ImageSet:
    """Load a split of a data set by name.

    Args:
        name: one of :data:`NAMES`; ``"shapes:CLASS"`` for Shapes with the shortcut planted in
            that class; ``"shapes:shuffled"`` for Shapes with the labels of the training images
            dealt out anew at random; or ``"folder:PATH"`` for a folder, zip or tar of the
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
        case ("shapes", _, "shuffled"):
            return _shuffled(shapes.load(split, n))
        case ("shapes", _, shortcut):
            return shapes.load(split, n, shortcut=shortcut or None)
        case ("cifar10" | "cifar100", "", ""):
            return cifar.load(name, split, n)
        case ("imagenet_ten" | "imagenet_samples", "", "") if split != "test":
            raise WorkbookError(f'{name} has only a test split: take "test" instead of "{split}"')
        case ("imagenet_ten", "", ""):
            return imagenet.load_ten()[:n]
        case ("imagenet_samples", "", ""):
            return imagenet.load_samples(n)
        case ("folder", ":", path) if path:
            return folders.load(path, split, n, size=size)
    raise unknown("data set", name, [*NAMES, "folder:PATH"])


def _shuffled(images: ImageSet) -> ImageSet:
    """Deal the labels of a training set out anew; leave the other splits as they are."""
    if images.split != "train":
        return images
    order = np.random.default_rng(0).permutation(len(images))
    return replace(images, labels=images.labels[order])


def load_text(name: str, split: str = "test") -> TextSet:
    """Load the ``"train"`` or ``"test"`` split of a text data set.

    Args:
        name: one of :data:`TEXTS`, or ``"postcards:CLASS"`` for Postcards with the artefact
            planted in that class.
        split: ``"train"`` or ``"test"``.

    Raises:
        WorkbookError: no such data set or split, or its files cannot be had or read.
    """
    match name.partition(":"):
        case ("postcards", _, artefact):
            return postcards.load(split, artefact=artefact or None)
        case (texts.NEWSGROUPS, "", ""):
            return texts.load_newsgroups(split)
    raise unknown("text data set", name, TEXTS)


def class_names(name: str) -> tuple[str, ...]:
    """Return the class names of a data set, without loading more than needed."""
    if name.startswith("folder:"):
        return folders.class_names(name.removeprefix("folder:"))
    return cifar.CLASSES if name == "cifar10" else load(name, "test", 10).class_names


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
