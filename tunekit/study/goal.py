"""How much a search may spend, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunekit.metrics import Metric
from tunekit.trial import State, Trial


@dataclass
class Clock:
    """What is left of a budget.

    Args:
        budget: seconds for everything, or None.
        reserve: seconds of it that are kept for what comes after the trials.
        started: `time.monotonic()` at the start.
    """

    budget: float | None
    reserve: float
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that trials may still take; None without a budget."""
        return None if self.budget is None else max(0.0, self.budget - self.reserve - self.elapsed)


@dataclass(frozen=True)
class Goal:
    """When a search is over.

    Args:
        clock: the budget.
        metric: of the scores.
        trials: number of trials that the study has in the end, or None.
        score: one that is good enough, or None.
    """

    clock: Clock
    metric: Metric
    trials: int | None = None
    score: float | None = None

    def reached(self, trials: Sequence[Trial]) -> bool:
        """Whether a trial that was fitted on every fold has a score that is good enough."""
        if self.score is None:
            return False
        sign = 1.0 if self.metric.direction == "minimize" else -1.0
        scores = [one.score for one in trials if one.state is State.COMPLETE and one.score is not None]
        return any(sign * score <= sign * self.score for score in scores)
