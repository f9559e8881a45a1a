"""What the trials of a family can tell about one of its hyperparameters: where they stood on it, and how they did.

A driver that learns proposes ever better values, and lets those that don't matter drift meanwhile. So late trials are
better *and* alike, and whatever they share looks like the cause: on scores as they are, chance findings were ten times
as frequent as they should be (TPE, 60 trials). Here a trial is compared with those that started around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tunekit.drivers.translate import to_stored
from tunekit.space import Dimension, Value
from tunekit.trial import State, Trial

NEIGHBOURS = 7
"""So many trials before one, and as many after it, are those that it is compared with."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A trial that was tried once and has a score.

    Args:
        trial: its record.
        loss: less is better. A stopped trial counts as no better than the middle of those that were not stopped.
    """

    trial: Trial
    loss: float

    @property
    def complete(self) -> bool:
        """Whether it was fitted on every fold."""
        return self.trial.state is State.COMPLETE


@dataclass(frozen=True)
class Evidence:
    """A hyperparameter, and the trials of its family that had it, in the order of starting.

    Args:
        dimension: as its factory asked for it last.
        judged: the trials; those with a value that it can't take any more are left out.
    """

    dimension: Dimension
    judged: tuple[Judged, ...]

    @cached_property
    def values(self) -> list[Value]:
        """The trials' values."""
        return [one.trial.values[self.dimension.name] for one in self.judged]

    @cached_property
    def positions(self) -> Array:
        """Where the values stand on the dimension's own scale, from 0 to 1; for choices, their indices."""
        return np.array([position(self.dimension, value) for value in self.values])

    @cached_property
    def losses(self) -> Array:
        """The trials' losses."""
        return np.array([one.loss for one in self.judged])

    @cached_property
    def best_first(self) -> list[int]:
        """Indices of the trials by loss; those that were stopped come last."""
        return sorted(range(len(self.judged)), key=lambda at: (not self.judged[at].complete, self.judged[at].loss))

    @cached_property
    def best(self) -> list[int]:
        """Indices of the best quarter of the trials, at least 4 and at most 10; none of them was stopped."""
        count = min(10, max(4, len(self.judged) // 4))
        return [at for at in self.best_first[:count] if self.judged[at].complete]


def position(dimension: Dimension, value: Value) -> float:
    """Where a value stands on the dimension's own scale, from 0 to 1; for a choice, its index.

    >>> lr = Dimension("lr", "float", 0.01, 0.0001, 1.0, sampling="log")
    >>> position(lr, 0.01), position(Dimension("kind", "choice", "a", choices=("a", "b")), "b")
    (0.5, 1.0)
    """
    if dimension.kind not in ("int", "float"):
        return float(dimension.choices.index(value))
    low, high = dimension.bounds
    if dimension.step is not None:
        high = dimension.top
    if low == high:
        return 0.0
    if dimension.sampling == "reverse_log":
        share = float(to_stored(dimension, value))
    elif dimension.sampling == "log":
        share = math.log(float(value) / low) / math.log(high / low)
    else:
        share = (float(value) - low) / (high - low)
    return min(max(share, 0.0), 1.0)


def standings(losses: Array) -> Array:
    """For each loss, the share of those around it that were better: 0 for the best of its neighbours, 1 for the worst.

    >>> standings(np.array([3.0, 2.0, 1.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    found = []
    for at, loss in enumerate(losses):
        around = losses[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
        better = np.sum(around < loss) + (np.sum(around == loss) - 1) / 2
        found.append(better / max(len(around) - 1, 1))
    return np.array(found)


def judge(trials: Sequence[Trial], direction: str) -> list[Judged]:
    """The trials that tell something, by number: neither repeats, nor any that failed or was interrupted."""
    sign = 1.0 if direction == "minimize" else -1.0
    told: list[tuple[Trial, float]] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        ran = trial.state in (State.COMPLETE, State.STOPPED) and trial.same_as is None
        if ran and trial.score is not None and math.isfinite(trial.score):
            told.append((trial, sign * trial.score))
    complete = [loss for trial, loss in told if trial.state is State.COMPLETE]
    middle = float(np.median(complete)) if complete else -math.inf
    return [Judged(trial, loss if trial.state is State.COMPLETE else max(loss, middle)) for trial, loss in told]


def gather(judged: Sequence[Judged]) -> list[Evidence]:
    """The evidence on each hyperparameter that one family's trials still ask for and that has more than one value."""
    latest = {one.key: one for each in judged for one in each.trial.dimensions}
    current = {one.key for each in judged[-max(10, len(judged) // 3) :] for one in each.trial.dimensions}
    found = []
    for key, dimension in latest.items():
        if key not in current or dimension.kind == "fixed":
            continue
        having = tuple(one for one in judged if _has(one.trial, dimension))
        if len({one.trial.values[dimension.name] for one in having}) > 1:
            found.append(Evidence(dimension, having))
    return found


def _has(trial: Trial, dimension: Dimension) -> bool:
    keys = {one.key for one in trial.dimensions}
    return dimension.key in keys and dimension.contains(trial.values.get(dimension.name))
