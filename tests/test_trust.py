"""Measures of explanations, Shapley values and sanity checks, on cases with known answers."""

import math
from copy import deepcopy

import pytest
import torch
from captum.attr import GuidedBackprop, KernelShap, Occlusion, ShapleyValues
from torch import nn

from helpers import data
from helpers.explain import (
    BASELINES,
    METHODS,
    explain,
    lime,
    mean_colour,
    of_family,
    scaled,
    segment,
    shapley,
)  # fmt: skip
from helpers.measure import faithfulness, localisation, sanity
from helpers.nets import models
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError


class Linear(nn.Module):
    """Its probability of class 0 is w . x, exactly: sum(w) <= 1, 0 <= x <= 1."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        p = (self.w * x).sum(dim=(1, 2, 3)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([p, 1 - p], dim=1).log()


def linear(w):
    return Classifier("shapes_net", Linear(w), ("a", "b"), w.shape[-1], (0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def weights():
    """Weights [3, 8, 8] that sum to 0.9, different on each pixel."""
    torch.manual_seed(0)
    w = torch.rand(3, 8, 8)
    return 0.9 * w / w.sum()


@pytest.fixture(scope="module")
def net():
    return models.build("shapes_net", tuple("abcdefghij"), 64, seed=3)


@pytest.fixture(scope="module")
def painted():
    return data.load("shapes", "test", 4)


def mask_and_map():
    mask = torch.zeros(1, 8, 10, dtype=torch.bool)
    mask[:, 2:6, 3:8] = True
    return mask, mask.float()


# ---- localisation ------------------------------------------------------------------------------


def test_a_perfect_map_wins_the_pointing_game_and_has_all_energy():
    mask, heat = mask_and_map()
    assert localisation.pointing_game(heat, mask).item() == 1
    assert localisation.energy_in_mask(heat, mask).item() == 1
    assert localisation.pointing_game(1 - heat, mask).item() == 0


def test_a_uniform_map_scores_the_object_s_area_in_both():
    mask, heat = mask_and_map()
    uniform = torch.full_like(heat, 0.7)
    assert localisation.pointing_game(uniform, mask).item() == pytest.approx(20 / 80)
    assert localisation.energy_in_mask(uniform, mask).item() == pytest.approx(20 / 80)


def test_the_pointing_game_looks_at_the_hottest_pixel_only():
    mask, heat = mask_and_map()
    heat[0, 0, 0] = 1.1
    assert localisation.pointing_game(heat, mask).item() == 0
    heat[0, 3, 3] = 1.1
    assert localisation.pointing_game(heat, mask).item() == 0.5
    two = torch.cat([heat, 0.1 * mask]), mask.expand(2, -1, -1)
    assert localisation.pointing_game(*two).tolist() == [0.5, 1], "each map has its own maximum"
    with pytest.raises(WorkbookError):
        localisation.pointing_game(heat, mask[:, :4])


def test_scores_know_maps_without_heat_and_objects_without_a_mask(net, painted):
    maps = torch.rand(4, 64, 64)
    maps[1] = 0
    masks = painted.masks.clone()
    masks[2] = False
    found = faithfulness.score(net, painted.images, painted.labels, maps, masks, steps=2)
    assert found["energy"].isnan().tolist() == [False, False, True, False]
    assert found["pointing game"].isnan().tolist() == [False, False, True, False]
    assert found["energy"][1] == 0
    assert set(found) == set(faithfulness.MEASURES) - {"ROAD", "max-sensitivity"}
    curves = faithfulness.curves(net, painted.images, painted.labels, maps, steps=2)
    assert curves["insertion"].shape == curves["deletion"].shape == (4, 3)
    curves["deletion"] += 1
    again = faithfulness.score(net, painted.images, painted.labels, maps, known=curves)
    torch.testing.assert_close(again["insertion"], found["insertion"])
    torch.testing.assert_close(again["deletion"], found["deletion"] + 1)


# ---- faithfulness ------------------------------------------------------------------------------


def test_deletion_and_insertion_of_a_linear_model_are_those_computed_by_hand(weights):
    model = linear(weights)
    images = torch.rand(2, 3, 8, 8)
    share = (weights * images).sum(dim=1)  # what each pixel adds to the probability
    c = torch.zeros(2).long()
    curve = faithfulness.curves(model, images, c, share, steps=64)["deletion"]
    hottest_first = share.flatten(1).sort(dim=1, descending=True).values
    by_hand = share.sum(dim=(1, 2))[:, None] - nn.functional.pad(hottest_first.cumsum(1), (1, 0))
    torch.testing.assert_close(curve, by_hand, atol=1e-5, rtol=0)
    assert curve[:, -1].abs().max() < 1e-5, "all is hidden: the mean colour is black here"

    start = faithfulness.blurred(images)
    gain = (weights * (images - start)).sum(dim=1)
    curve = faithfulness.curves(model, images, c, share / share.amax(), steps=4)["insertion"]
    order = share.flatten(1).argsort(dim=1, descending=True)
    gained = gain.flatten(1).gather(1, order).cumsum(1)[:, [15, 31, 47, 63]]
    by_hand = (weights * start).sum(dim=(1, 2, 3))[:, None] + nn.functional.pad(gained, (1, 0))
    torch.testing.assert_close(curve, by_hand, atol=1e-5, rtol=0)


def test_the_true_order_beats_any_other_in_deletion_and_its_reverse_loses(weights):
    model, images, c = linear(weights), torch.ones(1, 3, 8, 8), torch.zeros(1).long()
    true = weights.sum(dim=0)[None]

    def area(heat):
        curves = faithfulness.curves(model, images, c, heat)
        return faithfulness.area_under(curves["deletion"])

    assert area(true) < area(torch.rand(1, 8, 8)) < area(true.max() - true)


def test_the_area_under_a_straight_line_is_half():
    line = torch.linspace(1, 0, 17)[None]
    assert faithfulness.area_under(line).item() == pytest.approx(0.5)
    assert faithfulness.area_under(torch.ones(2, 5)).tolist() == [1, 1]


def test_ranks_are_a_permutation_with_the_hottest_first_and_hot_surroundings_before_cold():
    heat = torch.zeros(2, 12, 12)
    heat[0, 4:9, 4:9] = 1.0
    heat[1, 3, 7] = 0.5
    rank = faithfulness.ranks(heat)
    assert rank.flatten(1).sort(dim=1).values.tolist() == [list(range(144))] * 2
    assert rank[0, 4:9, 4:9].max() == 24
    assert rank[0, 6, 6] == 0, "the middle of the hot square comes first"
    assert rank[1, 3, 7] == 0
    assert rank[0, 3, 6] < rank[0, 0, 0], "cold pixels beside hot ones come before far ones"


def test_confidence_drops_and_grows_as_the_hot_part_says():
    w = torch.zeros(3, 8, 8)
    w[0, :, :4] = 0.8 / 32  # the left half speaks for class 0, the right half says nothing
    model, images, c = linear(w), torch.ones(3, 3, 8, 8), torch.tensor([0, 0, 1])
    heat = torch.zeros(3, 8, 8)
    heat[0, :, :4] = 1
    heat[1:, :, 4:] = 1
    drop, increase = faithfulness.confidence_change(model, images, c, heat)
    assert drop.tolist() == pytest.approx([0, 1, 0], abs=1e-5)
    assert increase.tolist() == [False, False, True]


def test_road_is_positive_for_the_true_map_negative_for_its_opposite(weights):
    w = torch.zeros(3, 16, 16)
    w[:, 5:11, 5:11] = 0.9 / 108
    model, images = linear(w), torch.zeros(1, 3, 16, 16)
    images[:, :, 5:11, 5:11] = 1
    true = w.sum(dim=0)[None] / w.sum(dim=0).max()
    c = torch.zeros(1).long()
    shares = (36 / 256, 0.5)
    good, bad = (faithfulness.road(model, images, c, m, shares).item() for m in (true, 1 - true))
    assert good > 0.3
    assert bad == pytest.approx(-good, abs=0.02)
    before = torch.get_rng_state()
    assert faithfulness.road(model, images, c, true, shares).item() == good
    assert torch.equal(torch.get_rng_state(), before)


def test_max_sensitivity_is_zero_for_what_ignores_the_image_and_the_radius_for_the_image(net):
    images = 0.25 + 0.5 * torch.rand(3, 3, 16, 16)
    fixed = torch.rand(3, 16, 16)
    assert faithfulness.max_sensitivity(lambda x: fixed, images).tolist() == [0, 0, 0]
    found = faithfulness.max_sensitivity(lambda x: x[:, 0], images, radius=0.1, tries=8)
    # The mean square of a uniform number in [-r, r] is r^2 / 3.
    expected = 0.1 / math.sqrt(3) / images[:, 0].square().mean(dim=(1, 2)).sqrt()
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0)
    asked = []
    again = faithfulness.max_sensitivity(
        lambda x: asked.append(x) or x[:, 0], images, radius=0.1, tries=8, known=images[:, 0]
    )
    assert torch.equal(found, again)
    assert len(asked) == 8, "the map of the unshaken image is known"


def test_every_measure_says_what_is_better():
    better = {name: m.higher_is_better for name, m in faithfulness.MEASURES.items()}
    assert better == {
        "insertion": True, "deletion": False, "ROAD": True, "average drop": False,
        "increase": True, "pointing game": True, "energy": True, "max-sensitivity": False,
    }  # fmt: skip
    up, down = faithfulness.MEASURES["energy"], faithfulness.MEASURES["deletion"]
    assert (str(up), str(down)) == ("energy ↑", "deletion ↓")
    assert up.advantage(2.0, 1.5) == 0.5
    assert down.advantage(2.0, 1.5) == -0.5


# ---- Shapley values ----------------------------------------------------------------------------


def glove_game(coalitions):
    """One left glove (player 0), two right ones: a pair is worth 1."""
    return coalitions[:, 0] * coalitions[:, 1:].amax(dim=1)


def test_the_glove_game_has_its_known_values():
    expected = torch.tensor([4 / 6, 1 / 6, 1 / 6])
    torch.testing.assert_close(shapley.exact(glove_game, 3), expected)
    torch.testing.assert_close(shapley.sampled(glove_game, 3, 3000), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(shapley.kernel(glove_game, 3, 900), expected, atol=0.04, rtol=0)


def test_a_linear_model_s_shapley_values_are_its_terms(weights):
    model, image = linear(weights), torch.rand(3, 8, 8)
    segments = torch.arange(8).view(8, 1).expand(8, 8) // 2 * 2 + torch.arange(8) // 4
    cover = torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)
    game = shapley.superpixel_game(model, image, 0, segments, cover)
    terms = (weights * (image - cover)).sum(dim=0).flatten()
    expected = torch.zeros(8).index_add(0, segments.flatten(), terms)
    for found in (
        shapley.exact(game, 8), shapley.sampled(game, 8, 2), shapley.kernel(game, 8, 60),
    ):  # fmt: skip
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert expected.std() > 0.01


def test_exact_values_are_captum_s(net, painted):
    segments = segment(painted.images[0], n_segments=5)
    k = int(segments.max()) + 1
    assert 3 <= k <= 6
    game = shapley.superpixel_game(
        net, painted.images[0], 2, segments, torch.zeros(3, 1, 1), logit=True
    )
    reference = ShapleyValues(game).attribute(
        torch.ones(1, k), torch.zeros(1, k), perturbations_per_eval=k
    )
    torch.testing.assert_close(shapley.exact(game, k), reference[0].float(), atol=1e-4, rtol=0)


def test_hiding_superpixels_is_captum_s_feature_mask(net, painted):
    image = painted.images[1]
    segments = torch.from_numpy(segment(image, n_segments=12))
    k = int(segments.max()) + 1
    cover = mean_colour(image)
    game = shapley.superpixel_game(net, image, 4, segments, cover)
    torch.manual_seed(5)
    reference = KernelShap(lambda x: net.probabilities(x)[:, 4]).attribute(
        image[None], cover.expand_as(image)[None], feature_mask=segments[None, None],
        n_samples=60, perturbations_per_eval=16, return_input_shape=False,
    )  # fmt: skip
    found = shapley.kernel(game, k, 60, seed=5)
    torch.testing.assert_close(found, reference[0].float(), atol=1e-4, rtol=0)


def test_efficiency_the_values_add_up(net, painted):
    image = painted.images[0]
    segments = segment(image, n_segments=9)
    k = int(segments.max()) + 1
    game = shapley.superpixel_game(net, image, 1, segments, mean_colour(image), True)
    full, empty = game(torch.stack([torch.ones(k), torch.zeros(k)]))
    assert abs(full - empty) > 0.01
    for found in (shapley.exact(game, k), shapley.sampled(game, k, 1)):
        assert found.sum().item() == pytest.approx((full - empty).item(), abs=1e-4)
    assert shapley.kernel(game, k, 200).sum().item() == pytest.approx(
        (full - empty).item(), abs=2e-3
    )


def test_one_player_gets_everything_and_too_many_are_refused(one_line):
    def game(coalitions):
        return 3 * coalitions.sum(dim=1)

    assert shapley.kernel(game, 1).tolist() == [3]
    with pytest.raises(WorkbookError) as error:
        shapley.exact(game, 15)
    one_line(error, "15 players", "32,768", "shapley.sampled")


def test_shapley_values_leave_the_random_numbers_alone():
    before = torch.get_rng_state()
    first = shapley.kernel(glove_game, 3, 30), shapley.sampled(glove_game, 3, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = shapley.kernel(glove_game, 3, 30), shapley.sampled(glove_game, 3, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


# ---- the one call ------------------------------------------------------------------------------

SLOW = {"exact shapley"}
SIGNED = [name for name, m in METHODS.items() if m.signed]


def state(network):
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in network.parameters()]
    hooks = [(len(m._forward_hooks), len(m._backward_hooks), m.training) for m in network.modules()]
    return weights, flags, hooks


def test_every_method_says_what_tables_print():
    assert len({m.title for m in METHODS.values()}) == len(METHODS)
    for name, m in METHODS.items():
        assert m.name == name and m.title and m.paper
        assert m.family in ("CAM", "gradient", "hiding", "baseline")
        assert m.needs in ("gradients", "forward passes", "nothing")
        assert (m.needs == "nothing") == (m.family == "baseline")
        assert ("layer" in m.takes) == (m.family == "CAM")
        assert ("classifier" in m.takes) == (m.needs != "nothing")
    assert METHODS["gradcam++"].title == "Grad-CAM++"
    assert BASELINES == of_family("baseline") == ["random", "centre", "edges"]
    with pytest.raises(WorkbookError, match="unknown family of methods 'cam'"):
        of_family("cam")


@pytest.mark.parametrize("method", [m for m in METHODS if m not in SLOW])
def test_every_method_gives_heatmaps_and_leaves_the_network_as_it_was(method, net, painted):
    network = deepcopy(net.network).train()
    network.bn1.eval()  # frozen by its owner
    network.conv1.weight.requires_grad_(False)
    network.linear.weight.grad = torch.ones_like(network.linear.weight)
    classifier = Classifier(net.name, network, net.class_names, 64, net.mean, net.std)
    before = state(network)
    with torch.no_grad():
        maps = explain(method, classifier, painted.images[:2], painted.labels[:2], samples=40)
    assert maps.shape == (2, 64, 64)
    assert maps.dtype == torch.float32
    assert maps.amin() >= 0
    assert maps.flatten(1).amax(dim=1).tolist() == pytest.approx([1, 1])
    assert not maps.requires_grad
    with pytest.raises(WorkbookError):
        explain(method, classifier, painted.images[:2, :2], painted.labels[:2])
    weights, flags, hooks = state(network)
    assert (flags, hooks) == before[1:]
    assert all(torch.equal(weights[k], v) for k, v in before[0].items())
    classifier.network.eval()
    again = explain(method, classifier, painted.images[:2], painted.labels[:2], samples=40)
    assert torch.equal(maps, again), "explained as in eval mode"


@pytest.mark.parametrize("method", SIGNED)
def test_signed_maps_keep_what_speaks_against_the_class(method, net, painted):
    images, classes = painted.images[:2], painted.labels[:2]
    pieces = [segment(image, n_segments=9) for image in images]
    asked = {"segments": pieces, "samples": 60}
    heat = explain(method, net, images, classes, **asked)
    signed = explain(method, net, images, classes, signed=True, **asked)
    assert signed.abs().flatten(1).amax(dim=1).tolist() == pytest.approx([1, 1])
    assert signed.amin() < -0.05
    torch.testing.assert_close(heat, scaled(signed))


@pytest.mark.parametrize("method", [m for m, entry in METHODS.items() if not entry.signed])
def test_methods_without_a_sign_say_so(method, net, painted):
    with pytest.raises(WorkbookError, match=r"has no sign: .* take one of occlusion, LIME"):
        explain(method, net, painted.images[:1], painted.labels[:1], signed=True)


def test_lime_paints_the_weights_of_its_superpixels(net, painted):
    image, c = painted.images[:1], int(painted.labels[0])
    (found,) = lime.explain(
        net, image, [c], num_samples=60, seed=2, hide_color=mean_colour(image[0]).flatten().numpy()
    )
    expected = scaled(lime.heatmap(found, c)[None], signed=True)
    ours = explain("lime", net, image, painted.labels[:1], signed=True, samples=60, seed=2)
    assert torch.equal(ours, expected)


def test_occlusion_is_captum_s(net, painted):
    image, c = painted.images[:1], int(painted.labels[0])
    expected = Occlusion(net.probabilities).attribute(
        image, (3, 16, 16), (3, 8, 8), target=c,
        baselines=mean_colour(image[0]).expand(1, 3, 64, 64),
    )  # fmt: skip
    ours = explain("occlusion", net, image, painted.labels[:1], signed=True)
    torch.testing.assert_close(ours, scaled(expected[:, 0], signed=True), atol=1e-4, rtol=0)


def test_exact_values_are_painted_on_their_superpixels(net, painted):
    image, c = painted.images[:1], painted.labels[:1]
    segments = segment(image[0], n_segments=6)
    k = int(segments.max()) + 1
    (heat,) = explain("exact shapley", net, image, c, segments=[segments])
    cover = mean_colour(image[0])
    values = shapley.exact(shapley.superpixel_game(net, image[0], int(c), segments, cover), k)
    expected = (values.clamp(min=0) / values.max())[torch.from_numpy(segments)]
    torch.testing.assert_close(heat, expected)


def test_the_same_seed_gives_the_same_map_and_another_class_another(net, painted):
    def heat(method, c, seed=0):
        return explain(method, net, painted.images[:1], torch.tensor([c]), samples=60, seed=seed)

    for method in ("lime", "kernel shap", "sampled shapley"):
        assert torch.equal(heat(method, 1), heat(method, 1))
        assert not torch.equal(heat(method, 1), heat(method, 1, seed=1))
    for method in ("lime", "kernel shap", "guided backprop", "occlusion", "gradcam"):
        assert not torch.equal(heat(method, 1), heat(method, 2))
    for method in BASELINES:
        assert torch.equal(heat(method, 1), heat(method, 2))


def test_occlusion_finds_the_part_that_counts():
    w = torch.zeros(3, 16, 16)
    w[:, 0:4, 12:16] = 0.9 / 48
    image = torch.full((1, 3, 16, 16), 0.2)
    image[:, :, 0:4, 12:16] = 1
    (heat,) = explain("occlusion", linear(w), image, torch.zeros(1).long())
    assert localisation.pointing_game(heat[None], (w[:1] > 0)).item() > 0.5
    assert heat[8:, :8].max() < 1e-3


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backprop_is_captum_s_where_captum_s_works(inplace):
    torch.manual_seed(0)

    def build(inplace):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace), nn.Conv2d(6, 6, 3), nn.ReLU(inplace),
            nn.Flatten(), nn.Linear(6 * 36, 4),
        )  # fmt: skip

    reference, ours = build(False), build(inplace)
    ours.load_state_dict(reference.state_dict())
    x = torch.rand(2, 3, 8, 8)
    classifier = Classifier("shapes_net", ours, tuple("abcd"), 8, (0.0,) * 3, (1.0,) * 3)
    classes = torch.tensor([1, 3])
    found = explain("guided backprop", classifier, x, classes)
    expected = GuidedBackprop(reference).attribute(x.requires_grad_(), classes)
    expected = expected.detach().abs().sum(dim=1)
    expected = scaled(expected.minimum(expected.flatten(1).quantile(0.99, dim=1)[:, None, None]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["shapes_net", "mobilenet_v2", "squeezenet1_0", "densenet121"])
def test_guided_backprop_guides_functional_in_place_and_bounded_relus(name):
    """The plain gradient would mean that the ReLUs went unnoticed, as captum's do here."""
    classifier = models.build(name, tuple("abc"), 64)
    x, classes = torch.rand(1, 3, 64, 64), torch.tensor([1])
    found = explain("guided backprop", classifier, x, classes)
    inputs = classifier.preprocess(x).requires_grad_()
    (plain,) = torch.autograd.grad(classifier.network(inputs)[0, 1], inputs)
    plain = scaled(plain.abs().sum(dim=1))
    assert (found - plain).abs().max() > 0.05


