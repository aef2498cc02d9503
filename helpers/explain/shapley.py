"""Shapley values of games that a classifier plays: exact, sampled, or by KernelSHAP.

A *game* has k players and gives every coalition of them a value. It is a function that takes
coalitions as float [M, k], 1 for who is in, and returns their values [M]. Here the players are
mostly the superpixels of an image: who is out is hidden.
"""

from collections.abc import Callable
from math import factorial

import torch
from captum.attr import KernelShap, ShapleyValueSampling
from numpy.typing import ArrayLike
from torch import Tensor

from helpers.nets.folding import fast_layout
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

Game = Callable[[Tensor], Tensor]

MAX_PLAYERS = 14  # 2^14 coalitions; each player more doubles them


def superpixel_game(
    classifier: Classifier, image: Tensor, c: int, segments: ArrayLike, cover: Tensor,
    logit: bool = False,
) -> Game:  # fmt: skip
    """Return the game whose players are the superpixels of an image.

    The value of a coalition is what the classifier says to class ``c`` when it sees the image on
    the superpixels of the coalition, and the cover everywhere else: the probability, or the logit.

    Args:
        image: float [3, H, W] in [0, 1].
        segments: int [H, W], superpixels 0 to k-1.
        cover: float, broadcast to [3, H, W]; what a hidden superpixel shows.
    """
    labels = torch.as_tensor(segments).long()
    cover = cover.expand_as(image)
    say = classifier.logits if logit else classifier.probabilities

    def game(coalitions: Tensor) -> Tensor:
        shown = coalitions.float()[:, labels][:, None]
        return say(fast_layout(cover + shown * (image - cover)), batch_size=64)[:, c]

    return game


def exact(game: Game, k: int) -> Tensor:
    r"""Return the exact Shapley values float [k] of a game (Shapley 1953, eq. 13).

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(k-|S|-1)!}{k!}\,(v(S \cup i) - v(S))

    All :math:`2^k` coalitions are asked once.

    Raises:
        WorkbookError: more than :data:`MAX_PLAYERS` players.
    """
    if k > MAX_PLAYERS:
        raise WorkbookError(
            f"{k} players have {2**k:,} coalitions, too many to ask: use at most {MAX_PLAYERS} "
            "superpixels, or shapley.sampled"
        )
    number = torch.arange(2**k)
    coalitions = number[:, None] >> torch.arange(k) & 1
    values = torch.cat([game(part) for part in coalitions.split(1024)]).double()
    size = coalitions.sum(dim=1)
    weight = torch.tensor([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)])
    found = []
    for i in range(k):
        without = number[coalitions[:, i] == 0]
        gain = values[without + 2**i] - values[without]
        found.append((weight.double()[size[without]] * gain).sum())
    return torch.stack(found).float()


def sampled(game: Game, k: int, permutations: int = 25, seed: int = 0) -> Tensor:
    """Return Shapley values [k], estimated from random orders (Castro et al. 2009; captum).

    In each order the players enter one by one; the value of a player is the mean of what its
    entry adds. However few the orders, the values add up.
    """
    return _by_captum(ShapleyValueSampling(game), k, seed, permutations, min(k, 64))


def kernel(game: Game, k: int, samples: int = 500, seed: int = 0) -> Tensor:
    """Return Shapley values [k] by KernelSHAP (Lundberg & Lee 2017, theorem 2; captum).

    LIME with another kernel: a linear model is fitted to the values of random coalitions, weighed
    so that its coefficients tend to the Shapley values. ``samples`` counts the coalitions, the
    full and the empty one among them.
    """
    if k < 2:  # the one player gets all; the kernel needs two
        full, empty = game(torch.tensor([[1.0] * k, [0.0] * k]))
        return (full - empty).expand(k).float()
    return _by_captum(KernelShap(game), k, seed, samples, 64)


def _by_captum(
    method: ShapleyValueSampling | KernelShap, k: int, seed: int, n_samples: int, at_once: int
) -> Tensor:
    everyone, nobody = torch.ones(1, k), torch.zeros(1, k)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return method.attribute(
            everyone, nobody, n_samples=n_samples, perturbations_per_eval=at_once
        )[0].float()
