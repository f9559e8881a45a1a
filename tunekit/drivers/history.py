"""For libraries that keep a history of their own: the study's history in their terms, read afresh for each trial.

What such a library proposes may depend on what ended before, and on what runs now, but on nothing that it remembers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tunekit.drivers.axis import Axis, Position
from tunekit.drivers.base import OneByOneSampler, root_of
from tunekit.trial import derive_seed

STARTUP_TRIALS = 6
"""Random proposals before the history is modelled: fewer than the libraries' 10 to 20, as a family may see some 20."""

TILT = 0.05
"""Of the sum of all objectives, what is added to the worst of them, so that the others count as well."""


@dataclass(frozen=True)
class Past:
    """An earlier trial.

    Args:
        number: of the trial in its study.
        values: by name, as Optuna stores them; what a trial was not asked is not in it.
        loss: less is better; None if it failed or still runs, or, with several objectives, was stopped.
        running: whether it still runs.
    """

    number: int
    values: dict[str, Any]
    loss: float | None
    running: bool


@dataclass(frozen=True)
class History:
    """What a sampler may know when it proposes a trial.

    Args:
        trials: every other trial that was asked for something, by number.
        space: every dimension that one of them was asked for, as the latest was; those with one value left out.
    """

    trials: list[Past]
    space: dict[str, BaseDistribution]

    def positions(self, space: dict[str, Axis]) -> list[dict[str, Position]]:
        """Where each trial stands on each axis that it was asked for; values from outside the axis are left out."""
        found: list[dict[str, Position]] = []
        for past in self.trials:
            at = {name: space[name].position(value) for name, value in past.values.items() if name in space}
            found.append({name: position for name, position in at.items() if position is not None})
        return found

    @property
    def told(self) -> int:
        """How many trials have a loss."""
        return sum(past.loss is not None for past in self.trials)


def read_history(study: optuna.Study, trial: FrozenTrial, seed: int = 0) -> History:
    """The history for a trial. One that was interrupted is no failure: it is left out, for it runs again as another.

    Args:
        study: of the family.
        trial: for which values are to be proposed.
        seed: of this trial's weights, where there are several objectives.
    """
    frozen = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
    again = {(one.user_attrs.get("plan") or {}).get("replaces") for one in [*frozen, trial]}
    losses = _losses(study, frozen, seed)
    trials: list[Past] = []
    space: dict[str, BaseDistribution] = {}
    for one in frozen:
        if not one.params or (one.state is TrialState.FAIL and one.number in again):
            continue
        trials.append(Past(one.number, one.params, losses.get(one.number), one.state is TrialState.RUNNING))
        space |= {name: found for name, found in one.distributions.items() if not found.single()}
    return History(trials, space)


def _losses(study: optuna.Study, trials: list[FrozenTrial], seed: int) -> dict[int, float]:
    """What trials that ended are to be judged by, by number: less is better.

    Several objectives become one by weights that differ from proposal to proposal, so that all of them together search
    the whole front (ParEGO, Knowles 2006). They are compared by ranks: one outlier would squeeze all others together.
    """
    judged = [one for one in trials if one.state in (TrialState.COMPLETE, TrialState.PRUNED) and one.values]
    if not judged:
        return {}
    signs = [-1.0 if way is optuna.study.StudyDirection.MAXIMIZE else 1.0 for way in study.directions]
    values = np.array([one.values for one in judged]) * signs
    if len(signs) == 1:
        return {one.number: float(value) for one, value in zip(judged, values[:, 0], strict=True)}
    ranks = np.stack([np.searchsorted(np.sort(column), column) for column in values.T], axis=1) / len(judged)
    weighed = np.random.default_rng(seed).dirichlet(np.ones(len(signs))) * ranks
    losses = weighed.max(axis=1) + TILT * weighed.sum(axis=1)
    return {one.number: float(loss) for one, loss in zip(judged, losses, strict=True)}


class HistorySampler(OneByOneSampler, ABC):
    """The sampler of one trial, by a library that is shown the history first.

    All dimensions that are known are proposed at once, at the first question. A dimension that is new, or every one
    while too few trials have ended, is drawn by its own seed: from its name and the trial's, whatever else is asked.

    Args:
        seed: of this trial.
        startup: trials that have a loss before `propose` is asked; None if it never is.
    """

    def __init__(self, seed: int, startup: int | None) -> None:
        self._seed = seed
        self._startup = startup
        self._history: History | None = None
        self._proposed: dict[str, tuple[BaseDistribution, Any]] = {}

    @abstractmethod
    def draw(self, name: str, axis: Axis, seed: int) -> Position:
        """A position at random."""

    @abstractmethod
    def propose(self, history: History, space: dict[str, Axis], number: int, seed: int) -> dict[str, Position]:
        """Positions for the trial of this number on every axis, by what the history tells."""

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The joint proposal's value of a dimension, or a random one."""
        axis = Axis(param_distribution)
        if param_distribution.single():
            return axis.value(axis.low)
        if self._startup is None:
            return self._random(param_name, axis)
        if self._history is None:
            self._history = read_history(study, trial, self._seed)
        if self._history.told < self._startup or param_name not in self._history.space:
            return self._random(param_name, axis)
        if self._proposed.get(param_name, (None, None))[0] != param_distribution:
            space = {name: Axis(found) for name, found in self._history.space.items()} | {param_name: axis}
            positions = self.propose(self._history, space, root_of(trial), self._seed)
            for name in [*positions] if not self._proposed else [param_name]:
                if name in positions:
                    self._proposed[name] = (space[name].distribution, space[name].value(positions[name]))
        proposed = self._proposed.get(param_name, (None, None))
        return proposed[1] if proposed[0] == param_distribution else self._random(param_name, axis)

    def _random(self, name: str, axis: Axis) -> Any:
        return axis.value(self.draw(name, axis, derive_seed(self._seed, name)))
