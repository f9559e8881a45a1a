"""Selections from random subsets of the candidates, averaged."""

from __future__ import annotations

import time

import numpy as np

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.selection import greedy_selection

BAGS = 20
SHARE = 0.5
"""Of the candidates, in each bag; Caruana 2004 finds half to do well, and 20 bags to be enough."""

ROUNDS = 25
START = 2
"""Members of each bag from the start: its best."""

LEAST_WEIGHT = 0.01
"""A candidate that fewer bags want is left out: each member makes the bundle slower."""


class Bagged(Combiner):
    """Bagged selection (Caruana 2004, section 2.3): no candidate is chosen for its luck on these rows alone."""

    name = "bagged selection"
    least_rows = 100

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        random = np.random.default_rng(fitting.seed)
        candidates = len(fitting.stack)
        weights = np.zeros(candidates)
        for bag in range(BAGS):
            if bag and time.monotonic() > fitting.deadline:
                break
            chosen = np.flatnonzero(random.random(candidates) < SHARE)
            if len(chosen) < min(START, candidates):
                chosen = np.arange(candidates)
            weights[chosen] += greedy_selection(
                fitting.stack[chosen],
                fitting.rows,
                fitting.metric,
                rounds=ROUNDS,
                start=min(START, len(chosen)) if len(chosen) > START else 0,
                seconds=max(0.0, fitting.deadline - time.monotonic()),
            )
        weights /= weights.sum()
        kept = np.where(weights >= min(LEAST_WEIGHT, weights.max()), weights, 0.0)
        return Combination.weighted(fitting.task, kept / kept.sum(), fitting.outputs)
