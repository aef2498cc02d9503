"""Agreement of explanations, its baselines, and the complexity of images: known answers."""

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from helpers.explain import baselines
from helpers.measure import agreement, complexity, intervals
from helpers.measure.intervals import Estimate
from helpers.run.errors import WorkbookError


def box(rows, columns, size=(12, 16)):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def tiles(size=(60, 80), side=10):
    """Return superpixels that are square tiles: 0 to k-1, row by row."""
    rows, columns = (np.arange(length) // side for length in size)
    return rows[:, None] * (size[1] // side) + columns


# ---- intersection over union -------------------------------------------------------------------


def test_identical_masks_have_an_iou_of_1_and_disjoint_ones_of_0():
    a, b = box(slice(2, 8), slice(3, 9)), box(slice(8, 12), slice(3, 9))
    assert agreement.iou(a, a) == 1
    assert agreement.iou(a, b) == 0
    assert agreement.iou(a, ~a) == 0


def test_the_iou_is_the_common_area_over_the_joint_area():
    a, b = box(slice(0, 4), slice(0, 4)), box(slice(2, 6), slice(0, 8))
    assert agreement.iou(a, b).item() == pytest.approx(8 / (16 + 32 - 8))
    assert agreement.iou(b, a) == agreement.iou(a, b)


def test_with_one_empty_mask_the_iou_is_0_and_with_two_it_is_nan():
    a, nothing = box(slice(2, 8), slice(3, 9)), torch.zeros(12, 16, dtype=torch.bool)
    assert agreement.iou(a, nothing) == agreement.iou(nothing, a) == 0
    assert agreement.iou(nothing, nothing).isnan()


def test_every_pair_of_two_stacks_can_be_compared():
    torch.manual_seed(0)
    a, b = torch.rand(3, 12, 16) < 0.4, torch.rand(5, 12, 16) < 0.4
    table = agreement.iou(a[:, None], b)
    assert table.shape == (3, 5)
    assert table[2, 4] == agreement.iou(a[2], b[4])
    assert len(table.unique()) > 10


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.2), (0.5, 0.5), (0.05, 0.9)])
def test_random_masks_have_their_expected_iou(p, q):
    rng = torch.Generator().manual_seed(1)
    a = torch.rand(50, 100, 100, generator=rng) < p
    b = torch.rand(50, 100, 100, generator=rng) < q
    assert agreement.iou(a, b).mean().item() == pytest.approx(p * q / (p + q - p * q), abs=0.003)


def test_only_masks_of_one_size_are_compared(one_line):
    mask = torch.ones(4, 4, dtype=torch.bool)
    for other in (torch.ones(4, 5, dtype=torch.bool), torch.rand(4, 4)):
        with pytest.raises(WorkbookError) as error:
            agreement.iou(mask, other)
        one_line(error, "bool", str(list(other.shape)))


# ---- masks of equal area -----------------------------------------------------------------------


def test_exactly_the_hottest_pixels_are_marked():
    torch.manual_seed(0)
    heat = torch.rand(4, 12, 16)
    for area in (0, 1, 37, 12 * 16):
        masks = agreement.hottest(heat, area)
        assert masks.dtype == torch.bool
        assert masks.sum(dim=(1, 2)).tolist() == [area] * 4
    masks = agreement.hottest(heat, 37)
    for one, mask in zip(heat, masks, strict=True):
        assert one[mask].min() > one[~mask].max()


def test_each_map_may_have_an_area_of_its_own():
    heat = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0))
    masks = agreement.hottest(heat, torch.tensor([5, 0, 80]))
    assert masks.sum(dim=(1, 2)).tolist() == [5, 0, 80]
    assert torch.equal(masks[2], agreement.hottest(heat[2], 80))


def test_ties_are_drawn_by_lot_and_always_alike():
    steps = torch.zeros(100, 100)
    steps[:50] = 1
    mask = agreement.hottest(steps, 6000)
    assert mask[:50].all()
    assert mask.sum() == 6000
    rows, columns = (x.float() for x in torch.nonzero(mask[50:], as_tuple=True))
    assert rows.mean() == pytest.approx(24.5, abs=2)
    assert columns.mean() == pytest.approx(49.5, abs=4)
    assert torch.equal(mask, agreement.hottest(steps, 6000))


