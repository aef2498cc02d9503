"""Stability indices: known values on small cases, and intervals that cover the truth."""

import numpy as np
import pytest
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge

from helpers.measure import stability
from helpers.run.errors import WorkbookError


def drawn(n, k, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    states = rng.integers(0, 2, (n, k))
    states[0] = 1
    truth = np.linspace(-0.2, 0.3, k)
    return states, 0.4 + states @ truth + rng.normal(0, noise, n), rng.uniform(0.2, 1, n), truth


@pytest.mark.parametrize("alpha", [0.1, 1.0, 30.0])
def test_weights_equal_the_librarys(alpha):
    states, y, near, _ = drawn(60, 9)
    library = LimeBase(lambda _d: near).explain_instance_with_data(
        states, y[:, None], np.zeros(60), 0, 9, "none", Ridge(alpha=alpha)
    )
    expected = [weight for _, weight in sorted(library[1])]
    np.testing.assert_allclose(stability.fit(states, y, near, alpha).weights, expected, atol=1e-9)


def test_intervals_are_those_of_weighted_least_squares():
    """With next to no penalty they are the textbook's: solved once more with a column of ones."""
    states, y, near, _ = drawn(50, 4)
    found = stability.fit(states, y, near, alpha=1e-9)
    x = np.column_stack([np.ones(50), states]) * np.sqrt(near)[:, None]
    beta, rss, *_ = np.linalg.lstsq(x, y * np.sqrt(near), rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * rss / (50 - 5))
    np.testing.assert_allclose(found.weights, beta[1:], atol=1e-6)
    np.testing.assert_allclose((found.high - found.low)[:4] / 2, 2.0141 * error[1:], rtol=1e-3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        states, y, near, truth = drawn(80, 5, seed, noise=0)
        y = y + rng.normal(0, 0.1, 80) / np.sqrt(near)
        found = stability.fit(states, y, near, alpha=0.01)
        covered.append((found.low <= truth) & (truth <= found.high))
    assert 0.93 < np.mean(covered) < 0.97


def test_fits_on_more_states_are_surer():
    few, many = (stability.fit(*drawn(n, 6)[:3]) for n in (30, 3000))
    assert (many.high - many.low < 0.3 * (few.high - few.low)).all()


def test_too_few_states_are_refused(one_line):
    with pytest.raises(WorkbookError) as error:
        stability.fit(*drawn(10, 9)[:3])
    one_line(error, "10 states", "draw 11")


def test_the_strongest_are_those_farthest_from_zero():
    weights = np.array([[0.1, -0.5, 0.2, 0.0], [0.3, 0.0, -0.1, 0.2]])
    expected = [[False, True, True, False], [True, False, False, True]]
    assert stability.strongest(weights, 2).tolist() == expected
    assert stability.strongest(weights, 9).all()


def bools(*rows):
    return np.array([[c == "x" for c in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["xx..", "xx..", "xx.."], 1.0),
        (["xx..", "..xx"], 0.0),
        (["xx..", "x.x."], 0.5),
        (["xx..", "xx..", "..xx"], 1 / 3),
        (["xxx.", "x..."], 1 / 3),  # the larger number counts
    ],
)
def test_vsi(rows, expected):
    assert stability.vsi(bools(*rows)) == pytest.approx(expected)


def test_vsi_of_random_choices_is_k_of_p():
    weights = np.random.default_rng(0).normal(size=(200, 40))
    assert stability.vsi(stability.strongest(weights, 8)) == pytest.approx(8 / 40, abs=0.01)


def test_csi_counts_overlapping_intervals_of_chosen_superpixels():
    low = np.array([[0.0, 0.0], [0.9, 0.0], [2.0, 0.0]])
    high = low + 1
    everything = bools("xx", "xx", "xx")
    # Of the first superpixel's three pairs one overlaps, of the second's all do.
    assert stability.csi(low, high, everything) == pytest.approx((1 / 3 + 1) / 2)
    assert stability.csi(low, high, bools("xx", "xx", ".x")) == pytest.approx(1.0)
    assert stability.csi(low, high, bools("x.", "..", "x.")) == pytest.approx(0.0)
    assert np.isnan(stability.csi(low, high, bools("x.", ".x", "..")))


def test_intervals_that_touch_overlap():
    low, high = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert stability.csi(low, high, bools("x", "x")) == 1.0


def test_a_single_run_or_an_empty_one_is_refused(one_line):
    for call in (stability.vsi, lambda c: stability.csi(c, c, c)):
        with pytest.raises(WorkbookError) as error:
            call(bools("x.x"))
        one_line(error, "two runs")
    with pytest.raises(WorkbookError) as error:
        stability.vsi(bools("x.", ".."))
    one_line(error, "no superpixel")
