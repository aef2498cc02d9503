"""Which word says what a unit answers to: the similarity functions of CLIP-Dissect.

All take the same two tables and return a third:

- activations, float [images, units]: one number for each image and unit;
- similarity, float [images, words]: how well a word describes an image, as CLIP sees it (the
  cosine of image and text embedding, in [-1, 1]);
- result, float32 [units, words]: how well a word describes a unit; the largest is its label.

A silent unit (dead, or with the same activation for every image) has no label: its row is NaN,
and it does not count among the units over which the scores are averaged. Where a unit has equal
activations, images are ranked in a random order that is always the same, and not in the order of
the files, which is often that of the classes.

Paper: Oikarinen & Weng, "CLIP-Dissect", ICLR 2023, section 3 and appendix.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from helpers.run.errors import WorkbookError

__all__ = ["SIMILARITIES", "cosine_cubed", "rank_reorder", "soft_wpmi", "top_images", "wpmi"]

_LARGEST = 3e38  # of float32
_CHUNK = 512  # words at a time


@torch.inference_mode()
def soft_wpmi(
    activations: Tensor, similarity: Tensor, top_k: int = 100, temperature: float = 10.0,
    lam: float = 1.0, p_start: float = 0.998, p_end: float = 0.97, min_prob: float = 1e-7,
) -> Tensor:  # fmt: skip
    r"""Return the soft weighted pointwise mutual information of units and words.

    With :math:`s_{iw}` the softmax of ``temperature * similarity`` over the words, and the
    images :math:`i_1, i_2, …` of a unit in falling order of activation,

    .. math:: \log P(w|u) = \sum_{k=1}^{K} \log(1 + p_k (s_{i_k w} - 1)), \qquad
        \mathrm{score} = \log P(w|u) - \lambda \log \frac1U \sum_{u'} P(w|u'),

    where :math:`p_k`, the probability that the k-th image belongs to what excites the unit,
    falls in equal steps from ``p_start`` towards ``p_end``.

    Nearly all time would go into the ``top_k`` logarithms per result. Here as many factors are
    multiplied as a float32 can hold before one logarithm is taken, and a few hundred words at a
    time, so that they stay in the processor's cache.

    Args:
        top_k: how many of the most exciting images of a unit count.
        temperature: of the softmax over words.
        lam: how much is taken off for words that describe many units.
        p_start, p_end: in (0, 1].
        min_prob: added to every factor, so that its logarithm is finite.

    Returns:
        float32 [units, words]; rows of silent units are NaN.

    Raises:
        WorkbookError: the tables do not match, are empty or not finite; fewer images than
            ``top_k``.
    """
    ranked, silent = top_images(activations, similarity, top_k)
    share = (temperature * similarity.float()).softmax(dim=1)
    p = p_start - torch.arange(top_k, dtype=torch.float64) / top_k * (p_start - p_end)
    rest = 1 - p + min_prob  # a factor is rest_k + p_k s = rest_k (1 + ratio_k s)
    ratio = (p / rest).tolist()
    group = max(1, int(math.log(_LARGEST) / math.log1p(max(ratio))))
    live = (~silent).nonzero()[:, 0]
    ranked = ranked[:, live]
    log_prob = share.new_full((activations.shape[1], share.shape[1]), torch.nan)
    for words in torch.arange(share.shape[1]).split(_CHUNK):
        columns = slice(int(words[0]), int(words[-1]) + 1)
        part = share[:, columns].contiguous()
        total = part.new_full((len(live), part.shape[1]), rest.log().sum().item())
        product, row = torch.empty_like(total), torch.empty_like(total)
        for start in range(0, top_k, group):
            product.fill_(1)
            for k in range(start, min(start + group, top_k)):
                torch.index_select(part, 0, ranked[k], out=row)
                product.addcmul_(product, row, value=ratio[k])
            total += product.log_()
        log_prob[live, columns] = total
    if len(live):
        log_prob -= lam * (log_prob[live].logsumexp(dim=0) - math.log(len(live)))
    return log_prob


# Each of the top images counts fully: every p_k is 1.
wpmi = partial(soft_wpmi, top_k=28, temperature=2.0, lam=0.6, p_start=1.0, p_end=1.0)


@torch.inference_mode()
def cosine_cubed(activations: Tensor, similarity: Tensor, min_norm: float = 1e-3) -> Tensor:
    """Return the cosine between the columns, each centred and raised to the third power.

    The power makes the largest activations count most. Columns with a norm below
    ``min_norm`` are scaled as if they had it.

    Returns:
        float32 [units, words] in [-1, 1]; rows of silent units are NaN.
    """
    _, silent = top_images(activations, similarity, 1)

    def direction(columns: Tensor) -> Tensor:
        cubed = (columns.float() - columns.float().mean(dim=0)) ** 3
        return cubed / cubed.norm(dim=0).clamp(min=min_norm)

    scores = direction(activations).T @ direction(similarity)
    scores[silent] = torch.nan
    return scores


@torch.inference_mode()
def rank_reorder(
    activations: Tensor, similarity: Tensor, top_fraction: float = 0.05, power: float = 3.0,
    scale_power: float = 0.5, min_similarity: float = 1e-6,
) -> Tensor:  # fmt: skip
    """Return how little a unit's activations change when its top images are ranked by the word.

    The activations of the top images are put into the order in which the word's similarity ranks
    them; the mean difference (to a ``power``) is divided by that of a random order, and by the
    mean similarity to the power ``scale_power``. The mean over random orders is exact, not drawn.

    Args:
        top_fraction: share of the images that count; at least two.
        power, scale_power: see above.
        min_similarity: words with a lower mean similarity to the top images are taken to have it.

    Returns:
        float32 [units, words], 0 or less; rows of silent units, and of those whose top images
        all excite them equally, are NaN.
    """
    n = max(2, int(len(activations) * top_fraction))
    ranked, silent = top_images(activations, similarity, n)
    scores = similarity.new_full((activations.shape[1], similarity.shape[1]), torch.nan).float()
    for unit in (~silent).nonzero()[:, 0].tolist():
        descending = activations[ranked[:, unit], unit].float()
        chance = (descending[:, None] - descending).abs().pow(power).mean()
        if chance == 0:
            continue
        top = similarity[ranked[:, unit]].float()
        by_word = descending[top.argsort(dim=0)]
        error = (by_word - descending.flip(0)[:, None]).abs().pow_(power).mean(dim=0) / chance
        scores[unit] = -error / top.mean(dim=0).clamp(min=min_similarity) ** scale_power
    return scores


# By name, the default first.
SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
    "cosine_cubed": cosine_cubed,
    "rank_reorder": rank_reorder,
}


def top_images(activations: Tensor, similarity: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return int64 [top_k, units], the most exciting images first, and bool [units]: silent."""
    if activations.ndim != 2 or similarity.ndim != 2 or len(activations) != len(similarity):
        raise WorkbookError(
            "activations [images, units] and similarity [images, words] must be of the same "
            f"images, not of shape {list(activations.shape)} and {list(similarity.shape)}"
        )
    if 0 in similarity.shape or 0 in activations.shape:
        raise WorkbookError("there are no images, units or words: check the concept set")
    if not (activations.isfinite().all() and similarity.isfinite().all()):
        raise WorkbookError("activations or similarities have NaN: compute them again")
    if len(activations) < top_k:
        raise WorkbookError(
            f"{len(activations)} probe images are fewer than top_k = {top_k}: use more images or "
            "a smaller top_k"
        )
    silent = activations.amax(dim=0) == activations.amin(dim=0)
    order = torch.randperm(len(activations), generator=torch.Generator().manual_seed(0))
    order = order.to(activations.device)
    ranked = activations[order].argsort(dim=0, descending=True, stable=True)[:top_k]
    return order[ranked], silent
