"""Name units by what is known of the probe images: what do those share that excite a unit most?

What is known is a table of concepts, a pandas DataFrame of bool with a row for each image and
columns ``(category, concept)``: the branch of its class (:func:`branches`), what its pixels look
like (:func:`looks`), or anything else. A concept is the name of a unit if the unit's top images
have it more often than an exact test allows by chance. No network judges the images, so no slip in
the preprocessing of one can spoil the names; and a unit whose images share nothing has no name.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from pandas import DataFrame
from scipy import ndimage, stats
from skimage.color import rgb2hsv
from torch import Tensor

from helpers.dissect import units
from helpers.dissect.similarity import top_images
from helpers.measure.intervals import CONFIDENCE, Estimate
from helpers.run.errors import WorkbookError

SHARE = 0.05  # of the images are the top images of a unit
ALPHA = 0.05  # of the names may be false (Benjamini & Hochberg 1995)
FOLDS = 10  # one image in ten is held out
NO_NAME = "other thing"  # the branch of what has nothing in common

_BRANCHES = Path(__file__).parents[2] / "data" / "concepts" / "imagenet_branches.toml"
_HUES = {  # where the hue of a colour begins and ends, in degrees
    "red": (-15, 15), "orange": (15, 45), "yellow": (45, 70), "green": (70, 165),
    "blue": (165, 260), "purple": (260, 300), "pink": (300, 345),
}  # fmt: skip


@cache
def branches() -> dict[str, str]:
    """Return the branch of each ImageNet class, such as "beagle" -> "dog"; the file says how."""
    table = tomllib.loads(_BRANCHES.read_text(encoding="utf-8"))
    return {name: branch for branch, listed in table.items() for name in listed}


def kinds(names: Sequence[str], category: str = "object") -> DataFrame:
    """Return which image is of which kind: bool [N, kinds], for the kind of each image [N]."""
    columns = sorted(set(names) - {NO_NAME})
    return DataFrame({(category, kind): [name == kind for name in names] for kind in columns})


def looks(images: Tensor, share: float = 0.1) -> DataFrame:
    """Return what images look like: colours and textures, measured from pixels.

    A colour is the share of the pixels that have it. A texture is the share of the edges that run
    in one direction, how dense edges are, or how well the image fits on itself when it is shifted.

    Args:
        images: float [N, 3, H, W] in [0, 1], 32 pixels or more.
        share: so many images have a concept: those that have the most of it, none without any.

    Returns:
        bool [N, concepts], columns (category, concept).
    """
    step = max(1, images.shape[-1] // 64)
    small = images.unfold(2, step, step).unfold(3, step, step).mean(dim=(-2, -1))
    measured = DataFrame([_look(image) for image in small.permute(0, 2, 3, 1).double().numpy()])
    measured.columns = pd.MultiIndex.from_tuples(measured.columns)
    cut = measured.quantile(1 - share)
    return (measured > cut) & (measured > 0)


def name_units(
    name: str, activations: Mapping[str, Tensor], concepts: DataFrame, share: float = SHARE
) -> DataFrame:
    """Name each unit after the concept that its top images have most surely in common.

    A unit's score is -log10 p of the hypergeometric test: so rarely do as many of its top images
    have the concept if images are dealt out at random. A unit has a name if p survives Benjamini
    and Hochberg's correction over all units of all layers and all concepts.

    Args:
        name: of the table, for titles.
        activations: per layer float [N, units].
        concepts: bool [N, concepts].
        share: of the images are a unit's top images.

    Returns:
        a table of :mod:`.units`.

    Raises:
        WorkbookError: activations and concepts are not of the same images, or too few.
    """
    has = concepts.to_numpy(dtype=np.int64)
    n, k = len(has), max(2, round(share * len(has)))
    if n < 2 * k:
        raise WorkbookError(f"{n} probe images are too few to compare the top of them: use more")
    scores = {}
    for layer, values in activations.items():
        top, silent = top_images(values, values, k)
        hits = has[top.numpy()].sum(axis=0)  # [units, concepts]
        p = stats.hypergeom.sf(hits - 1, n, has.sum(axis=0), k)
        p[silent.numpy()] = 1.0
        scores[layer] = -np.log10(p)
    every = np.concatenate([found.ravel() for found in scores.values()])
    kept = every[stats.false_discovery_control(10.0**-every) <= ALPHA]
    for found in scores.values():
        found[found.max(axis=1) < kept.min(initial=math.inf)] = math.nan
    # Concepts of two categories may have the same name, as orange has.
    words = [": ".join(concept) for concept in concepts.columns]
    table = units.from_scores(
        name, {layer: Tensor(found) for layer, found in scores.items()}, words,
        lambda word: word.partition(": ")[0],
    )  # fmt: skip
    table["label"] = table.label.map(lambda word: word.partition(": ")[2], na_action="ignore")
    return table


def held_out(
    activations: Mapping[str, Tensor], concepts: DataFrame
) -> tuple[list[DataFrame], DataFrame]:
    """Name the units ten times without one image in ten, and try the names on those images.

    Returns:
        the ten tables, and float [N, layers]: for each image the share of the held-out images
        without a concept that it beats, in the mean over the units that were named after a
        concept it has. By chance it is 0.5. NaN where no unit was named after it.
    """
    n, tables = len(concepts), []
    wins, times = np.zeros((2, len(activations), n))
    of = {layer: row for row, layer in enumerate(activations)}
    for fold in range(FOLDS):
        out = np.arange(n) % FOLDS == fold
        seen = {layer: values[~out] for layer, values in activations.items()}
        tables.append(name_units(f"without tenth {fold}", seen, concepts[~out]))
        for row in tables[-1].dropna().itertuples():
            has = concepts[row.category, row.label].to_numpy()
            values = activations[row.layer][:, row.unit].numpy()
            others = np.sort(values[out & ~has])
            if len(others):
                theirs = values[out & has]
                below, up_to = (others.searchsorted(theirs, side) for side in ("left", "right"))
                wins[of[row.layer], out & has] += (below + up_to) / (2 * len(others))
                times[of[row.layer], out & has] += 1
    return tables, DataFrame(wins / np.where(times, times, np.nan), [*activations]).T


def jackknife(value: float, without: Iterable[float]) -> Estimate:
    """Return a number with the interval that leaving out a tenth of the images in turn gives it.

    The delete-a-group jackknife (Tukey 1958), with Student's t. Unlike a bootstrap it shows no
    image twice, which would make any test of shared images too sure.
    """
    values = np.asarray([*without], dtype=float)
    error = math.sqrt(len(values) - 1) * values.std()
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
    return Estimate(value, value - half, value + half, len(values))


def _look(image: np.ndarray) -> dict[tuple[str, str], float]:
    """Measure one image [H, W, 3]."""
    hue, saturation, light = np.moveaxis(rgb2hsv(image), -1, 0)
    hue = np.where(hue * 360 > 345, hue * 360 - 360, hue * 360)
    vivid = (saturation > 0.3) & (light > 0.25)
    found = {name: vivid & (low <= hue) & (hue < high) for name, (low, high) in _HUES.items()}
    found["brown"] = found["orange"] & (light < 0.6)
    found["orange"] = found["orange"] & ~found["brown"]
    found["black"], found["white"] = light < 0.2, (saturation < 0.15) & (light > 0.85)
    found["grey"] = (saturation < 0.15) & ~found["black"] & ~found["white"]
    colours = {("colour", name): float(pixels.mean()) for name, pixels in found.items()}

    grey = ndimage.gaussian_filter(image.mean(axis=2), 1)
    down, right = np.gradient(grey)
    strength, angle = np.hypot(down, right), np.degrees(np.arctan2(down, right)) % 180
    edges = strength > 0.04
    across = {"vertical lines": 0, "diagonal lines": 45, "horizontal lines": 90}
    turned = {name: np.abs((angle - at + 90) % 180 - 90) < 15 for name, at in across.items()}
    turned["diagonal lines"] |= np.abs(angle - 135) < 15
    textures = {
        name: float((strength * where).sum() / max(strength.sum(), 1.0))
        for name, where in turned.items()
    }
    textures["busy"] = float(edges.mean())
    textures["plain"] = float(1 - edges.mean())
    textures["repeated pattern"] = _repetition(grey)
    return colours | {("texture", name): value for name, value in textures.items()}


def _repetition(grey: np.ndarray) -> float:
    """Return the highest correlation of an image with itself, shifted out of the first dip."""
    fine = grey - ndimage.gaussian_filter(grey, 6)
    power = np.abs(np.fft.fft2(fine * np.outer(*(np.hanning(n) for n in grey.shape)))) ** 2
    similar = np.fft.ifft2(power).real
    y, x = np.indices(similar.shape)
    far = np.hypot(*(np.minimum(a, n - a) for a, n in zip((y, x), grey.shape, strict=True)))
    return float(similar[(far > 5) & (far < 24)].max() / max(similar[0, 0], 1e-6))
