"""What others have recorded of two ResNet-18 and of CLIP, for the 1,000 sample images.

Only a mirror has it. It spares the networks themselves; each note says who recorded it, and how.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from helpers.data import assets
from helpers.dissect import concepts
from helpers.dissect.published import IMAGENET, PLACES
from helpers.run.errors import WorkbookError

ACTIVATIONS = {
    network: f"recorded_resnet18_{network.lower()}_samples" for network in (IMAGENET, PLACES)
}
WORDS = {
    "broden": "recorded_clip_words_broden",
    "imagenet_names": "recorded_clip_words_imagenet_names",
}
FLAWED = "recorded_clip_images_samples_flawed"
# Two pairs of classes share a word in that list: a bird and a machine, two bathing suits.
_WRITTEN = {"crane bird": "crane", "maillot tank suit": "maillot"}


def available() -> bool:
    """Say whether all of it, and the sample images, can be read without a network."""
    names = (*ACTIVATIONS.values(), *WORDS.values(), FLAWED, "imagenet_samples")
    return all(assets.available(name) for name in names)


def notes() -> tuple[str, ...]:
    """Return the provenance notes of all recordings."""
    return tuple(assets.fetch(n).note for n in (*ACTIVATIONS.values(), *WORDS.values(), FLAWED))


def activations(network: str) -> dict[str, Tensor]:
    """Return per layer float [1000, units]; images in the order of the classes.

    Raises:
        WorkbookError: the mirror does not hold it, or it is damaged.
    """
    return _read(ACTIVATIONS[network], dict)


def words(concept_set: str) -> tuple[tuple[str, ...], Tensor]:
    """Return the words of a list, and CLIP's embeddings of them [words, 512] of unit length.

    Raises:
        WorkbookError: the mirror does not hold them, or they are damaged.
    """
    listed = concepts.read(assets.fetch(f"concepts_{concept_set}").path)
    found = _read(WORDS[concept_set], Tensor)
    if len(found) != len(listed):
        raise WorkbookError(
            f"{WORDS[concept_set]} has {len(found)} rows for {len(listed)} words: replace the two"
        )
    return tuple(listed), normalize(found.float(), dim=1)


def flawed_images() -> Tensor:
    """Return image embeddings [1000, 512] of unit length that were made with a slip.

    Raises:
        WorkbookError: the mirror does not hold them, or they are damaged.
    """
    return normalize(_read(FLAWED, Tensor).float(), dim=1)


def rows_of_classes(classes: Sequence[str], listed: Sequence[str]) -> Tensor:
    """Return int64 [classes]: the row of each class in a list of names."""
    rows = {word.casefold(): row for row, word in enumerate(listed)}
    found = [name if name.casefold() in rows else _WRITTEN.get(name, name) for name in classes]
    return torch.tensor([rows[" ".join(name.casefold().split())] for name in found])


def _read(name: str, kind: type) -> dict[str, Tensor] | Tensor:
    path = assets.fetch(name).path
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise WorkbookError(f"{path.name} can't be read as tensors: replace it") from error
    if not isinstance(found, kind):
        raise WorkbookError(f"{path.name} holds a {type(found).__name__}: it is another file")
    return found
