"""LIME on images: the library's own numbers, sooner, and right where the library is wrong."""

import warnings

import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from lime.lime_image import LimeImageExplainer as Library
from lime.wrappers.scikit_image import SegmentationAlgorithm
from sklearn.linear_model import BayesianRidge, Lasso, Ridge
from torch import nn

from helpers.data import imagenet, shapes
from helpers.explain import hiding as perturb
from helpers.explain import lime
from helpers.explain import states as loop
from helpers.explain.hiding import each_once, hidden_image
from helpers.explain.segments import segment
from helpers.nets import folding, models
from helpers.run.errors import WorkbookError

SAMPLES = 60


def lively(name, size=32, n_classes=6):
    """Build a classifier with random weights, undecided, to which every part of an image matters.

    Its BatchNorm statistics and its last layer are fitted to images of which parts are hidden.
    """
    classifier = models.build(name, tuple("abcdefghij"[:n_classes]), size)
    torch.manual_seed(0)
    parts = nn.functional.interpolate((torch.rand(16, 1, 4, 4) < 0.5).float(), (size, size))
    pictures = nn.functional.interpolate(shapes.load("test", 4).images[3:], (size, size))
    pictures = classifier.preprocess(pictures * parts + 0.5 * (1 - parts))
    for module in classifier.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        classifier.network.train()(pictures)
        logits = classifier.network.eval()(pictures)
        *_, last = (m for m in classifier.network.modules() if isinstance(m, nn.Linear))
        last.bias.sub_(logits.mean(dim=0)).div_(logits.std(dim=0))
        last.weight.div_(logits.std(dim=0)[:, None])
    return classifier


@pytest.fixture(scope="module")
def image():
    """One of Shapes, uint8 [32, 32, 3]."""
    pixels = shapes.load("test", 4).pixels[3]
    return pixels[:, ::2, ::2].permute(1, 2, 0).contiguous().numpy()


@pytest.fixture(scope="module")
def squares():
    """Sixteen superpixels of 8 x 8, labels 0 to 15."""
    return np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8), dtype=int))


@pytest.fixture(scope="module")
def classifier():
    return lively("resnet20")


def function_of(classifier):
    """Return the kind of function that the library wants."""

    def probabilities(batch):
        tensor = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2)
        tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
        return classifier.probabilities(tensor).numpy()

    return probabilities


class SpiedLibrary(Library):
    """Notes what it drew and what the model said of it."""

    def data_labels(self, *args, **kwargs):
        self.seen = super().data_labels(*args, **kwargs)
        return self.seen


class SpiedOurs(lime.LimeImageExplainer):
    def explain_instance(self, *args, **kwargs):
        def noting(*args, **kwargs):
            around = loop.draw(*args, **kwargs)
            self.seen = around.states, around.probabilities
            return around

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lime, "draw", noting)
            return super().explain_instance(*args, **kwargs)


def both(image, segments, classifier, ours_gets=None, seed=5, **arguments):
    """Explain with the library and with ours; return the explainers and explanations."""
    arguments = {"num_samples": SAMPLES, "top_labels": 3, **arguments}
    arguments["segmentation_fn"] = lambda _image: segments
    library, ours = SpiedLibrary(random_state=seed), SpiedOurs(seed=seed)
    expected = library.explain_instance(image, function_of(classifier), **arguments)
    found = ours.explain_instance(
        image, ours_gets or classifier, progress_bar=False, **arguments
    )  # fmt: skip
    return library, ours, expected, found


def assert_equal(library, ours, expected, found, tolerance=1e-5):
    np.testing.assert_array_equal(ours.seen[0], library.seen[0])
    np.testing.assert_allclose(ours.seen[1], library.seen[1], atol=tolerance, rtol=0)
    assert found.top_labels == expected.top_labels
    np.testing.assert_array_equal(found.segments, expected.segments)
    np.testing.assert_array_equal(found.image, expected.image)
    for c in expected.top_labels:
        theirs, own = lime.weights(expected, c), lime.weights(found, c)
        assert np.abs(theirs).max() > 1e-3, "equal because nothing happens"
        np.testing.assert_allclose(own, theirs, atol=tolerance, rtol=0)
        assert found.intercept[c] == pytest.approx(expected.intercept[c], abs=tolerance)
    assert found.score == pytest.approx(expected.score, abs=1e-3)
    assert found.local_pred == pytest.approx(expected.local_pred, abs=tolerance)


