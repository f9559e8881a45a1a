"""What a driver is: something that proposes values, as an Optuna sampler without state of its own.

All that a driver may know is the history in the study. So a search that was interrupted goes on as if it had not been,
and any driver continues any other's search.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna

from tunekit.drivers.translate import key_of
from tunekit.trial import derive_seed


class Driver(ABC):
    """Proposes values.

    Attributes:
        name: as on the command line, such as "optuna:tpe".
    """

    name: str

    @abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """A fresh sampler for one proposal, seeded.

        Raises:
            StudyError: see `check`.
        """

    def check(self, objectives: int = 1) -> None:  # noqa: B027
        """Whether it can be used here.

        Args:
            objectives: how many a study has.

        Raises:
            StudyError: naming the package that is missing, or what else it can't do, and what to use instead.
        """

    def for_search(self, seed: int) -> Driver:
        """The driver of one family's search: itself, unless its proposals share something, such as a sequence."""
        del seed
        return self

    def exhausted(self, study: optuna.Study) -> bool:
        """Whether it has nothing left to propose in this search."""
        del study
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def root_of(trial: optuna.trial.FrozenTrial) -> int:
    """The trial's number; of one that is run again, the number of the first that had its values."""
    plan = trial.user_attrs.get("plan") or {}
    return int(plan.get("retry_of", trial.number))


class OneByOneSampler(optuna.samplers.BaseSampler):
    """Base of samplers that answer when a dimension is asked for: only then is it known which ones there are."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Nothing is proposed ahead of being asked for."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Nothing; see `infer_relative_search_space`."""
        return {}


class ProposalSampler(optuna.samplers.BaseSampler):
    """The sampler of one family's study: planned values where a trial has a plan, else a driver's own for that trial.

    Each trial gets a fresh sampler of the driver, seeded by the study's seed, the family and the trial's index. So
    proposals depend neither on when they are asked for nor on which others were asked for in this process.

    A plan is the trial's user attribute "plan": {"defaults": True}, {"values": {name: value}} or, for a trial that is
    run again, {"params": {key: value as stored}}.

    Args:
        driver: proposes what no plan says.
        seed: the study's.
        family: the family's name.
    """

    def __init__(self, driver: Driver, seed: int, family: str) -> None:
        self._driver = driver.for_search(derive_seed(seed, "search", family))
        self._seed = seed
        self._family = family
        self._samplers: dict[int, optuna.samplers.BaseSampler] = {}
        self._seconds: defaultdict[int, float] = defaultdict(float)
        self.exhausted = self._driver.exhausted
        self.planned: dict[str, Any] = {}
        """Key to stored value of what the plan says for the dimension being asked for; set by the one who asks."""

    def seconds(self, number: int) -> float:
        """What the driver has taken so far to propose the values of a trial in flight; 0 if they are planned."""
        return self._seconds[number]

    @contextmanager
    def _driving(self, trial: optuna.trial.FrozenTrial) -> Iterator[optuna.samplers.BaseSampler]:
        begun = time.perf_counter()
        try:
            yield self._of(trial)
        finally:
            self._seconds[trial.number] += time.perf_counter() - begun

    def _of(self, trial: optuna.trial.FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number not in self._samplers:
            seed = derive_seed(self._seed, "proposal", self._family, root_of(trial))
            self._samplers[trial.number] = self._driver.sampler(seed)
        return self._samplers[trial.number]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """What is proposed jointly: nothing for a planned trial."""
        if "plan" in trial.user_attrs:
            return {}
        with self._driving(trial) as sampler:
            return sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Joint proposals of the driver."""
        if not search_space:
            return {}
        with self._driving(trial) as sampler:
            return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """The planned value, or a proposal of the driver."""
        if key_of(param_name) in self.planned:
            return self.planned[key_of(param_name)]
        with self._driving(trial) as sampler:
            return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Let the driver see the trial start."""
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Any,
    ) -> None:
        """Let the driver see the trial end, and forget its sampler."""
        self._of(trial).after_trial(study, trial, state, values)
        self._samplers.pop(trial.number, None)
        self._seconds.pop(trial.number, None)
