"""Which hyperparameters of a family matter, as far as its trials can tell.

Importance is fANOVA's (Hutter 2014, by Optuna): the share of the scores' variance that a hyperparameter explains alone.
PED-ANOVA compares the best trials with the others, of which few are left once TPE crowds the best region; of eight
hyperparameters it ranked the one that mattered most first half as often. Two things are done to fANOVA: it gets values
on their own scale, for it would judge a learning rate of 0.001..30 as if most trials had to lie above 1; and scores far
worse than most are clipped.

It gives numbers to chance as well. So each hyperparameter is tested too (Kruskal 1952), and a finding needs both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from tunekit.advice.evidence import Array, Evidence, Judged, standings

LEAST = 20
"""Trials before anything is called important: with 15, ranks of a subsample hardly agreed with those of all (0.2)."""

LEAST_IDLE = 40
"""Trials before anything is called unimportant; with 30, one with a fifth of the variance was in 1 of 10 searches."""

ODDS = 0.1
"""The chance of a finding by accident may be so many times its squared importance: 0.004 at 0.2, 0.05 at 0.7.

So something was found in 4 to 9 of 100 searches in which nothing mattered, and in 1 of 100 something wrong where
others did.
"""

LARGEST_IDLE = 0.03
"""Of the variance: the most that doesn't matter."""

IDLE_CHANCE = 0.1
"""What doesn't matter must look like an accident at least this often."""

EACH_THIRD = 5
"""Trials in each third of a range: where a driver hasn't been, nothing can be said not to matter."""

TREES, DEPTH = 32, 5
"""Of fANOVA's forest: 0.1 s, whatever the number of trials; Optuna's 64 trees of any depth take 1 s for 150."""


@dataclass(frozen=True)
class Importance:
    """How much a hyperparameter matters.

    Args:
        evidence: the trials that had it.
        share: of the scores' variance that it explains alone, from 0 to 1.
        chance: the probability of scores as uneven as these if it made no difference.
    """

    evidence: Evidence
    share: float
    chance: float

    @property
    def matters(self) -> bool:
        """Whether the trials show that it does."""
        return len(self.evidence.judged) >= LEAST and self.chance <= ODDS * self.share**2

    @property
    def idle(self) -> bool:
        """Whether the trials, which found others that matter, show that it doesn't."""
        enough = len(self.evidence.judged) >= LEAST_IDLE
        return enough and self.share <= LARGEST_IDLE and self.chance > IDLE_CHANCE and tried_all_over(self.evidence)


def importances(found: Sequence[Evidence]) -> list[Importance]:
    """The importance of each hyperparameter that enough trials of the family had.

    Hyperparameters that the same trials had are weighed together, and against all others that these trials had too: so
    one that exists under a condition is judged among the trials that met it.
    """
    groups: dict[tuple[int, ...], list[Evidence]] = {}
    for one in found:
        if len(one.judged) >= LEAST:
            groups.setdefault(_numbers(one.judged), []).append(one)
    weighed = []
    for numbers, group in groups.items():
        everything = [one for one in found if set(numbers) <= set(_numbers(one.judged))]
        shares = _fanova(everything, group[0].judged)
        weighed += [Importance(one, shares.get(one.dimension.key, 0.0), chance(one)) for one in group]
    return weighed


def chance(evidence: Evidence) -> float:
    """The probability of standings as uneven over low, middle and high values if these made no difference."""
    from scipy.stats import kruskal

    ranks = standings(evidence.losses)
    groups = _thirds(evidence)
    parts = [part for group in np.unique(groups) if len(part := ranks[groups == group]) >= 3]
    if len(parts) < 2 or np.ptp(np.concatenate(parts)) == 0:
        return 1.0
    return float(kruskal(*parts).pvalue)


def tried_all_over(evidence: Evidence) -> bool:
    """Whether enough trials lie in each third of the range, or have each choice."""
    positions = evidence.positions
    if evidence.dimension.kind not in ("int", "float"):
        counts = [np.sum(positions == at) for at in range(len(evidence.dimension.choices))]
    else:
        counts = [np.sum((positions >= at / 3) & (positions <= (at + 1) / 3)) for at in range(3)]
    return bool(min(counts) >= EACH_THIRD)


def _thirds(evidence: Evidence) -> Array:
    """The group of each trial: its choice, or whether its value is low, middle or high among those tried."""
    positions = evidence.positions
    if evidence.dimension.kind not in ("int", "float"):
        return positions
    edges = np.quantile(positions, [1 / 3, 2 / 3])
    # Where most trials have the lowest or the highest value, only one of the two tells these from the others.
    either = [np.searchsorted(edges, positions, side="left"), np.searchsorted(edges, positions, side="right")]
    return max(either, key=lambda groups: len(np.unique(groups))).astype(float)


def _fanova(found: Sequence[Evidence], judged: Sequence[Judged]) -> dict[str, float]:
    """Share of the variance by key, over these trials and hyperparameters; empty if nothing varies."""
    numbers = set(_numbers(judged))
    places = {
        one.dimension.key: [
            float(place) for place, each in zip(one.positions, one.judged, strict=True) if each.trial.number in numbers
        ]
        for one in found
    }
    scales = {one.dimension.key: _scale(one) for one in found}
    losses = _clipped(np.array([one.loss for one in judged]))
    if np.ptp(losses) == 0 or all(len(set(column)) == 1 for column in places.values()):
        return {}
    trials = [
        optuna.trial.create_trial(
            params={key: column[at] for key, column in places.items()}, distributions=scales, value=float(loss)
        )
        for at, loss in enumerate(losses)
    ]
    with _quiet():
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(places))
    return {key: float(share) for key, share in shares.items()}


def _scale(evidence: Evidence) -> BaseDistribution:
    """The distribution of its positions."""
    if evidence.dimension.kind in ("int", "float"):
        return FloatDistribution(0.0, 1.0)
    return CategoricalDistribution(tuple(float(at) for at in range(len(evidence.dimension.choices))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves that Optuna made a study, and what of it is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _clipped(losses: Array) -> Array:
    """Losses with those that are far worse than most set to Tukey's fence: a diverged net would explain it all."""
    low, high = np.quantile(losses, [0.25, 0.75])
    return np.asarray(np.minimum(losses, high + 1.5 * (high - low)))


def _numbers(judged: Sequence[Judged]) -> tuple[int, ...]:
    return tuple(one.trial.number for one in judged)
