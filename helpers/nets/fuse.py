"""Convolution and activation in one step, for passes on a CPU that need no gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_RELU = ("relu", [])
_ACTIVATIONS = {
    nn.ReLU: _RELU, F.relu: _RELU, torch.relu: _RELU, nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}  # fmt: skip


class _Step(nn.Module):
    """A convolution, and the activation after it, as one operation of oneDNN.

    The map is written once, after the activation, instead of written, read and written again.
    """

    def __init__(self, convolution: nn.Conv2d, activation: str, bounds: list[float]) -> None:
        super().__init__()
        self.convolution = convolution
        self.activation = activation
        self.bounds = bounds

    def forward(self, x: Tensor) -> Tensor:
        c = self.convolution
        return torch.ops.mkldnn._convolution_pointwise(
            x, c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups,
            self.activation, self.bounds, "",
        )  # fmt: skip


def fuse_activations(network: fx.GraphModule) -> fx.GraphModule:
    """Run each plain convolution together with the ReLU or ReLU6 that alone reads it; in place.

    The modules of the network themselves are not touched. The operation is PyTorch's own, meant
    for its compiler: callers check that the result is the same function, and that it runs.
    """
    modules = dict(network.named_modules())
    for i, node in enumerate(list(network.graph.nodes)):
        convolution = modules.get(node.target) if node.op == "call_module" else None
        if type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
            continue
        if isinstance(convolution.padding, str):
            continue
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        kind = _activation(reader, modules) if reader else None
        network.add_submodule(f"step_{i}", _Step(convolution, *(kind or ("none", []))))
        node.target = f"step_{i}"
        if kind:
            reader.replace_all_uses_with(node)
            network.graph.erase_node(reader)
    network.recompile()
    return network


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, list[float]] | None:
    if node.op == "call_module":
        return _ACTIVATIONS.get(type(modules[node.target]))
    return _ACTIVATIONS.get(node.target) if node.op == "call_function" else None
