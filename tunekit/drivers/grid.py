"""Every combination of values, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tunekit.drivers.axis import Axis
from tunekit.drivers.base import Driver, OneByOneSampler, root_of
from tunekit.errors import StudyError


@dataclass(frozen=True, repr=False)
class Grid(Driver):
    """Walks through every combination of values; the search of a family ends when all were tried.

    The first dimension that the factory asks for changes fastest. The n-th proposal is the n-th combination, whatever
    ended before; so where one choice leads to fewer combinations than another, those of the first come again while
    the second's go on.

    Args:
        points: values of a float without a step, of a log-sampled int, and of what has more than 1,000 steps: evenly
            spaced (by ratio under log sampling), smallest and largest included.

    Raises:
        StudyError: there would be no point.
    """

    points: int = 5

    def __post_init__(self) -> None:
        if self.points < 1:
            raise StudyError(f"Grid(points={self.points}): expected at least 1, such as the default of 5")

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name on the command line."""
        return "grid"

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See `Driver.sampler`."""
        del seed  # nothing here is random
        return _GridSampler(self.points)

    def exhausted(self, study: optuna.Study) -> bool:
        """See `Driver.exhausted`."""
        trials = study.get_trials(deepcopy=False)
        return _covered([one for one in trials if one.state is not TrialState.WAITING], 0, self.points)


class _GridSampler(OneByOneSampler):
    def __init__(self, points: int) -> None:
        self._points = points
        self._rank: int | None = None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The digit of the trial's rank, in a number system whose bases are the counts of points."""
        if self._rank is None:
            root = root_of(trial)
            earlier = [one for one in study.get_trials(deepcopy=False) if one.number < root]
            self._rank = sum("plan" not in one.user_attrs for one in earlier)
        left = self._rank
        for name, asked in trial.distributions.items():
            if name != param_name:
                left //= len(Axis(asked).points(self._points))
        points = Axis(param_distribution).points(self._points)
        return points[left % len(points)]


def _covered(trials: Sequence[FrozenTrial], depth: int, most: int) -> bool:
    """Whether trials that agree up to here were, among them, given every value of what they were asked for next.

    A running trial may not have been asked for everything yet, so this may be true too early, but not once it ended.
    """
    asked = [list(one.distributions.items()) for one in trials]
    going_on = [(one, steps[depth]) for one, steps in zip(trials, asked, strict=True) if len(steps) > depth]
    if not going_on:
        return bool(trials)
    name, distribution = going_on[-1][1]
    branches: dict[Any, list[FrozenTrial]] = {}
    for one, (other, _) in going_on:
        if other == name:
            branches.setdefault(one.params[name], []).append(one)
    return all(
        point in branches and _covered(branches[point], depth + 1, most) for point in Axis(distribution).points(most)
    )
