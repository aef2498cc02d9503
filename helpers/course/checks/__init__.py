"""Check the exercises: say "correct", or say in one line what is not right yet.

Every checker takes the student's function and tries it on cases with known results. It accepts
any right answer within a tolerance, and refuses stubs and plausible mistakes.
"""

from helpers.course.checks.agreement import equal_area, iou, permutation_test
from helpers.course.checks.answers import NotYet
from helpers.course.checks.dissection import log_probability, unit_concept_iou
from helpers.course.checks.evaluation import calibration_error, wilson_interval
from helpers.course.checks.features import inside_outside, record_activations
from helpers.course.checks.filters import colour_share, normalise_filters
from helpers.course.checks.heatmaps import ablation_weights, grad_cam, heat_on_object, hottest
from helpers.course.checks.lime import pareto_front, proximity, weighted_ridge
from helpers.course.checks.text import local_weights, word_recall
from helpers.course.checks.transformers import rollout, tokens_to_grid
from helpers.course.checks.trust import deletion_curve, randomise_from_the_top, shapley_values

__all__ = [
    "NotYet",
    "ablation_weights",
    "calibration_error",
    "colour_share",
    "deletion_curve",
    "equal_area",
    "grad_cam",
    "heat_on_object",
    "hottest",
    "inside_outside",
    "iou",
    "local_weights",
    "log_probability",
    "normalise_filters",
    "pareto_front",
    "permutation_test",
    "proximity",
    "randomise_from_the_top",
    "record_activations",
    "rollout",
    "shapley_values",
    "tokens_to_grid",
    "unit_concept_iou",
    "weighted_ridge",
    "wilson_interval",
    "word_recall",
]
