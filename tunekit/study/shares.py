"""How much of the time that is left a trial may take, and what is not worth it.

Time is short where it is not enough for every family: each trial of one that takes long, and comes to nothing, costs
several of others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tunekit.families import Baseline, Family, Keras, NetFamily, Pretrained
from tunekit.metrics import Metric
from tunekit.study.allocation import Tally
from tunekit.study.goal import Goal
from tunekit.trial import Trial

FIRST_SHARE = 1 / 2
"""Of the time left that a family may take whose trials nobody has timed: the others need some, too."""

PROMISING = 2
"""A first trial with fewer families before it, by its first fold, may take more than that."""

PROMISING_SHARE = 3 / 4
"""Of the time left, for that one."""

LEAST_EPOCHS = 8
"""A net that a fair share of the time leaves fewer in each fold is a waste of it, unless it is the best even so."""

CUT_SHORT = 0.7
"""Of its share, what a net takes at least that was ended by the time; one that takes less had nothing more to learn."""

FAR_TOO_SLOW = 4.0
"""A net that needs so many times its fair share of the time is taken to speak for all nets."""

SURE = 0.7
"""Of the time that folds are expected to take: with less than that left, a trial will not be complete."""

LEAST_FOR_NETS = 15.0
"""Seconds left with which TensorFlow is imported while there are other trials to run: a net takes longer."""


@dataclass(frozen=True)
class Share:
    """What a trial may take.

    Args:
        first: seconds, if nobody has timed its family; else None.
        fair: seconds in which a net must be able to learn something, for others of its kind wait, too.
    """

    first: float | None
    fair: float


@dataclass(frozen=True)
class Shares:
    """Judges trials by the time that they take.

    Args:
        goal: says how much is left.
        families: of the study.
        tallies: of the trials that ended, by family; kept up to date by its owner.
        metric: of the study.
        folds: of each trial.
    """

    goal: Goal
    families: Mapping[str, Family]
    tallies: Mapping[str, Tally]
    metric: Metric
    folds: int

    @property
    def left(self) -> float | None:
        """Seconds; None without a budget."""
        return self.goal.clock.left

    @property
    def by_time(self) -> bool:
        """Whether time is what ends the search."""
        return self.goal.trials is None and self.left is not None

    @property
    def enough_for_nets(self) -> bool:
        """Whether importing TensorFlow is worth it."""
        return self.left is None or self.left > LEAST_FOR_NETS

    def of(self, family: Family, given_up: Collection[str], workers: int) -> Share:
        """What a trial that starts now may take.

        Args:
            family: its own.
            given_up: families that get no more trials.
            workers: trials at a time: nets that can run side by side need not wait for each other.
        """
        if self.left is None:
            return Share(None, math.inf)
        untimed = [
            name
            for name, one in self.families.items()
            if one.needs_tensorflow and self.tallies[name].seconds is None and name not in given_up
        ]
        first = None if self.tallies[family.name].seconds is not None else FIRST_SHARE * self.left
        return Share(first, self.left * min(1.0, workers / (1 + len(untimed))))

    def beyond(self, share: Share, trial: Trial, seconds: float, pace: float | None) -> float | None:
        """Seconds that all folds would take, where they are more than a family's first trial may; else None.

        Args:
            share: of the trial.
            trial: whose first fold has ended.
            seconds: that it took.
            pace: seconds of a net's epoch, if it had two.
        """
        if share.first is None:
            return None
        better, needed, allowed = self._better(trial), seconds * self.folds, share.first
        if self.families[trial.family].needs_tensorflow:  # it ends in time, but may have learnt next to nothing
            epochs = len(trial.curve)
            if not self.by_time or not 0 < epochs < LEAST_EPOCHS or needed < CUT_SHORT * allowed or not better:
                return None
            allowed = min(allowed, share.fair)
            still = LEAST_EPOCHS * self.folds - epochs
            needed = needed * LEAST_EPOCHS / epochs if pace is None else seconds + pace * still
        elif not self._any_learnt:
            allowed /= FIRST_SHARE
        elif self.by_time and better < PROMISING:
            allowed *= PROMISING_SHARE / FIRST_SHARE
        return needed if needed > allowed else None

    @property
    def _any_learnt(self) -> bool:
        """Whether there is a complete trial that learnt something: a search without one has nothing to show."""
        return any(tally.seconds is not None for name, tally in self.tallies.items() if name != Baseline.name)

    def _better(self, trial: Trial) -> int:
        """How many families are better, by all of their folds."""
        losses = [tally.best(self.metric) for name, tally in self.tallies.items() if name != Baseline.name]
        return sum(loss <= self.metric.sign * (trial.score or 0.0) for loss in losses)

    def slower_than(self, share: Share, trial: Trial, needed: float, tried: Collection[str]) -> list[str]:
        """Nets that would take too long as well, where one is far too slow: each would take time to show it.

        Args:
            share: of that one.
            trial: its own.
            needed: seconds that it would take.
            tried: families that are known to be too slow, or run.
        """
        comparable = [
            name
            for name, family in self.families.items()
            if isinstance(family, NetFamily) and not isinstance(family, (Keras, Pretrained))  # of whatever size
        ]
        if trial.family not in comparable or needed < FAR_TOO_SLOW * share.fair:
            return []
        return [name for name in comparable if name not in tried and self.tallies[name].seconds is None]

    def too_late(self, share: Share, trial: Trial, seconds: float) -> float | None:
        """Seconds for the folds that are still to come, where the time that is left can't be enough for them.

        Args:
            share: of the trial.
            trial: some folds of which have ended.
            seconds: that they took.
        """
        adapts = share.first is not None and self.families[trial.family].needs_tensorflow  # its folds end in time
        if adapts or not self.by_time or not self.left:
            return None
        done = len(trial.fold_scores)
        needed = seconds * (self.folds - done) / done
        return needed if SURE * needed > self.left else None
