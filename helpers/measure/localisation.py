"""Where the heat of a heatmap lies: on the object, and how concentrated.

All take non-negative heatmaps float [N, H, W]; masks are bool [N, H, W]. A WorkbookError is raised
if the shapes differ, or there is negative heat.
"""

import torch
from torch import Tensor

from helpers.run.errors import WorkbookError


def energy_in_mask(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Return the share [N] of the heat that falls on the mask, in [0, 1]; higher is better.

    The energy-based pointing game of Wang et al. 2020 (Score-CAM), eq. 7. A uniform map scores
    the mask's area, a map without heat NaN.
    """
    _check(heatmaps, masks)
    return (heatmaps * masks).sum(dim=(1, 2)) / heatmaps.sum(dim=(1, 2))


def pointing_game(heatmaps: Tensor, masks: Tensor) -> Tensor:
    """Return whether the hottest pixel lies on the mask; higher is better.

    The pointing game of Zhang et al. 2018, section 4.2, without their margin around the mask.
    Where several pixels are the hottest, it is the share of them on the mask: what one of them,
    drawn at random, would score on average. Float [N] in [0, 1]; a uniform map, and one without
    heat, scores the mask's area.
    """
    _check(heatmaps, masks)
    hottest = heatmaps == heatmaps.amax(dim=(1, 2), keepdim=True)
    return (hottest & masks).sum(dim=(1, 2)) / hottest.sum(dim=(1, 2))


def half_heat_area(heatmaps: Tensor) -> Tensor:
    """Return the smallest share of the image that holds half of the heat, float [N] in (0, 0.5].

    A concentrated map has a small area, a uniform one 0.5; a map without heat NaN.
    """
    _check(heatmaps)
    hottest_first = heatmaps.flatten(1).sort(dim=1, descending=True).values.double()
    share = hottest_first.cumsum(dim=1) / hottest_first.sum(dim=1, keepdim=True)
    # A tiny tolerance: half of the pixels of a uniform map hold 0.49999… of its heat.
    area = ((share < 0.5 - 1e-9).sum(dim=1) + 1) / share.shape[1]
    return torch.where(share.isnan().any(dim=1), torch.nan, area).float()


def _check(heatmaps: Tensor, masks: Tensor | None = None) -> None:
    if heatmaps.ndim != 3 or (heatmaps < 0).any():
        raise WorkbookError("heatmaps must be [N, H, W] without negative heat")
    if masks is not None and heatmaps.shape != masks.shape:
        raise WorkbookError(
            f"heatmaps {list(heatmaps.shape)} and masks {list(masks.shape)} differ in shape"
        )
