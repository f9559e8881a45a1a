"""A family in a search: its trials as Optuna's study, who proposes values and who stops trials, and its space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna

from tunekit.drivers.base import ProposalSampler
from tunekit.drivers.translate import suggest
from tunekit.ledger.plans import stored_value
from tunekit.ledger.spaces import FamilySpace
from tunekit.space import Dimension, Value
from tunekit.stopping import Stopper, worth_more_among_rivals
from tunekit.trial import Trial


@dataclass
class Running:
    """A trial in flight: its record, Optuna's handle, and its plan, if it has one."""

    trial: Trial
    handle: optuna.Trial
    plan: dict[str, Any] | None

    @property
    def id(self) -> int:
        """The id of the trial in the database."""
        return self.handle._trial_id


@dataclass(frozen=True)
class SearchedFamily:
    """A family in a search.

    Args:
        study: Optuna's, "study/family".
        sampler: of the study's driver.
        stopper: of the study.
        space: what its trials were asked for.
    """

    study: optuna.Study
    sampler: ProposalSampler
    stopper: Stopper
    space: FamilySpace

    @property
    def id(self) -> int:
        """The id of Optuna's study in the database."""
        return self.study._study_id

    @property
    def exhausted(self) -> bool:
        """Whether the driver has nothing left to propose."""
        return self.sampler.exhausted(self.study)

    def suggest(self, running: Running, dimension: Dimension) -> Value:
        """The value of a dimension: planned, or proposed by the driver."""
        self.sampler.planned = stored_value(running.plan, dimension)
        try:
            value = suggest(running.handle, dimension)
        finally:
            self.sampler.planned = {}
        running.trial.values[dimension.name] = value
        running.trial.dimensions.append(dimension)
        return value

    def worth_more(self, running: Running, score: float, step: int) -> bool:
        """Report a score; whether the stopper lets the trial go on. Planned trials always go on."""
        running.handle.report(score, step)
        stop = running.handle.should_prune()  # asked for planned ones too: halving keeps a record of whom it judged
        return running.plan is not None or not stop

    def worth_more_for_its_costs(self, running: Running, others: list[Trial], direction: str) -> bool:
        """The same for a trial that is judged by more than its score; see `worth_more_among_rivals`."""
        return running.plan is not None or worth_more_among_rivals(self.stopper, running.trial, others, direction)
