"""A family's trials as this process knows them, so that proposals needn't read the database again and again."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class FamilyMemory:
    """The trials of one Optuna study, by number. A trial is never changed, only replaced by another object.

    Args:
        name: of the Optuna study.
        directions: of it.
    """

    def __init__(self, name: str, directions: list[StudyDirection]) -> None:
        self.name = name
        self.directions = directions
        self._trials: dict[int, FrozenTrial] = {}
        self._shown: dict[int, FrozenTrial] = {}
        self._numbers: dict[TrialState, set[int]] = {state: set() for state in TrialState}
        self._distributions: dict[str, BaseDistribution] = {}

    def __getitem__(self, number: int) -> FrozenTrial:
        return self._shown.get(number) or self._trials[number]

    def written(self, number: int) -> FrozenTrial:
        """A trial as it is in the database, whatever is shown of it."""
        return self._trials[number]

    def show(self, instead: Mapping[int, FrozenTrial]) -> None:
        """From now on, show these trials in place of what was written, and all others as they were written."""
        self._shown = dict(instead)
        self._numbers = {state: set() for state in TrialState}
        self._distributions = {}
        for number in self._trials:
            self._count(self[number])

    def put(self, trial: FrozenTrial) -> None:
        """Take in a trial that is new, or new facts about one that is known."""
        if trial.number in self._trials:
            self._numbers[self[trial.number].state].discard(trial.number)
        self._shown.pop(trial.number, None)
        self._trials[trial.number] = trial
        self._count(trial)

    def _count(self, trial: FrozenTrial) -> None:
        self._numbers[trial.state].add(trial.number)
        for name, distribution in trial.distributions.items():
            self._distributions.setdefault(name, distribution)

    def all(self, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The trials by number."""
        wanted = [numbers for state, numbers in self._numbers.items() if states is None or state in states]
        return [self[number] for number in sorted(set().union(*wanted))]

    def count(self, state: TrialState) -> int:
        """How many trials are in a state."""
        return len(self._numbers[state])

    def check(self, name: str, distribution: BaseDistribution) -> None:
        """Optuna's rule for a name in one study.

        Raises:
            ValueError: the name has another kind or other choices.
        """
        if name in self._distributions:
            check_distribution_compatibility(self._distributions[name], distribution)


def copied(trial: FrozenTrial) -> FrozenTrial:
    """A copy to be changed; what is in its dictionaries is shared, and never changed."""
    new = copy.copy(trial)
    for name in ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values"):
        setattr(new, name, dict(getattr(trial, name)))
    return new
