"""Which family gets the next trial."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tunekit.metrics import Metric
from tunekit.space import space_size
from tunekit.trial import State, Trial

MOST_FAILURES = 3
"""A family whose first trials all failed, this many of them, is given up."""

LEAST_SHARE = 0.6
"""A trial is started only if at least this share of its family's usual time is left."""

COUNTED = (State.COMPLETE, State.STOPPED, State.FAILED)
"""States of a trial that was spent; an interrupted one is run again."""


def next_family(
    families: Sequence[str],
    planned: dict[str, int],
    started: dict[str, int],
    trials: Sequence[Trial],
    metric: Metric,
) -> str | None:
    """The family that should get the next trial, or None if all are exhausted.

    Planned trials come first (every family's defaults, then the rest of the portfolios, and what was interrupted):
    blends of different families beat more trials of one. Then families take turns, those with better scores more
    often: the best gets twice the trials of the second, three times those of the third.

    Args:
        families: the ones that can start now, in the study's order.
        planned: planned trials that wait, by family.
        started: trials so far, by family.
        trials: those that ended.
        metric: to rank by.
    """
    waiting = [family for family in families if planned[family]]
    if waiting:
        return min(waiting, key=lambda family: started[family])
    alive = [family for family in families if not is_exhausted([one for one in trials if one.family == family])]
    if not alive:
        return None
    ranked = sorted(alive, key=lambda family: _best(family, trials, metric))
    return min(ranked, key=lambda family: (started[family] + 1) * (ranked.index(family) + 1))


def is_exhausted(trials: Sequence[Trial]) -> bool:
    """Whether a family has nothing new to try: its whole space was tried, or all it did was fail."""
    spent = [trial for trial in trials if trial.state in COUNTED]
    good = [trial for trial in spent if trial.state is not State.FAILED]
    if not good:
        return len(spent) >= MOST_FAILURES
    dimensions = {dimension.key: dimension for trial in good for dimension in trial.dimensions}
    different = {tuple(sorted(trial.values.items())) for trial in good}
    return len(different) >= space_size(list(dimensions.values()))


def fits(family: str, trials: Sequence[Trial], seconds_left: float | None) -> bool:
    """Whether a trial of the family can be expected to end in time."""
    usual = [trial.seconds for trial in trials if trial.family == family and trial.state is State.COMPLETE]
    return seconds_left is None or not usual or seconds_left > LEAST_SHARE * statistics.median(usual)


def _best(family: str, trials: Sequence[Trial], metric: Metric) -> float:
    own = [one for one in trials if one.family == family and one.state is State.COMPLETE]
    scores = [one.score for one in own if one.score is not None]
    sign = 1.0 if metric.direction == "minimize" else -1.0
    return min((sign * score for score in scores), default=float("inf"))