# ---- the library's numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shapes_net", "resnet20", "resnet18"])
def test_perturbations_probabilities_and_weights_are_the_library_s(name, image, squares):
    classifier = lively(name)
    for picture in (image, image.astype(np.float32) / 255):
        assert_equal(*both(picture, squares, classifier))


@pytest.mark.mirror
def test_a_trained_mobilenet_on_a_photograph_gives_the_library_s_weights():
    photograph = imagenet.load_ten().pixels[7].permute(1, 2, 0).contiguous().numpy()
    segments = segment(photograph, "slic", n_segments=30)
    classifier = models.pretrained("mobilenet_v2")
    assert_equal(*both(photograph, segments, classifier, num_samples=40))


@pytest.mark.parametrize("hide", [0, [0, 0, 0], (10, 200, 30), np.uint8(255)])
def test_hidden_superpixels_have_the_library_s_colour(hide, image, squares, classifier):
    assert_equal(*both(image, squares, classifier, hide_color=hide))


def test_an_image_can_stand_in_for_what_is_hidden(image, squares, classifier):
    assert_equal(*both(image, squares, classifier, hide_color=image[::-1]))


def test_images_of_another_size_are_scaled_after_hiding(squares, image):
    assert_equal(*both(image, squares, lively("shapes_net", size=64)))


def test_a_function_as_the_library_knows_it_will_do(image, squares, classifier):
    parts = both(image, squares, classifier, function_of(classifier))
    assert_equal(*parts, tolerance=1e-6)


def test_other_local_fits_are_the_library_s(image, squares, classifier):
    assert_equal(*both(image, squares, classifier, distance_metric="hamming"))
    assert_equal(*both(image, squares, classifier, model_regressor=Lasso(alpha=1e-3)))
    chosen = both(image, squares, classifier, num_features=3)
    assert_equal(*chosen)
    assert len(chosen[-1].local_exp[chosen[-1].top_labels[0]]) == 3


def test_only_the_classes_asked_for_are_explained_without_top_labels(image, squares, classifier):
    *_, expected, found = both(image, squares, classifier, labels=(4, 2), top_labels=None)
    assert list(found.local_exp) == list(expected.local_exp) == [4, 2]


def test_a_grey_image_will_do(image, squares, classifier):
    found = lime.LimeImageExplainer().explain_instance(
        image[..., 0], classifier, num_samples=20, segmentation_fn=lambda _: squares,
        progress_bar=False,
    )  # fmt: skip
    assert found.image.shape == (32, 32, 3)


def test_a_network_that_cannot_be_traced_is_run_as_it_is(image, squares):
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3 * 32 * 32, 4)

        def forward(self, images):
            if images.mean() > 1e9:
                return images
            return 8 * self.linear(images.flatten(1))

    torch.manual_seed(0)
    statistics = (0.5,) * 3, (0.3,) * 3
    classifier = models.Classifier("moody", Moody(), tuple("abcd"), 32, *statistics)
    assert_equal(*both(image, squares, classifier))


def test_a_network_that_folding_would_change_is_run_as_it_is(image, squares, monkeypatch):
    classifier = lively("shapes_net")
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))
    monkeypatch.setattr(perturb, "fold", lambda _network, _graph: wrong)
    monkeypatch.setattr(perturb, "fuse_activations", lambda network: network)
    assert_equal(*both(image, squares, classifier))


def test_a_processor_without_the_fused_step_folds_only(image, squares, monkeypatch):
    def refuse(*_):
        raise RuntimeError("not on this processor")

    monkeypatch.setattr(folding._Step, "forward", refuse)
    predictor = perturb.Predictor(lively("shapes_net"))
    assert_equal(*both(image, squares, predictor.classifier, predictor))
    kinds = {type(m) for m in predictor._network.modules()}
    assert folding._Step not in kinds
    assert nn.BatchNorm2d not in kinds


