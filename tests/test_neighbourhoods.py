"""Kept answers: a fit of them equals a whole explanation with the same parameters."""

import numpy as np
import pytest
import torch
from lime.wrappers.scikit_image import SegmentationAlgorithm
from sklearn.linear_model import BayesianRidge, Ridge

from helpers import data
from helpers.explain import lime, neighbourhoods
from helpers.nets import models
from helpers.run.errors import WorkbookError

SLIC = SegmentationAlgorithm("slic", n_segments=20, compactness=20, sigma=1)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return models.build("shapes_net", tuple("abcdefghij"), 64)


@pytest.fixture(scope="module")
def pixels():
    return data.load("shapes", "test", 1).pixels[0]


def explained(classifier, pixels, seed, kernel_width=0.25, **arguments):
    image = pixels.permute(1, 2, 0).contiguous().numpy()
    explainer = lime.LimeImageExplainer(kernel_width, seed=seed)
    found = explainer.explain_instance(
        image, classifier, labels=(3,), top_labels=None, progress_bar=False, **arguments
    )
    return lime.weights(found, 3), found


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
def test_a_refit_equals_a_whole_explanation(classifier, pixels, seed, fit):
    kept = neighbourhoods.draw(
        classifier, pixels, 3, num_samples=80, seed=seed, segmentation_fn=SLIC
    )
    found = neighbourhoods.refit(kept, **fit)
    expected, explanation = explained(
        classifier, pixels, seed, segmentation_fn=SLIC, **{"num_samples": 80, **fit}
    )
    np.testing.assert_allclose(found.weights, expected, rtol=1e-4, atol=1e-6)
    assert found.r2 == pytest.approx(explanation.score, abs=1e-4)
    assert (kept.segments == explanation.segments).all()


@pytest.mark.parametrize("hide", [None, 0, [200, 10, 30], "blur"])
def test_the_hide_colour_is_that_of_the_explainer(classifier, pixels, hide):
    kept = neighbourhoods.draw(
        classifier, pixels, 3, num_samples=30, segmentation_fn=SLIC, hide_color=hide
    )
    expected, _ = explained(
        classifier, pixels, 0, segmentation_fn=SLIC, num_samples=30, hide_color=hide
    )
    np.testing.assert_allclose(neighbourhoods.refit(kept).weights, expected, rtol=1e-4, atol=1e-6)


def test_the_first_states_of_a_long_run_are_those_of_a_short_one(classifier, pixels):
    long, short = (
        neighbourhoods.draw(classifier, pixels, 3, num_samples=n, segmentation_fn=SLIC)
        for n in (50, 20)
    )
    assert (long.states[:20] == short.states).all()
    np.testing.assert_allclose(long.probabilities[:20], short.probabilities, atol=1e-6)
    assert long.states[0].all()
    assert 0 < long.seconds(25) == pytest.approx(long.segmenting + long.answering / 2)


def test_the_mask_is_that_of_the_explanation(classifier, pixels):
    kept = neighbourhoods.draw(classifier, pixels, 3, num_samples=60, segmentation_fn=SLIC)
    _, explanation = explained(classifier, pixels, 0, segmentation_fn=SLIC, num_samples=60)
    for k in (1, 4, 999):
        mask = neighbourhoods.supporting(kept, neighbourhoods.refit(kept).weights, k)
        assert torch.equal(mask, lime.mask(explanation, 3, k))


def test_too_few_superpixels_are_refused(classifier, pixels, one_line):
    with pytest.raises(WorkbookError) as error:
        neighbourhoods.draw(
            classifier, pixels, 3, num_samples=10, segmentation_fn=lambda i: np.zeros(i.shape[:2])
        )
    one_line(error, "1 superpixel", "finer segmentation")
