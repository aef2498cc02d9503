"""How complex an image is: several measures, because no single one is the right one.

Each takes images float [N, 3, H, W] in [0, 1] and returns float64 [N]; higher is more complex.
None of them knows a network.
"""

from io import BytesIO

import numpy as np
from PIL import Image
from skimage.feature import canny
from skimage.measure import shannon_entropy
from skimage.segmentation import felzenszwalb
from torch import Tensor


def edge_density(images: Tensor) -> np.ndarray:
    """Return the share of pixels that lie on an edge (Canny 1986, at a scale of one pixel)."""
    return np.array([canny(grey, sigma=1).mean() for grey in _grey(images)])


def superpixels(images: Tensor) -> np.ndarray:
    """Return the number of superpixels of Felzenszwalb & Huttenlocher (2004) at a fixed scale.

    The scale is fixed, so that the number is not: a plain wall is one superpixel. Other methods
    such as SLIC take the number from the user.
    """
    found = [felzenszwalb(image, scale=100, sigma=0.8, min_size=20) for image in _last(images)]
    return np.array([len(np.unique(labels)) for labels in found], dtype=float)


def entropy(images: Tensor) -> np.ndarray:
    """Return Shannon's entropy of the 256 grey levels in bits, 0 to 8; blind to where they are."""
    return np.array([shannon_entropy(grey) for grey in _bytes(_grey(images))])


def jpeg_bits(images: Tensor) -> np.ndarray:
    """Return the size as a JPEG of quality 75 in bits per pixel, a practical description length."""
    sizes = []
    for image in _bytes(_last(images)):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75)
        sizes.append(8 * file.tell() / image[..., 0].size)
    return np.array(sizes)


MEASURES = {
    "edge density": edge_density,
    "superpixels": superpixels,
    "entropy": entropy,
    "JPEG size": jpeg_bits,
}


def _grey(images: Tensor) -> np.ndarray:
    return images.mean(dim=1).double().numpy()


def _last(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).double().numpy()


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(values * 255).clip(0, 255).astype(np.uint8)
