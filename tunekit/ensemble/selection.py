"""Greedy selection with replacement: the simplest way to blend, and the one that others are compared with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.judged import Judged, Predictions
from tunekit.ensemble.quick import scores_of
from tunekit.errors import StudyError
from tunekit.metrics import Metric

Weights = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def greedy_selection(
    candidates: Sequence[Predictions] | Predictions,
    rows: Judged,
    metric: Metric,
    *,
    rounds: int = 50,
    seconds: float = math.inf,
    start: int = 0,
    allowed: Callable[[Counts], npt.NDArray[np.bool_]] | None = None,
) -> Weights:
    """Ensemble selection with replacement (Caruana 2004): add what helps most, again and again.

    Args:
        candidates: out-of-fold predictions (n, outputs) of each candidate, rows aligned.
        rows: their targets.
        metric: to be improved.
        rounds: how many members to add; the blend is the best one seen on the way.
        seconds: no member is added after this time.
        start: so many of the best candidates are members from the start (Caruana's sorted initialisation).
        allowed: given how often each candidate is a member, says which may be added; all, if left out.

    Returns:
        A weight per candidate; they sum to 1.

    Raises:
        StudyError: there are no candidates, or none is allowed.

    >>> rows = Judged(np.array([0.0, 1.0]), (np.array([0, 1]),))
    >>> metric = Metric("mae", lambda y, p: abs(y - p).mean(), "minimize")
    >>> greedy_selection([np.array([[0.5], [1.5]]), np.array([[-0.5], [0.5]])], rows, metric)
    array([0.5, 0.5])
    """
    if not len(candidates):
        raise StudyError("there is nothing to blend: no trial was fitted on every fold; give the search more time")
    deadline = time.monotonic() + seconds
    stack = np.asarray(candidates)
    sign = 1.0 if metric.direction == "minimize" else -1.0
    counts = np.zeros(len(stack), dtype=np.int64)
    if start:
        counts[np.argsort(sign * scores_of(metric, rows, stack), kind="stable")[:start]] = 1
    total = np.tensordot(counts.astype(np.float64), stack, axes=1)
    best_counts, best_loss = counts, math.inf
    for size in range(1 + counts.sum(), rounds + 1):
        may = np.ones(len(stack), dtype=bool) if allowed is None else allowed(counts)
        if not may.any():
            break
        losses = np.full(len(stack), math.inf)
        losses[may] = sign * scores_of(metric, rows, (total + stack[may]) / size)
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total = total + stack[chosen]
        if losses[chosen] < best_loss or not best_counts.sum():
            best_counts, best_loss = counts.copy(), losses[chosen]
        elif size > 2 * best_counts.sum() + 8:
            break
        if time.monotonic() > deadline:
            break
    if not best_counts.sum():
        raise StudyError("no candidate may be a member of the blend; expected that at least one may")
    return np.asarray(best_counts / best_counts.sum())


class Greedy(Combiner):
    """Greedy selection with replacement (Caruana 2004): a weighted mean of the few candidates that help."""

    name = "greedy selection"

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        return Combination.weighted(fitting.task, fitting.selection, fitting.outputs)
