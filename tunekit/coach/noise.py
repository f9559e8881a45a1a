"""Whether one trial is better than another by more than chance: by the folds that both were judged on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunekit.errors import MetricError
from tunekit.study.blend import Candidate
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial

FEWEST_FOLDS = 3
"""Folds from which on their differences tell how much chance there is."""

RESAMPLES = 200
"""Of rows: a chance of 0.05 is then known to within 0.015."""

CHANCE = 0.05
"""Of a difference as large as this one, in this direction, if there were none."""


@dataclass(frozen=True)
class Difference:
    """By how much one trial's loss is smaller than another's.

    Args:
        gain: the mean over the folds, in the metric's unit; positive where the first one is better.
        error: its standard error.
        chance: of such a gain or a larger one, if there were none.
    """

    gain: float
    error: float
    chance: float

    @property
    def better(self) -> bool:
        """Whether the first is better by more than chance."""
        return self.chance < CHANCE

    @property
    def within(self) -> bool:
        """Whether the difference is smaller than its own standard error."""
        return abs(self.gain) <= self.error


def difference(one: Trial, other: Trial, prepared: Prepared) -> Difference | None:
    """Compare two trials that were fitted on every fold, by a paired t-test on the scores of the folds.

    Folds share training rows, so that their scores vary together: the variance is that of Nadeau and Bengio 2003
    ("Inference for the Generalization Error"), who add the ratio of validation to training rows to 1 / folds.

    Returns:
        None with fewer than three folds.
    """
    from scipy.stats import t

    folds = len(prepared.folds)
    if folds < FEWEST_FOLDS or len(one.fold_scores) != folds or len(other.fold_scores) != folds:
        return None
    gains = -prepared.metric.sign * (np.array(one.fold_scores) - np.array(other.fold_scores))
    ratio = float(np.mean([len(valid) / len(train) for train, valid in prepared.folds.pairs]))
    error = math.sqrt(float(gains.var(ddof=1)) * (1 / folds + ratio))
    gain = float(gains.mean())
    if error == 0.0:
        return Difference(gain, 0.0, 0.5 if gain == 0.0 else float(gain < 0))
    return Difference(gain, error, float(t.sf(gain / error, folds - 1)))


def difference_by_rows(one: Candidate, other: Candidate, prepared: Prepared) -> Difference:
    """The same for splits with too few folds, by their predictions: the validation rows are resampled (Efron 1979)."""
    judged, metric = prepared.judged, prepared.metric_of_trials
    random = np.random.default_rng(0)
    sign = -metric.sign

    def score(made: Candidate, rows: Any) -> float:
        return judged.score_of(metric, made.out_of_fold[rows], rows)

    gains = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(judged), len(judged))
        with suppress(MetricError):  # a sample without one of the classes
            gains.append(sign * (score(one, rows) - score(other, rows)))
    everything = np.arange(len(judged))
    gain = sign * (score(one, everything) - score(other, everything))
    # A shifted bootstrap: had there been no gain, the resampled ones would lie around zero.
    return Difference(gain, float(np.std(gains)), float(np.mean(np.array(gains) - gain >= gain)))


def complete(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that were fitted on every fold themselves, with a finite score."""
    return [
        trial
        for trial in trials
        if trial.state is State.COMPLETE
        and trial.same_as is None
        and trial.score is not None
        and math.isfinite(trial.score)
    ]
