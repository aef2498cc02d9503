"""The one type that every data set hands out: labelled images of one size."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers.run.errors import WorkbookError, unknown


@dataclass(frozen=True)
class ImageSet:
    """N labelled colour images of one size, and what is known about them.

    Index it like an array to get a smaller set: ``test[:10]``, ``test[test.labels == 3]``.
    """

    name: str  # of the data set, such as "cifar10"
    split: str  # "train", "validation" or "test"
    pixels: Tensor  # uint8 [N, 3, H, W], RGB in 0..255; compact storage, see `images`
    labels: Tensor  # int64 [N], indices into class_names
    class_names: tuple[str, ...]
    ids: tuple[str, ...]  # a stable name for each image, from which it can be found again
    masks: Tensor | None = None  # bool [N, H, W], True on the object; None if nobody drew it
    # Per category an int8 [N, H, W] map of indices into its names, -1 where it has nothing to say.
    concepts: dict[str, Tensor] = field(default_factory=dict)
    concept_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""  # where the images differ from the original data, in words

    def __post_init__(self) -> None:
        n = len(self.pixels)
        if n == 0:
            raise WorkbookError(f"{self.name} ({self.split}) has no images: check the folder")
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise WorkbookError(f"{self.name}: pixels must be uint8 [N, 3, H, W]")
        if not (len(self.labels) == len(self.ids) == n):
            raise WorkbookError(f"{self.name}: images, labels and ids differ in number")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int | slice | list[int] | np.ndarray | Tensor) -> Self:
        rows = np.atleast_1d(np.arange(len(self))[index])
        picked = torch.from_numpy(rows)
        return replace(
            self,
            pixels=self.pixels[picked],
            labels=self.labels[picked],
            ids=tuple(self.ids[i] for i in rows),
            masks=None if self.masks is None else self.masks[picked],
            concepts={category: maps[picked] for category, maps in self.concepts.items()},
        )

    def by_turns(self) -> Self:
        """Return the images in another order: the first of each class, then the second ones, …"""
        labels = pd.Series(self.labels)
        return self[labels.groupby(labels).cumcount().to_numpy().argsort(kind="stable")]

    @property
    def images(self) -> Tensor:
        """The images as float32 [N, 3, H, W] in [0, 1]; copy them before changing them in place."""
        return _in_unit_range(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return tuple(self.pixels.shape[-2:])

    def concept_masks(self, category: str, concept: str) -> Tensor:
        """Return bool [N, H, W], True where ``concept`` of ``category`` is.

        Raises:
            WorkbookError: the set has no such category or concept.
        """
        if category not in self.concepts:
            raise unknown("concept category", category, self.concepts)
        if concept not in self.concept_names[category]:
            raise unknown(category, concept, self.concept_names[category])
        return self.concepts[category] == self.concept_names[category].index(concept)


@lru_cache(maxsize=1)  # a notebook draws the images of a set one by one
def _in_unit_range(pixels: Tensor) -> Tensor:
    return pixels / 255  # float32
