"""The CAM family: the same maps as the library's, right answers at every layer, clear errors."""

import os
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import pytorch_grad_cam as library
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.overrides import TorchFunctionMode

from helpers.explain import METHODS, cams, explain, of_family
from helpers.nets import models
from helpers.nets.models import Classifier
from helpers.nets.parts import Parts
from helpers.run.errors import WorkbookError

TOLERANCE = 1e-4  # on maps in [0, 1]
CAMS = of_family("CAM")
LIBRARY = {
    "gradcam": library.GradCAM, "gradcam++": library.GradCAMPlusPlus,
    "xgradcam": library.XGradCAM, "hirescam": library.HiResCAM, "layercam": library.LayerCAM,
    "eigencam": library.EigenCAM, "ablationcam": library.AblationCAM, "scorecam": library.ScoreCAM,
}  # fmt: skip


@cache
def network(name):
    """A random network whose BatchNorms know their inputs, so that no signal dies out, and
    whose logits, like those of a trained one, are no small difference of large numbers.
    """
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(num_classes=10)
    head = net.get_submodule(models.ARCHITECTURES[name].head)
    nn.init.uniform_(head.weight, -0.1, 0.3)
    return settle(net, torch.randn(8, 3, 64, 64))


def settle(net, images):
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def images_and_classes(net, n, size=64, dtype=torch.float32):
    """Random images and the classes that the network sees in them, whose logits are positive."""
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)
    with torch.no_grad():
        return images, net(images).argmax(1)


def with_classifier(name, n, size=64):
    """A random classifier, images [n, 3, size, size] in [0, 1], and what it calls them."""
    net = network(name)
    classifier = Classifier(name, net, tuple("abcdefghij"), size, (0.5,) * 3, (0.3,) * 3)
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    return classifier, images, classifier.logits(images).argmax(1)


def targets(classes):
    return [ClassifierOutputTarget(int(c)) for c in classes]


def run(method, net, layer, images, classes, **options):
    return method(net, [net.get_submodule(layer)], **options)(images, targets(classes))


def output_of(net, layer, images):
    """The layer's output, untouched by what follows, and the logits."""
    outputs = []
    handle = layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.clone()))
    with torch.no_grad():
        logits = net(images)
    handle.remove()
    return outputs[0], logits


def replaced(net, layer, images, output):
    """The logits of the whole network, with the layer's output replaced."""
    handle = layer.register_forward_hook(lambda *_: output.clone())
    with torch.no_grad():
        logits = net(images)
    handle.remove()
    return logits


# A channel may move the score by little more than float32's rounding, as the few inside a dense
# layer do: then the maps of either implementation are off by more than the tolerance. In float64
# the comparison is of the methods alone.
ABLATION = [
    ("resnet18", "layer4", 2, 64, torch.float32),
    ("resnet18", "layer2", 2, 64, torch.float32),
    ("resnet18", "layer3", 2, 32, torch.float64),
    ("resnet50", "layer4", 1, 48, torch.float32),
    ("resnet50", "layer2", 1, 32, torch.float32),
    ("mobilenet_v2", "features.18", 2, 64, torch.float32),
    ("mobilenet_v2", "features.7.conv.1", 2, 64, torch.float32),
    ("mobilenet_v2", "features.14.conv.0", 1, 64, torch.float32),
    ("densenet121", "features.denseblock4.denselayer16.relu2", 1, 64, torch.float64),
    ("densenet121", "features.denseblock3.denselayer12.relu2", 1, 64, torch.float64),
    ("squeezenet1_0", "features.12", 2, 64, torch.float32),
]


