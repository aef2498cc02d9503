"""Does a heatmap show what the network uses? Measures, each of which says what is better.

Three kinds: *faithfulness* hides or shows the hot pixels and watches the network, *localisation*
compares with the truth where it is known, *robustness* shakes the image a little. All take
images [N, 3, H, W] in [0, 1], class indices [N] and heatmaps [N, H, W] in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from captum.metrics import sensitivity_max
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from helpers.measure import localisation
from helpers.nets.folding import fast_layout
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError


@dataclass(frozen=True)
class Measure:
    """A measure of heatmaps, its name in tables, and in which direction it is read."""

    name: str
    higher_is_better: bool

    def __str__(self) -> str:
        return f"{self.name} {'↑' if self.higher_is_better else '↓'}"

    def advantage(self, a: Tensor, b: Tensor) -> Tensor:
        """Return by how much the values ``a`` are better than ``b``; negative if worse."""
        return a - b if self.higher_is_better else b - a


_HIGHER_IS_BETTER = {  # faithfulness, localisation, robustness
    "insertion": True, "deletion": False, "ROAD": True, "average drop": False, "increase": True,
    "pointing game": True, "energy": True,
    "max-sensitivity": False,
}  # fmt: skip
MEASURES = {name: Measure(name, higher) for name, higher in _HIGHER_IS_BETTER.items()}


def score(
    classifier: Classifier, images: Tensor, classes: Tensor, heatmaps: Tensor,
    masks: Tensor | None = None, *, steps: int = 16, road_shares: Sequence[float] = (),
    known: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the values [N] of every measure but max-sensitivity, keyed by its name.

    Args:
        masks: bool [N, H, W], where the object is; localisation is left out if None, and NaN
            for an object without a mask.
        road_shares: as in :func:`road`, which is left out if empty.
        known: the :func:`curves` of these maps, where they are known; else ``steps`` are taken.
    """
    task = classifier, images, classes, heatmaps
    values = {name: area_under(c) for name, c in (known or curves(*task, steps)).items()}
    drop, increase = confidence_change(*task)
    values |= {"average drop": drop, "increase": increase.float()}
    if len(road_shares):
        values["ROAD"] = road(*task, road_shares)
    if masks is not None:
        hits = localisation.pointing_game(heatmaps, masks)
        energy = localisation.energy_in_mask(heatmaps, masks).nan_to_num(0.0)  # no heat, no hit
        for name, value in (("pointing game", hits), ("energy", energy)):
            values[name] = value.where(masks.flatten(1).any(dim=1), torch.nan)
    return {name: values[name] for name in MEASURES if name in values}


# ---- hiding and showing ------------------------------------------------------------------------


def ranks(heatmaps: Tensor) -> Tensor:
    """Return each pixel's rank int64 [N, H, W], 0 for the hottest.

    Pixels of equal heat, as on a superpixel, are ordered by the heat around them: those in the
    midst of hot ones come first. What is still equal comes in reading order.
    """
    side = heatmaps.shape[-1] // 4 * 2 + 1
    around = gaussian_blur(heatmaps[:, None], [side, side], [side / 6, side / 6])[:, 0]
    first = around.flatten(1).argsort(dim=1, descending=True, stable=True)
    second = heatmaps.flatten(1).gather(1, first).argsort(dim=1, descending=True, stable=True)
    order = first.gather(1, second)
    places = torch.arange(order.shape[1]).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(heatmaps)


def curves(
    classifier: Classifier, images: Tensor, classes: Tensor, heatmaps: Tensor, steps: int = 16
) -> dict[str, Tensor]:
    """Return the probability of the class while the hottest pixels are hidden, and shown (RISE).

    Petsiuk et al. 2018, section 4.1. Deletion goes from the image to the mean colour of the
    training data, insertion from a blurred image to the true one. Each is float [N, steps + 1];
    entry t has the hottest t / steps of the pixels hidden or shown.
    """
    grey = torch.tensor(classifier.mean).view(3, 1, 1).expand_as(images)
    ways = {"deletion": (images, grey), "insertion": (blurred(images), images)}
    rank, pixels = ranks(heatmaps), heatmaps[0].numel()
    found = {}
    for name, (start, end) in ways.items():
        mixed = (
            torch.where((rank < round(t / steps * pixels))[:, None], end, start)
            for t in range(steps + 1)
        )
        found[name] = torch.stack([_probability(classifier, x, classes) for x in mixed], dim=1)
    return found


