"""Models: every architecture builds, classifies and can be explained; misfits are named."""

import pytest
import torch
from torch import nn

from helpers import data
from helpers.data import assets
from helpers.explain import cams as cam
from helpers.nets import models
from helpers.run.errors import WorkbookError

CLASSES = tuple("abcde")
SIZES = [
    (name, size)
    for name, about in models.ARCHITECTURES.items()
    for size in about.sizes or ((32, 64, 224) if name == "shapes_net" else (32, 224))
]


def watch(classifier, layers, images):
    """Return the logits, and the output of each layer in the order of computation."""
    outputs, hooks = {}, []
    for layer in layers:

        def note(_module, _inputs, output, name=layer):
            outputs[name] = output

        hooks.append(classifier.layer(layer).register_forward_hook(note))
    logits = classifier.logits(images)
    for hook in hooks:
        hook.remove()
    return logits, outputs


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
    logits, outputs = watch(classifier, [*reversed(in_order), *about.stages], images)
    assert logits.shape == (n, 5)
    assert logits.isfinite().all()
    assert [layer for layer in outputs if layer in in_order] == in_order
    maps = [(about.reshape or (lambda x: x))(outputs[stage]) for stage in about.stages]
    heights = [m.shape[2] for m in maps]
    assert heights == sorted(heights, reverse=True)
    assert min(maps[-1].shape[2:]) > 1

    maps = cam.explain(
        "gradcam",
        classifier.network,
        classifier.target,
        classifier.preprocess(images),
        [0, 3][:n],
        reshape=about.reshape,
    )
    assert maps.shape == (n, size, size)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_the_map_size_is_that_of_the_layer_s_output():
    classifier = models.build("shapes_net", CLASSES, 64)
    assert classifier.map_size() == (96, 8, 8)
    assert classifier.map_size("conv1") == (24, 32, 32)
    assert not any(module._forward_hooks for module in classifier.network.modules())


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