@pytest.mark.parametrize(("name", "layer", "n", "size", "dtype"), ABLATION)
def test_ablationcam_gives_the_library_s_maps(name, layer, n, size, dtype):
    net = network(name).to(dtype)
    try:
        images, classes = images_and_classes(net, n, size, dtype)
        ours = run(cams.AblationCAM, net, layer, images, classes)
        theirs = run(library.AblationCAM, net, layer, images, classes)
    finally:
        net.float()
    assert theirs.max() > 0.9, "a map without heat proves nothing"
    assert np.abs(ours - theirs).max() < TOLERANCE


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("resnet18", "layer4", 64),
        ("resnet18", "layer2", 64),
        ("resnet50", "layer3", 48),
        ("resnet50", "layer1", 48),
        ("mobilenet_v2", "features.18", 64),
        ("mobilenet_v2", "features.7", 64),
        ("densenet121", "features.denseblock4.denselayer16.relu2", 64),
        ("densenet121", "features.denseblock1", 32),
    ],
)
def test_scorecam_gives_the_library_s_maps(name, layer, size):
    net = network(name)
    images, classes = images_and_classes(net, 1 if name == "resnet50" else 2, size)
    ours = run(cams.ScoreCAM, net, layer, images, classes)
    theirs = run(library.ScoreCAM, net, layer, images, classes)
    assert theirs.max() > 0.9
    assert np.abs(ours - theirs).max() < TOLERANCE


GRADIENT_METHODS = ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam"]


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("resnet18", "layer2"),
        ("resnet50", "layer3"),
        ("mobilenet_v2", "features.13"),
        ("densenet121", "features.denseblock3"),
    ],
)
def test_the_other_methods_are_the_library_s(method, name, layer):
    classifier, images, classes = with_classifier(name, 3)
    ours = explain(method, classifier, images, classes, layer)
    inputs = classifier.preprocess(images)
    theirs = run(LIBRARY[method], classifier.network, layer, inputs, classes)
    assert ours.shape == (3, 64, 64)
    assert ours.dtype == torch.float32
    assert np.abs(ours.numpy() - theirs).max() < TOLERANCE


@pytest.mark.mirror
@pytest.mark.skipif("WORKBOOK_MIRROR" not in os.environ, reason="WORKBOOK_MIRROR is not set")
@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("layer", ["features.18", "features.7.conv.1"])
def test_parity_on_the_trained_mobilenet(method, layer):
    from helpers.data import imagenet

    classifier = replace(trained_mobilenet(), input_size=96)
    images = imagenet.load_ten(96)[[3]].images
    classes = classifier.logits(images).argmax(1)
    ours = explain(method, classifier, images, classes, layer).numpy()
    inputs = classifier.preprocess(images)
    theirs = run(LIBRARY[method], classifier.network, layer, inputs, classes)
    assert theirs.max() > 0.9
    assert np.abs(ours - theirs).max() < TOLERANCE


@cache
def trained_mobilenet():
    return models.pretrained("mobilenet_v2").to("cpu")


