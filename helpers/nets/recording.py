"""Look into a network while it runs: record, edit and average what its layers put out.

The one owner of hooks. They live for one ``with`` block, and a layer that the network calls
several times in one pass is an error that names the block to take instead: its outputs could not
be told from those of more images.

``torchvision.models.feature_extraction`` does not serve here: it needs a network that can be
traced, names a layer differently at each call, and can neither edit an output nor begin the
gradients there. captum's ``LayerActivation`` keeps the last of several calls without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from helpers.run.errors import WorkbookError, unknown

if TYPE_CHECKING:
    from helpers.nets.models import Classifier

Layer = str | nn.Module
Target = "Classifier | nn.Module"


class Recording(Mapping[Layer, Tensor]):
    """What :func:`record` saw: layer -> outputs, those of several passes in one tensor."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._outputs: dict[Layer, list[Tensor]] = {layer: [] for layer in layers}

    def __getitem__(self, layer: Layer) -> Tensor:
        outputs = self._outputs[layer]
        if not outputs:
            raise _not_called(layer)
        if len(outputs) > 1 or outputs[0].is_inference():
            outputs[:] = [torch.cat(outputs)]
        return outputs[0]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def clear(self) -> None:
        """Forget what was seen so far: for many batches, of which each is used at once."""
        for outputs in self._outputs.values():
            outputs.clear()

    def add(self, layer: Layer, output: Tensor) -> None:
        """Append one output."""
        self._outputs[layer].append(output)


@contextmanager
def record(
    target: Target, layers: Layer | Iterable[Layer],
    keep: Literal["maps", "graph", "leaf"] = "maps",
) -> Iterator[Recording]:  # fmt: skip
    """Record what layers put out in every pass inside the block.

    Args:
        target: a classifier, or any module. Its mode (training or evaluation) is left alone.
        layers: one dotted name, or several; modules of the network serve as well.
        keep: what is kept of an output. ``"maps"``: a float32 copy on the CPU, tokens of a
            transformer as maps. ``"graph"``: the output as it is, to be differentiated, or
            differentiated by. ``"leaf"``: the same, but gradients begin there, so that nothing
            before the layer is differentiated. With the last two the network goes on with a
            copy: an in-place ReLU leaves the record alone. Record one pass at a time with them.

    Yields:
        a mapping, layer -> float32 [N, C, h, w] (or [N, units]); with ``"graph"`` and ``"leaf"``
        the output's own form, see :func:`as_maps`.

    Raises:
        WorkbookError: unknown layer; a layer that is called several times in one pass; on
            reading, a layer that was not called.
    """
    layers = [layers] if isinstance(layers, Layer) else list(layers)
    seen = Recording(layers)

    def note(layer: Layer, output: Tensor) -> Tensor | None:
        if keep == "maps":
            maps = as_maps(target, output.detach())
            seen.add(layer, maps.to("cpu", torch.float32, copy=True))
            return None
        if keep == "leaf":
            output = output.detach().requires_grad_(torch.is_grad_enabled())
        seen.add(layer, output)
        return output.clone()

    with _watched(target, layers, note):
        yield seen


