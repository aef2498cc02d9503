"""NetDissect: which concept a unit detects, measured on pixel labels (Bau et al. 2017).

A unit's map is thresholded so that it is on for a fixed small share of all places in the probe
set, scaled up to the size of the labels, and compared with the pixels of every concept.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pandas import DataFrame
from torch import Tensor

from helpers.data import ImageSet
from helpers.dissect.units import from_scores
from helpers.nets import recording
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

SHARE = 0.005  # of all places are on (section 2.2 of the paper)
DETECTOR = 0.04  # a unit whose best IoU is above that detects its concept


@dataclass(frozen=True)
class Dissection:
    """How well every unit of a layer matches every concept.

    Attributes:
        layer: its dotted name.
        concepts: (category, concept), one for each column.
        thresholds: float [units], the activation above which a unit is on.
        iou: float [units, concepts] in [0, 1], over the whole probe set; 0 where neither the
            unit nor the concept has a pixel.
        chance: the same with the labels of other images: what IoU is worth that means nothing.
        area: float [concepts], share of all pixels that a concept has.
        on: float [units], share of all pixels where a unit is on, after scaling up.
    """

    layer: str
    concepts: tuple[tuple[str, str], ...]
    thresholds: Tensor
    iou: Tensor
    chance: Tensor
    area: Tensor
    on: Tensor

    def best(self, iou: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return per unit the largest IoU (or ``chance``) and the index of its concept."""
        return (self.iou if iou is None else iou).max(dim=1)

    def detectors(self, iou: Tensor | None = None) -> dict[int, int]:
        """Return unit -> index of its best concept, for the units above :data:`DETECTOR`."""
        value, concept = self.best(iou)
        return {u: int(concept[u]) for u in (value > DETECTOR).nonzero()[:, 0].tolist()}

    def count(self, by: str = "category") -> dict[str, int]:
        """Return how many units detect each ``"category"`` or each ``"concept"``."""
        found = (self.concepts[c] for c in self.detectors().values())
        return Counter(concept[0] if by == "category" else ": ".join(concept) for concept in found)


def dissect(
    classifier: Classifier, layers: Sequence[str], probe: ImageSet, *, share: float = SHARE,
    batch_size: int = 50,
) -> dict[str, Dissection]:  # fmt: skip
    """Dissect layers with a probe set whose pixels are labelled, in two passes over it.

    Args:
        layers: dotted names, of layers whose outputs are maps, or tokens that the classifier
            turns into maps.
        probe: images with ``concepts``, such as Shapes.
        share: of a unit's activations that lie above its threshold.
        batch_size: images per pass.

    Raises:
        WorkbookError: unknown layer, a layer without maps, a probe set without pixel labels.
    """
    if not probe.concepts:
        raise WorkbookError(
            f"{probe.name} has no pixel labels: use a probe set that has, such as shapes"
        )
    concepts = tuple((c, name) for c, names in probe.concept_names.items() for name in names)
    rows = torch.randperm(len(probe), generator=torch.Generator().manual_seed(0))
    cut = thresholds(classifier, layers, probe.images, share, batch_size)
    # Per layer [units, pixels with the concept | with a shuffled label | all where the unit is on].
    columns = [len(concepts), len(concepts), 1]
    counts = {layer: torch.zeros(len(cut[layer]), sum(columns)).double() for layer in layers}
    n_pixels = torch.zeros(len(concepts), dtype=torch.float64)
    image = 0
    for batch in _maps(classifier, layers, probe.images, batch_size):
        for i in range(len(next(iter(batch.values())))):
            labels, shuffled = (_indicators(probe[int(row)]) for row in (image, rows[image]))
            n_pixels += labels.sum(dim=0)
            pixels = torch.cat([labels, shuffled, torch.ones(len(labels), 1)], dim=1)
            for layer, maps in batch.items():
                # Scaling up makes nothing brighter: most maps are nowhere on.
                units = (maps[i].amax(dim=(1, 2)) > cut[layer]).nonzero()[:, 0]
                if not len(units):
                    continue
                on = upscale(maps[i : i + 1, units], probe.size)[0] > cut[layer][units, None, None]
                counts[layer][units] += (on.flatten(1).float() @ pixels).double()
            image += 1
    total = len(probe) * probe.size[0] * probe.size[1]
    found = {}
    for layer in layers:
        *common, on = counts[layer].split(columns, dim=1)
        iou, chance = ((both / (on + n_pixels - both).clamp(min=1)).float() for both in common)
        area, on = (n_pixels / total).float(), (on[:, 0] / total).float()
        found[layer] = Dissection(layer, concepts, cut[layer], iou, chance, area, on)
    return found


