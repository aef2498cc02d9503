"""LIME on images: explain, read the explanation, and hand in parameters."""

from helpers.lime.explainer import LimeImageExplainer, explain
from helpers.lime.params import KEYS, validate
from helpers.lime.reading import heatmap, mask, weights
from helpers.lime.scoreboard import DEFAULTS, Score, score, store
from helpers.lime.segments import segment
from helpers.lime.unpickle import load_params
from helpers.lime.upload import submit

__all__ = [
    "DEFAULTS", "KEYS", "LimeImageExplainer", "Score", "explain", "heatmap", "load_params",
    "mask", "score", "segment", "store", "submit", "validate", "weights",
]  # fmt: skip