@contextmanager
def edited(target: Target, layer: Layer, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a layer's output: inside the block the network goes on with ``function(output)``.

    Args:
        target: a classifier, or any module.
        layer: its dotted name, or the module.
        function: gets the output as the layer gives it, tokens as tokens [N, T, C].

    Raises:
        WorkbookError: unknown layer, one that is called several times in one pass, or one that
            was not called inside the block, so that nothing was edited.
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
    """Return what a layer puts out for images, float32 [N, C, h, w] on the CPU.

    Args:
        target: a classifier (images [N, 3, H, W] in [0, 1]), or a module (its own inputs).
        layer: see :func:`record`, also for the errors.
        images: [N, ...].
        batch_size: images per pass.
    """
    with record(target, layer) as seen:
        for batch in images.split(batch_size):
            _run(target, batch)
    return seen[layer]


def unit_means(
    target: Target, layers: Layer | Iterable[Layer], images: Tensor, batch_size: int = 64
) -> dict[Layer, Tensor]:
    """Return per layer the activation of each unit, averaged over its map, float32 [N, units].

    One pass for all layers; no more than the maps of one batch are held. See
    :func:`activations` for the arguments.
    """
    layers = [layers] if isinstance(layers, Layer) else list(layers)
    seen = Recording(layers)

    def note(layer: Layer, output: Tensor) -> None:
        maps = as_maps(target, output.detach()).float()
        seen.add(layer, (maps.mean(dim=(2, 3)) if maps.ndim == 4 else maps).to("cpu", copy=True))

    with _watched(target, layers, note):
        for batch in images.split(batch_size):
            _run(target, batch)
    return dict(seen)


def receptive_field(classifier: Classifier, layer: Layer) -> int:
    """Return the width in pixels of the square that one cell of a layer's map depends on.

    Found by asking which pixels have a gradient; at most the input size.
    """
    size = classifier.input_size
    image = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    image = image.to(classifier.device).requires_grad_()
    with frozen(classifier.network), record(classifier, layer, "graph") as seen:
        classifier.network(image)
    maps = as_maps(classifier, seen[layer])
    middle = maps.shape[-1] // 2
    (gradient,) = torch.autograd.grad(maps[..., middle, middle].sum(), image)
    touched = gradient.abs().amax(dim=(0, 1, 2)).nonzero()
    return int(touched.max() - touched.min() + 1) if len(touched) else 0


def as_maps(target: Target, output: Tensor) -> Tensor:
    """Return an output as maps [N, C, h, w] where it has places: tokens [N, T, C] become maps."""
    reshape = None if isinstance(target, nn.Module) else target.architecture.reshape
    return reshape(output) if reshape and output.ndim == 3 else output


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and then every module back into its own."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode, and gradients for all but the weights; then everything back as it was."""
    weights = [(p, p.requires_grad, p.grad) for p in network.parameters()]
    network.requires_grad_(False)
    try:
        with evaluating(network), torch.enable_grad():
            yield
    finally:
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
        name = next((name for name, module in modules.items() if module is layer), None)
        if name is None:
            raise WorkbookError(
                f"the layer {type(layer).__name__} is not part of {of}: take one of its own, by "
                "name or with get_submodule(name)"
            )
        return name, layer
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
    return WorkbookError(
        f"the layer {name} was not called: run the network inside the block, and choose a layer "
        "that it uses"
    )


def _network(target: Target) -> nn.Module:
    return target if isinstance(target, nn.Module) else target.network


@torch.inference_mode()
def _run(target: Target, images: Tensor) -> None:
    """Run one batch in eval mode."""
    with evaluating(_network(target)):
        if isinstance(target, nn.Module):
            weight = next(target.parameters(), images)
            target(images.to(weight.device))
        else:
            target.logits(images, max(1, len(images)))


@contextmanager
def _watched(
    target: Target, layers: Iterable[Layer], note: Callable[[Layer, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call ``note(layer, output)`` at every call of a layer; what it returns is the new output."""
    network = _network(target)
    found = {layer: find_layer(target, layer) for layer in layers}
    in_pass: set[Layer] | None = None  # the layers that this pass has called; None outside of one

    def begin(*_: object) -> None:
        nonlocal in_pass
        in_pass = set()

    def end(*_: object) -> None:
        nonlocal in_pass
        in_pass = None

    def hook(layer: Layer, output: object) -> Tensor | None:
        name = found[layer][0]
        if in_pass is not None:
            if layer in in_pass:
                raise called_again(network, name)
            in_pass.add(layer)
        if not isinstance(output, Tensor):
            raise WorkbookError(
                f"the layer {name} puts out a {type(output).__name__}, not one tensor: choose "
                "another layer"
            )
        return note(layer, output)

    hooks = []
    try:
        hooks.append(network.register_forward_pre_hook(begin))
        hooks.append(network.register_forward_hook(end, always_call=True))
        for layer, (_, module) in found.items():
            hooks.append(
                module.register_forward_hook(lambda _m, _i, output, key=layer: hook(key, output))
            )
        yield
    finally:
        for handle in hooks:
            handle.remove()
