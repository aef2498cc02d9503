"""How far two explanations agree: on places (IoU), on order (ranks), and against chance.

Masks are made from arrays and compared as arrays. To compare places and not sizes, both are given
the same area (:func:`hottest`).
"""

import zlib

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from helpers.measure.intervals import CONFIDENCE, Estimate
from helpers.run.errors import WorkbookError


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of masks, |a & b| / |a | b| (Jaccard 1901).

    For masks bool [..., H, W] it is float [...] in [0, 1]; what stands before H and W is broadcast.
    If one mask is empty, it is 0: there is nothing in common. If both are, it is NaN: two methods
    that mark nothing name no place on which they could agree.

    Raises:
        WorkbookError: a mask is not of type bool, or height and width differ.
    """
    if a.dtype != torch.bool or b.dtype != torch.bool or a.shape[-2:] != b.shape[-2:]:
        raise WorkbookError(
            f"the IoU needs two bool masks of one size, not {a.dtype} {list(a.shape)} and "
            f"{b.dtype} {list(b.shape)}: threshold heatmaps first"
        )
    return (a & b).sum(dim=(-2, -1)) / (a | b).sum(dim=(-2, -1))


def hottest(heatmaps: Tensor, area: int | Tensor) -> Tensor:
    """Mark the hottest pixels of each heatmap, exactly ``area`` of them.

    Pixels of equal heat at the limit are drawn by lot. Reading order would favour the top left
    corner, and one lot for all maps would make two flat maps agree. So each map draws its own,
    always the same one.

    Args:
        heatmaps: float [..., H, W].
        area: number of pixels, one for all maps or an integer tensor [...] with one for each.

    Returns:
        bool [..., H, W].

    Raises:
        WorkbookError: there is NaN in a map, or it has fewer than ``area`` pixels.
    """
    areas = torch.as_tensor(area).expand(heatmaps.shape[:-2]).flatten().tolist()
    maps = heatmaps.detach().reshape(len(areas), heatmaps.shape[-2] * heatmaps.shape[-1]).numpy()
    masks = np.zeros(maps.shape, dtype=bool)
    for heat, k, mask in zip(maps, map(int, areas), masks, strict=True):
        if not 0 <= k <= heat.size or np.isnan(heat).any():
            raise WorkbookError(
                f"cannot mark the {k} hottest of {heat.size} pixels: the area must fit, and the "
                "heatmap must be free of NaN"
            )
        if k:
            limit = np.partition(heat, heat.size - k)[heat.size - k]
            mask |= heat > limit
            lot = np.random.default_rng(zlib.crc32(heat.tobytes()))
            mask[lot.choice(np.flatnonzero(heat == limit), k - mask.sum(), replace=False)] = True
    return torch.from_numpy(masks).reshape(heatmaps.shape)


def superpixel_means(heatmap: Tensor, segments: ArrayLike) -> Tensor:
    """Return the mean heat [k] of a heatmap [H, W] on each superpixel, labelled 0 to k-1."""
    labels = np.asarray(segments).ravel()
    heat = np.bincount(labels, heatmap.double().numpy().ravel())
    return torch.from_numpy(heat / np.bincount(labels)).float()


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation of two arrays of one shape; equal values share a rank.

    No threshold enters. It is NaN if one of them is constant: then it has no order.

    Raises:
        WorkbookError: the shapes differ.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise WorkbookError(f"cannot correlate arrays of shapes {a.shape} and {b.shape}")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b, axis=None).statistic)


# ---- baselines: explanations that know nothing of the network --------------------------------


def random_superpixels(segments: ArrayLike, area: int, n: int, seed: int = 0) -> Tensor:
    """Return n random explanations bool [n, H, W] made of superpixels, each of that many pixels.

    Each takes superpixels in a random order, of the last one only the pixels that are missing.
    """
    segments = np.asarray(segments)
    order = np.random.default_rng(seed).random((n, segments.max() + 1), dtype=np.float32)
    return hottest(torch.from_numpy(order[:, segments]), area)


def chance(mask: Tensor, segments: ArrayLike, n: int = 200, seed: int = 0) -> Estimate:
    """Return the IoU that random superpixels of equal area reach with a mask bool [H, W].

    It is the mean of n draws; its bounds are the band that holds 95 % of them.
    """
    drawn = iou(random_superpixels(segments, int(mask.sum()), n, seed), mask).double().numpy()
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Estimate(float(drawn.mean()), float(low), float(high), n)


def verdict(value: float, band: Estimate) -> str:
    """Say on which side of the chance band an agreement lies; nan is the IoU of nothing."""
    if np.isnan(value):
        return "nothing marked"
    if value > band.high:
        return "above chance"
    return "below chance" if value < band.low else "as chance"
