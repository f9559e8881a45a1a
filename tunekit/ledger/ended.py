"""The trials of a study that ended."""

from __future__ import annotations

import json

from tunekit.space import Dimension
from tunekit.trial import State, Trial

TRIED = (State.COMPLETE, State.STOPPED, State.FAILED)
"""States of trials that need not be run again."""


class EndedTrials:
    """Records by number, and by values.

    Args:
        program: digest of the study file that is searched with now.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._by_number: dict[int, Trial] = {}
        self._by_values: dict[tuple[str, str], Trial] = {}

    def add(self, trial: Trial) -> None:
        """Take in a trial that ended."""
        self._by_number[trial.number] = trial
        if trial.state in TRIED and not trial.is_outdated(self._program):
            values = _values_of(trial)
            first = self._by_values.get(values)
            if first is None or (trial.same_as is None and first.same_as is not None):
                self._by_values[values] = trial

    def all(self) -> list[Trial]:
        """Every trial, by number."""
        return [self._by_number[number] for number in sorted(self._by_number)]

    def of(self, family: str) -> list[Trial]:
        """Every trial of a family, by number."""
        return [trial for trial in self.all() if trial.family == family]

    def same(self, trial: Trial) -> Trial | None:
        """The trial of the same family that was tried with the same values: the first, where others repeat it."""
        return self._by_values.get(_values_of(trial))

    def dimensions(self, family: str) -> dict[str, Dimension]:
        """What the trials of a family were asked for, by key; as the latest was."""
        return {one.key: one for trial in self.of(family) for one in trial.dimensions}


def _values_of(trial: Trial) -> tuple[str, str]:
    """The same for trials that were given the same: of a family, every dimension's key with its value."""
    values = {dimension.key: trial.values[dimension.name] for dimension in trial.dimensions}
    return trial.family, json.dumps(values, sort_keys=True)
