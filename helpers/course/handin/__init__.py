"""Hand in LIME parameters, and score them."""

from helpers.course.handin.params import KEYS, validate
from helpers.course.handin.scoreboard import DEFAULTS, PEERS, Score, grade, score, store
from helpers.course.handin.unpickle import load_params
from helpers.course.handin.upload import submit

__all__ = [
    "DEFAULTS", "KEYS", "PEERS", "Score", "grade", "load_params", "score", "store", "submit",
    "validate",
]  # fmt: skip