def test_two_flat_maps_do_not_agree_by_their_ties():
    flat = torch.stack([torch.full((100, 100), 0.3), torch.zeros(100, 100)])
    a, b = agreement.hottest(flat, 3000)
    assert agreement.iou(a, b).item() == pytest.approx(0.3 / 1.7, abs=0.03)


@pytest.mark.parametrize("area", [-1, 17])
def test_an_area_that_does_not_fit_is_refused(area, one_line):
    with pytest.raises(WorkbookError) as error:
        agreement.hottest(torch.rand(4, 4), area)
    one_line(error, f"{area} hottest of 16")


def test_a_map_with_nan_has_no_hottest_pixels(one_line):
    heat = torch.rand(2, 4, 4)
    heat[1, 0, 0] = torch.nan
    with pytest.raises(WorkbookError) as error:
        agreement.hottest(heat, 3)
    one_line(error, "NaN")


# ---- ranks -------------------------------------------------------------------------------------


def test_superpixel_means_are_those_of_their_pixels():
    segments = tiles((4, 6), 2)
    heat = torch.arange(24.0).reshape(4, 6)
    means = agreement.superpixel_means(heat, segments)
    assert means.dtype == torch.float32
    for k in range(6):
        assert means[k] == heat[torch.from_numpy(segments == k)].mean()


def test_the_rank_correlation_is_spearman_s():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 40))  # with ties
    by_hand = np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
    assert agreement.rank_correlation(x, y) == pytest.approx(by_hand)
    maps = (a.reshape(5, 8) for a in (x, y))
    assert agreement.rank_correlation(*maps) == pytest.approx(by_hand)


def test_the_rank_correlation_sees_order_only():
    x = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    assert agreement.rank_correlation(x, x.exp()) == pytest.approx(1)
    assert agreement.rank_correlation(x, -(x**3)) == pytest.approx(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(agreement.rank_correlation(x, torch.full_like(x, 0.2)))


def test_arrays_of_different_shapes_are_not_correlated(one_line):
    with pytest.raises(WorkbookError) as error:
        agreement.rank_correlation(torch.rand(4), torch.rand(5))
    one_line(error, "(4,)", "(5,)")


# ---- baselines ---------------------------------------------------------------------------------


def test_random_superpixels_are_whole_but_for_the_last():
    segments = tiles()
    masks = agreement.random_superpixels(segments, 1234, 30).numpy()
    assert (masks.sum(axis=(1, 2)) == 1234).all()
    for mask in masks:
        share = np.bincount(segments.ravel(), mask.ravel()) / 100
        assert (share == 1).sum() == 12
        assert share[(share > 0) & (share < 1)] == pytest.approx([0.34])


def test_random_superpixels_are_everywhere_equally_often():
    often = agreement.random_superpixels(tiles(), 1200, 2000).float().mean(dim=0)
    assert often.mean().item() == pytest.approx(0.25)
    assert (often - 0.25).abs().max() < 0.05
    seeds = [agreement.random_superpixels(tiles(), 1200, 1, seed) for seed in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])


def test_the_chance_band_holds_95_percent_of_random_explanations():
    segments = tiles()
    mask = box(slice(10, 40), slice(15, 55), (60, 80))
    band = agreement.chance(mask, segments, n=500)
    assert band.n == 500
    fresh = agreement.iou(agreement.random_superpixels(segments, 1200, 1000, seed=7), mask)
    assert band.value == pytest.approx(fresh.mean().item(), abs=0.01)
    inside = np.mean([not band.excludes(value) for value in fresh.tolist()])
    assert 0.92 < inside < 0.98


def test_agreement_is_called_what_it_is():
    band = Estimate(0.15, 0.05, 0.30, 200)
    found = [agreement.verdict(value, band) for value in (0.31, 0.30, 0.15, 0.05, 0.04)]
    assert found == ["above chance", *["as chance"] * 3, "below chance"]


def test_an_explanation_beside_the_other_is_below_chance():
    segments, mask = tiles(), box(slice(0, 30), slice(0, 80), (60, 80))
    band = agreement.chance(mask, segments)
    assert agreement.verdict(float(agreement.iou(mask, mask)), band) == "above chance"
    assert agreement.verdict(float(agreement.iou(mask, ~mask)), band) == "below chance"


