"""A number with its confidence interval, as it is printed and recorded."""

from math import isnan
from typing import NamedTuple

CONFIDENCE = 0.95
NONE = "–"  # what is printed where there is no number, as for the mean of no cases


class Estimate(NamedTuple):
    """A number, its 95 % confidence interval [low, high], and how many cases it rests on.

    Bounds are NaN where there are too few cases for an interval, the number is where there are
    none: such an estimate lies on neither side of anything.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self:.3f}"

    def __format__(self, spec: str) -> str:
        """Format all three numbers alike: ``f"{estimate:.1%}"`` gives 90.1% [89.5%, 90.7%]."""
        value, low, high = (NONE if isnan(x) else format(x, spec) for x in self[:3])
        return f"{value} [{low}, {high}]"

    def excludes(self, value: float) -> bool:
        """Say whether ``value`` lies outside the interval."""
        return value < self.low or value > self.high
