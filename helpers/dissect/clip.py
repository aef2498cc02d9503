"""What CLIP-Dissect needs of CLIP and of the network: embeddings and unit activations.

Each is computed once and recorded under a key of its content (:func:`recorded`): the embeddings
of the probe images serve every network and layer, those of the words every probe set. With
records of all three at hand, CLIP itself is never loaded.

CLIP: Radford et al. 2021. CLIP-Dissect: Oikarinen & Weng 2023.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import joblib
import numpy as np
import torch
import torch.nn.functional as F
from pandas import DataFrame
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from helpers.data import ImageSet, assets
from helpers.dissect import units
from helpers.dissect.concepts import category as category_of
from helpers.dissect.similarity import SIMILARITIES
from helpers.nets import recording
from helpers.nets.models import Classifier, best_device
from helpers.run import files
from helpers.run.errors import WorkbookError, unknown

# Weights that the workbook knows: asset -> architecture of open_clip.
ENCODERS = {"clip_vit_b_16": "ViT-B-16-quickgelu"}


@dataclass
class Encoder:
    """CLIP, loaded when it is first needed.

    Attributes:
        name: a key of :data:`ENCODERS`, or ``"local-dir:PATH"``, a folder of the reader's own with
            ``open_clip_config.json`` and weights.
    """

    name: str = "clip_vit_b_16"

    @cached_property
    def _loaded(self) -> tuple:
        """The network in eval mode on the best device, and its tokenizer.

        Raises:
            WorkbookError: no such encoder, or it can't be fetched or read.
        """
        import open_clip  # takes seconds, and only profile full needs it

        if self.name.startswith("local-dir:"):
            source, weights = self.name, {}
        elif self.name in ENCODERS:
            source = ENCODERS[self.name]
            weights = {"pretrained": str(assets.fetch(self.name).path)}
        else:
            raise unknown("CLIP encoder", self.name, [*ENCODERS, "local-dir:PATH"])
        try:
            with torch.random.fork_rng(devices=[]):  # it draws weights before it reads them
                network = open_clip.create_model(source, **weights).to(best_device())
            return network.eval(), open_clip.get_tokenizer(source)
        except Exception as error:  # open_clip raises many kinds
            raise WorkbookError(
                f"{self.name} can't be loaded as CLIP ({error.__class__.__name__}): delete its "
                "file and fetch it again, or check the folder's open_clip_config.json"
            ) from error

    @torch.inference_mode()
    def images(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Return float32 [N, D] of unit length for images [N, 3, H, W] in [0, 1]."""

        def compute() -> Tensor:
            network, _ = self._loaded
            seen = network.visual
            size = seen.image_size if isinstance(seen.image_size, tuple) else (seen.image_size,) * 2
            parts = []
            for batch in images.split(batch_size):
                if batch.shape[-2:] != size:
                    batch = F.interpolate(batch, size, mode="bicubic", antialias=True)
                batch = normalize(batch.clip(0, 1), seen.image_mean, seen.image_std)
                parts.append(network.encode_image(batch.to(best_device())).float().cpu())
            return F.normalize(torch.cat(parts), dim=1)

        return recorded("images", content(self.name, images), compute)

    @torch.inference_mode()
    def words(self, words: Sequence[str], template: str = "{}") -> Tensor:
        """Return float32 [words, D] of unit length.

        CLIP-Dissect puts no text around a word; a template such as ``"a photo of {}"`` does.
        """
        if not words:
            raise WorkbookError("the concept set is empty: give at least one word")

        def compute() -> Tensor:
            network, tokenizer = self._loaded
            tokens = tokenizer([template.format(word) for word in words]).to(best_device())
            parts = [network.encode_text(some) for some in tokens.split(512)]
            return F.normalize(torch.cat(parts).float().cpu(), dim=1)

        return recorded("words", content(self.name, template, list(words)), compute)


def images_by_words(images: Tensor, words: Tensor) -> Tensor:
    """Return the cosines of embeddings [N, D] and [W, D] of unit length, float32 [N, W]."""
    return images @ words.T