def test_wrong_questions_are_refused(net, painted, one_line):
    with pytest.raises(WorkbookError) as error:
        explain("gradcamm", net, painted.images, painted.labels)
    one_line(error, "gradcam")
    with pytest.raises(WorkbookError) as error:
        explain("gradcam", net, painted.images, painted.labels[:2])
    one_line(error, "[4, 3, 64, 64]", "[2]")
    vit = models.build("shapes_vit", tuple("abc"), 64)
    for module in vit.network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.GELU())
    with pytest.raises(WorkbookError) as error:
        explain("guided backprop", vit, painted.images[:1], torch.tensor([0]))
    one_line(error, "shapes_vit", "ReLU")


# ---- sanity checks -----------------------------------------------------------------------------


def test_the_cascade_randomises_from_the_top_and_keeps_the_original(net):
    before = state(net.network)
    steps = list(sanity.cascade(net))
    assert [name for name, _ in steps] == ["linear", "layer3", "layer2", "layer1", "conv1"]
    weights, flags, hooks = state(net.network)
    assert (flags, hooks) == before[1:]
    assert all(torch.equal(weights[k], v) for k, v in before[0].items())

    for depth, (_, step) in enumerate(steps):
        random = tuple(name for name, _ in steps[: depth + 1])
        for key, value in step.network.state_dict().items():
            if key.endswith("weight") and value.ndim > 1:
                assert torch.equal(value, weights[key]) == (not key.startswith(random)), key
    last, before_last = steps[-1][1].network, steps[-2][1].network
    assert torch.equal(last.linear.weight, before_last.linear.weight), "not drawn twice"


