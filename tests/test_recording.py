"""Recording: what layers put out, in order and form, one behaviour everywhere, nothing left."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.nets import models, recording
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).parents[1]
IMAGES = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LAYERS = ["conv1", "layer1", "layer3"]


@pytest.fixture(scope="module")
def net():
    return models.build("shapes_net", tuple("abc"), 64)


@pytest.fixture(scope="module")
def vit():
    return models.build("shapes_vit", tuple("abc"), 64)


class Twice(nn.Module):
    """Calls its ReLU twice, overwriting what it reads, and never its spare layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)
        self.relu = nn.ReLU(inplace=True)
        self.spare = nn.Linear(1, 1)

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x)))).mean(dim=(2, 3))


def clean(network):
    return not any(
        hooks
        for m in network.modules()
        for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )


# ---- record -------------------------------------------------------------------------------------


def test_several_layers_and_passes_are_recorded_in_their_order(net):
    with recording.record(net, LAYERS) as seen:
        logits = net.logits(IMAGES, batch_size=2)  # three passes
    assert list(seen) == LAYERS
    assert [tuple(maps.shape) for maps in seen.values()] == [
        (5, 24, 32, 32), (5, 24, 32, 32), (5, 96, 8, 8),
    ]  # fmt: skip
    assert all(m.dtype == torch.float32 and not m.requires_grad for m in seen.values())
    head = net.layer("linear")
    again = head(seen["layer3"].mean(dim=(2, 3)))
    torch.testing.assert_close(again, logits)
    assert clean(net.network)


def test_one_name_is_enough_and_a_module_serves_as_well(net):
    with recording.record(net, "layer3") as by_name, recording.record(net, net.target) as by_module:
        net.logits(IMAGES)
    assert torch.equal(by_name["layer3"], by_module[net.target])
    assert not by_name["layer3"].is_inference(), "the reader may go on computing with it"


def test_what_follows_in_place_does_not_change_the_record():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    expected = network[0](IMAGES)
    assert expected.min() < 0
    for keep in ("maps", "graph", "leaf"):
        with recording.record(network, "0", keep) as seen:
            network(IMAGES)
        torch.testing.assert_close(seen["0"], expected)


def test_a_record_can_be_cleared_between_batches(net):
    found = []
    with recording.record(net, "layer3") as seen:
        for batch in IMAGES.split(2):
            net.logits(batch)
            found.append(seen["layer3"])
            seen.clear()
    assert [len(maps) for maps in found] == [2, 2, 1]
    torch.testing.assert_close(torch.cat(found), recording.activations(net, "layer3", IMAGES))


def test_other_numbers_are_recorded_as_float32():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).bfloat16()
    with recording.record(network, "1") as seen:
        network(torch.rand(4, 3, 2, 2, dtype=torch.bfloat16))
    assert seen["1"].dtype == torch.float32


def test_tokens_become_maps(vit):
    target, head = vit.architecture.target, vit.architecture.head
    with recording.record(vit, [target, head, "conv_proj"]) as seen:
        vit.logits(IMAGES)
    assert seen[target].shape == seen["conv_proj"].shape == (5, 64, 8, 8)
    assert seen[head].shape == (5, 3), "no tokens"
    with recording.record(vit, target, "graph") as tokens:
        vit.network(vit.preprocess(IMAGES))
    assert tokens[target].shape == (5, 65, 64)
    torch.testing.assert_close(recording.as_maps(vit, tokens[target]), seen[target])


def test_gradients_can_be_taken_at_a_layer(net):
    with recording.frozen(net.network), recording.record(net, "layer2", "graph") as seen:
        images = net.preprocess(IMAGES).requires_grad_()
        score = net.network(images)[:, 0].sum()
    at_layer, at_image = torch.autograd.grad(score, [seen["layer2"], images])
    assert at_layer.shape == seen["layer2"].shape and at_layer.any()
    assert at_image.any(), "the graph goes on to the images"


