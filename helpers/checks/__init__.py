"""Check the exercises: say "correct", or say in one line what is not right yet.

Every checker takes the student's function and tries it on cases with known results. It accepts
any right answer within a tolerance, and refuses stubs and plausible mistakes.
"""

from helpers.checks.answers import NotYet
from helpers.checks.evaluation import calibration_error, wilson_interval
from helpers.checks.features import inside_outside, record_activations
from helpers.checks.filters import colour_share, normalise_filters
from helpers.checks.heatmaps import ablation_weights, grad_cam, heat_on_object, hottest
from helpers.checks.transformers import rollout, tokens_to_grid

__all__ = [
    "NotYet",
    "ablation_weights",
    "calibration_error",
    "colour_share",
    "grad_cam",
    "heat_on_object",
    "hottest",
    "inside_outside",
    "normalise_filters",
    "record_activations",
    "rollout",
    "tokens_to_grid",
    "wilson_interval",
]
