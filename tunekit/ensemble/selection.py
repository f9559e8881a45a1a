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

IDLE = 0.05
"""Of what a selection gains over its best member, on the rows that it is made on: what may be given up for fewer
members. The last ones are often found by luck: on rows apart nothing is lost, and the bundle is smaller and faster (see
benchmarks/combining.py)."""


def greedy_selection(
    candidates: Sequence[Predictions] | Predictions,
    rows: Judged,
    metric: Metric,
    *,
    rounds: int = 50,
    seconds: float = math.inf,
    start: int = 0,
    allowed: Callable[[Counts], npt.NDArray[np.bool_]] | None = None,
    idle: float = IDLE,
) -> Weights:
    """Ensemble selection with replacement (Caruana 2004): add what helps most, again and again; then spare the idle.

    Args:
        candidates: out-of-fold predictions (n, outputs) of each candidate, rows aligned.
        rows: their targets.
        metric: to be improved.
        rounds: how many members to add; the blend is the best one seen on the way.
        seconds: no member is added after this time.
        start: so many of the best candidates are members from the start (Caruana's sorted initialisation).
        allowed: given how often each candidate is a member, says which may be added; all, if left out.
        idle: see `IDLE`.

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
    counts = np.zeros(len(stack), dtype=np.int64)
    if start:
        counts[np.argsort(metric.sign * scores_of(metric, rows, stack), kind="stable")[:start]] = 1
    total = np.tensordot(counts.astype(np.float64), stack, axes=1)
    best_counts, best_loss = counts, math.inf
    for size in range(1 + counts.sum(), rounds + 1):
        may = np.ones(len(stack), dtype=bool) if allowed is None else allowed(counts)
        if not may.any():
            break
        losses = np.full(len(stack), math.inf)
        losses[may] = metric.sign * scores_of(metric, rows, (total + stack[may]) / size)
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
    kept = _without_idle(best_counts, stack, rows, metric, idle)
    return np.asarray(kept / kept.sum())


def _without_idle(counts: Counts, stack: Predictions, rows: Judged, metric: Metric, idle: float) -> Counts:
    """Leave out members, each time the one that is missed least, while all that are left out cost no more than `idle`.

    Args:
        counts: how often each candidate is a member.
        stack: predictions (candidates, n, outputs).
        rows: their targets.
        metric: to be improved.
        idle: see `IDLE`.
    """

    def losses(blends: Predictions) -> npt.NDArray[np.float64]:
        return metric.sign * scores_of(metric, rows, blends)

    members = np.flatnonzero(counts)
    loss = losses(np.average(stack, axis=0, weights=counts)[None])[0]
    most = loss + idle * max(0.0, losses(stack[members]).min() - loss)
    while len(members) > 1:
        fewer = np.where(np.eye(len(members), dtype=bool), 0, counts[members])
        found = losses(np.tensordot(fewer / fewer.sum(axis=1, keepdims=True), stack[members], axes=1))
        least = int(np.argmin(found))
        if found[least] > most:
            break
        members = np.delete(members, least)
    return np.where(np.isin(np.arange(len(counts)), members), counts, 0)


class Greedy(Combiner):
    """Greedy selection with replacement (Caruana 2004): a weighted mean of the few candidates that help."""

    name = "greedy selection"

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        return Combination.weighted(fitting.task, fitting.selection, fitting.outputs)
