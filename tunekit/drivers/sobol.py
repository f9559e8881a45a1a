"""Sobol's sequence: points that fill the space more evenly than random ones, the same for a trial in any order.

Optuna's `QMCSampler` numbers its points in the order of asking and takes its dimensions from the first trial that
ended, so both depend on which trials end first, and a dimension which that one was not asked for is drawn at random.
Here the i-th trial gets the i-th point, and a dimension's coordinate follows from its name.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from tunekit.drivers.axis import Axis
from tunekit.drivers.base import OneByOneSampler, root_of

COORDINATES = 256
"""Coordinates of a point; dimensions whose names fall on the same one move on to the next that is free."""


class SobolSampler(OneByOneSampler):
    """Scrambled Sobol points (Owen 1998, as in SciPy).

    Args:
        seed: of the scrambling; the same for every trial of a search.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value at the dimension's coordinate of the trial's point."""
        coordinate = _coordinate(param_name, list(trial.params))
        return Axis(param_distribution).at(_point(self._seed, root_of(trial))[coordinate])


def _coordinate(name: str, before: list[str]) -> int:
    """A place for every name that this trial was asked for, in the order of asking; mostly the same in every trial."""
    taken: dict[int, str] = {}
    for one in [*before[: COORDINATES - 1], name]:
        place = int.from_bytes(hashlib.sha256(one.encode()).digest()[:4], "big") % COORDINATES
        while place in taken:
            place = (place + 1) % COORDINATES
        taken[place] = one
    return place


@lru_cache(maxsize=64)
def _point(seed: int, number: int) -> tuple[float, ...]:
    from scipy.stats import qmc

    sequence = qmc.Sobol(COORDINATES, scramble=True, rng=seed)
    if number:
        sequence.fast_forward(number)
    return tuple(sequence.random(1)[0].tolist())
