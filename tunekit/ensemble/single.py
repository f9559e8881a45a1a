"""The best candidate by itself: where others only add noise to it, they are left out."""

from __future__ import annotations

import numpy as np

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.quick import scores_of


class Single(Combiner):
    """All weight on the candidate that is best on the rows of the fitting.

    A selection may find members by luck that do harm on other rows: above all where a few rows have most of the error,
    as those of the dearest houses in rmse.
    """

    name = "the best single model"
    noise = 0.5  # it is the smaller bundle: that it is likely to be better is enough (see benchmarks/combining.py)

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        scores = scores_of(fitting.metric, fitting.rows, fitting.stack)
        best = int(np.argmin(scores) if fitting.metric.direction == "minimize" else np.argmax(scores))
        return Combination.weighted(fitting.task, np.eye(len(fitting.stack))[best], fitting.outputs)
