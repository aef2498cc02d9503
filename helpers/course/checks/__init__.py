"""Check the exercises: say "correct", or say in one line what is not right yet.

Every checker takes the student's function and tries it on cases with known results. It accepts
any right answer within a tolerance, and refuses stubs and plausible mistakes.
"""

from helpers.course.checks import dissection, heatmaps, lime, measures, networks  # noqa: F401
from helpers.course.checks.answers import CHECKERS, NotYet

globals().update(CHECKERS)  # checks.grad_cam(answer), for each that an @exercise makes
__all__ = [*CHECKERS, "NotYet"]
