"""One dimension as a sampler sees it: Optuna's distribution, and positions on it.

Libraries other than Optuna know neither float steps nor choices as ours do. So they are asked for a *position*: the
number itself where any number will do, else the index of the value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Position = float | int

MOST_LISTED = 1000
"""Numbers with more steps than this are not listed one by one."""


@dataclass(frozen=True)
class Axis:
    """Positions of one distribution.

    Args:
        distribution: Optuna's.

    >>> steps = Axis(FloatDistribution(0.1, 0.7, step=0.2))
    >>> steps.kind, steps.low, steps.high, steps.value(2), steps.position(0.5), steps.position(0.9)
    ('int', 0, 3, 0.5, 2, None)
    >>> Axis(FloatDistribution(1e-4, 1.0, log=True)).at(0.5)
    0.01
    """

    distribution: BaseDistribution

    @cached_property
    def kind(self) -> str:
        """Of the positions: "float" for any number, "int" for whole numbers in order, "choice" for an index."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return "choice"
        return "float" if isinstance(distribution, FloatDistribution) and distribution.step is None else "int"

    @cached_property
    def log(self) -> bool:
        """Whether positions are to be compared by their ratio."""
        return isinstance(self.distribution, (IntDistribution, FloatDistribution)) and self.distribution.log

    @cached_property
    def low(self) -> Position:
        """The smallest position."""
        return self._numbers.low if self.kind == "float" or self.log else 0

    @cached_property
    def high(self) -> Position:
        """The largest position, inclusive."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return len(distribution.choices) - 1
        numbers = self._numbers
        if self.kind == "float" or self.log:
            return numbers.high
        return round((numbers.high - numbers.low) / (numbers.step or 1))

    @property
    def _numbers(self) -> IntDistribution | FloatDistribution:
        assert isinstance(self.distribution, (IntDistribution, FloatDistribution))
        return self.distribution

    def position(self, value: Any) -> Position | None:
        """Where a value stands, or None if it is none of this dimension's."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            same = [at for at, one in enumerate(distribution.choices) if one == value and type(one) is type(value)]
            return same[0] if same else None
        if isinstance(value, (bool, str)) or value is None or not distribution._contains(value):
            return None
        if self.kind == "float":
            return float(value)
        numbers = self._numbers
        return int(value) if self.log else round((value - numbers.low) / (numbers.step or 1))

    def value(self, position: float) -> Any:
        """The value at a position, or at the nearest one that there is; a plain Python type."""
        at = min(max(position, self.low), self.high)
        if self.kind == "float":
            return float(at)
        index = round(at)
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[index]
        if self.log:
            return index
        numbers = self._numbers
        if isinstance(numbers, IntDistribution):
            return numbers.low + index * numbers.step
        return min(numbers.low + index * (numbers.step or 1.0), numbers.high)

    def at(self, share: float) -> Any:
        """The value that this share of the probability, from 0 up to 1, lies below."""
        if self.kind == "float":
            return self.value(self._between(self.low, self.high, share))
        low, high = self.low - 0.5, self.high + 0.5  # so that every value has the same share
        return self.value(self._between(low, high, share) if self.log else self.low + math.floor((high - low) * share))

    def points(self, most: int) -> list[Any]:
        """Values in order: every one; `most` of them, ends included, where there are too many or steps are ratios."""
        listed = most if self.log else max(most, MOST_LISTED)
        if self.kind == "choice" or (self.kind == "int" and self.high - self.low < listed):
            return [self.value(position) for position in range(int(self.low), int(self.high) + 1)]
        if self.low == self.high or most == 1:
            return [self.value(self.low)]
        shares = [step / (most - 1) for step in range(most)]
        return list(dict.fromkeys(self.value(self._between(self.low, self.high, share)) for share in shares))

    def _between(self, low: float, high: float, share: float) -> float:
        return low * (high / low) ** share if self.log else low + (high - low) * share
