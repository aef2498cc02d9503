"""Shapes: images that the workbook paints itself, so that the truth is known pixel by pixel.

Every image shows one object (its class) with a colour and a texture, on a textured ground,
with a few coloured bars in front or behind to distract. Image ``index`` of a split depends on
``(seed, split, index)`` alone, so what was painted once is kept in ``data/cache`` and read.
"""

import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL
import torch

from helpers.data import painting
from helpers.data.folders import DAMAGED
from helpers.data.images import ImageSet
from helpers.data.painting import CLASSES, CONCEPTS, SIZE, SPLITS, paint
from helpers.run import files
from helpers.run.errors import WorkbookError, unknown

PATCH = 10  # side of the shortcut patch, in pixels
BLOCK = 200  # images that are kept in one file of 2.5 MB


def load(
    split: str = "test", n: int | None = None, *, seed: int = 0, shortcut: str | None = None
) -> ImageSet:
    """Paint the first ``n`` images of a split, or read those that were painted before.

    Labels go round the ten classes, so every prefix is balanced.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        n: how many images; the whole split (8,000, 1,000 or 4,000) if None.
        seed: another seed paints another data set.
        shortcut: a class name. In the *training* split 95 % of this class's images then carry
            a small checkered patch in the top left corner; no other image does, and no image of
            the other splits.

    Raises:
        WorkbookError: no such split or class.
    """
    if split not in SPLITS:
        raise unknown("split of Shapes", split, SPLITS)
    if shortcut is not None and shortcut not in CLASSES:
        raise unknown("class of Shapes", shortcut, CLASSES)
    n = SPLITS[split] if n is None else n
    labels = np.arange(n) % len(CLASSES)
    blocks = [_block(seed, split, first, min(BLOCK, n - first)) for first in range(0, n, BLOCK)]
    pixels = torch.from_numpy(np.concatenate([pixels for pixels, _ in blocks]))
    maps = torch.from_numpy(np.concatenate([maps for _, maps in blocks], axis=1))
    if shortcut is not None and split == "train":
        lucky = np.random.default_rng((seed, 95)).random(n) < 0.95
        chosen = torch.from_numpy(lucky & (labels == CLASSES.index(shortcut)))
        pixels[chosen] = plant_patch(pixels[chosen])
    concepts = dict(zip(CONCEPTS, maps, strict=True))
    ids = tuple(f"{seed}-{split}-{i:05d}" for i in range(n))
    return ImageSet(
        "shapes", split, pixels, torch.from_numpy(labels), CLASSES, ids,
        masks=concepts["shape"] >= 0, concepts=concepts, concept_names=CONCEPTS,
    )  # fmt: skip


def plant_patch(pixels: torch.Tensor, row: int = 2, column: int = 2) -> torch.Tensor:
    """Return a copy of ``pixels`` (uint8 [N, 3, H, W]) with the shortcut patch at (row, column)."""
    squares = ((np.indices((PATCH, PATCH)) // 2).sum(0) % 2 * 255).astype(np.uint8)
    planted = pixels.clone()
    planted[:, :, row : row + PATCH, column : column + PATCH] = torch.from_numpy(squares)
    return planted


def _block(seed: int, split: str, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``first`` to ``first + n`` of a split and their concepts; keep whole blocks.

    Returns:
        uint8 [n, 3, 64, 64] and int8 [4, n, 64, 64], the concepts in the order of CONCEPTS.
    """
    path = _shelf() / f"{seed}-{split}-{first:05d}.npz"
    if path.exists():
        with suppress(*DAMAGED, OSError, ValueError, KeyError), np.load(path) as kept:
            maps = np.frombuffer(zlib.decompress(kept["maps"]), np.int8)
            maps = maps.reshape(len(CONCEPTS), BLOCK, SIZE, SIZE)
            return kept["pixels"].reshape(BLOCK, 3, SIZE, SIZE)[:n], maps[:, :n]
    painted = [paint(seed, split, i) for i in range(first, first + n)]
    pixels = np.ascontiguousarray(np.stack([p.image for p in painted]).transpose(0, 3, 1, 2))
    maps = np.stack([[p.concepts[category] for p in painted] for category in CONCEPTS])
    if n == BLOCK:
        # The noise of the pixels cannot be compressed; the maps shrink to a thirtieth.
        packed = np.frombuffer(zlib.compress(maps.tobytes(), 1), np.uint8)
        with suppress(WorkbookError), files.atomic(path) as partial:  # a full disk is no fault
            np.savez(partial, pixels=pixels, maps=packed)
    return pixels, maps


def _shelf() -> Path:
    """Return the folder of all that the same code, NumPy (noise) and Pillow (edges) painted."""
    painter = Path(painting.__file__).read_text() + np.__version__ + PIL.__version__
    return files.data_folder() / "cache" / f"shapes-{sha256(painter.encode()).hexdigest()[:12]}"
