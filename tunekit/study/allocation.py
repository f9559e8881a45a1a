"""Which family gets the next trial."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from tunekit.metrics import Metric
from tunekit.space import Dimension, space_size
from tunekit.trial import State, Trial

MOST_FAILURES = 3
"""A family whose first trials all failed, this many of them, is given up."""

LEAST_SHARE = 0.8
"""A trial is started only if at least this share of its family's usual time is left."""

QUICK = 1.0
"""Seconds below which no trial counts as quicker: the models of one that takes less are soon no different."""

COUNTED = (State.COMPLETE, State.STOPPED, State.FAILED)
"""States of a trial that was spent; an interrupted one is run again."""


class Tally:
    """What the trials of one family tell about its next one, kept up to date trial by trial.

    Args:
        trials: those that ended so far.

    Attributes:
        ended: how many trials ended, in whatever state.
        spent: of these, those that were not interrupted.
        run: of these, those that reuse no other's result.
        failed: of these, those that failed.
    """

    def __init__(self, trials: Iterable[Trial] = ()) -> None:
        self.ended = self.spent = self.run = self.failed = 0
        self._scores: list[float] = []
        self._seconds: list[float] = []
        self._different: set[tuple[tuple[str, object], ...]] = set()
        self._dimensions: dict[str, Dimension] = {}
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Count a trial that ended."""
        self.ended += 1
        if trial.state not in COUNTED:
            return
        self.spent += 1
        self.run += trial.same_as is None
        self.failed += trial.state is State.FAILED
        self._different.add(tuple(sorted(trial.values.items())))
        self._dimensions.update({dimension.key: dimension for dimension in trial.dimensions})
        if trial.state is State.COMPLETE and trial.same_as is None:
            self._seconds.append(trial.seconds)
            if trial.score is not None:
                self._scores.append(trial.score)

    @property
    def exhausted(self) -> bool:
        """Whether the family has nothing new to try: its whole space was tried, or all it did was fail."""
        if self.failed == self.spent:
            return self.spent >= MOST_FAILURES
        return len(self._different) >= space_size(list(self._dimensions.values()))

    @property
    def seconds(self) -> float | None:
        """What a complete trial usually takes; None if there is none."""
        return statistics.median(self._seconds) if self._seconds else None

    def best(self, metric: Metric) -> float:
        """The best score as a loss; infinite if there is none."""
        if not self._scores:
            return float("inf")
        return min(metric.sign * score for score in self._scores)


def next_family(
    families: Sequence[str],
    planned: Mapping[str, int],
    started: Mapping[str, int],
    tallies: Mapping[str, Tally],
    metric: Metric,
    worth: Mapping[str, float] | None = None,
    *,
    by_time: bool = False,
) -> str | None:
    """The family that should get the next trial, or None if all are exhausted.

    Planned trials come first (every family's defaults, then the rest of the portfolios, and what was interrupted):
    blends of different families beat more trials of one. Then families take turns, those that are worth more to the
    blend more often, then those with better scores: the first gets twice the trials of the second, three times those of
    the third. Where time is what ends the search, quick families get more trials than slow ones: four times as many
    where a trial takes a sixteenth, halfway between as many trials and as much time.

    Args:
        families: the ones that can start now, in the study's order.
        planned: planned trials that wait, by family.
        started: trials so far, by family.
        tallies: of those that ended, by family.
        metric: to rank by.
        worth: what a family is worth to the blend, if anything; see `tunekit.study.worth`.
        by_time: whether what a trial takes counts; the order of trials then depends on the machine.
    """

    def cost(family: str) -> float:
        return math.sqrt(max(tallies[family].seconds or 0.0, QUICK)) if by_time else 1.0

    waiting = [family for family in families if planned[family]]
    if waiting:
        return min(waiting, key=lambda family: started[family] * cost(family))
    alive = [family for family in families if not tallies[family].exhausted]
    if not alive:
        return None
    gains = worth or {}
    ranked = sorted(alive, key=lambda family: (-gains.get(family, 0.0), tallies[family].best(metric)))
    return min(ranked, key=lambda family: (started[family] + 1) * (ranked.index(family) + 1) * cost(family))


def fits(tally: Tally, seconds_left: float | None) -> bool:
    """Whether a trial of the family can be expected to end in time."""
    return seconds_left is None or tally.seconds is None or seconds_left > LEAST_SHARE * tally.seconds
