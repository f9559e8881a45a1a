"""Advice after a search: values at the edge of their range, hyperparameters that matter, and those that don't.

What the trials don't show is not said. How often chance makes a finding, whatever the driver, was tried on functions
whose truth is known; the figures are beside the limits. With fewer than 15 trials of a family, nothing is said at all.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunekit.advice.evidence import Evidence, Judged, gather, judge, position, standings
from tunekit.advice.importance import Importance, importances
from tunekit.space import Dimension, Value
from tunekit.trial import Trial

LEAST = 15
"""Trials before an edge is looked for: the best 4 of fewer are too few to share something that isn't chance."""

WIDTH = 0.1
"""Of a range, on its own scale: what is no farther from a bound than this is at its edge."""

EDGE_CHANCE = 0.01
"""Of the best trials crowding at any of the family's edges by accident, if their values were drawn at random."""

WORSE_CHANCE = 0.02
"""Of the trials at the edge being better than the others by accident: a driver may also have drifted there."""


@dataclass(frozen=True)
class Advice:
    """One finding, in words and numbers.

    Args:
        family: name of the family.
        kind: "edge", "matters" or "does not matter".
        name: the hyperparameter; with its conditions, where it has any.
        text: the finding with its evidence, on a line of its own.
        numbers: of an edge "bound", "at_edge" and "best" (trials); of the others "importance", from 0 to 1, and
            "chance"; of all "trials".
    """

    family: str
    kind: str
    name: str
    text: str
    numbers: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Advice:
        """The inverse of `to_json`."""
        return cls(**data)


def advise(trials: Sequence[Trial], direction: str) -> list[Advice]:
    """What the trials of a search tell about its hyperparameters, the most useful first.

    Args:
        trials: all that ended, of every family.
        direction: of the score, "minimize" or "maximize".
    """
    families: dict[str, list[Judged]] = {}
    for one in judge(trials, direction):
        families.setdefault(one.trial.family, []).append(one)
    edges: list[Advice] = []
    weighed: list[tuple[str, Importance]] = []
    for family, judged in families.items():
        if len(judged) < LEAST:
            continue
        found = gather(judged)
        edges += _edges(family, judged, found)
        weighed += [(family, one) for one in importances(found)]
    weighed.sort(key=lambda one: -one[1].share)
    matter = [_matters(family, one) for family, one in weighed if one.matters]
    known = {one.family for one in matter}  # where nothing is found to matter, the scores are too noisy to rule out any
    idle = [_idle(family, one) for family, one in reversed(weighed) if one.idle and family in known]
    return [*sorted(edges, key=lambda one: -one.numbers["at_edge"] / one.numbers["best"]), *matter, *idle]


# At the edge.


def _edges(family: str, judged: Sequence[Judged], found: Sequence[Evidence]) -> list[Advice]:
    """Of a family: bounds at which its best trial and most of the best ones stand."""
    best = min((one for one in judged if one.complete), key=lambda one: one.loss, default=None)
    ends = [
        (one, upper)
        for one in found
        if one.dimension.kind in ("int", "float") and len(one.judged) >= LEAST
        for upper in (False, True)
        if not natural(one.dimension, upper=upper)
    ]
    crowded = []
    for one, upper in ends:
        near = _near(one, upper=upper)
        at_best = [bool(near[at]) for at in one.best]
        if len(at_best) < 4 or one.judged[one.best[0]] is not best or not at_best[0] or 2 * sum(at_best) < len(at_best):
            continue
        accident = _tail(sum(at_best), len(at_best), _share_near(one.dimension, upper=upper))
        if accident <= EDGE_CHANCE / len(ends) and _better(one, near):
            crowded.append(_edge(family, one, at_best, upper=upper))
    return crowded


def natural(dimension: Dimension, *, upper: bool) -> bool:
    """Whether nothing sensible lies beyond a bound: 0, a count of 1, or all of a share.

    >>> dropout = Dimension("dropout", "float", 0.1, 0.0, 0.5)
    >>> natural(dropout, upper=False), natural(dropout, upper=True)
    (True, False)
    """
    low, high = dimension.bounds
    if upper:
        return dimension.kind == "float" and high == 1.0 and low >= 0.0 and dimension.sampling != "log"
    return low == 0 or (dimension.kind == "int" and low == 1)


def _near(evidence: Evidence, *, upper: bool) -> Any:
    """Whether each trial's value is at the edge."""
    positions = evidence.positions
    return (1.0 - positions if upper else positions) <= WIDTH


