"""What the next hour of a search can be expected to gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.coach.noise import complete
from tunekit.trial import State, Trial

FEWEST = 20
"""Complete trials from which on their tail tells something."""

TAIL = 0.25
"""Of the trials, the best ones, are the tail."""

RESAMPLES = 400
"""Of the bootstrap: its 5% quantile is then known to within 1%."""

HOUR = 3600.0


@dataclass(frozen=True)
class Gain:
    """What so many more trials are expected to gain.

    Args:
        gain: expected, in the metric's unit.
        low: the 5% quantile of what may come.
        high: its 95% quantile.
        trials: how many more.
        seen: trials whose tail was looked at.
    """

    gain: float
    low: float
    high: float
    trials: int
    seen: int


def next_hour(trials: Sequence[Trial], direction: str) -> Gain | None:
    """What another hour of the same search is expected to gain; None with fewer than 20 complete trials.

    Args:
        trials: all that ended.
        direction: of the score.
    """
    able = sorted(complete(trials), key=lambda trial: trial.number)
    if len(able) < FEWEST:
        return None
    sign = 1.0 if direction == "minimize" else -1.0
    losses = np.array([sign * (trial.score or 0.0) for trial in able])
    rate = _rate([trial for trial in trials if trial.state in (State.COMPLETE, State.STOPPED, State.FAILED)], len(able))
    return expected_gain(losses[len(losses) // 2 :], float(losses.min()), max(1, round(rate * HOUR)))


def expected_gain(losses: npt.NDArray[np.float64], best: float, more: int, seed: int = 0) -> Gain:
    """What more draws gain over the best so far, if they are like these.

    The method is peaks over threshold (Davison and Smith 1990) with an exponential tail: of n losses the k best, a
    quarter, lie below a threshold u by excesses whose mean is m. A new trial falls below u with probability k / n,
    and then by an exponential excess of mean m. The gain is what the best of the new ones has over `best`. Losses that
    have a floor have a shorter tail than that, so that the expectation errs towards going on.

    Its uncertainty is that of the tail and that of the draw: the losses are resampled (bootstrap), each time the tail
    is fitted anew and new trials are drawn from it; `low` and `high` are quantiles of the gains, `gain` their mean.
    Trials of a search are no independent draws of one distribution. A driver that still learns does better than it
    did: so the later half of the trials is given, and a search that is still falling is underestimated.

    Args:
        losses: of the later trials, any order.
        best: the smallest loss so far.
        more: trials to come.
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    count = len(losses)
    tail = max(3, math.ceil(TAIL * count))
    gains = np.empty(RESAMPLES)
    for sample in range(RESAMPLES):
        drawn = np.sort(random.choice(losses, count))
        threshold = drawn[min(tail, count - 1)]
        mean = float(np.mean(threshold - drawn[:tail]))
        below = random.binomial(more, tail / count)
        # The largest of so many exponential excesses, by its distribution function.
        largest = -mean * math.log(-math.expm1(math.log(random.uniform()) / below)) if below else 0.0
        gains[sample] = max(0.0, best - (threshold - largest))
    low, high = np.quantile(gains, [0.05, 0.95])
    return Gain(float(gains.mean()), float(low), float(high), more, count)


def _rate(trials: Sequence[Trial], able: int) -> float:
    """Complete trials a second, over the time in which any trial ran."""
    spans = sorted((trial.started, trial.started + trial.seconds) for trial in trials if trial.same_as is None)
    busy, until = 0.0, -math.inf
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return able / busy if busy > 0 else 0.0
