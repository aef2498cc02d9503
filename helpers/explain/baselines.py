"""Explanations that know nothing of the network: every measure must tell them from the others."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage.filters import sobel
from torch import Tensor


def random(images: Tensor, seed: int = 0) -> Tensor:
    """Return smooth noise [N, H, W] in [0, 1], as coarse as a CAM: 8 x 8 random cells, enlarged."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(len(images), 1, 8, 8, generator=generator)
    return F.interpolate(cells, images.shape[-2:], mode="bilinear")[:, 0]


def centre(images: Tensor) -> Tensor:
    """Return heatmaps [N, H, W], hottest in the middle: the guess of one who sees nothing."""
    y, x = (torch.linspace(-1, 1, length) for length in images.shape[-2:])
    return torch.exp(-2 * (y[:, None] ** 2 + x**2)).repeat(len(images), 1, 1)


def edges(images: Tensor) -> Tensor:
    """Return heatmaps [N, H, W] in [0, 1] of the edges in images [N, 3, H, W], slightly blurred.

    Sobel's gradient of the grey image: an explanation that has seen the image, but no network.
    """
    gradient = np.stack([sobel(grey) for grey in images.double().mean(dim=1).cpu().numpy()])
    width = images.shape[-1] / 32
    smooth = gaussian_filter(gradient, (0, width, width))
    return torch.from_numpy(smooth / smooth.max(axis=(1, 2), keepdims=True).clip(1e-6)).float()