CONVOLUTIONAL = [name for name, a in models.ARCHITECTURES.items() if a.reshape is None]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_what_follows_any_layer_gives_the_network_s_logits(name):
    """Modules from all over an architecture, of those that put out one map, are cut exactly."""
    torch.manual_seed(0)
    net = settle(models.build(name, tuple("abcde"), 32).network, torch.randn(8, 3, 24, 24))
    net = net.double()
    images = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    calls = {}
    handles = [
        m.register_forward_hook(lambda m, _i, out: calls.setdefault(m, []).append(out.ndim))
        for m in net.modules()
    ]
    with torch.no_grad():
        net(images)
    for handle in handles:
        handle.remove()
    layers = [(n, m) for n, m in net.named_modules() if n and calls.get(m) == [4]]
    architecture = models.ARCHITECTURES[name]
    known = [net.get_submodule(n) for n in (*architecture.stages, architecture.last)]
    chosen = known + [m for _, m in layers[:: len(layers) // 9 + 1]]
    for layer in chosen:
        output, logits = output_of(net, layer, images)
        changed = output * torch.rand(2, output.shape[1], 1, 1, dtype=torch.float64)
        expected = replaced(net, layer, images, changed)
        rows = torch.tensor([1, 0, 1])
        parts = Parts(net, layer)
        with torch.no_grad():
            rest = parts.rest(images, output, logits)
            got = rest(changed[rows], rows)
            assert rest.__name__ == "after", "the whole network was run"
            torch.testing.assert_close(got, expected[rows], rtol=1e-7, atol=1e-7)
            effects = parts.channel_effects(images, output, logits)
            if effects is not None:
                without = output.clone()
                k = output.shape[1] // 2
                without[:, k] = 0
                expected = replaced(net, layer, images, without)
                got = logits - torch.stack([effect[k] for effect in effects])
                torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("shapes_net", "layer3"),
        ("shapes_net", "layer3.0.conv2"),
        ("resnet18", "layer4"),
        ("resnet18", "layer4.1.conv2"),
        ("densenet121", "features.norm5"),
        ("mobilenet_v2", "features.18"),
        ("mobilenet_v2", "features.18.0"),
    ],
)
def test_last_layers_need_no_pass(name, layer, monkeypatch):
    classifier = models.build(name, tuple("abcde"), 32)
    monkeypatch.setattr(Parts, "rest", None)
    explain("ablationcam", classifier, IMAGES[:2], torch.tensor([1, 2]), layer)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_fast_forms_differ_by_rounding_only(name):
    """So that both methods take them, in single precision, at every stage."""
    net = settle(models.build(name, tuple("abcde"), 32).network, torch.randn(8, 3, 32, 32))
    images = torch.randn(2, 3, 32, 32)
    for stage in models.ARCHITECTURES[name].stages:
        layer = net.get_submodule(stage)
        output, logits = output_of(net, layer, images)
        explainer = cams.ScoreCAM(net, [layer])
        explainer.outputs = logits
        with torch.no_grad():
            assert explainer._network(images) is not net
            assert Parts(net, layer).rest(images, output, logits).__name__ == "after"


def test_closed_form_after_flattening_without_pooling():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Flatten(), nn.Linear(4 * 36, 3))
    check_against_ablation(net.eval(), net[0], torch.randn(2, 3, 8, 8))


def check_against_ablation(net, layer, images, channel_axis=1, reshape=None):
    """AblationCAM's weights are (y - y_k) / y, each channel ablated by hand."""
    output, logits = output_of(net, layer, images)
    best = logits.argmax(1)
    expected = torch.empty(len(images), output.shape[channel_axis])
    for k in range(expected.shape[1]):
        ablated = output.clone()
        ablated.select(channel_axis, k).zero_()
        expected[:, k] = replaced(net, layer, images, ablated)[range(len(images)), best]
    base = logits[range(len(images)), best][:, None]
    explainer = cams.AblationCAM(net, [layer], reshape_transform=reshape)
    weights = []
    inner = explainer.get_cam_weights
    explainer.get_cam_weights = lambda *args: weights.append(inner(*args)) or weights[0]
    explainer(images, targets(best))
    np.testing.assert_allclose(weights[0], (base - expected) / base, rtol=1e-3, atol=1e-5)
    return explainer


def test_negative_activations_are_ablated_to_zero():
    net = network("resnet18")
    images, _ = images_and_classes(net, 2, 32)
    check_against_ablation(net, net.layer3[0].conv1, images)


def test_the_library_drifts_on_negative_activations():
    """It writes min - 1e7, then min - 2e7, ... so that its maps depend on the batch size."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.Conv2d(40, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    ).eval()  # fmt: skip
    images, classes = images_and_classes(net, 2, 16)
    theirs, ours = (
        [run(method, net, "0", images, classes, batch_size=b) for b in (4, 32)]
        for method in (library.AblationCAM, cams.AblationCAM)
    )
    assert np.abs(theirs[0] - theirs[1]).max() > 0.01
    assert np.abs(ours[0] - ours[1]).max() < TOLERANCE
    assert np.abs(ours[0] - theirs[0]).max() > 0.01


class Stubborn(nn.Module):
    """A network that cannot be traced: it looks at its data; and counts what it is shown."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.deeper = nn.Conv2d(6, 5, 3)
        self.seen = []

    def forward(self, x):
        self.seen.append((len(x), len(self.conv._forward_hooks)))
        x = F.relu(self.conv(x))
        if x.sum() < 0:
            x = -x
        return F.relu(self.deeper(x)).mean((2, 3))