def test_with_leaf_the_graph_begins_at_the_layer(net):
    with recording.record(net, "layer2", "leaf") as seen:
        net.network(net.preprocess(IMAGES).requires_grad_())[:, 0].sum().backward()
    assert seen["layer2"].is_leaf and seen["layer2"].grad.any()
    assert net.network.conv1.weight.grad is None
    assert net.network.linear.weight.grad is not None
    net.network.zero_grad()
    with torch.no_grad(), recording.record(net, "layer2", "leaf") as seen:
        net.network(net.preprocess(IMAGES))
    assert not seen["layer2"].requires_grad


# ---- edited -------------------------------------------------------------------------------------


def test_an_edited_output_is_what_the_network_goes_on_with(net):
    expected = net.layer("linear")(torch.zeros(1, 96)).detach().expand(5, -1)
    with recording.edited(net, "layer3", torch.zeros_like):
        torch.testing.assert_close(net.logits(IMAGES), expected)
    assert clean(net.network)
    assert not torch.allclose(net.logits(IMAGES), expected)


def test_editing_sees_tokens_as_they_are(vit):
    shapes = []
    with recording.edited(vit, vit.architecture.target, lambda t: shapes.append(t.shape) or t):
        vit.logits(IMAGES)
    assert shapes == [(5, 65, 64)]


def test_an_edit_that_never_happens_is_an_error(net, one_line):
    with pytest.raises(WorkbookError) as error, recording.edited(net, "layer3", torch.relu):
        pass
    one_line(error, "layer3", "was not called")


# ---- activations, unit_means, receptive_field ---------------------------------------------------


def test_activations_and_unit_means_agree(net, vit):
    for classifier in (net, vit):
        layers = classifier.architecture.stages
        means = recording.unit_means(classifier, layers, IMAGES, batch_size=2)
        assert list(means) == list(layers)
        for layer in layers:
            maps = recording.activations(classifier, layer, IMAGES, batch_size=3)
            torch.testing.assert_close(means[layer], maps.mean(dim=(2, 3)))
    head = recording.unit_means(net, "linear", IMAGES)["linear"]
    torch.testing.assert_close(head, net.logits(IMAGES))


def test_the_receptive_field_is_that_of_the_kernels(net):
    assert recording.receptive_field(net, "conv1") == 7
    assert recording.receptive_field(net, "layer1.0.conv1") == 11  # a 3 x 3 kernel at stride 2


def test_a_receptive_field_leaves_random_numbers_and_weights_alone(net):
    state = torch.get_rng_state()
    recording.receptive_field(net, "layer1")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in net.network.parameters())


# ---- one behaviour everywhere -------------------------------------------------------------------

EVERY = {
    "record": lambda target, layer: _record(target, layer, "maps"),
    "record graph": lambda target, layer: _record(target, layer, "graph"),
    "record leaf": lambda target, layer: _record(target, layer, "leaf"),
    "edited": lambda target, layer: _edit(target, layer),
    "activations": lambda target, layer: recording.activations(target, layer, IMAGES),
    "unit_means": lambda target, layer: recording.unit_means(target, [layer], IMAGES),
    "receptive_field": recording.receptive_field,
    "map_size": lambda target, layer: target.map_size(layer),
}


def _record(target, layer, keep):
    with recording.record(target, layer, keep) as seen:
        target.network(target.preprocess(IMAGES))
    return seen[layer]


def _edit(target, layer):
    with recording.edited(target, layer, torch.relu):
        target.logits(IMAGES)


@pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
def test_a_layer_that_is_called_twice_is_the_same_error_everywhere(call, one_line):
    classifier = models.build("resnet18", tuple("abc"), 64)
    with pytest.raises(WorkbookError) as error:
        call(classifier, "layer1.0.relu")
    one_line(error, "layer1.0.relu is called several times", "take the block around it, layer1.0")
    assert clean(classifier.network)
    call(classifier, "layer1.0")  # what the message says is possible


@pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
def test_an_unknown_layer_and_one_never_called_are_errors(call, one_line):
    classifier = models.build("shapes_net", tuple("abc"), 64)
    classifier.network.layer1[0].spare = nn.ReLU()
    for layer, words in (("layer9", ["'layer9'", "did you mean layer"]),
                         ("layer1.0.spare", ["layer1.0.spare", "was not called"])):  # fmt: skip
        with pytest.raises(WorkbookError) as error:
            call(classifier, layer)
        one_line(error, *words)
        assert clean(classifier.network)


def test_the_block_to_take_is_one_that_is_called(one_line):
    class Reuses(nn.Module):
        def __init__(self):
            super().__init__()
            self.acts = nn.ModuleList([nn.ReLU()])

        def forward(self, x):
            return self.acts[0](self.acts[0](x))

    network = nn.Sequential(nn.Identity(), Reuses())
    with pytest.raises(WorkbookError) as error:
        recording.activations(network, "1.acts.0", IMAGES)
    one_line(error, "take the block around it, 1")
    with pytest.raises(WorkbookError) as error:
        recording.activations(Twice(), "relu", IMAGES)
    one_line(error, "relu", "take the layer before or after it")


def test_a_layer_of_another_network_and_an_output_without_tensor_are_errors(net, vit, one_line):
    with pytest.raises(WorkbookError) as error:
        recording.activations(net, nn.Conv2d(3, 3, 3), IMAGES)
    one_line(error, "the layer Conv2d is not part of shapes_net")
    with pytest.raises(WorkbookError) as error:
        recording.activations(vit, "encoder.layers.encoder_layer_0.self_attention", IMAGES)
    one_line(error, "puts out a tuple")


@pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
def test_an_exception_midway_leaves_no_hooks(call, monkeypatch):
    classifier = models.build("shapes_net", tuple("abc"), 64)

    def fail(_x):
        raise IndexError("midway")

    monkeypatch.setattr(classifier.network.linear, "forward", fail)
    with pytest.raises(IndexError):
        call(classifier, "layer1")
    assert clean(classifier.network)


def test_a_pass_after_a_broken_one_counts_anew():
    network = Twice().eval()
    with recording.record(network, "first") as seen:
        with pytest.raises(RuntimeError):
            network(torch.rand(1, 3, 3, 3))  # too small for the second convolution
        seen.clear()
        network(IMAGES)
    assert len(seen["first"]) == 5


def test_modes_stay_as_they_were(net):
    network = net.network.train()
    network.layer2.eval()
    before = [m.training for m in network.modules()]
    recording.activations(net, "layer1", IMAGES)
    recording.unit_means(net, "layer1", IMAGES)
    recording.receptive_field(net, "layer1")
    with recording.record(net, "layer1") as seen:
        network(net.preprocess(IMAGES))
    assert [m.training for m in network.modules()] == before
    network.eval()
    calm = recording.activations(net, "layer1", IMAGES)
    network.train()
    assert torch.equal(recording.activations(net, "layer1", IMAGES), calm), "computed in eval mode"
    assert not torch.allclose(seen["layer1"], calm), "a recorded pass is left in its own mode"
    network.eval()


def test_a_bare_module_serves(net):
    ready = net.preprocess(IMAGES)
    torch.testing.assert_close(
        recording.activations(net.network, "layer3", ready, batch_size=2),
        recording.activations(net, "layer3", IMAGES),
    )
    assert recording.unit_means(net.network, ["layer3"], ready)["layer3"].shape == (5, 96)
    with pytest.raises(WorkbookError, match="layer of CifarResNet"):
        recording.activations(net.network, "layer9", ready)


def test_part_of_a_network_may_run_alone(net):
    maps = torch.rand(2, 24, 8, 8)
    with recording.record(net, "layer2") as seen:
        for _ in range(2):
            net.network.layer2(maps)  # outside of any pass: nothing to mix up
    assert len(seen["layer2"]) == 4


def test_nobody_else_registers_hooks():
    register = re.compile(r"register_(forward|full_backward)")
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "helpers").rglob("*.py")
        if register.search(path.read_text()) and "checks" not in path.parts
    }
    assert found == {"helpers/nets/recording.py"}
