"""The same network in a faster form: BatchNorm folded away, maps laid out as a CPU wants them."""

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

_ACTIVATIONS = dict.fromkeys((nn.ReLU, F.relu, torch.relu), ("relu", []))
_ACTIVATIONS[nn.ReLU6] = "hardtanh", [0.0, 6.0]


def trace(network: nn.Module, layer: nn.Module | None = None) -> fx.Graph | None:
    """Return the graph of a network, the layer being one node; None if it cannot be traced."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return module is layer or super().is_leaf_module(module, name)

    try:
        return Tracer().trace(network)
    except Exception:  # tracing runs foreign code on symbols, which can fail in any way
        return None


def fold(network: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Return a graph as a module, each BatchNorm folded into the convolution before it.

    The network must be in eval mode; its own modules are not touched.
    """
    return fuse(fx.GraphModule(network, graph), inplace=True, no_trace=True)


def agree(logits: Tensor, expected: Tensor, tolerance: float | None = None) -> bool:
    """Say whether two computations of the same logits differ by rounding only.

    ``tolerance`` is the largest difference, as a share of the largest logit: of float32 1e-4,
    about a hundred times what folding changes here; with TF32 (ten bits) on a GPU 2e-3.
    """
    if tolerance is None:
        tolerance = 2e-3 if logits.is_cuda and torch.backends.cudnn.allow_tf32 else 1e-4
    if logits.shape != expected.shape:
        return False
    return bool((logits - expected).abs().max() <= tolerance * expected.abs().max())


def fast_layout(value: Tensor) -> Tensor:
    """Lay maps [N, C, H, W] out as the CPU's convolutions want them: channels last."""
    if value.ndim == 4 and value.device.type == "cpu":
        return value.contiguous(memory_format=torch.channels_last)
    return value


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

    The modules of the network themselves are not touched. Callers check that the result is the
    same function, and that it runs here.
    """
    # The operation is private to PyTorch, made for its compiler. Without it LIME takes 1.20 times
    # as long on MobileNetV2 (bfloat16: 1.15), segmentation included; a pass 1.18 times (1.19), on
    # ResNet-18 1.01 times: medians of the CPU time of one thread, in turn with the folded network.
    modules = dict(network.named_modules())
    for i, node in enumerate(list(network.graph.nodes)):
        convolution = modules.get(node.target) if node.op == "call_module" else None
        plain = type(convolution) is nn.Conv2d and convolution.padding_mode == "zeros"
        if not plain or isinstance(convolution.padding, str):
            continue
        kind, reader = None, next(iter(node.users), None)
        if len(node.users) == 1:
            by_module = reader.op == "call_module"
            kind = _ACTIVATIONS.get(type(modules[reader.target]) if by_module else reader.target)
        network.add_submodule(f"step_{i}", _Step(convolution, *(kind or ("none", []))))
        node.target = f"step_{i}"
        if kind:
            reader.replace_all_uses_with(node)
            network.graph.erase_node(reader)
    network.recompile()
    return network
