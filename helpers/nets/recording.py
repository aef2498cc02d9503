"""Look into a network while it runs: record, edit and average what its layers put out.

The one owner of hooks. They live for one ``with`` block, and a layer that is called several times
in one pass is an error: its outputs could not be told from those of more images.

``torchvision.models.feature_extraction`` does not serve: it must trace the network, names a layer
differently at each call, and can neither edit an output nor begin the gradients there. captum's
``LayerActivation`` keeps the last of several calls without a word.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from helpers.run.errors import WorkbookError, unknown

if TYPE_CHECKING:
    from helpers.nets.models import Classifier

Layer = str | nn.Module
Target = "Classifier | nn.Module"


class Recording(UserDict[Layer, Tensor]):
    """What :func:`record` saw: layer -> outputs, those of several passes in one tensor."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.data = {layer: [] for layer in layers}  # lists: passes are joined when they are read

    def __getitem__(self, layer: Layer) -> Tensor:
        outputs = self.data[layer]
        if not outputs:
            raise _not_called(layer)
        if len(outputs) > 1 or outputs[0].is_inference():
            outputs[:] = [torch.cat(outputs)]
        return outputs[0]

    def clear(self) -> None:
        """Forget what was seen so far: for many batches, of which each is used at once."""
        for outputs in self.data.values():
            outputs.clear()


@contextmanager
def record(
    target: Target, layers: Layer | Iterable[Layer],
    keep: Literal["maps", "means", "graph", "leaf"] = "maps",
) -> Iterator[Recording]:  # fmt: skip
    """Record what layers put out in every pass inside the block.

    Args:
        target: a classifier, or any module. Its mode (training or evaluation) is left alone.
        layers: one dotted name, or several; modules of the network serve as well.
        keep: ``"maps"``, float32 copies on the CPU, see :func:`as_maps`; ``"means"``, these
            averaged over the map. Or the output as it is, for one pass at a time: ``"graph"``,
            to differentiate it or by it; ``"leaf"``, to begin the gradients there. The network
            then goes on with a copy: an in-place ReLU leaves the record alone.

    Yields:
        layer -> [N, C, h, w], or [N, units] where there are no places.

    Raises:
        WorkbookError: unknown layer; a layer that is called several times in one pass; on
            reading, a layer that was not called.
    """
    seen = Recording([layers] if isinstance(layers, Layer) else layers)

    def note(layer: Layer, output: Tensor) -> Tensor | None:
        if keep in ("maps", "means"):
            maps = as_maps(target, output.detach())
            if keep == "means" and maps.ndim == 4:
                maps = maps.float().mean(dim=(2, 3))
            seen.data[layer].append(maps.to("cpu", torch.float32, copy=True))
            return None
        if keep == "leaf":
            output = output.detach().requires_grad_(torch.is_grad_enabled())
        seen.data[layer].append(output)
        return output.clone()

    with _watched(target, seen, note):
        yield seen


