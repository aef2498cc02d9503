"""Models: every architecture builds, classifies and can be explained; misfits are named."""

from contextlib import ExitStack
from functools import partial

import pytest
import torch
from torch import nn

from helpers import data
from helpers.course import checks
from helpers.data import ImageSet, assets
from helpers.explain import explain, lime
from helpers.nets import models, parts, training
from helpers.nets.recording import activations, edited, record
from helpers.run.errors import WorkbookError

CLASSES = tuple("abcde")
SIZES = [
    (name, size)
    for name, about in models.ARCHITECTURES.items()
    for size in about.sizes or ((32, 64, 224) if name == "shapes_net" else (32, 224))
]


@pytest.mark.filterwarnings("ignore:.*finds nothing")
@pytest.mark.parametrize(("name", "size"), SIZES)
def test_every_architecture_classifies_and_can_be_explained(name, size):
    torch.manual_seed(0)
    classifier = models.build(name, CLASSES, size)
    about = classifier.architecture
    first, deeper, last, head = (
        classifier.layer(layer) for layer in (about.first, about.deeper, about.last, about.head)
    )
    assert all(isinstance(conv, nn.Conv2d) for conv in (first, deeper, last))
    assert first.weight.shape[1] == 3
    assert len(head.weight) == len(CLASSES)
    assert about.stages[-1] == about.target
    assert classifier.target is classifier.layer(about.target)

    n = 1 if size == 224 else 2
    images = torch.rand(n, 3, size, size)
    in_order = list(dict.fromkeys([about.first, about.deeper, about.last, about.head]))
    order = []
    with ExitStack() as stack:
        for layer in in_order[::-1]:
            stack.enter_context(edited(classifier, layer, lambda x, n=layer: order.append(n) or x))
        seen = stack.enter_context(record(classifier, about.stages))
        logits = classifier.logits(images)
    assert order == in_order, "in the order of computation"
    assert logits.shape == (n, 5)
    assert logits.isfinite().all()
    heights = [seen[stage].shape[2] for stage in about.stages]
    assert heights == sorted(heights, reverse=True)
    assert min(seen[about.target].shape[2:]) > 1

    maps = explain("gradcam", classifier, images, torch.tensor([0, 3][:n]))
    assert maps.shape == (n, size, size)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_the_map_size_is_that_of_the_layer_s_output():
    classifier = models.build("shapes_net", CLASSES, 64)
    assert classifier.map_size() == (96, 8, 8)
    assert classifier.map_size("conv1") == (24, 32, 32)
    assert not any(module._forward_hooks for module in classifier.network.modules())


