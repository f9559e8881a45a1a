"""Optuna's samplers as drivers."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tunekit.drivers.base import Driver
from tunekit.drivers.history import STARTUP_TRIALS
from tunekit.drivers.sobol import SobolSampler
from tunekit.errors import StudyError

ALGORITHMS = ("tpe", "tpe-group", "gp", "cmaes", "nsgaii", "qmc", "random")

POPULATION = 10
"""Of NSGA-II: its first generation is random, and a family may see some 20 trials."""

_MISSING = {
    "gp": ("torch", "keras-tuner:bayesian, a Gaussian process too, or optuna:tpe"),
    "cmaes": ("cmaes", "optuna:tpe, which models dimensions jointly too"),
}


@dataclass(frozen=True, repr=False)
class Optuna(Driver):
    """Optuna's samplers.

    A sampler object of one's own is used as it is, a copy of it for each family: it keeps its settings and its seed,
    and what it remembers beside the history is lost when the search is resumed.

    Args:
        algorithm: "tpe" (multivariate, Bergstra 2011, Falkner 2018), "tpe-group" (the same, apart for each group of
            dimensions that are asked for together), "gp" (a Gaussian process; needs torch), "cmaes" (Hansen 2016; needs
            cmaes), "nsgaii" (Deb 2002), "qmc" (Sobol's sequence), "random", or any sampler object of Optuna.
        search_seed: of what all trials of a search share; set by the search.

    Raises:
        StudyError: there is no such algorithm.
    """

    algorithm: str | BaseSampler = "tpe"
    search_seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.algorithm, BaseSampler) and self.algorithm not in ALGORITHMS:
            raise StudyError(
                f"Optuna({self.algorithm!r}) is unknown; expected one of {', '.join(ALGORITHMS)}, or a sampler object "
                "such as optuna.samplers.GPSampler()"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name on the command line; of a sampler object, its class."""
        own = isinstance(self.algorithm, BaseSampler)
        return f"optuna:{type(self.algorithm).__name__ if own else self.algorithm}"

    def check(self, objectives: int = 1) -> None:
        """See `Driver.check`."""
        single = self.algorithm == "cmaes" or isinstance(self.algorithm, optuna.samplers.CmaEsSampler)
        if single and objectives > 1:
            raise StudyError(
                f"{self.name} searches for one objective, and the study has {objectives}; use optuna:tpe, "
                "optuna:nsgaii or any other driver"
            )
        if not isinstance(self.algorithm, BaseSampler) and self.algorithm in _MISSING:
            package, equivalent = _MISSING[self.algorithm]
            if importlib.util.find_spec(package) is None:
                raise StudyError(
                    f"{self.name} needs the package {package}, which is not installed: pip install {package}, or use "
                    f"{equivalent}"
                )

    def for_search(self, seed: int) -> Driver:
        """See `Driver.for_search`."""
        if isinstance(self.algorithm, BaseSampler):
            return replace(self, algorithm=copy.deepcopy(self.algorithm))
        return replace(self, search_seed=seed) if self.algorithm == "qmc" else self

    def sampler(self, seed: int) -> BaseSampler:
        """See `Driver.sampler`."""
        self.check()
        if isinstance(self.algorithm, BaseSampler):
            return _Guarded(self.algorithm)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._make(seed)

    def _make(self, seed: int) -> BaseSampler:
        match self.algorithm:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "qmc":
                return SobolSampler(self.search_seed)
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
            case "gp":
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
                )
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
                )
            case _:
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=STARTUP_TRIALS,
                    multivariate=True,
                    group=self.algorithm == "tpe-group",
                )


class Random(Optuna):
    """Independent random proposals: the same ones in any order and on any number of workers."""

    def __init__(self) -> None:
        super().__init__("random")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name on the command line."""
        return "random"


class _Guarded(BaseSampler):
    """A sampler of the user's. Some end the search by `study.stop`, which Optuna refuses outside `study.optimize`."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler does."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler does."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler does."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the sampler does."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """As the sampler does, but for ending the search."""
        try:
            self._sampler.after_trial(study, trial, state, values)
        except RuntimeError as error:
            if "Study.stop" not in str(error):
                raise
