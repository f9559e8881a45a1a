"""Chooses a blend on out-of-fold predictions alone."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.errors import StudyError
from tunekit.metrics import Metric

Predictions = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Rows with targets, in the parts by which trials are scored: one per fold.

    Args:
        target: (n,).
        parts: row positions per fold; a score is the mean over them.
        weight: (n,) or None.
    """

    target: npt.NDArray[np.float64]
    parts: tuple[npt.NDArray[np.int64], ...]
    weight: npt.NDArray[np.float64] | None = None

    def score(self, metric: Metric, predictions: Predictions) -> float:
        """Mean of the parts' scores."""
        scores = [
            metric.score(self.target[part], predictions[part], None if self.weight is None else self.weight[part])
            for part in self.parts
        ]
        return float(np.mean(scores))


def greedy_selection(
    candidates: Sequence[Predictions], rows: Judged, metric: Metric, *, rounds: int = 50, seconds: float = math.inf
) -> npt.NDArray[np.float64]:
    """Ensemble selection with replacement (Caruana 2004): add what helps most, again and again.

    Args:
        candidates: out-of-fold predictions (n, outputs) of each candidate, rows aligned.
        rows: their targets.
        metric: to be improved.
        rounds: how many members to add; the blend is the best one seen on the way.
        seconds: no member is added after this time.

    Returns:
        A weight per candidate; they sum to 1.

    Raises:
        StudyError: there are no candidates.

    >>> rows = Judged(np.array([0.0, 1.0]), (np.array([0, 1]),))
    >>> metric = Metric("mae", lambda y, p: abs(y - p).mean(), "minimize")
    >>> greedy_selection([np.array([[0.5], [1.5]]), np.array([[-0.5], [0.5]])], rows, metric)
    array([0.5, 0.5])
    """
    if not candidates:
        raise StudyError("there is nothing to blend: no trial was fitted on every fold; give the search more time")
    deadline = time.monotonic() + seconds
    counts = np.zeros(len(candidates), dtype=int)
    total = np.zeros_like(candidates[0])
    best_counts, best_score = counts, metric.worst
    for size in range(1, rounds + 1):
        scores = [rows.score(metric, (total + candidate) / size) for candidate in candidates]
        chosen = int(np.argmin(scores) if metric.direction == "minimize" else np.argmax(scores))
        counts[chosen] += 1
        total = total + candidates[chosen]
        if metric.better(scores[chosen], best_score):
            best_counts, best_score = counts.copy(), scores[chosen]
        elif size > 2 * best_counts.sum() + 8:
            break
        if time.monotonic() > deadline:
            break
    return np.asarray(best_counts / best_counts.sum())