def unit_activations(
    classifier: Classifier, layers: Sequence[str], images: Tensor, batch_size: int = 64
) -> dict[str, Tensor]:
    """Return per layer the activation of each unit, averaged over its map, float32 [N, units].

    One pass over the images where a layer is not yet recorded.

    Raises:
        WorkbookError: unknown layer, or one that is called several times in one pass.
    """
    for layer in layers:
        recording.find_layer(classifier, layer)
    about = (classifier.name, classifier.input_size, str(classifier.mean), str(classifier.std))
    key = content(*about, classifier.network, images)

    @cache
    def means() -> dict[str, Tensor]:
        return recording.unit_means(classifier, layers, images, batch_size)

    return {
        layer: recorded("units", f"{layer} {key}", lambda layer=layer: means()[layer])
        for layer in layers
    }


def clip_dissect(
    activations: Mapping[str, Tensor], table: Tensor, words: Sequence[str], *, name: str,
    similarity: str = "soft_wpmi", category: Callable[[str], str] = category_of,
    shuffle: int | None = None, **parameters,
) -> DataFrame:  # fmt: skip
    """Label every unit with a word: CLIP-Dissect, once the activations and the table are there.

    Args:
        activations: per layer float [images, units], see :func:`unit_activations`.
        table: float [images, words], see :func:`images_by_words`; made once for all networks.
        words: the concept set, each word once (:func:`.concepts.words`).
        name: of the result, for titles.
        similarity: a key of :data:`SIMILARITIES`.
        category: maps a word to its category.
        shuffle: a seed; the images of the table are then put into another order than those of
            the activations. What labels score now is what they score by chance.
        parameters: of the similarity, such as ``top_k``.

    Returns:
        a table of :mod:`.units`.

    Raises:
        WorkbookError: unknown similarity, an empty concept set, tables that do not match, fewer
            images than the similarity needs.
    """
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    if shuffle is not None:
        table = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(shuffle))]
    score = SIMILARITIES[similarity]
    scores = {layer: score(found, table, **parameters) for layer, found in activations.items()}
    return units.from_scores(name, scores, words, category)


def crops_of_class(images: ImageSet, class_name: str, n: int, seed: int = 0) -> Tensor:
    """Return a probe set of one class: n random crops, some mirrored, of its images.

    Returns:
        float32 [n, 3, H, W] in [0, 1]; a crop covers 30 to 100 % of its image.

    Raises:
        WorkbookError: no image is of that class.
    """
    if class_name not in images.class_names:
        raise unknown("class", class_name, images.class_names)
    rows = (images.labels == images.class_names.index(class_name)).nonzero()[:, 0]
    if not len(rows):
        raise WorkbookError(f"{images.name} has no image of {class_name}: choose another class")
    whole = images[rows].images
    rng = np.random.default_rng(seed)
    height, width = images.size
    crops = []
    for i in range(n):
        side = rng.uniform(0.3, 1) ** 0.5
        h, w = round(side * height), round(side * width)
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        crop = whole[i % len(whole), None, :, top : top + h, left : left + w]
        crop = F.interpolate(crop, (height, width), mode="bilinear", antialias=True)
        crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
    return torch.cat(crops).clip(0, 1)


def recorded(kind: str, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return what was recorded under the key, else compute it and record it.

    Records lie in ``data/cache/dissection`` and may be deleted. One that can't be read is made
    again. They are pickles: take none from elsewhere.
    """
    memory = joblib.Memory(files.data_folder() / "cache" / "dissection", verbose=0)
    return torch.from_numpy(memory.cache(_computed, ignore=["compute"])(kind, key, compute))


def content(*parts: str | int | list[str] | Tensor | nn.Module) -> str:
    """Return a short text that changes when any part does: the bytes of tensors and weights, too.

    joblib alone would hash how a tensor lies in memory as well.
    """
    digests = []
    for part in parts:
        match part:
            case Tensor():
                part = np.ascontiguousarray(part.detach().cpu().numpy())
            case nn.Module():
                part = [f"{name} {content(value)}" for name, value in part.state_dict().items()]
        digests.append(joblib.hash(part))
    return joblib.hash(digests)


def _computed(kind: str, key: str, compute: Callable[[], Tensor]) -> np.ndarray:
    return compute().numpy()
