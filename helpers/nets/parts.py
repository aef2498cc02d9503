"""Run only a part of a network: what follows one layer, given what that layer puts out."""

import operator
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from helpers.nets.folding import agree, fast_layout, fold, trace
from helpers.nets.recording import Layer, called_again, edited, find_layer

Rest = Callable[[Tensor, Tensor], Tensor]


class Parts:
    """A network cut at the output of one layer.

    The traced graph falls into what depends on that output (the tail) and what does not (the head).
    Values of the head that the tail reads, such as residual shortcuts, bypass the layer: they are
    computed once per image. A network that cannot be traced, or whose tail does not give its own
    logits, is run whole, the layer's output being replaced.

    The network is in eval mode, and maps images [N, 3, H, W] to logits [N, K].

    Raises:
        WorkbookError: unknown layer, or one that is called several times in one pass.
    """

    def __init__(self, network: nn.Module, layer: Layer) -> None:
        self.network = network
        self.layer, module = find_layer(network, layer)
        graph = trace(network, module)
        self._head, self._tail = _cut(graph, network, self.layer) if graph else (None, None)

    def rest(self, images: Tensor, output: Tensor, logits: Tensor) -> Rest:
        """Return the function that continues from the layer's output to the logits.

        Of images [N, 3, H, W], what the layer puts out, [N, ...], and the logits [N, K], it makes
        a function of a changed output [B, ...], which it may overwrite, and of the image that
        each row belongs to, int64 [B]; that one returns logits [B, K].
        """

        def whole(changed: Tensor, rows: Tensor) -> Tensor:
            with edited(self.network, self.layer, lambda _output: changed):
                return self.network(images[rows])

        if self._tail is None:
            return whole
        tail, bypass = fold(self.network, self._tail), self._bypass(images)

        def after(changed: Tensor, rows: Tensor) -> Tensor:
            return tail(fast_layout(changed), *(_rows(value, rows) for value in bypass))

        # One row more than images: a batch size that was traced as a constant shows up here.
        rows = torch.arange(len(images) + 1, device=output.device) % len(images)
        try:
            return after if agree(after(output[rows], rows), logits[rows]) else whole
        except RuntimeError:
            return whole

    def channel_effects(
        self, images: Tensor, output: Tensor, logits: Tensor
    ) -> Iterator[Tensor] | None:
        """Return, image by image, what each channel adds to each logit, float64 [C, K].

        No pass is needed where the tail treats every channel alone (pooling, ReLU, BatchNorm, a
        shortcut) up to one linear layer W: with g the part before it, channel k adds
        W_k (g(A)_k - g(0)_k). Elsewhere the answer is None. The arguments are those of
        :meth:`rest`, the output being maps [N, C, h, w].
        """
        split = self._tail and _split_linear(self._tail, self.network)
        if not split:
            return None
        before, linear = fx.GraphModule(self.network, split[0]), split[1]
        bypass, every = self._bypass(images), torch.arange(len(images), device=output.device)
        full, empty = (
            before(maps, *(_rows(value, every) for value in bypass))
            for maps in (output.clone(), torch.zeros_like(output))
        )
        if not agree(linear(full), logits):
            return None
        shares = (full - empty).double().unflatten(1, (output.shape[1], -1))
        weight = linear.weight.double().unflatten(1, (output.shape[1], -1))
        return (torch.einsum("cs,kcs->ck", share, weight) for share in shares)

    def _bypass(self, images: Tensor) -> tuple:
        """Return the values that reach the tail beside the layer."""
        return fx.GraphModule(self.network, self._head)(images) if self._head else ()


def _rows(value: object, rows: Tensor) -> object:
    return fast_layout(value[rows]) if isinstance(value, Tensor) else value


def _cut(
    graph: fx.Graph, network: nn.Module, layer: str
) -> tuple[fx.Graph | None, fx.Graph | None]:
    """Split a graph at the call of a layer into head, if anything bypasses it, and tail."""
    nodes, module = list(graph.nodes), network.get_submodule(layer)
    modules = ((n, network.get_submodule(n.target)) for n in nodes if n.op == "call_module")
    calls = [node for node, called in modules if called is module]
    if len(calls) > 1:
        raise called_again(network, layer)
    if not calls:
        return None, None
    (target,) = calls
    fed = _descendants(nodes, {n for n in nodes if n.op == "placeholder"})
    after = _descendants(nodes, {target})
    bypass = [n for n in nodes if n in fed - after and after.intersection(n.users)]
    head, tail = fx.Graph(), fx.Graph()
    in_head: dict[fx.Node, fx.Node] = {}
    in_tail = {n: tail.placeholder(n.name) for n in (target, *bypass)}
    for node in nodes:
        if node not in after:
            in_head[node] = head.node_copy(node, in_head.__getitem__)
        # What no image feeds, such as a bare parameter, is recomputed in the tail.
        if node not in in_tail and (node in after or node not in fed):
            in_tail[node] = tail.node_copy(node, in_tail.__getitem__)
    head.output(tuple(in_head[n] for n in bypass))
    return (head if bypass else None), tail


def _descendants(nodes: Iterable[fx.Node], roots: set[fx.Node]) -> set[fx.Node]:
    found = set(roots)
    for node in nodes:
        if found.intersection(node.all_input_nodes):
            found.add(node)
    return found


_CHANNELWISE_MODULES = (
    nn.BatchNorm2d, nn.Dropout, nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish,
    nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d,
)  # fmt: skip
_CHANNELWISE_FUNCTIONS = {
    operator.add, operator.iadd, torch.add, torch.relu, F.relu, F.relu6, F.dropout,
    F.adaptive_avg_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.max_pool2d,
}  # fmt: skip


def _channelwise(node: fx.Node, network: nn.Module) -> bool:
    """Say whether channel k of the result depends on nothing but channel k of the inputs."""
    if node.op == "call_module":
        module = network.get_submodule(node.target)
        return isinstance(module, _CHANNELWISE_MODULES) or (
            isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
        )
    if node.op == "placeholder" or node.target in _CHANNELWISE_FUNCTIONS:
        return True
    over = [*node.args[1:], *node.kwargs.values()]
    if node.target in (torch.flatten, "flatten"):
        return over == [1]
    if node.target in (torch.mean, "mean"):
        return over in ([(2, 3)], [[2, 3]], [(-2, -1)], [[-2, -1]], [(-1, -2)], [[-1, -2]])
    return False


def _split_linear(tail: fx.Graph, network: nn.Module) -> tuple[fx.Graph, nn.Linear] | None:
    """Split a tail that is channel-wise up to a final linear layer into these two."""
    *body, last, output = tail.nodes
    if last.op != "call_module" or output.args != (last,):
        return None
    linear = network.get_submodule(last.target)
    if not isinstance(linear, nn.Linear) or not all(_channelwise(n, network) for n in body):
        return None
    before = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in body:
        copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(copies[last.args[0]])
    return before, linear
