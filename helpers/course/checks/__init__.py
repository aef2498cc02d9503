"""Check the exercises: say "correct", or say in one line what is not right yet.

Every checker takes the student's function and tries it on cases with known results. It accepts
any right answer within a tolerance, and refuses stubs and plausible mistakes.
"""

from helpers.course.checks.answers import NotYet
from helpers.course.checks.dissection import log_probability, unit_concept_iou
from helpers.course.checks.heatmaps import (
    ablation_weights,
    deletion_curve,
    grad_cam,
    heat_on_object,
    hottest,
    randomise_from_the_top,
    shapley_values,
)
from helpers.course.checks.lime import (
    local_weights,
    pareto_front,
    proximity,
    weighted_ridge,
    word_recall,
)
from helpers.course.checks.measures import (
    calibration_error,
    equal_area,
    iou,
    permutation_test,
    wilson_interval,
)
from helpers.course.checks.networks import (
    colour_share,
    inside_outside,
    normalise_filters,
    record_activations,
    rollout,
    tokens_to_grid,
)

__all__ = [
    "NotYet", "ablation_weights", "calibration_error", "colour_share", "deletion_curve",
    "equal_area", "grad_cam", "heat_on_object", "hottest", "inside_outside", "iou",
    "local_weights", "log_probability", "normalise_filters", "pareto_front", "permutation_test",
    "proximity", "randomise_from_the_top", "record_activations", "rollout", "shapley_values",
    "tokens_to_grid", "unit_concept_iou", "weighted_ridge", "wilson_interval", "word_recall",
]  # fmt: skip