@contextmanager
def edited(target: Target, layer: Layer, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a layer's output: inside the block the network goes on with ``function(output)``.

    The function gets the output as the layer gives it, tokens as tokens [N, T, C].

    Raises:
        WorkbookError: as :func:`record`; or the layer was not called, and so nothing was edited.
    """
    called = []

    def replace(_layer: Layer, output: Tensor) -> Tensor:
        called.append(True)
        return function(output)

    with _watched(target, [layer], replace):
        yield
    if not called:
        raise _not_called(layer)


def activations(target: Target, layer: Layer, images: Tensor, batch_size: int = 256) -> Tensor:
    """Return what a layer puts out for images, float32 [N, C, h, w] on the CPU; see :func:`record`.

    A classifier takes images [N, 3, H, W] in [0, 1], a bare module its own inputs [N, ...].
    """
    with record(target, layer) as seen:
        _run(target, images, batch_size)
    return seen[layer]


def unit_means(
    target: Target, layers: Layer | Iterable[Layer], images: Tensor, batch_size: int = 64
) -> dict[Layer, Tensor]:
    """Return per layer the activation of each unit, averaged over its map, float32 [N, units].

    As :func:`activations`, but in one pass for all layers, holding the maps of one batch only.
    """
    with record(target, layers, "means") as seen:
        _run(target, images, batch_size)
    return dict(seen)


def receptive_field(classifier: Classifier, layer: Layer) -> int:
    """Return the width in pixels of the square that one cell of a layer's map depends on.

    Found by asking which pixels have a gradient: at most the input size.
    """
    size = classifier.input_size
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    images = images.to(classifier.device).requires_grad_()
    with frozen(classifier.network), record(classifier, layer, "graph") as seen:
        classifier.network(images)
    maps = as_maps(classifier, seen[layer])
    middle = maps.shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[..., middle, middle].sum(), images)
    touched = gradient.abs().amax(dim=(0, 1, 2)).nonzero()
    return int(touched.max() - touched.min() + 1) if len(touched) else 0


def as_maps(target: Target, output: Tensor) -> Tensor:
    """Return an output as maps [N, C, h, w] where it has places: tokens [N, T, C] become maps."""
    reshape = None if isinstance(target, nn.Module) else target.architecture.reshape
    return reshape(output) if reshape and output.ndim == 3 else output


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode, and gradients for all but the weights; then everything back as it was."""
    modes = [(module, module.training) for module in network.modules()]
    weights = [(weight, weight.requires_grad, weight.grad) for weight in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, wanted, gradient in weights:
            weight.requires_grad_(wanted)
            weight.grad = gradient


def find_layer(target: Target, layer: Layer) -> tuple[str, nn.Module]:
    """Return a layer's dotted name and the layer itself, given one of the two.

    Raises:
        WorkbookError: there is no such layer; the nearest names are offered.
    """
    of = type(target).__name__ if isinstance(target, nn.Module) else target.name
    modules = {name: module for name, module in _network(target).named_modules() if name}
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name, module
        raise WorkbookError(
            f"the layer {type(layer).__name__} is not part of {of}: take one of its own, by name "
            "or with get_submodule(name)"
        )
    if layer not in modules:
        raise unknown(f"layer of {of}", layer, modules)
    return layer, modules[layer]


def called_again(network: nn.Module, name: str) -> WorkbookError:
    """Return the error for a layer that is called several times in one pass."""
    block = name.rpartition(".")[0]
    # A list of modules is never called itself.
    while block and type(network.get_submodule(block)).forward is nn.Module.forward:
        block = block.rpartition(".")[0]
    remedy = f"take the block around it, {block}" if block else "take the layer before or after it"
    return WorkbookError(f"the layer {name} is called several times in one pass: {remedy}")


def _not_called(layer: Layer) -> WorkbookError:
    name = layer if isinstance(layer, str) else type(layer).__name__
    remedy = "run the network inside the block, and choose a layer that it uses"
    return WorkbookError(f"the layer {name} was not called: {remedy}")


def _network(target: Target) -> nn.Module:
    return target if isinstance(target, nn.Module) else target.network


def _run(target: Target, images: Tensor, batch_size: int) -> None:
    with frozen(_network(target)), torch.inference_mode():
        if not isinstance(target, nn.Module):
            target.logits(images, batch_size)
            return
        weight = next(target.parameters(), images)
        for batch in images.split(batch_size):
            target(batch.to(weight.device))


@contextmanager
def _watched(
    target: Target, layers: Iterable[Layer], note: Callable[[Layer, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call ``note(layer, output)`` at every call of a layer; what it returns is the new output."""
    network = _network(target)
    found = {layer: find_layer(target, layer) for layer in layers}
    passes: list[set[Layer]] = []  # the layers that the pass has called; empty outside of one

    def hook(layer: Layer, _module: nn.Module, _inputs: tuple, output: object) -> Tensor | None:
        name = found[layer][0]
        for called in passes:
            if layer in called:
                raise called_again(network, name)
            called.add(layer)
        if not isinstance(output, Tensor):
            raise WorkbookError(
                f"the layer {name} puts out a {type(output).__name__}, not one tensor: choose "
                "another layer"
            )
        return note(layer, output)

    with ExitStack() as hooks:
        hooks.enter_context(network.register_forward_pre_hook(lambda *_: passes.append(set())))
        hooks.enter_context(network.register_forward_hook(
            lambda *_: passes.clear(), always_call=True))  # fmt: skip
        for layer, (_, module) in found.items():
            hooks.enter_context(module.register_forward_hook(partial(hook, layer)))
        yield