def test_a_seed_gives_the_weights_and_leaves_other_random_numbers_alone():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again, other = (models.build("shapes_net", CLASSES, 64, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [c.network.conv1.weight for c in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    torch.manual_seed(1)
    assert torch.equal(models.ARCHITECTURES["shapes_net"].build(5, True).conv1.weight, weights[0])


def test_a_check_leaves_the_reader_s_random_numbers_alone():
    state = torch.get_rng_state()
    checks.normalise_filters(lambda w: 0.5 + w / w.abs().amax((1, 2, 3), True).clamp(min=1e-9) / 2)
    assert torch.equal(torch.get_rng_state(), state)


def as_trained(name):
    """Return a network whose BatchNorms have statistics and weights of their own."""
    network = models.build(name, CLASSES, 64).network
    generator = torch.Generator().manual_seed(0)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.3, generator=generator)
            m.running_var.uniform_(0.01, 3, generator=generator)
            nn.init.uniform_(m.weight, 0, 2, generator=generator)
            nn.init.normal_(m.bias, 0, 0.3, generator=generator)
    return network


@pytest.mark.parametrize(
    "name", ["shapes_net", "resnet20", "resnet18", "resnet50", "mobilenet_v2", "densenet121"]
)
@torch.no_grad()
def test_a_folded_network_agrees_and_one_altered_by_half_a_percent_does_not(name):
    network = as_trained(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = network(images)
    folded = parts.fold(network, parts.trace(network))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) or "dense" in name
    assert parts.agree(folded(parts.fast_layout(images)), expected)
    assert not parts.agree(expected[:1], expected)
    head = network.get_submodule(models.ARCHITECTURES[name].head)
    head.weight.mul_(1.005)
    head.bias.mul_(1.005)
    assert not parts.agree(network(images), expected)
    assert parts.agree(network(images), expected, tolerance=0.01), "a caller may allow more"
    head.weight.div_(1.005)
    head.bias.div_(1.005)
    network.get_submodule(models.ARCHITECTURES[name].last).weight.mul_(1.005)
    assert not parts.agree(network(images), expected)


def test_parts_refuse_a_layer_that_is_called_twice(one_line):
    with pytest.raises(WorkbookError) as error:
        parts.Parts(models.build("resnet18", CLASSES, 64).network, "layer1.0.relu")
    one_line(error, "layer1.0.relu is called several times", "layer1.0")


def test_the_stages_of_small_nets_match_the_papers():
    # He et al. 2016, section 4.2: 0.27 M and 0.85 M parameters, 10 classes
    for name, millions in (("resnet20", 0.27), ("resnet56", 0.85)):
        network = models.build(name, models.CIFAR10_CLASSES, 32).network
        n = sum(p.numel() for p in network.parameters())
        assert n / 1e6 == pytest.approx(millions, abs=0.006)


def test_an_unknown_model_offers_the_nearest(one_line):
    with pytest.raises(WorkbookError) as error:
        models.build("resnet19", CLASSES, 32)
    one_line(error, "'resnet19'", "did you mean resnet18")


def test_an_unknown_layer_offers_the_nearest(one_line):
    with pytest.raises(WorkbookError) as error:
        models.build("shapes_net", CLASSES, 64).layer("layer33")
    one_line(error, "'layer33'", "did you mean layer3")


def test_an_unknown_layer_does_not_list_the_whole_network():
    with pytest.raises(WorkbookError) as error:
        models.build("densenet121", CLASSES, 32).layer("nothing like it")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(3, 64, 64),
        torch.zeros(2, 1, 64, 64),
        torch.zeros(2, 64, 64, 3),
    ],
    ids=["uint8", "one image", "grey", "channels last"],
)
def test_images_of_another_form_are_refused(images, one_line):
    with pytest.raises(WorkbookError) as error:
        models.build("shapes_net", CLASSES, 64).preprocess(images)
    one_line(error, "shapes_net takes float images [N, 3, H, W]", str(images.dtype))


def test_images_are_scaled_and_normalised():
    classifier = models.build("shapes_net", CLASSES, 64)
    grey = torch.full((1, 3, 40, 40), 0.5)
    ready = classifier.preprocess(grey)
    assert ready.shape == (1, 3, 64, 64)
    for c, (mean, std) in enumerate(zip(*models.IMAGENET_STATISTICS, strict=True)):
        assert ready[0, c].mean().item() == pytest.approx((0.5 - mean) / std, abs=1e-4)


def test_batches_do_not_change_the_logits():
    classifier = models.build("shapes_net", CLASSES, 64)
    images = torch.rand(5, 3, 64, 64)
    whole, parts = classifier.logits(images), classifier.logits(images, batch_size=2)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    probabilities = classifier.probabilities(images)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5))


def test_nan_weights_are_noticed(one_line):
    classifier = models.build("shapes_net", CLASSES, 64)
    classifier.network.linear.bias.data[1] = float("nan")
    with pytest.raises(WorkbookError) as error:
        classifier.logits(torch.rand(1, 3, 64, 64))
    one_line(error, "shapes_net", "NaN", "train again")


class Talker(nn.Module):
    """A network that says its logits in another form."""

    def __init__(self, form):
        super().__init__()
        self.form, self.layer = form, nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.ReLU())

    def forward(self, x):
        return self.form(self.layer(x).mean(dim=(2, 3)))


CALLS = {
    "logits": lambda c, images: c.logits(images),
    "LIME": lambda c, images: lime.explain(c, images, [0, 0], num_samples=8),
    "training": lambda c, images: training.fit(c, FEW, FEW, training.Recipe(1, 1e-3)),
    "layers": lambda c, images: activations(c, "layer", images),
    **{m: partial(lambda m, c, images: explain(m, c, images, [0, 0], **AT.get(m, {})), m)
       for m in ("gradcam", "scorecam", "guided backprop", "occlusion", "kernel shap")},
}  # fmt: skip
AT = {"gradcam": {"layer": "layer"}, "scorecam": {"layer": "layer"}}
FEW = ImageSet(
    "few", "test", torch.arange(2 * 3 * 64 * 64).view(2, 3, 64, 64).to(torch.uint8),
    torch.arange(2), CLASSES, ("a", "b"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda z: {"logits": z, "aux": z}, ("a dict (logits, aux)", "returns the logits alone")),
        (lambda z: (z, z), ("a tuple, not", "returns the logits alone")),
        (lambda z: z[:, :1], ("one logit z per image", "[0, z]")),
        (lambda z: z[:, 0], ("one logit z per image", "[0, z]")),
        (lambda z: z[:, :3], ("[3] per image and has 5 class names", "one logit for each")),
        (lambda z: z[:, :, None, None], ("[5, 1, 1] per image", "one logit for each")),
    ],
    ids=["dictionary", "tuple", "one logit", "no axis", "too few", "map"],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_network_that_gives_no_logits_is_named(call, form, said, one_line):
    classifier = models.Classifier("shapes_net", Talker(form), CLASSES, 64, (0.5,) * 3, (0.3,) * 3)
    with pytest.raises(WorkbookError) as error:
        CALLS[call](classifier, FEW.images)
    one_line(error, "the network shapes_net gives", *said)


