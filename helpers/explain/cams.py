"""Class activation maps: a weighted sum of the maps of one layer.

The methods are those of the ``grad-cam`` library (``pytorch_grad_cam``), except AblationCAM and
Score-CAM, which are our own: the same maps, without the work that changes nothing. Both follow the
library's call convention, several images included: ``AblationCAM(model, [layer])(images, targets)``
gives float32 heatmaps [N, H, W] in [0, 1].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, fx, nn

from helpers.nets.folding import agree, fast_layout, fold, trace
from helpers.nets.models import Classifier
from helpers.nets.parts import Parts, Rest
from helpers.nets.recording import Layer, as_maps, find_layer, record
from helpers.run.errors import WorkbookError

Chunk = tuple[Tensor, Tensor, Tensor]
Reshape = Callable[[Tensor], Tensor]

# Pixels per pass: sixteen images of 224 x 224. Larger passes are no faster, only larger.
_PIXELS = 16 * 224 * 224


def heatmaps(
    kind: type[BaseCAM], classifier: Classifier, images: Tensor, classes: Tensor,
    layer: Layer | None = None, batch_size: int = 64,
) -> Tensor:  # fmt: skip
    """Return the maps of a CAM method, which the library has scaled to [0, 1].

    Args:
        kind: the method, a class of the library or of this module.
        classifier: with a network in eval mode, see :func:`.recording.frozen`.
        images, classes: float [N, 3, H, W] in [0, 1], and int [N].
        layer: dotted name or module; the target layer if None.
        batch_size: images per pass at the most.

    Returns:
        float32 [N, h, w] of the network's input size, NaN where the method divides by zero.

    Raises:
        WorkbookError: unknown layer, one without height and width, or one that is called several
            times in one pass.
    """
    name, target = find_layer(classifier, layer or classifier.architecture.target)
    reshape = _reshape(classifier, name)
    explainer = kind(classifier.network, [target], reshape_transform=reshape)
    if isinstance(explainer, AblationCAM | ScoreCAM):
        explainer.batch_size = batch_size
    explainer.activations_and_grads.release()
    explainer.activations_and_grads = Recorder(classifier.network, [target], reshape)
    found = []
    for batch, c in zip(images.split(batch_size), classes.split(batch_size), strict=True):
        targets = [ClassifierOutputTarget(i) for i in c.tolist()]
        with np.errstate(all="ignore"):  # a NaN is reported once, by name
            # Not as a context manager: the library's swallows every IndexError.
            found.append(explainer(classifier.preprocess(batch), targets))
    return torch.from_numpy(np.concatenate(found))


def _reshape(classifier: Classifier, layer: str) -> Reshape | None:
    """Try a layer: return what turns its output into maps, None if these are maps already."""
    size = classifier.input_size
    with record(classifier, layer, "graph") as seen:
        classifier.logits(torch.zeros(1, 3, size, size))
    output = seen[layer]
    maps = as_maps(classifier, output)
    if maps.ndim != 4 or maps[0, 0].numel() == 1:
        raise WorkbookError(
            f"the layer {layer} has no height and width: choose one before the pooling, such as "
            f"the target layer {classifier.architecture.target}"
        )
    return None if maps is output else classifier.architecture.reshape


@dataclass
class Recorder:
    """Notes what layers put out and, after a backward pass, the gradients there.

    It stands in for the library's ``ActivationsAndGradients``, on :func:`.recording.record`: hooks
    live for one forward pass, and the graph begins at the layer, so that nothing before it is
    differentiated.
    """

    model: nn.Module
    layers: Sequence[nn.Module]
    reshape: Reshape | None = None  # turns tokens into maps [N, C, h, w]
    outputs: Mapping[Layer, Tensor] = field(default_factory=dict)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits [N, K] of images, and keep the layers' outputs.

        Raises:
            WorkbookError: a layer is called several times, or not at all.
        """
        with record(self.model, self.layers, keep="leaf") as self.outputs:
            return self.model(images)

    @property
    def activations(self) -> list[Tensor]:
        """The maps [N, C, h, w], layer by layer."""
        return self._as_maps(self.outputs[layer].detach() for layer in self.layers)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of the score with respect to the maps; none without a backward pass."""
        found = (self.outputs[layer].grad for layer in self.layers)
        return self._as_maps(gradient for gradient in found if gradient is not None)

    def _as_maps(self, found: Iterator[Tensor]) -> list[Tensor]:
        return [self.reshape(each) if self.reshape else each for each in found]

    def release(self) -> None:
        """Forget what was recorded."""
        self.outputs = {}


class _GradientFreeCAM(BaseCAM):
    """What the two methods share: one recorded pass, then many scores, all without gradients.

    Args:
        model: maps images [N, 3, H, W] to logits [N, K]; put into eval mode.
        target_layers: put out maps, or what ``reshape_transform`` makes maps of, channels last.
        batch_size: changed images per pass at the most; fewer where images are large.
    """

    def __init__(
        self, model: nn.Module, target_layers: list[nn.Module],
        reshape_transform: Reshape | None = None, batch_size: int = 64,
    ) -> None:  # fmt: skip
        super().__init__(model, target_layers, reshape_transform, uses_gradients=False)
        self.activations_and_grads.release()
        self.activations_and_grads = Recorder(model, target_layers, reshape_transform)
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, input_tensor: Tensor, targets: list | None, eigen_smooth: bool = False):
        """Return heatmaps float32 [N, H, W] in [0, 1]; called by ``__call__``."""
        return super().forward(input_tensor, targets, eigen_smooth)

    def _split(self, images: Tensor, live: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Split the live channels bool [N, C] into passes: image and channel indices."""
        rows, channels = live.nonzero(as_tuple=True)
        size = max(1, min(self.batch_size, _PIXELS // images[0, 0].numel()))
        return zip(rows.split(size), channels.split(size), strict=True)

    @staticmethod
    def _fill(scores: Tensor, targets: list, chunks: Iterator[Chunk]) -> None:
        """Write each target's score of its image's logits, chunk by chunk, into scores [N, C]."""
        for rows, channels, logits in chunks:
            values = [targets[row](o) for row, o in zip(rows.tolist(), logits, strict=True)]
            scores[rows, channels] = torch.stack(values).to(scores)


class AblationCAM(_GradientFreeCAM):
    """Ablation-CAM (Desai & Ramaswamy 2020): a channel weighs what the score loses without it.

    The weight of channel k is (y - y_k) / y, where y is the score and y_k the score with
    activation map k set to zero. The activations are computed once; only what follows the
    target layer runs again, and not even that where it treats each channel alone up to a final
    linear layer: there all y_k are known in closed form. Channels that are zero weigh zero.

    Zero means zero. The library does the same where the smallest activation is exactly 0;
    elsewhere it writes the minimum less 1e7, lower with each channel of a batch, so that its
    maps can depend on ``batch_size``.

    A weight is a small difference of scores: where a channel moves the score by less than about
    1e-4 of it, float32 leaves few digits of the weight, here as in the library.
    """

    @cached_property
    def _parts(self) -> dict[nn.Module, Parts]:
        return {layer: Parts(self.model, layer) for layer in self.target_layers}

    def get_cam_weights(
        self, input_tensor: Tensor, target_layer: nn.Module, targets: list,
        activations: np.ndarray, grads: None,
    ) -> np.ndarray:  # fmt: skip
        """Return the weights float32 [N, C]."""
        output = self.activations_and_grads.outputs[target_layer]
        parts = self._parts[target_layer]
        channel_axis = 1 if self.reshape_transform is None else -1
        task = input_tensor, output, self.outputs
        whole, effects = self.outputs, channel_axis == 1 and parts.channel_effects(*task)
        if effects:
            whole, chunks = whole.double(), self._from_effects(effects)
        else:
            chunks = self._from_passes(parts.rest(*task), input_tensor, output, channel_axis)
        base = [target(o) for target, o in zip(targets, whole, strict=True)]
        base = torch.stack(base).double()[:, None]
        scores = base.repeat(1, output.shape[channel_axis])
        self._fill(scores, targets, chunks)
        return ((base - scores) / base).float().cpu().numpy()

    def _from_effects(self, effects: Iterator[Tensor]) -> Iterator[Chunk]:
        for row, effect in enumerate(effects):
            channels = torch.arange(len(effect), device=effect.device)
            # The differences are small against the logits: double precision keeps their digits.
            yield torch.full_like(channels, row), channels, self.outputs[row].double() - effect

    def _from_passes(
        self, rest: Rest, images: Tensor, output: Tensor, channel_axis: int
    ) -> Iterator[Chunk]:
        maps = output.movedim(channel_axis, 1)
        for r, c in self._split(images, (maps != 0).flatten(2).any(2)):
            ablated = maps[r]
            ablated[torch.arange(len(r), device=r.device), c] = 0
            yield r, c, rest(ablated.movedim(1, channel_axis), r)


class ScoreCAM(_GradientFreeCAM):
    """Score-CAM (Wang et al. 2020): a channel weighs the score of what it lets through.

    Each activation map, enlarged to the image and scaled to [0, 1], masks the image; the
    weights are the softmax over channels of the masked images' scores (algorithm 1; the score
    of the baseline image is common to all channels and cancels). Masks exist for one batch at
    a time, filled across images. A constant map masks everything: all such share one pass.
    """

    @cached_property
    def _graph(self) -> fx.Graph | None:
        return trace(self.model)

    def get_cam_weights(
        self, input_tensor: Tensor, target_layer: nn.Module, targets: list,
        activations: np.ndarray, grads: None,
    ) -> np.ndarray:  # fmt: skip
        """Return the weights float32 [N, C], which sum to 1 over channels."""
        maps = torch.from_numpy(activations).to(input_tensor.device)
        network = self._network(input_tensor)
        constant = maps.flatten(2).amax(2) == maps.flatten(2).amin(2)
        scores = torch.empty(constant.shape, device=maps.device)
        if constant.any():
            masked = network(torch.zeros_like(input_tensor[:1]))[0]
            masked = torch.stack([target(masked) for target in targets])
            scores = masked.to(scores)[:, None].repeat(1, scores.shape[1])
        self._fill(scores, targets, self._masked(network, input_tensor, maps, ~constant))
        return scores.softmax(1).cpu().numpy()

    def _network(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the folded network if it answers as the network does, else the network."""
        if self._graph is None:
            return self.model
        folded = fold(self.model, self._graph)
        return folded if agree(folded(images[:1]), self.outputs[:1]) else self.model

    def _masked(
        self, network: Callable[[Tensor], Tensor], images: Tensor, maps: Tensor, live: Tensor
    ) -> Iterator[Chunk]:
        for r, c in self._split(images, live):
            masks = F.interpolate(
                maps[r, c][:, None], images.shape[-2:], mode="bilinear", align_corners=True
            )
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = (masks - low) / (high - low + 1e-8)
            yield r, c, network(fast_layout(images[r] * masks))
