"""How much a search may spend, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunekit.metrics import Metric
from tunekit.trial import State, Trial

LEADING = 2
"""Families whose best trials are expected to be fitted once more."""


@dataclass
class Clock:
    """What is left of a budget.

    Args:
        budget: seconds for everything, or None.
        reserve: seconds of it that are kept for what comes after the trials.
        started: `time.monotonic()` at the start.
        refits: more seconds that are kept, for fitting members once more.
    """

    budget: float | None
    reserve: float
    started: float = field(default_factory=time.monotonic)
    refits: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that trials may still take; None without a budget."""
        return None if self.budget is None else max(0.0, self.budget - self.reserve - self.refits - self.elapsed)


@dataclass(frozen=True)
class Refits:
    """How much of a budget is kept for fitting members once more on all rows.

    At least a share of it; more where the best trials of the two best families take longer, which will mostly be the
    members that count. A model that learnt from all rows is often worth more than another trial.

    Args:
        share: of the budget, at least.
        most: share of it, at most.
        seconds: that a trial takes to be fitted once more, to be on the safe side; infinite if it can't be.
    """

    share: float
    most: float
    seconds: Callable[[Trial], float]

    def wanted(self, best_first: Sequence[Trial], budget: float) -> float:
        """Seconds to keep.

        Args:
            best_first: complete trials by score.
            budget: seconds.
        """
        leading: dict[str, Trial] = {}
        for trial in best_first:
            leading.setdefault(trial.family, trial)
        needed = 0.0
        for trial in list(leading.values())[:LEADING]:
            more = needed + self.seconds(trial)
            needed = more if more <= self.most * budget else needed
        return max(needed, self.share * budget)


@dataclass(frozen=True)
class Goal:
    """When a search is over.

    Args:
        clock: the budget.
        metric: of the scores.
        trials: number of trials that the study has in the end, or None.
        score: one that is good enough, or None.
        refits: what is kept for fitting members once more, if they are to be.
    """

    clock: Clock
    metric: Metric
    trials: int | None = None
    score: float | None = None
    refits: Refits | None = None

    def keep_for_refits(self, best_first: Sequence[Trial]) -> None:
        """Set time apart for fitting the leading trials once more.

        Args:
            best_first: complete trials by score.
        """
        if self.refits is not None and self.clock.budget is not None:
            self.clock.refits = self.refits.wanted(best_first, self.clock.budget)

    def reached(self, trials: Sequence[Trial]) -> bool:
        """Whether a trial that was fitted on every fold has a score that is good enough."""
        if self.score is None:
            return False
        sign = self.metric.sign
        scores = [one.score for one in trials if one.state is State.COMPLETE and one.score is not None]
        return any(sign * score <= sign * self.score for score in scores)