def area_under(curves: Tensor) -> Tensor:
    """Return the area [N] under curves [N, steps + 1] over the share of pixels, 0 to 1."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def blurred(images: Tensor) -> Tensor:
    """Blur images until little is left to recognise, with a Gaussian of an eighth of the width."""
    width = images.shape[-1]
    side = width // 2 // 2 * 2 + 1
    return gaussian_blur(images, [side, side], [width / 8, width / 8])


def _probability(classifier: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    found = classifier.probabilities(fast_layout(images), batch_size=64)
    return found.gather(1, classes.cpu()[:, None])[:, 0]


def road(
    classifier: Classifier, images: Tensor, classes: Tensor, heatmaps: Tensor,
    shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8), seed: int = 0,
) -> Tensor:  # fmt: skip
    """Return by how much hiding the hottest pixels hurts more than hiding the coldest.

    ROAD (Rong et al. 2022): hidden pixels are filled in from their neighbours, with a little
    noise, so that the hole itself tells nothing. The imputation is that of ``grad-cam``; half
    the difference of the probabilities of the class, as there, averaged over the shares hidden:
    float [N] in [-0.5, 0.5], 0 for a map that knows nothing.
    """
    imputer, rank, pixels = NoisyLinearImputer(), ranks(heatmaps), heatmaps[0].numel()
    gaps = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for share in shares:
            k = round(share * pixels)
            keep = {"hottest": rank >= k, "coldest": rank < pixels - k}
            said = {}
            for which, mask in keep.items():
                left = [imputer(i, m.float()) for i, m in zip(images, mask, strict=True)]
                said[which] = _probability(classifier, torch.stack(left), classes)
            gaps.append((said["coldest"] - said["hottest"]) / 2)
    return torch.stack(gaps).mean(dim=0)


def confidence_change(
    classifier: Classifier, images: Tensor, classes: Tensor, heatmaps: Tensor
) -> tuple[Tensor, Tensor]:
    """Show the network only what is hot, the image times its heatmap: what is lost, where it grows.

    Average drop and increase in confidence of Chattopadhyay et al. 2018, section 4.1: the share of
    the probability that is lost, float [N] in [0, 1], 0 where it grew, and where it grew, bool [N].
    """
    before = _probability(classifier, images, classes)
    after = _probability(classifier, images * heatmaps[:, None], classes)
    return ((before - after) / before).clamp(min=0), after > before


# ---- robustness --------------------------------------------------------------------------------


def max_sensitivity(
    explain: Callable[[Tensor], Tensor], images: Tensor, radius: float = 0.02, tries: int = 4,
    seed: int = 0, known: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return how far a map moves at most when the image is shaken within a radius.

    SENS_MAX of Yeh et al. 2019, definition 3, estimated from random shakes (captum), as a share
    of the map's own norm: float [N], 0 for a map that does not depend on the image.

    Args:
        explain: maps images [N, 3, H, W] to heatmaps [N, H, W], with fixed classes and seed.
        radius: largest change of a pixel's colour.
        tries: shakes per image.
        known: what ``explain(images)`` returns, where it is known.

    Raises:
        WorkbookError: there are no tries.
    """
    if tries < 1:
        raise WorkbookError(f"max-sensitivity needs at least one try, not {tries}")

    def shake(x: Tensor, r: float) -> Tensor:
        return (x + (2 * torch.rand(x.shape) - 1) * r).clamp(0, 1)

    def maps(x: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        x = x[0] if isinstance(x, tuple) else x  # captum hands over either, and takes a tuple
        return (known if known is not None and torch.equal(x, images) else explain(x),)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return sensitivity_max(
            maps, images, shake, radius, tries, max_examples_per_batch=len(images)
        )
