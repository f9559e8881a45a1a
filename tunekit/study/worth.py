"""What each family is worth to the blend, while the search goes on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tunekit.ensemble import Judged, greedy_selection, thinned
from tunekit.errors import MetricError
from tunekit.ledger import Ledger
from tunekit.study.blend import BASELINE, load_candidate
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial

MOST_ROWS = 2_000
"""Rows that families are weighed on, more where one of two classes is rare; all would make the search wait."""

ROUNDS = 15
"""Of the selection: a fifteenth is the smallest weight that a family can have."""


class Worth:
    """Keeps the best trial of each family, and weighs the families by a small blend of these.

    A family whose best trial the others make superfluous is worth nothing, however good it is alone; one that is
    different from the others is worth something, though it is worse than each of them.

    Args:
        ledger: holds the trials' predictions.
        prepared: the rows.
    """

    def __init__(self, ledger: Ledger, prepared: Prepared) -> None:
        self._ledger = ledger
        self._metric = prepared.metric_of_trials
        self._prepared = prepared
        judged = prepared.judged
        everything = np.arange(len(judged))
        self._rows = thinned(replace(judged, parts=(everything,)), everything, MOST_ROWS, seed=0)
        weight = None if judged.weight is None else judged.weight[self._rows]
        self._judged = Judged(judged.target[self._rows], (np.arange(len(self._rows)),), weight)
        self._scores: dict[str, float] = {}
        self._best: dict[str, npt.NDArray[np.float64]] = {}
        self._weights: dict[str, float] | None = {}

    def look(self, trial: Trial) -> None:
        """Look at a trial that ended."""
        if trial.state is not State.COMPLETE or trial.same_as is not None or trial.family == BASELINE:
            return
        whole = len(trial.fold_scores) == len(self._prepared.folds)
        best = self._scores.get(trial.family, self._metric.worst)
        if trial.score is None or not whole or not self._metric.better(trial.score, best):
            return
        with suppress(OSError):  # of an earlier search, its files may be gone
            self._best[trial.family] = load_candidate(self._ledger, trial, self._prepared).out_of_fold[self._rows]
            self._scores[trial.family] = trial.score
            self._weights = None

    @property
    def weights(self) -> dict[str, float]:
        """The share that each family's best trial has in a blend of these; those that have none are left out."""
        if self._weights is None:
            names = list(self._best)
            self._weights = {}
            with suppress(MetricError):  # these rows may lack a class
                best = [self._best[name] for name in names]
                shares = greedy_selection(best, self._judged, self._metric, rounds=ROUNDS)
                self._weights = {name: float(share) for name, share in zip(names, shares, strict=True) if share > 0}
        return self._weights