class Odd(nn.Module):
    """Convolutions of every kind, most of which must be left alone."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.twice = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.mirror = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.relu, self.relu6 = nn.ReLU(inplace=True), nn.ReLU6()

    def forward(self, x):
        x = self.relu6(8 * self.relu(self.plain(x)))
        shared = self.twice(x)
        x = nn.functional.relu(self.twice(shared)) + shared + torch.relu(shared)
        return self.relu(self.mirror(self.same(x))).tanh()


def test_only_plain_convolutions_are_fused_with_the_relu_that_alone_reads_them():
    torch.manual_seed(0)
    network, images = Odd().eval(), torch.randn(2, 3, 12, 12)
    parts = dict(network.named_modules())
    with torch.inference_mode():
        expected = network(images)
        fused = folding.fuse_activations(torch.fx.symbolic_trace(network))
        torch.testing.assert_close(fused(images), expected)
    steps = [m for m in fused.modules() if isinstance(m, folding._Step)]
    assert [step.activation for step in steps] == ["relu", "none", "relu"]
    assert dict(network.named_modules()) == parts
    assert expected.std() > 0.1


def test_a_mobilenet_s_relu6_is_fused():
    network = models.build("mobilenet_v2", tuple("abc"), 32).network
    forms = perturb._fast_forms(network, torch.device("cpu"))
    steps = [m for m in next(forms).modules() if isinstance(m, folding._Step)]
    assert len(steps) == 52
    assert sum(step.activation == "hardtanh" for step in steps) == 35


def test_the_classifier_is_left_as_it_was(image, squares, classifier):
    before = {k: v.clone() for k, v in classifier.network.state_dict().items()}
    kinds = [type(m) for m in classifier.network.modules()]
    both(image, squares, classifier)
    assert [type(m) for m in classifier.network.modules()] == kinds
    assert all(v.equal(before[k]) for k, v in classifier.network.state_dict().items())
    assert not any(m._forward_hooks or m.training for m in classifier.network.modules())


# ---- answers that are kept ---------------------------------------------------------------------

SLIC = SegmentationAlgorithm("slic", n_segments=20, compactness=20, sigma=1)


@pytest.fixture(scope="module")
def ten_classes():
    torch.manual_seed(0)
    return models.build("shapes_net", tuple("abcdefghij"), 64)


@pytest.fixture(scope="module")
def pixels():
    return shapes.load("test", 1).pixels[0]


def explained(classifier, pixels, seed, kernel_width=0.25, **arguments):
    """Explain class 3 with the library on the same superpixels."""
    segments = segment_by_slic(pixels)
    return Library(kernel_width, random_state=seed).explain_instance(
        pixels.permute(1, 2, 0).contiguous().numpy(), function_of(classifier), labels=(3,),
        top_labels=None, segmentation_fn=lambda _image: segments, **arguments,
    )  # fmt: skip


def segment_by_slic(pixels):
    return SLIC(pixels.permute(1, 2, 0).numpy()) - 1  # the library needs labels from 0


@pytest.mark.parametrize(
    "fit",
    [
        {},
        {"num_samples": 40},
        {"num_features": 3},
        {"num_features": 9},
        {"kernel_width": 0.6},
        {"model_regressor": Ridge(alpha=7)},
        {"model_regressor": BayesianRidge()},
    ],
)
@pytest.mark.parametrize("seed", [0, 5])
def test_a_refit_equals_a_whole_explanation_of_the_library(ten_classes, pixels, seed, fit):
    kept = lime.draw(ten_classes, pixels, num_samples=80, seed=seed, segmentation_fn=SLIC)
    found = lime.refit(kept, 3, **fit)
    expected = explained(ten_classes, pixels, seed, **{"num_samples": 80, **fit})
    np.testing.assert_allclose(
        lime.weights(found, 3), lime.weights(expected, 3), rtol=1e-4, atol=1e-6
    )
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert (kept.segments == expected.segments).all()
    for k in (1, 4, 999):
        assert torch.equal(lime.mask(found, 3, k), lime.mask(expected, 3, k))


@pytest.mark.parametrize("hide", [None, 0, [200, 10, 30], "blur"])
def test_kept_answers_and_the_explainer_are_one_loop(ten_classes, pixels, hide):
    arguments = {"num_samples": 30, "segmentation_fn": SLIC, "hide_color": hide}
    kept = lime.draw(ten_classes, pixels, **arguments)
    whole = lime.LimeImageExplainer().explain_instance(
        pixels.permute(1, 2, 0).numpy(), ten_classes, labels=(3, 5), top_labels=None,
        progress_bar=False, **arguments,
    )  # fmt: skip
    found = lime.refit(kept, (3, 5))
    assert list(found.local_exp) == [3, 5]
    for c in (3, 5):
        np.testing.assert_array_equal(lime.weights(found, c), lime.weights(whole, c))


def test_the_first_states_of_a_long_run_are_those_of_a_short_one(ten_classes, pixels):
    long, short = (
        lime.draw(ten_classes, pixels, num_samples=n, segmentation_fn=SLIC) for n in (50, 20)
    )
    assert (long.states[:20] == short.states).all()
    np.testing.assert_allclose(long.probabilities[:20], short.probabilities, atol=1e-6)
    assert long.states[0].all()
    assert 0 < long.seconds(25) == pytest.approx(long.segmenting + long.answering / 2)


def test_too_few_superpixels_are_refused(ten_classes, pixels, one_line):
    with pytest.raises(WorkbookError) as error:
        lime.draw(
            ten_classes, pixels, num_samples=10, segmentation_fn=lambda i: np.zeros(i.shape[:2])
        )
    one_line(error, "1 superpixel", "finer segmentation")


@pytest.mark.parametrize("width", [0.1, 0.25, 1.0])
def test_forward_selection_chooses_what_the_library_chooses(width):
    rng = np.random.default_rng(0)
    states = rng.integers(0, 2, (60, 20))
    states[:, 7], states[:, 8] = states[:, 3], 1  # a twin, and one that never changes
    answers = (states @ rng.normal(size=20) + rng.normal(size=60)).astype(np.float32)
    near = np.exp(-((1 - np.sqrt(states.mean(axis=1))) ** 2) / width**2 / 2)
    for m in (1, 3, 6):
        theirs = LimeBase(None).forward_selection(states, answers, near, m)
        ours = loop._Base(None).forward_selection(states, answers, near, m)
        assert ours.tolist() == theirs.tolist()
    all_ours = loop._Base(None).forward_selection(states, answers, near, 99)
    assert sorted(all_ours) == list(range(20))


# ---- where the library is wrong ----------------------------------------------------------------


def brightness_of(segments, region):
    """Return a model whose class 1 is as probable as one region is bright."""

    def probabilities(batch):
        bright = np.asarray(batch, dtype=float)[:, segments == region].mean(axis=(1, 2)) / 255
        return np.stack([1 - bright, bright], axis=1)

    return probabilities


def test_the_library_never_hides_slic_s_last_superpixel_and_we_do(squares):
    picture = np.full((32, 32, 3), 255, dtype=np.uint8)
    from_one = squares + 1  # as SLIC numbers them
    arguments = dict(
        labels=(1,), top_labels=None, hide_color=0, num_samples=200,
        segmentation_fn=lambda _: from_one,
    )  # fmt: skip
    last = brightness_of(from_one, 16)
    expected = Library(random_state=0).explain_instance(picture, last, **arguments)
    assert max(abs(w) for _, w in expected.local_exp[1]) == 0, "the library sees the truth now"
    assert 16 not in dict(expected.local_exp[1])

    found = lime.LimeImageExplainer().explain_instance(
        picture, last, progress_bar=False, **arguments
    )  # fmt: skip
    assert found.segments.min() == 0
    assert found.segments.max() == 15
    weights = lime.weights(found, 1)
    assert weights.argmax() == 15
    assert weights[15] > 10 * np.abs(weights[:15]).max()
    assert lime.mask(found, 1, 1).numpy().tolist() == (from_one == 16).tolist()


def test_slic_still_numbers_from_one(image):
    slic = SegmentationAlgorithm("slic", n_segments=20)
    assert slic(image).min() == 1
    found = lime.LimeImageExplainer().explain_instance(
        image, lambda batch: np.ones((len(batch), 2)) / 2, segmentation_fn=slic, num_samples=20,
        progress_bar=False,
    )  # fmt: skip
    assert np.unique(found.segments).tolist() == list(range(found.segments.max() + 1))


def test_gaps_between_labels_are_closed(squares, image, classifier):
    found = lime.LimeImageExplainer(seed=5).explain_instance(
        image, classifier, segmentation_fn=lambda _: 7 * squares - 3, num_samples=SAMPLES,
        top_labels=3, progress_bar=False,
    )  # fmt: skip
    *_, plain = both(image, squares, classifier)
    c = plain.top_labels[0]
    np.testing.assert_array_equal(lime.weights(found, c), lime.weights(plain, c))


def test_the_library_s_quickshift_leaves_a_small_image_whole_and_we_say_so(classifier, one_line):
    smooth = np.linspace(90, 140, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    coarse = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2)
    assert len(np.unique(coarse(smooth))) < 4
    explainer = lime.LimeImageExplainer()
    with pytest.raises(WorkbookError) as error:
        explainer.explain_instance(smooth, classifier, segmentation_fn=coarse)
    one_line(error, "too few for LIME", "finer segmentation", "n_segments")
    explainer.explain_instance(smooth, classifier, num_samples=20, progress_bar=False)


@pytest.mark.parametrize(("k", "fits"), [(1, False), (3, False), (4, True)])
def test_four_superpixels_are_enough(k, fits, image, classifier, one_line):
    stripes = np.arange(32)[:, None] * k // 32 * np.ones((1, 32), dtype=int)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    if fits:
        (found,) = lime.explain(classifier, pixels, [0], segments=[stripes], num_samples=20)
        assert len(lime.weights(found, 0)) == 4
        return
    with pytest.raises(WorkbookError) as error:
        lime.explain(classifier, pixels, [0], segments=[stripes], num_samples=20)
    one_line(error, f"{k} superpixel{'s' * (k > 1)}, too few")


# ---- one seed ----------------------------------------------------------------------------------

FLAT = np.full((40, 40, 3), 128, dtype=np.uint8)  # quickshift has only ties here
QUICKSHIFT = SegmentationAlgorithm("quickshift", kernel_size=2, max_dist=5, ratio=0.5)


def test_the_library_s_random_seed_never_reaches_quickshift():
    one, two = (
        SegmentationAlgorithm("quickshift", kernel_size=2, max_dist=5, ratio=0.5, random_seed=s)
        for s in (1, 2)
    )
    assert (one(FLAT) == two(FLAT)).all(), "it does now: the workaround can go"


def test_one_seed_governs_segmentation_and_sampling(classifier):
    def run(explainer, **arguments):
        explanation = explainer.explain_instance(
            FLAT, classifier, segmentation_fn=QUICKSHIFT, num_samples=30, progress_bar=False,
            **arguments,
        )  # fmt: skip
        return explanation.segments, explainer.seen[0]

    explainer = SpiedOurs(seed=1)
    segments, data = run(explainer)
    np.random.seed(99)
    for again in (run(explainer), run(SpiedOurs(seed=1)), run(SpiedOurs(seed=7), random_seed=1)):
        np.testing.assert_array_equal(again[0], segments)
        np.testing.assert_array_equal(again[1], data)
    others, data_of_others = run(SpiedOurs(seed=2))
    assert not np.array_equal(others, segments)
    assert not np.array_equal(data_of_others, data)


def test_a_quickshift_with_a_seed_of_its_own_keeps_it(classifier):
    own = SegmentationAlgorithm("quickshift", kernel_size=2, max_dist=5, ratio=0.5, rng=3)
    one, two = (
        lime.LimeImageExplainer(seed=s).explain_instance(
            FLAT, classifier, segmentation_fn=own, num_samples=20, progress_bar=False
        )
        for s in (1, 2)
    )
    np.testing.assert_array_equal(one.segments, two.segments)


def test_different_seeds_give_different_weights(image, squares, classifier):
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    one, again, two = (
        lime.weights(lime.explain(classifier, pixels, [1], segments=[squares], seed=s,
                                  num_samples=40)[0], 1)
        for s in (1, 1, 2)
    )  # fmt: skip
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - two).max() > 1e-3


# ---- what makes it fast ------------------------------------------------------------------------


def test_each_state_is_evaluated_once(image):
    quarters = np.kron(np.arange(4).reshape(2, 2), np.ones((16, 16), dtype=int))
    seen = []

    def count(batch):
        seen.extend(batch)
        return np.stack([np.asarray(batch).mean(axis=(1, 2, 3)) / 255] * 2, axis=1)

    explainer = SpiedOurs()
    explainer.explain_instance(
        image, count, segmentation_fn=lambda _: quarters, num_samples=300, progress_bar=False
    )
    data, probabilities = explainer.seen
    assert len(seen) == len(np.unique(data, axis=0)) <= 16
    hidden = hidden_image(image, quarters, None)
    for row, p in zip(data[:40], probabilities[:40, 0], strict=True):
        shown = np.where(row[quarters][..., None].astype(bool), image, hidden)
        assert p == pytest.approx(shown.mean() / 255)


def test_rows_come_back_to_their_places():
    rng = np.random.default_rng(0)
    states = rng.random((500, 13)) < 0.5
    states[100:200] = states[:100]
    states[:, 9:] = False
    once, which = each_once(states)
    np.testing.assert_array_equal(once[which], states)
    assert len(once) == len(np.unique(states, axis=0)) < 500
    np.testing.assert_array_equal(once[0], states[0])


def batches(classifier, run):
    sizes = []
    hook = classifier.network.register_forward_pre_hook(lambda _m, a: sizes.append(len(a[0])))
    try:
        run()
    finally:
        hook.remove()
    return sizes


def test_passes_are_as_large_as_asked_and_never_too_large(image, squares, monkeypatch):
    monkeypatch.setattr(perturb, "trace", lambda _network: None)  # so that the hook is called
    classifier = lively("shapes_net")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255

    def explain(**arguments):
        (found,) = lime.explain(classifier, pixels, [1], segments=[squares], num_samples=40,
                                **arguments)  # fmt: skip
        return lime.weights(found, 1)

    first = explain()
    for size in (7, 16, 1000):
        passes = batches(classifier, lambda size=size: explain(batch_size=size))
        assert max(passes) == min(size, 40)
        np.testing.assert_allclose(explain(batch_size=size), first, atol=1e-6)
    monkeypatch.setattr(perturb, "_PIXELS", {"cpu": 5 * 32 * 32})
    assert max(batches(classifier, explain)) == 5


def test_bfloat16_changes_the_weights_a_little(image, squares, classifier):
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    exact, short = (
        lime.weights(lime.explain(classifier, pixels, [1], segments=[squares], bf16=bf16,
                                  num_samples=100)[0], 1)
        for bf16 in (False, True)
    )  # fmt: skip
    gap = np.abs(exact - short).max()
    assert 0 < gap < 0.1 * np.abs(exact).max()


def test_the_progress_bar_is_there_when_asked_for(image, squares, classifier, capsys):
    explainer = lime.LimeImageExplainer()
    for wanted in (True, False):
        explainer.explain_instance(
            image, classifier, segmentation_fn=lambda _: squares, num_samples=20,
            progress_bar=wanted,
        )  # fmt: skip
        assert ("LIME" in capsys.readouterr().err) == wanted


# ---- explain and read --------------------------------------------------------------------------


class Patch(nn.Module):
    """Two logits: class 1 for brightness in superpixel 5, against brightness in 6."""

    def __init__(self, squares):
        super().__init__()
        self.register_buffer("five", torch.from_numpy(squares == 5))
        self.register_buffer("six", torch.from_numpy(squares == 6))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        bright = (images * self.five).sum((1, 2, 3)) - 0.5 * (images * self.six).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), self.scale * bright / 192], dim=1)


@pytest.fixture(scope="module")
def known(squares):
    """A classifier whose reasons are known, and two images of it."""
    statistics = (0.0,) * 3, (1.0,) * 3
    classifier = models.Classifier("patch", Patch(squares), ("no", "yes"), 32, *statistics)
    return classifier, torch.rand(2, 3, 32, 32, generator=torch.manual_seed(0)) * 0.2 + 0.8


def test_lime_finds_reasons_that_are_known(known, squares):
    classifier, images = known
    found = lime.explain(
        classifier, images, torch.tensor([1, 0]), segments=[squares, squares], num_samples=400,
        hide_color=0,
    )  # fmt: skip
    for explanation, c, sign in zip(found, (1, 0), (1, -1), strict=True):
        assert list(explanation.local_exp) == [c]
        weights = sign * lime.weights(explanation, c)
        assert weights.argmax() == 5
        assert weights.argmin() == 6
        assert np.abs(np.delete(weights, (5, 6))).max() < 0.05 * weights[5]
    support = lime.mask(found[0], 1, 1)
    assert support.dtype == torch.bool
    assert support.tolist() == (squares == 5).tolist()
    assert lime.mask(found[1], 0, 1).tolist() == (squares == 6).tolist()


def test_the_score_is_the_weighted_r_squared(known, squares):
    classifier, images = known
    explainer = SpiedOurs(feature_selection="none", seed=3)
    explanation = explainer.explain_instance(
        images[0].permute(1, 2, 0).numpy(), classifier, labels=(1,), top_labels=None,
        segmentation_fn=lambda _: squares, num_samples=200, progress_bar=False,
    )  # fmt: skip
    data, probabilities = explainer.seen
    cosine = 1 - np.sqrt(data.mean(axis=1))
    proximity = np.sqrt(np.exp(-(cosine**2) / 0.25**2))
    target = probabilities[:, 1].astype(float)
    local = data @ lime.weights(explanation, 1) + explanation.intercept[1]
    rest = (proximity * (target - local) ** 2).sum()
    total = (proximity * (target - np.average(target, weights=proximity)) ** 2).sum()
    assert explanation.score == pytest.approx(1 - rest / total, abs=1e-4)
    assert 0.5 < explanation.score < 1
    (same,) = lime.explain(classifier, images[:1], [1], segments=[squares], seed=3,
                           num_samples=200)  # fmt: skip
    assert same.score == explanation.score


def test_explain_gives_every_superpixel_a_weight(known, squares):
    classifier, images = known
    (found,) = lime.explain(classifier, images[:1], [1], segments=[squares], num_features=3,
                            num_samples=50)  # fmt: skip
    assert len(found.local_exp[1]) == 16
    assert np.count_nonzero(lime.weights(found, 1)) == 16


def test_superpixels_without_a_weight_have_weight_zero(known, squares):
    classifier, images = known
    (found,) = lime.explain(
        classifier, images[:1], [1], segments=[squares], num_features=2, num_samples=300,
        hide_color=0, feature_selection="auto",
    )  # fmt: skip
    weights = lime.weights(found, 1)
    assert weights.dtype == np.float32
    assert np.flatnonzero(weights).tolist() == [5, 6]
    heatmap = lime.heatmap(found, 1)
    assert heatmap.dtype == torch.float32
    for superpixel in (0, 5, 6):
        assert (heatmap[squares == superpixel] == float(weights[superpixel])).all()
    assert lime.mask(found, 1, 10).tolist() == (squares == 5).tolist(), "only one supports"
    assert not lime.mask(found, 1, 0).any()


def test_a_class_that_was_not_explained_is_named(known, squares, one_line):
    classifier, images = known
    (found,) = lime.explain(classifier, images[:1], [1], segments=[squares], num_samples=20)
    for read in (lime.weights, lime.heatmap, lambda e, c: lime.mask(e, c, 1)):
        with pytest.raises(WorkbookError) as error:
            read(found, 0)
        one_line(error, "class of this explanation 0", "choose one of 1")


def test_blur_hides_detail_and_keeps_the_mean(image, squares):
    blurred = hidden_image(image, squares, "blur")
    assert blurred.dtype == image.dtype
    assert blurred.std() < 0.8 * image.std()
    assert abs(float(blurred.mean()) - float(image.mean())) < 4


def test_an_explanation_of_no_class_is_refused(image, classifier, one_line):
    explainer = lime.LimeImageExplainer()
    with pytest.raises(WorkbookError) as error:
        explainer.explain_instance(image, classifier, labels=None, top_labels=None)
    one_line(error, "no class to explain", "top_labels")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": [0, 1]}, ["[1, 3, 32, 32]", "2 and 1"]),
        ({"classes": [2]}, ["class index 2", "classes 0 to 1"]),
        ({"classes": [-1]}, ["class index -1"]),
        ({"images": 255 * torch.ones(1, 3, 32, 32)}, ["floats in [0, 1]", "from 255 to 255"]),
        ({"hide_color": 255}, ["hide_color in the same scale", "to 255"]),
        ({"hide_color": "grey"}, ["'grey'", "'blur'"]),
        ({"segments": [np.zeros((8, 8), int)]}, ["[8, 8]", "[32, 32]"]),
    ],
)
def test_faults_are_named(change, words, known, squares, one_line):
    classifier, images = known
    arguments = {"images": images[:1], "classes": [1], "segments": [squares], **change}
    with pytest.raises(WorkbookError) as error:
        lime.explain(classifier, **arguments, num_samples=20)
    one_line(error, *words)


def test_damaged_weights_are_named(known, squares, one_line):
    _, images = known
    statistics = (0.0,) * 3, (1.0,) * 3
    broken = models.Classifier("patch", Patch(squares), ("no", "yes"), 32, *statistics)
    broken.network.scale.data.fill_(torch.nan)
    with pytest.raises(WorkbookError) as error:
        lime.explain(broken, images[:1], [1], segments=[squares], num_samples=20)
    one_line(error, "patch", "NaN")


# ---- superpixels -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "quickshift", "slic", "felzenszwalb"])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_superpixels_are_numbered_without_gaps_and_fit_the_size(method, size):
    picture = shapes.load("test", 6).images[5]
    picture = nn.functional.interpolate(picture[None], (size, size), mode="bilinear")[0]
    labels = segment(picture, method)
    assert labels.dtype == np.int64
    assert labels.shape == (size, size)
    k = int(labels.max()) + 1
    assert np.unique(labels).tolist() == list(range(k))
    assert 8 <= k <= 250
    same = segment(picture.permute(1, 2, 0).numpy(), method)
    np.testing.assert_array_equal(labels, same)


def test_small_images_get_a_fine_slic_and_large_ones_quickshift():
    small, large = torch.rand(3, 64, 64), torch.rand(3, 96, 96)
    np.testing.assert_array_equal(segment(small), segment(small, "slic"))
    np.testing.assert_array_equal(segment(large), segment(large, "quickshift"))
    assert segment(small).max() > 30
    assert segment(small, "slic", n_segments=9).max() < 20


def test_large_images_are_cut_as_the_library_cuts_them():
    picture = shapes.load("test", 1).images[:1]
    picture = nn.functional.interpolate(picture, (96, 96), mode="bilinear")[0]
    theirs = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2)
    expected = theirs(picture.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(segment(picture, seed=42), expected)


def test_the_seed_breaks_quickshift_s_ties():
    one, again, two = (segment(FLAT, "quickshift", seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, two)


def test_unknown_methods_and_parameters_are_named(one_line):
    with pytest.raises(WorkbookError) as error:
        segment(torch.rand(3, 32, 32), "watershed")
    one_line(error, "'watershed'", "quickshift, slic, felzenszwalb")
    with pytest.raises(WorkbookError) as error:
        segment(torch.rand(3, 32, 32), "slic", n_segment=30)
    one_line(error, "slic", "n_segment")


def test_fewer_superpixels_than_asked_for_are_said_once_per_call():
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="asked for 30 superpixels and found 3: .*raise") as said:
        assert segment(noise, "slic", n_segments=30, compactness=1).max() == 2
    assert len(said) == 1
    assert said[0].filename == __file__
    # A few less or more is how SLIC works, and the others are asked for no number.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (noise, *shapes.load("test", 5).images):
            for chosen in ({}, {"n_segments": 10}, {"n_segments": 40, "min_size_factor": 0.2}):
                segment(image, "slic", **chosen)
            segment(image, "felzenszwalb", scale=1e6)
