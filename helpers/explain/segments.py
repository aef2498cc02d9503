"""Superpixels: the pieces of an image that LIME hides and shows."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from lime.wrappers.scikit_image import SegmentationAlgorithm
from skimage.segmentation import felzenszwalb, quickshift, slic
from torch import Tensor

from helpers.run.errors import WorkbookError, unknown

METHODS = {"quickshift": quickshift, "slic": slic, "felzenszwalb": felzenszwalb}

# What suits images of up to 64 pixels: some 60 pieces, of five or more pixels across.
_SMALL = {
    "quickshift": {"kernel_size": 1.5, "max_dist": 6, "ratio": 0.5, "sigma": 0.7},
    "slic": {"n_segments": 60, "compactness": 20, "sigma": 1, "min_size_factor": 0.2},
    "felzenszwalb": {"scale": 40, "sigma": 0.8, "min_size": 12},
}
# What suits larger ones; quickshift as the lime library sets it.
_LARGE = {
    "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2},
    "slic": {"n_segments": 60, "compactness": 10, "sigma": 1},
    "felzenszwalb": {"scale": 100, "sigma": 0.5, "min_size": 100},
}


def segment(
    image: Tensor | np.ndarray, method: str | None = None, seed: int = 0, **parameters: object
) -> np.ndarray:
    """Cut an image into superpixels.

    Args:
        image: float [3, H, W] in [0, 1], or a numpy array [H, W, 3] of floats in [0, 1] or uint8.
        method: ``"quickshift"`` (Vedaldi & Soatto 2008), ``"slic"`` (Achanta et al. 2012) or
            ``"felzenszwalb"`` (Felzenszwalb & Huttenlocher 2004). If None, quickshift, which is
            LIME's own choice, or a fine SLIC for images of up to 64 pixels, which quickshift
            leaves in one piece.
        seed: breaks ties in quickshift; the others leave nothing to chance.
        parameters: of the scikit-image function of that name; what is not given suits the size
            of the image.

    Returns:
        int64 [H, W], the index of the superpixel of each pixel: 0 to k-1, without gaps.

    Warns:
        UserWarning: SLIC found fewer than half of the ``n_segments`` that it was asked for; it
            often finds a few less or more. The other methods are not asked for a number.

    Raises:
        WorkbookError: no such method, or it does not take those parameters.
    """
    pixels = height_width_channels(image)
    small = max(pixels.shape[:2]) <= 64
    method = method or ("slic" if small else "quickshift")
    if method not in METHODS:
        raise unknown("segmentation method", method, METHODS)
    chosen = {**(_SMALL if small else _LARGE)[method], **parameters}
    if method == "quickshift":
        chosen.setdefault("rng", seed)
    try:
        labels = consecutive(METHODS[method](pixels, **chosen))
    except (TypeError, ValueError) as error:
        raise WorkbookError(
            f"{method} does not take {parameters}: {str(error).splitlines()[0]}; its parameters "
            f"are described at skimage.segmentation.{method}"
        ) from error
    found, asked = int(labels.max()) + 1, chosen.get("n_segments", 0)
    if found < asked / 2:
        warnings.warn(
            f"{method} was asked for {asked} superpixels and found {found}: for more of them raise "
            "compactness, or lower min_size_factor, below which pieces are joined",
            stacklevel=2,
        )
    return labels


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Number superpixels from 0 to k-1 in the order of their labels; int64, shape kept.

    The lime library reads labels as column numbers. SLIC counts from 1, so that the library
    takes each superpixel for its neighbour, and never hides the last one.
    """
    _, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(np.shape(labels)).astype(np.int64)


def checked(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return labels numbered 0 to k-1, if they fit an image [H, W, 3] and are at least four.

    Raises:
        WorkbookError: they have another size, or there is too little to hide and show.
    """
    if np.shape(labels) != tuple(shape[:2]):
        raise WorkbookError(
            f"the segmentation is {list(np.shape(labels))} and the image {list(shape[:2])}: "
            "segment the image that is explained"
        )
    numbers = consecutive(labels)
    k = int(numbers.max()) + 1
    if k < 4:
        raise WorkbookError(
            f"the image is cut into {k} superpixel{'s' * (k > 1)}, too few for LIME: use a finer "
            "segmentation, such as segment(image, 'slic', n_segments=60)"
        )
    return numbers


def seeded(function: Callable | None, seed: int) -> Callable:
    """Return a segmentation function of images [H, W, 3] that leaves nothing to chance but seed.

    None stands for :func:`segment`. A ``SegmentationAlgorithm`` of the lime library gets for its
    quickshift the seed that the library fails to hand on; other functions are left as they are.
    """
    if function is None:
        return partial(segment, seed=seed)
    if isinstance(function, SegmentationAlgorithm) and function.target_fn is quickshift:
        return partial(quickshift, **{"rng": seed, **function.target_params})
    return function


def height_width_channels(image: Tensor | np.ndarray) -> np.ndarray:
    """Return an image [H, W, 3], whether it is that or a tensor [3, H, W]."""
    return image.permute(1, 2, 0).cpu().numpy() if isinstance(image, Tensor) else image