def _share_near(dimension: Dimension, *, upper: bool) -> float:
    """The share of values drawn at random that are at the edge."""
    if math.isinf(dimension.count):
        return WIDTH
    count = int(dimension.count)

    def inward(index: int) -> float:
        at = position(dimension, dimension.value_at(count - 1 - index if upper else index))
        return 1.0 - at if upper else at

    near = bisect_right(range(count), WIDTH, key=inward)  # there may be too many to look at each
    if dimension.sampling != "log" or dimension.step is not None:
        return near / count
    low, high = dimension.bounds
    first, last = (high - near + 1, high) if upper else (low, low + near - 1)
    return math.log((last + 0.5) / (first - 0.5)) / math.log((high + 0.5) / (low - 0.5))


def _tail(count: int, of: int, share: float) -> float:
    """The probability of at least so many successes."""
    return sum(math.comb(of, n) * share**n * (1 - share) ** (of - n) for n in range(count, of + 1))


def _better(evidence: Evidence, near: Any) -> bool:
    """Whether the trials at the edge did better than the others that started around them (Mann 1947)."""
    from scipy.stats import mannwhitneyu

    if near.all():
        return False
    ranks = standings(evidence.losses)
    return float(mannwhitneyu(ranks[near], ranks[~near], alternative="less").pvalue) <= WORSE_CHANCE


def _edge(family: str, evidence: Evidence, at_best: Sequence[bool], *, upper: bool) -> Advice:
    dimension = evidence.dimension
    low, high = dimension.bounds
    bound = dimension.top if upper else low
    values = [evidence.values[at] for at, here in zip(evidence.best, at_best, strict=True) if here]
    side = f"the {'upper' if upper else 'lower'} bound"
    whole = f"{number_text(low)}..{number_text(high)}"
    crowd = f"in {len(values)} of the best {len(at_best)}"
    first = number_text(values[0])
    if all(math.isclose(float(value), bound) for value in values):
        where = f"is {first} in the best trial and {crowd}, {side} of its range {whole}"
    else:
        where = f"is near {side} of {whole} in the best trial ({first}) and {crowd}"
    text = f"{family}: {dimension.key} {where}: widen it"
    numbers = {"bound": float(bound), "at_edge": len(values), "best": len(at_best), "trials": len(evidence.judged)}
    return Advice(family, "edge", dimension.key, text, numbers)


# What matters.


def _matters(family: str, one: Importance) -> Advice:
    best, others = _split(one.evidence)
    if one.evidence.dimension.kind in ("int", "float"):
        where = (
            f"{_span(best)} in the best {len(best)} of {len(best) + len(others)} trials, {_span(others)} in the others"
        )
    else:
        value, count = Counter(best).most_common(1)[0]
        where = (
            f"{value_text(value)} in {count} of the best {len(best)} trials, in {others.count(value)} of the other "
            f"{len(others)}"
        )
    text = f"{family}: {one.evidence.dimension.key} matters ({one.share:.0%} of the variance): {where}"
    return Advice(family, "matters", one.evidence.dimension.key, text, _numbers(one))


def _idle(family: str, one: Importance) -> Advice:
    total = len(one.evidence.judged)
    text = (
        f"{family}: {one.evidence.dimension.key} hardly matters ({one.share:.0%} of the variance in {total} trials): "
        f"keep {value_text(one.evidence.dimension.default)}"
    )
    return Advice(family, "does not matter", one.evidence.dimension.key, text, _numbers(one))


def _numbers(one: Importance) -> dict[str, float]:
    return {"importance": one.share, "chance": one.chance, "trials": len(one.evidence.judged)}


def _split(evidence: Evidence) -> tuple[list[Value], list[Value]]:
    """The values of the best trials, and of the others."""
    best, values = set(evidence.best), evidence.values
    return [values[at] for at in evidence.best], [value for at, value in enumerate(values) if at not in best]


def _span(values: Sequence[Value]) -> str:
    """From where to where most of the values lie: a tenth at either end is left out."""
    ordered = np.sort([float(value) for value in values])
    out = round(len(ordered) / 10)
    low, high = ordered[out], ordered[len(ordered) - 1 - out]
    return number_text(low) if low == high else f"{number_text(low)}..{number_text(high)}"


def value_text(value: Value) -> str:
    """A value to read."""
    return repr(value) if isinstance(value, (bool, str)) else number_text(value)


def number_text(value: Value) -> str:
    """A number to read, to three digits.

    >>> [number_text(value) for value in (512, 12000, 0.0123456, 0.5, 3e-05, 1234.5)]
    ['512', '12000', '0.0123', '0.5', '3e-05', '1234']
    """
    number = float(value)
    return f"{number:.0f}" if abs(number) >= 1000 and abs(number) < 1e6 else f"{number:.3g}"