class BatchBound(nn.Module):
    """A network whose tail holds the batch size of the whole batch as a plain number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)).reshape(x.size(0), -1))


@pytest.mark.parametrize("kind", [Stubborn, BatchBound])
def test_networks_that_cannot_be_cut_are_run_whole(kind):
    torch.manual_seed(0)
    net = kind().eval()
    check_against_ablation(net, net.conv, torch.randn(2, 3, 12, 12))
    assert not net.conv._forward_hooks


def test_scorecam_on_an_untraceable_network():
    torch.manual_seed(0)
    net = Stubborn().eval()
    with torch.no_grad():
        net.conv.weight[2:4] = 0  # two dead channels
    images = torch.randn(3, 3, 12, 12)
    theirs = run(library.ScoreCAM, net, "conv", images, [1, 2, 0])
    explainer = cams.ScoreCAM(net, [net.conv], batch_size=5)
    net.seen.clear()
    ours = explainer(images, targets([1, 2, 0]))
    # One recorded pass; then one for all dead channels, then 3 x 4 masks, five at a time.
    assert net.seen == [(3, 1), (1, 0), (5, 0), (5, 0), (2, 0)]
    assert np.abs(ours - theirs).max() < TOLERANCE


def test_large_images_pass_in_smaller_batches():
    net = Stubborn().eval()
    run(cams.ScoreCAM, net, "conv", torch.randn(1, 3, 600, 600), [1])
    assert max(n for n, _ in net.seen) == 2


@pytest.mark.parametrize("method", [cams.AblationCAM, cams.ScoreCAM])
def test_direct_use_with_several_layers_and_no_targets(method):
    net = network("resnet18")
    images, classes = images_and_classes(net, 2)
    layers = [net.layer3, net.layer2]
    together = method(net, layers)(images, None)
    single = [method(net, [layer])(images, targets(classes)) for layer in layers]
    assert together.shape == (2, 64, 64)
    assert np.corrcoef(together.ravel(), np.mean(single, 0).ravel())[0, 1] > 0.95
    assert not net.layer3._forward_hooks


def tokens_to_grid(output):
    return output[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)


@pytest.fixture
def vit():
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    nn.init.normal_(net.heads.head.weight)
    return net


def test_ablationcam_on_a_transformer(vit):
    layer = vit.encoder.layers[1].ln_1
    explainer = check_against_ablation(
        vit, layer, torch.randn(2, 3, 32, 32), channel_axis=-1, reshape=tokens_to_grid
    )
    assert explainer._parts[layer]._tail is not None


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_a_transformer_through_the_one_call(vit, method):
    layer = vit.encoder.layers[1].ln_1
    classifier = Classifier("shapes_vit", vit, tuple("abcde"), 32, (0.5,) * 3, (0.3,) * 3)
    images, classes = IMAGES[:2], torch.tensor([1, 2])
    ours = explain(method, classifier, images, classes, layer)
    other = LIBRARY[method](vit, [layer], reshape_transform=tokens_to_grid)
    theirs = other(classifier.preprocess(images), targets(classes))
    assert np.abs(ours.numpy() - theirs).max() < TOLERANCE


@pytest.mark.parametrize("method", ["gradcam", "ablationcam"])
def test_a_layer_of_a_transformer_that_gives_maps_is_not_reshaped(vit, method):
    classifier = Classifier("shapes_vit", vit, tuple("abcde"), 32, (0.5,) * 3, (0.3,) * 3)
    images, classes = IMAGES[:2], torch.tensor([1, 2])
    ours = explain(method, classifier, images, classes, "conv_proj")
    kind = {"gradcam": library.GradCAM, "ablationcam": cams.AblationCAM}[method]
    theirs = run(kind, vit, "conv_proj", classifier.preprocess(images), classes)
    assert theirs.max() > 0.9
    assert np.abs(ours.numpy() - theirs).max() < TOLERANCE


@pytest.mark.parametrize("method", CAMS)
def test_an_in_place_relu_does_not_touch_the_activations(method):
    """bn1 of a residual block precedes one, whose result the library then explains (on the CPU)."""
    classifier, images, classes = with_classifier("resnet18", 2, 32)
    net = classifier.network
    ours = explain(method, classifier, images, classes, "layer3.0.bn1")
    relus = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    try:
        for relu in relus:
            relu.inplace = False
        if method == "ablationcam":  # where the library ablates negative values otherwise
            expected = explain(method, classifier, images, classes, "layer3.0.bn1").numpy()
        else:
            inputs = classifier.preprocess(images)
            expected = run(LIBRARY[method], net, "layer3.0.bn1", inputs, classes)
    finally:
        for relu in relus:
            relu.inplace = True
    assert np.abs(ours.numpy() - expected).max() < TOLERANCE


IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
CLASSES = torch.tensor([0, 1, 2, 0])


def small(name="shapes_net"):
    return models.build(name, tuple("abc"), 32)


def test_an_exception_midway_leaves_no_hooks(monkeypatch):
    def fail(*_):
        raise IndexError("midway")

    classifier = small()
    monkeypatch.setattr(library.GradCAM, "get_cam_weights", fail)
    with pytest.raises(IndexError):
        explain("gradcam", classifier, IMAGES, CLASSES)
    assert not any(m._forward_hooks for m in classifier.network.modules())
    assert all(p.requires_grad for p in classifier.network.parameters())


def test_only_what_follows_the_layer_is_differentiated():
    net = small().network
    recorder = cams.Recorder(net, [net.layer3])
    recorder(IMAGES)[:, 0].sum().backward()
    assert recorder.gradients[0].shape == recorder.activations[0].shape
    assert net.layer2[0].conv1.weight.grad is None


@pytest.mark.parametrize("method", CAMS)
def test_one_image_and_many_give_the_same(method):
    classifier = small()
    many = explain(method, classifier, IMAGES, CLASSES, classifier.layer("layer2"))
    ones = [
        explain(method, classifier, image[None], c[None], "layer2", batch_size=1)
        for image, c in zip(IMAGES, CLASSES, strict=True)
    ]
    torch.testing.assert_close(torch.cat(ones), many, atol=TOLERANCE, rtol=0)
    assert many.min() >= 0 and many.max() <= 1
    assert explain(method, classifier, IMAGES[:0], CLASSES[:0]).shape == (0, 32, 32)


class Passes(TorchFunctionMode):
    """Notes how many images each convolution is shown, by whatever form of a network."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d:
            self.sizes.append(len(args[0]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam", "guided backprop"])
def test_no_pass_is_larger_than_it_may_be(method):
    images = IMAGES.repeat(2, 1, 1, 1)
    layer = None if method == "guided backprop" else "layer2"
    with Passes() as seen:
        explain(method, small(), images, torch.zeros(8).long(), layer, batch_size=5)
    assert max(seen.sizes) in (5, 6), "the trial of a cut network takes one image more"


def test_images_of_another_size_get_maps_of_theirs():
    classifier = models.build("shapes_net", tuple("abc"), 64)
    maps = explain("gradcam", classifier, IMAGES, CLASSES)
    assert maps.shape == (4, 32, 32)
    assert maps.flatten(1).amax(dim=1).tolist() == pytest.approx([1] * 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("method", [m for m in METHODS if m != "exact shapley"])
def test_the_gpu_gives_the_same_wherever_the_images_are(method, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    classifier, images, classes = with_classifier("resnet18", 2)
    layer = {"layer": "layer3"} if METHODS[method].family == "CAM" else {}
    expected = explain(method, classifier, images, classes, samples=60, **layer)
    try:
        classifier.to("cuda")
        here = explain(method, classifier, images, classes, samples=60, **layer)
        there = explain(method, classifier, images.cuda(), classes.cuda(), samples=60, **layer)
    finally:
        classifier.to("cpu")
    assert here.device.type == there.device.type == "cpu"
    torch.testing.assert_close(here, expected, atol=5e-3, rtol=0)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=0)


def test_maps_without_heat_are_zero_and_said():
    classifier = small()
    weight = classifier.network.linear.weight.data
    weight[1], weight[2] = -weight[0].abs(), 1.0
    images = IMAGES.clone()
    images[3] = torch.nan
    expected = "Grad-CAM finds nothing .* in 2 of 4 images: index 1, 3;"
    with pytest.warns(UserWarning, match=expected) as said:
        maps = explain("gradcam", classifier, images, torch.tensor([2, 1, 2, 2]), batch_size=2)
    assert said[0].filename == __file__, "the warning names the caller's line"
    assert maps.isfinite().all()
    assert [bool(m.any()) for m in maps] == [True, False, True, False]


def test_a_logit_of_zero_has_no_ablation_map():
    classifier = small()
    nn.init.zeros_(classifier.network.linear.weight)
    nn.init.zeros_(classifier.network.linear.bias)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        maps = explain("ablationcam", classifier, IMAGES[:1], CLASSES[:1])
    assert not maps.any()
    assert len(said) == 1 and "Ablation-CAM" in str(said[0].message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "gradcam+"}, r"unknown explanation method 'gradcam\+': did you mean gradcam"),
        ({"layer": "layer3.0.conv3"}, "layer3.0.conv2 or layer3.0.conv1"),
        ({"layer": "nowhere"}, "unknown layer of shapes_net 'nowhere'"),
        ({"layer": nn.Conv2d(3, 3, 3)}, "the layer Conv2d is not part of shapes_net"),
        ({"layer": "linear"}, "the layer linear has no height and width"),
        ({"method": "lime", "layer": "layer3"}, "LIME looks at no layer"),
        ({"classes": [0, 1, 2, 3]}, "class index 3 is out of range.* 0 to 2"),
        ({"classes": [0, 1, 2, -1]}, "class index -1 is out of range"),
        ({"classes": [0.0, 1.0, 2.0, 1.0]}, "class index 0.0 is out of range"),
        ({"classes": [0, 1]}, r"as many class indices \[N\], not \[4, 3, 32, 32\] and \[2\]"),
        ({"images": IMAGES[0]}, r"not \[3, 32, 32\] and \[4\]"),
        ({"images": IMAGES[:, :2]}, r"takes float images .* not .* \[1, 2, 32, 32\]"),
        ({"images": (IMAGES * 255).byte()}, r"takes float images .* not torch.uint8"),
        ({"images": 2 * IMAGES - 1}, r"images must be in \[0, 1\], not -1.00 to 1.00"),
        ({"signed": True}, "Grad-CAM has no sign.* take one of occlusion, LIME"),
        ({"method": "lime", "segments": [0]}, "4 images need as many segmentations, not 1"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    call = {"method": "gradcam", "images": IMAGES, "classes": CLASSES} | change
    with pytest.raises(WorkbookError, match=message) as error:
        explain(classifier=small(), **call)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [("avgpool", "no height and width"), ("layer4.0.relu", "called several times .* layer4.0$")],
)
def test_layers_that_are_no_target(layer, message):
    with pytest.raises(WorkbookError, match=message):
        explain("gradcam", small("resnet18"), IMAGES[:1], CLASSES[:1], layer)