@pytest.mark.parametrize("call", CALLS)
def test_the_same_network_with_its_logits_alone_is_fine(call):
    network = Talker(lambda z: z)
    classifier = models.Classifier("shapes_net", network, CLASSES, 64, (0.5,) * 3, (0.3,) * 3)
    assert CALLS[call](classifier, FEW.images) is not None


def test_weights_of_another_architecture_are_named(one_line):
    network = models.build("shapes_net", CLASSES, 64).network
    weights = network.state_dict()
    missing = {k: v for k, v in weights.items() if k != "conv1.weight"}
    with pytest.raises(WorkbookError) as error:
        models.load_weights(network, missing, "here.pt")
    one_line(error, "here.pt", "lacks conv1.weight")
    with pytest.raises(WorkbookError) as error:
        models.load_weights(network, weights | {"fc.weight": torch.zeros(2)}, "here.pt")
    one_line(error, "has in addition fc.weight")
    with pytest.raises(WorkbookError) as error:
        models.load_weights(network, weights | {"linear.bias": torch.zeros(7)}, "here.pt")
    one_line(error, "has in another shape linear.bias")


def test_fitting_weights_are_loaded_even_without_batch_counters():
    source, target = (models.build("shapes_net", CLASSES, 64).network for _ in range(2))
    weights = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    models.load_weights(target, weights, "here.pt")
    assert torch.equal(target.conv1.weight, source.conv1.weight)


def test_unknown_pretrained_weights_are_named(one_line):
    with pytest.raises(WorkbookError) as error:
        models.pretrained("resnet18", "imagenette")
    one_line(error, "'imagenette'", "did you mean imagenet")
    with pytest.raises(WorkbookError) as error:
        models.pretrained("densenet121", "cifar10")
    one_line(error, "cifar10 weights", "resnet56")


def test_pretrained_weights_are_those_of_the_asset(monkeypatch):
    weights = models.build("resnet20", models.CIFAR10_CLASSES, 32).network.state_dict()
    monkeypatch.setattr(assets, "state_dict", lambda name: (weights, f"note on {name}"))
    classifier = models.pretrained("resnet20", "cifar10")
    assert torch.equal(classifier.network.linear.weight.cpu(), weights["linear.weight"])
    assert classifier.class_names == models.CIFAR10_CLASSES
    assert classifier.mean == models.IMAGENET_STATISTICS[0], "these weights were trained with it"
    assert classifier.note == "note on cifar10_resnet20"


def test_every_pretrained_model_has_an_asset():
    catalogue = assets.catalogue()
    for known in models.PRETRAINED.values():
        for name, (asset, _) in known.items():
            assert name in models.ARCHITECTURES
            assert asset in catalogue


def top1(classifier, images):
    return (classifier.logits(images.images).argmax(dim=1) == images.labels).float().mean().item()


@pytest.mark.mirror
@pytest.mark.parametrize(("name", "expected"), [("resnet20", 0.81), ("resnet56", 0.83)])
def test_the_public_cifar10_weights_classify_the_mirror_s_images(name, expected):
    classifier = models.pretrained(name, "cifar10")
    assert classifier.class_names == models.CIFAR10_CLASSES
    assert top1(classifier, data.load("cifar10", "test", 1000)) == pytest.approx(expected, abs=0.04)


@pytest.mark.mirror
def test_the_mirror_s_resnet18_has_the_architecture_that_we_build():
    classifier = models.pretrained("resnet18", "cifar10")
    assert top1(classifier, data.load("cifar10", "test", 200)) > 0.8
    assert "trained by us" in classifier.note


@pytest.mark.mirror
def test_mobilenet_knows_the_imagenet_samples():
    classifier = models.pretrained("mobilenet_v2")
    assert top1(classifier, data.load("imagenet_samples", n=100)) > 0.7
    assert "de-quantised" in classifier.note