def test_the_cascade_goes_down_and_through_layers_with_weights(net, one_line):
    for layers, word in ((("layer2", "layer3"), "layer3"), (("layer9",), "layer9")):
        with pytest.raises(WorkbookError) as error:
            list(sanity.cascade(net, layers))
        one_line(error, word)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0", "resnet18", "shapes_vit"])
def test_the_cascade_reaches_every_weight_of_other_networks(name):
    classifier = models.build(name, tuple("abc"), 64)
    if name == "shapes_vit":
        nn.init.normal_(classifier.network.class_token)  # it starts at zero, and training moves it
    own = classifier.network.state_dict()
    *_, (_, last) = sanity.cascade(classifier)
    for key, value in last.network.state_dict().items():
        if value.ndim > 1:
            assert not torch.equal(value, own[key]), key
    assert last.logits(torch.rand(2, 3, 64, 64)).isfinite().all()


def test_likeness_is_one_for_the_same_map_low_for_others_and_zero_without_heat():
    torch.manual_seed(0)
    maps = torch.rand(3, 32, 32)
    same = sanity.likeness(maps, maps)
    for values in same.values():
        assert values.tolist() == pytest.approx([1, 1, 1])
    for values in sanity.likeness(maps, torch.rand(3, 32, 32)).values():
        assert values.abs().max() < 0.15
    assert sanity.likeness(maps, 1 - maps)["rank correlation"].tolist() == pytest.approx([-1] * 3)
    cold = torch.zeros_like(maps)
    assert all(v.tolist() == [0, 0, 0] for v in sanity.likeness(maps, cold).values())


def test_what_ignores_the_network_survives_its_randomisation_and_grad_cam_does_not(net, painted):
    *_, (_, forgot) = sanity.cascade(net, seed=1)
    images, classes = painted.images, painted.labels

    def alike(method):
        maps = [explain(method, c, images, classes) for c in (net, forgot)]
        return sanity.likeness(*maps)["rank correlation"].mean()

    assert alike("edges") == pytest.approx(1)
    assert alike("gradcam") < 0.9


def test_shuffled_labels_are_the_same_labels_in_another_order():
    true, shuffled = (data.load(f"shapes{s}", "train", 60) for s in ("", ":shuffled"))
    assert torch.equal(true.pixels, shuffled.pixels)
    assert torch.equal(true.labels.sort().values, shuffled.labels.sort().values)
    assert 0 < (true.labels == shuffled.labels).float().mean() < 0.4
    true, test = (data.load(f"shapes{s}", "test", 20) for s in ("", ":shuffled"))
    assert torch.equal(true.labels, test.labels)
    assert data.identity("shapes") != data.identity("shapes:shuffled")
