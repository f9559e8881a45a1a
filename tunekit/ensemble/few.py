"""The best candidates in equal shares: so few of them that little can be chosen by luck."""

from __future__ import annotations

import numpy as np

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.quick import scores_of

MOST = 5
"""Candidates."""


class Few(Combiner):
    """Equal shares of the best one, two, up to `MOST` candidates, as many as are best on the rows of the fitting.

    A selection may find members by luck that do harm on other rows: above all where a few rows have most of the error,
    as those of the dearest houses in rmse. Here only their number is chosen.
    """

    name = "equal shares of the best"
    noise = 1.0  # less is chosen by luck than in other ways; on half of one it was chosen too often, and won nothing

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        losses = fitting.metric.sign * np.asarray(scores_of(fitting.metric, fitting.rows, fitting.stack))
        best = np.argsort(losses, kind="stable")[:MOST]
        counts = np.arange(1, len(best) + 1)
        means = np.cumsum(fitting.stack[best], axis=0) / counts[:, None, None]
        count = counts[np.argmin(fitting.metric.sign * np.asarray(scores_of(fitting.metric, fitting.rows, means)))]
        shares = np.zeros(len(fitting.stack))
        shares[best[:count]] = 1 / count
        return Combination.weighted(fitting.task, shares, fitting.outputs)
