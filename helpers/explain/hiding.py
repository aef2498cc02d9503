"""Perturbed images: some superpixels shown, the others hidden, and what a model says of them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.nets.folding import agree, fast_layout, fold, fuse_activations, trace
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

# Pixels per pass. On a CPU larger passes leave the caches, and their maps are so large that
# the system hands out fresh memory for each; a GPU wants to be filled.
_PIXELS = {"cpu": 6 * 224 * 224, "cuda": 256 * 224 * 224}

_passes = partial(tqdm, desc="LIME", unit="pass", leave=False)


def hidden_image(image: np.ndarray, segments: np.ndarray, hide_color: object) -> np.ndarray:
    """Return the image whose pixels stand in for hidden superpixels, in the image's own dtype.

    Args:
        image: [H, W, 3].
        segments: int [H, W], 0 to k-1.
        hide_color: None for each superpixel's mean colour, a number or an RGB triple in the
            image's own scale, an image [H, W, 3], or ``"blur"`` for a Gaussian blur of a
            sixteenth of the width.
    """
    if isinstance(hide_color, str):
        if hide_color != "blur":
            raise WorkbookError(
                f"hide_color {hide_color!r} is unknown: use None (mean), a colour or 'blur'"
            )
        sigma = image.shape[1] / 16
        return gaussian_filter(image.astype(np.float64), (sigma, sigma, 0)).astype(image.dtype)
    hidden = image.copy()
    if hide_color is None:
        flat = segments.ravel()
        sums = [np.bincount(flat, image[..., c].ravel()) for c in range(3)]
        means = np.stack(sums, axis=1) / np.bincount(flat)[:, None]
        hidden[:] = means[segments]  # uint8 images lose the fraction, as in the library
    else:
        hidden[:] = hide_color
    return hidden


class Predictor:
    """A classifier made ready to see one image in many states.

    BatchNorm is folded into the convolutions; on a CPU, convolutions and activations are one
    step and images lie channels last. All this only where it changes the logits by rounding.

    The classifier's own network is left as it is. bfloat16 has three digits, and is faster on
    hardware that has it.
    """

    def __init__(self, classifier: Classifier, bf16: bool = False) -> None:
        self.classifier = classifier
        self.bf16 = bf16
        self._network: nn.Module | None = None

    @torch.inference_mode()
    def __call__(
        self, image: np.ndarray, hidden: np.ndarray, segments: np.ndarray, states: np.ndarray,
        batch_size: int | None, progress_bar: bool,
    ) -> np.ndarray:  # fmt: skip
        """Return class probabilities float32 [M, K], one row per state.

        Args:
            image: [H, W, 3], uint8 or float in [0, 1].
            hidden: the same where superpixels are hidden.
            segments: int [H, W], 0 to k-1.
            states: bool [M, k], True where a superpixel is shown.
            batch_size: images per pass; what suits the device if None.
            progress_bar: count the passes.
        """
        classifier = self.classifier
        pair = torch.stack([_as_tensor(image), _as_tensor(hidden)]).to(classifier.device)
        at_once = pair.shape[-2:] == (classifier.input_size, classifier.input_size)
        if at_once:  # then hiding and normalising may change places
            pair = classifier.preprocess(pair)
        network = self._ready(pair if at_once else classifier.preprocess(pair))
        place = torch.from_numpy(segments).to(pair.device)
        shown = torch.from_numpy(states).to(pair.device)
        pixels = _PIXELS.get(pair.device.type, _PIXELS["cpu"])
        per_pass = max(1, min(512, pixels // classifier.input_size**2))
        rows = []
        for some in _passes(shown.split(batch_size or per_pass), disable=not progress_bar):
            images = torch.where(some[:, place].unsqueeze(1), pair[0], pair[1])
            if not at_once:
                images = classifier.preprocess(images)
            rows.append(network(self._laid_out(images)).float().softmax(dim=1).cpu())
        probabilities = torch.cat(rows)
        if not probabilities.isfinite().all():
            raise WorkbookError(
                f"{classifier.name} answers NaN: its weights are damaged; load them again"
            )
        return probabilities.numpy()

    def _ready(self, pair: Tensor) -> nn.Module:
        """Return the fastest form of the network that is the same function and runs here."""
        if self._network is None:
            own = self.classifier.network.eval()
            expected = self.classifier.answer(pair)
            for fast in _fast_forms(own, pair.device):
                with suppress(RuntimeError):
                    if agree(fast(fast_layout(pair)), expected):
                        fast = deepcopy(fast).bfloat16() if self.bf16 else fast
                        fast(self._laid_out(pair))
                        self._network = fast
                        break
            else:
                self._network = deepcopy(own).bfloat16() if self.bf16 else own
        return self._network

    def _laid_out(self, images: Tensor) -> Tensor:
        return fast_layout(images.bfloat16() if self.bf16 else images)


def _fast_forms(network: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Yield other forms of a network in eval mode, the fastest first; none if untraceable."""
    if device.type == "cpu" and torch.backends.mkldnn.is_available() and (graph := trace(network)):
        yield fuse_activations(fold(network, graph))
    if graph := trace(network):  # anew: folding has changed the first one
        yield fold(network, graph)


def by_function(
    function: Callable[[np.ndarray], np.ndarray], image: np.ndarray, hidden: np.ndarray,
    segments: np.ndarray, states: np.ndarray, batch_size: int | None, progress_bar: bool,
) -> np.ndarray:  # fmt: skip
    """Return what a function of image batches [B, H, W, 3] says, [M, K]; see :class:`Predictor`."""
    rows, size = [], batch_size or 16
    for start in _passes(range(0, len(states), size), disable=not progress_bar):
        shown = states[start : start + size][:, segments]
        rows.extend(function(np.where(shown[..., None], image, hidden)))
    return np.array(rows)


def each_once(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows of states bool [N, k], and which of them each row is, int [N].

    The rows keep their first order, the whole image first.
    """
    place: dict[bytes, int] = {}
    which = np.array([place.setdefault(row.tobytes(), len(place)) for row in states])
    return states[np.unique(which, return_index=True)[1]], which


def _as_tensor(image: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if tensor.dtype == torch.uint8:
        return tensor.float() / 255
    if not tensor.is_floating_point() or tensor.min() < 0 or tensor.max() > 1:
        raise WorkbookError(
            "LIME takes images [H, W, 3] of uint8, or of floats in [0, 1] with hide_color in the "
            f"same scale; this one is {image.dtype} from {image.min():.4g} to {image.max():.4g}"
        )
    return tensor.float()
