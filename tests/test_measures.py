"""Measures: intervals that cover, localisation scores with known answers, honest recording."""

import numpy as np
import pytest
import torch

from helpers.measure import intervals, localisation
from helpers.measure.intervals import Estimate
from helpers.nets import models, recording
from helpers.run.errors import WorkbookError

# ---- intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_the_wilson_interval_has_its_published_values(hits, n, low, high):
    estimate = intervals.proportion(hits, n)
    assert estimate.value == hits / n
    assert estimate.low == pytest.approx(low, abs=6e-5)
    assert estimate.high == pytest.approx(high, abs=6e-5)
    assert estimate.n == n


def test_the_wilson_interval_covers_the_truth_in_95_percent_of_experiments():
    rng = np.random.default_rng(0)
    for truth in (0.05, 0.5, 0.9):
        hits = rng.binomial(60, truth, 4000)
        inside = {k: not intervals.proportion(k, 60).excludes(truth) for k in set(hits.tolist())}
        assert 0.93 < np.mean([inside[k] for k in hits.tolist()]) < 0.98


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    samples = rng.exponential(2.0, (80, 40)), rng.exponential(1.0, (80, 30))
    means = [intervals.mean(a) for a in samples[0]]
    gaps = [intervals.difference(a, b) for a, b in zip(*samples, strict=True)]
    assert 0.86 < np.mean([not e.excludes(2.0) for e in means]) <= 1
    assert 0.86 < np.mean([not e.excludes(1.0) for e in gaps]) <= 1


def test_a_bootstrap_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(2).normal(3, 2, 400)
    estimate = intervals.mean(values)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.12)
    assert estimate.n == 400


def test_a_difference_has_the_sign_of_its_samples():
    rng = np.random.default_rng(3)
    gap = intervals.difference(rng.normal(1, 1, 100), torch.from_numpy(rng.normal(0, 1, 90)))
    assert gap.low > 0
    assert gap.excludes(0)
    assert gap.n == 190


def test_the_same_values_give_the_same_interval():
    values = [1.0, 2.0, 4.0, 8.0]
    np.random.seed(1)
    first = intervals.mean(values)
    np.random.seed(2)
    assert intervals.mean(values) == first


def test_estimates_are_printed_with_their_interval():
    estimate = Estimate(0.9012, 0.8951, 0.9071, 10_000)
    assert f"{estimate:.1%}" == "90.1% [89.5%, 90.7%]"
    assert str(estimate) == "0.901 [0.895, 0.907]"


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (3, 2), (-1, 4)])
def test_impossible_counts_are_refused(hits, n, one_line):
    with pytest.raises(WorkbookError) as error:
        intervals.proportion(hits, n)
    one_line(error, f"{hits} of {n}")


@pytest.mark.filterwarnings("error")
def test_too_few_values_have_no_interval_and_are_told_apart_from_nothing():
    for estimate, shown, n in (
        (intervals.mean([3.0]), "3.0 [–, –]", 1),
        (intervals.mean([]), "– [–, –]", 0),
        (intervals.difference([1.0, 2.0], []), "– [–, –]", 2),
        (intervals.difference([1.0, 2.0], [4.0]), "-2.5 [–, –]", 3),
        (intervals.proportion(0, 0), "– [–, –]", 0),
    ):
        assert f"{estimate:.1f}" == shown
        assert estimate.n == n
        assert not estimate.excludes(0)


def test_equal_values_have_an_interval_without_width():
    assert intervals.mean([2.0, 2.0, 2.0])[:3] == (2.0, 2.0, 2.0)


# ---- localisation ------------------------------------------------------------------------------


def square_mask():
    mask = torch.zeros(1, 8, 10, dtype=torch.bool)
    mask[:, 2:6, 3:8] = True
    return mask


def test_a_perfect_map_has_all_heat_on_the_object():
    assert localisation.energy_in_mask(square_mask().float(), square_mask()).item() == 1


def test_a_uniform_map_scores_the_object_s_area():
    share = localisation.energy_in_mask(torch.full((1, 8, 10), 0.3), square_mask())
    assert share.item() == pytest.approx(20 / 80)


def test_a_map_beside_the_object_scores_zero():
    assert localisation.energy_in_mask((~square_mask()).float(), square_mask()).item() == 0