def thresholds(
    classifier: Classifier, layers: Sequence[str], images: Tensor, share: float = SHARE,
    batch_size: int = 50, keep: int = 20_000,
) -> dict[str, Tensor]:  # fmt: skip
    """Return per layer the value that a ``share`` of each unit's activations exceeds.

    A streaming quantile: only the largest activations so far are held, at most ``keep`` for each
    unit. It is exact up to ``keep / share`` activations per unit; beyond, a random part of the
    places is used, the same for all units, and the share has a relative error of about
    ``1 / sqrt(keep)``.

    Args:
        images: float32 [N, 3, H, W] in [0, 1].

    Returns:
        float32 [units] for each layer. No more than the share lies above; less where many
        activations are equal, and nothing for a unit that never changes.
    """
    generator = torch.Generator().manual_seed(0)
    largest: dict[str, Tensor] = {}
    wanted: dict[str, int] = {}
    for batch in _maps(classifier, layers, images, batch_size):
        for layer, maps in batch.items():
            places = len(images) * maps[0, 0].numel()
            values = maps.transpose(0, 1).flatten(1)
            if share * places > keep:
                part = torch.rand(values.shape[1], generator=generator) < keep / (share * places)
                values, places = values[:, part], keep / share
            wanted[layer] = int(share * places)
            if layer in largest:
                values = torch.cat([largest[layer], values], dim=1)
            k = min(wanted[layer] + 1, values.shape[1])
            largest[layer] = values.topk(k, dim=1).values
    return {layer: values[:, min(wanted[layer], values.shape[1] - 1)]
            for layer, values in largest.items()}  # fmt: skip


def upscale(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale maps [N, units, h, w] bilinearly to ``size``."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


@contextmanager
def ablated(classifier: Classifier, layer: str, units: Sequence[int]) -> Iterator[None]:
    """Silence units: within the block their output is zero (Bau et al. 2020, section 2.3).

    Raises:
        WorkbookError: the layer has no such unit.
    """
    n_units = classifier.map_size(layer)[0]
    if wrong := [u for u in units if not 0 <= u < n_units]:
        raise WorkbookError(f"{layer} has units 0 to {n_units - 1}, and no unit {wrong[0]}")
    dim = 1 if classifier.architecture.reshape is None else -1

    def silence(output: Tensor) -> Tensor:
        index = torch.tensor(list(units), dtype=torch.long, device=output.device)
        return output.index_fill(dim, index, 0.0)

    with recording.edited(classifier, layer, silence):
        yield


def _indicators(images: ImageSet) -> Tensor:
    """Return float [pixels of all images, concepts], 1 where the pixel has the concept."""
    columns = [
        F.one_hot(images.concepts[category].long().flatten() + 1, len(names) + 1)[:, 1:]
        for category, names in images.concept_names.items()
    ]
    return torch.cat(columns, dim=1).float()


def _maps(
    classifier: Classifier, layers: Sequence[str], images: Tensor, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the maps [n, units, h, w] of all layers, batch by batch, on the CPU."""
    with recording.record(classifier, layers) as seen:
        for batch in images.split(batch_size):
            seen.clear()
            classifier.logits(batch, batch_size)
            found = dict(seen)
            for layer, maps in found.items():
                if maps.ndim != 4:
                    raise WorkbookError(
                        f"the layer {layer} has no height and width: choose one before the pooling"
                    )
            yield found


def labels(name: str, dissections: Mapping[str, Dissection]) -> DataFrame:
    """Return a table of :mod:`.units`: detectors are called "category: concept", others nothing."""
    words = [": ".join(concept) for concept in next(iter(dissections.values())).concepts]
    scores = {
        layer: d.iou.masked_fill(d.best()[0][:, None] <= DETECTOR, torch.nan)
        for layer, d in dissections.items()
    }
    return from_scores(name, scores, words, lambda word: word.partition(":")[0])