def test_shuffled_pairs_agree_by_chance():
    """Two noisy views of one hidden map agree; paired with another image's, they don't."""
    rng = np.random.default_rng(0)
    hidden = ndimage.gaussian_filter(rng.normal(size=(40, 60, 80)), (0, 6, 6), mode="wrap")
    views = hidden / hidden.std() + ndimage.gaussian_filter(
        rng.normal(size=(2, 40, 60, 80)), (0, 0, 2, 2)
    )
    a, b = (agreement.hottest(torch.from_numpy(view), 1200) for view in views)
    matched, shuffled = agreement.iou(a, b), agreement.iou(a, b.roll(1, dims=0))
    expected = 0.25 / (2 - 0.25)
    assert matched.mean() > 0.6
    assert not intervals.mean(shuffled).excludes(expected)
    assert intervals.mean(shuffled).high - intervals.mean(shuffled).low < 0.12


def test_the_centre_is_hottest_in_the_middle():
    heat, again = baselines.centre(torch.zeros(2, 3, 31, 41))
    assert torch.equal(heat, again)
    assert heat.shape == (31, 41)
    assert heat.argmax() == 15 * 41 + 20
    assert 0 < heat.min() < heat.max() == 1
    torch.testing.assert_close(heat, heat.flip(0).flip(1))


def test_edges_are_hot_where_the_image_changes():
    images = torch.full((2, 3, 64, 64), 0.5)
    images[0, :, :, 32:] = 0.9
    heat = baselines.edges(images)
    assert heat.shape == (2, 64, 64)
    assert heat.dtype == torch.float32
    assert heat[0].argmax(dim=1).sub(31.5).abs().max() <= 0.5
    assert heat[0].max() == 1
    assert heat[0, :, :20].max() < 0.01
    assert heat[1].max() < 1e-3  # nothing but rounding


# ---- complexity --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_and_complex():
    """Three images of 64 pixels: one colour, two halves, and noise."""
    images = torch.full((3, 3, 64, 64), 0.25)
    images[1, :, :, 32:] = 0.75
    images[2] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    return images


@pytest.mark.parametrize("name", complexity.MEASURES)
def test_every_measure_orders_plain_halved_and_noisy(name, plain_and_complex):
    values = complexity.MEASURES[name](plain_and_complex)
    assert values.shape == (3,)
    assert values[0] < values[1] < values[2]


def test_complexity_has_its_known_values(plain_and_complex):
    plain, halved, _ = complexity.edge_density(plain_and_complex)
    assert plain == 0
    assert 1 / 64 * 0.8 < halved <= 2 / 64  # one line from top to bottom, one or two pixels wide
    assert complexity.superpixels(plain_and_complex)[0] == 1
    assert complexity.entropy(plain_and_complex)[:2].tolist() == [0, 1]


def test_entropy_does_not_see_places_and_jpeg_does():
    gradient = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    order = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))
    shuffled = gradient.flatten(2)[..., order].reshape(1, 3, 64, 64)
    assert complexity.entropy(gradient) == pytest.approx(complexity.entropy(shuffled))
    assert complexity.jpeg_bits(shuffled) > 3 * complexity.jpeg_bits(gradient)


# ---- rank correlation with interval and p-value ------------------------------------------------


def test_spearman_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = np.round(x + rng.normal(size=60) * 2)
    found, p = intervals.spearman(x, y)
    expected = stats.spearmanr(x, y)
    assert found.value == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.01)
    fisher = np.tanh(np.arctanh(found.value) + 1.96 * np.sqrt(1.06 / 57) * np.array([-1, 1]))
    assert (found.low, found.high) == pytest.approx(fisher, abs=0.08)
    assert found.n == 60
    assert intervals.spearman(x, y) == (found, p)


def test_without_a_relation_p_values_are_spread_evenly():
    rng = np.random.default_rng(1)
    p = [intervals.spearman(*rng.normal(size=(2, 10)))[1] for _ in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_clear_relation_has_a_small_p_value_and_an_interval_off_zero():
    x = np.arange(12.0)
    found, p = intervals.spearman(x, -np.exp(x))
    assert found.value == found.low == pytest.approx(-1)
    assert found.excludes(0)
    assert p < 0.001


def test_three_pairs_or_a_constant_have_no_rank_correlation(one_line):
    for x, y in (([1, 2, 3], [1, 3, 2]), ([1, 2, 3, 4], [5, 5, 5, 5]), ([], [])):
        found, p = intervals.spearman(x, y)
        assert np.isnan([*found[:3], p]).all()
        assert found.n == len(x)
    with pytest.raises(WorkbookError) as error:
        intervals.spearman([1, 2, 3, 4], [1, 3, 2, 4, 5])
    one_line(error, "not 4 and 5")