def test_the_share_of_heat_does_not_depend_on_its_scale():
    torch.manual_seed(0)
    heat = torch.rand(5, 8, 10)
    masks = torch.rand(5, 8, 10) < 0.4
    expected = localisation.energy_in_mask(heat, masks)
    torch.testing.assert_close(localisation.energy_in_mask(7 * heat, masks), expected)
    assert len(expected.unique()) == 5


def test_half_of_a_uniform_map_s_heat_is_on_half_of_the_image():
    for size in ((8, 10), (32, 32), (224, 224)):
        assert localisation.half_heat_area(torch.full((1, *size), 0.7)).item() == 0.5


def test_a_single_hot_pixel_is_the_smallest_area():
    heat = torch.zeros(2, 8, 10)
    heat[:, 3, 4] = 0.2
    assert localisation.half_heat_area(heat).tolist() == pytest.approx([1 / 80] * 2)


def test_half_of_the_heat_is_found_wherever_it_lies():
    heat = torch.zeros(1, 4, 4)
    heat[0, 0, 0], heat[0, 3, 3], heat[0, 2, 1], heat[0, 1, 1] = 4, 3, 2, 1
    assert localisation.half_heat_area(heat).item() == 2 / 16


def test_a_map_without_heat_has_no_score():
    heat = torch.stack([torch.zeros(8, 10), torch.ones(8, 10)])
    masks = square_mask().expand(2, -1, -1)
    for score in (localisation.energy_in_mask(heat, masks), localisation.half_heat_area(heat)):
        assert score.isnan().tolist() == [True, False]


def test_negative_heat_and_other_shapes_are_refused(one_line):
    for measure in (lambda h: localisation.energy_in_mask(h, h > 0), localisation.half_heat_area):
        with pytest.raises(WorkbookError) as error:
            measure(torch.full((1, 4, 4), -0.1))
        one_line(error, "without negative heat")
        with pytest.raises(WorkbookError) as error:
            measure(torch.ones(4, 4))
        one_line(error, "[N, H, W]")
    with pytest.raises(WorkbookError) as error:
        localisation.energy_in_mask(torch.ones(1, 4, 4), torch.ones(1, 8, 8, dtype=torch.bool))
    one_line(error, "[1, 4, 4]", "[1, 8, 8]")


# ---- features ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes_net():
    torch.manual_seed(0)
    return models.build("shapes_net", tuple("abc"), 64)


def hooks(classifier):
    return [m for m in classifier.network.modules() if m._forward_hooks]


def test_activations_are_the_layer_s_outputs(shapes_net):
    images = torch.rand(5, 3, 64, 64)
    found = recording.activations(shapes_net, "bn1", images, batch_size=2)
    with torch.no_grad():
        net = shapes_net.network
        expected = net.bn1(net.conv1(shapes_net.preprocess(images)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad
    assert not hooks(shapes_net)


def test_a_layer_that_works_in_place_does_not_spoil_the_activations():
    torch.manual_seed(0)
    resnet = models.build("resnet18", tuple("abc"), 32)
    found = recording.activations(resnet, "bn1", torch.rand(1, 3, 32, 32))
    assert found.min() < 0, "these are the values after the ReLU"


def test_an_unknown_layer_is_named(shapes_net, one_line):
    with pytest.raises(WorkbookError) as error:
        recording.activations(shapes_net, "layer4", torch.rand(1, 3, 64, 64))
    one_line(error, "'layer4'", "layer3")


def test_a_failed_pass_leaves_no_hook(shapes_net):
    with pytest.raises(WorkbookError):
        recording.activations(shapes_net, "conv1", torch.zeros(1, 1, 64, 64))
    assert not hooks(shapes_net)


@pytest.mark.parametrize(
    ("name", "size", "layer", "width"),
    [
        ("shapes_net", 64, "conv1", 7),
        ("resnet56", 32, "conv1", 3),
        ("resnet20", 32, "layer1.0", 7),
        ("resnet20", 32, "layer1.2", 15),
        ("resnet20", 32, "layer3", 32),
    ],
)
def test_receptive_fields_are_those_of_the_kernels(name, size, layer, width):
    torch.manual_seed(0)
    classifier = models.build(name, tuple("abc"), size)
    assert recording.receptive_field(classifier, layer) == width
    assert not hooks(classifier)
