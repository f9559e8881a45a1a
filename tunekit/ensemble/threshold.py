"""From which probability on the second of two classes is predicted, where the metric counts decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tunekit.ensemble.combination import EVEN
from tunekit.ensemble.judged import Judged, Predictions
from tunekit.ensemble.quick import Scores, scores_of
from tunekit.metrics import AtBestThreshold, Metric, metric_of_trials

EVENLY = ("accuracy", "f1_micro")
"""Scorers that count errors of both kinds alike: a half is their best threshold if probabilities are right."""

GRID = 60
"""Thresholds that are compared: so many quantiles of the probabilities of all rows, and of those of either class.

Of a rare class, all that matters is decided among the highest hundredth of all rows."""

CLOSEST = 1e-6
"""A threshold is at least so far from 0 and 1: an export's float32 tells no nearer ones apart."""

FLAT = 0.1
"""Standard deviations of the grid's scores by which a threshold may be worse than the best and count as good."""


def allows_threshold(metric: Metric, task: str) -> bool:
    """Whether a threshold other than a half may be better, though a half should be the best one."""
    return task == "binary" and metric.scorer in EVENLY


def needs_threshold(metric: Metric, task: str) -> bool:
    """Whether a half is rarely the best one: see `tunekit.metrics.metric_of_trials`."""
    return metric_of_trials(metric, task) is not metric


def best_threshold(metric: Metric, rows: Judged, shares: Predictions) -> float:
    """The middle of the thresholds that do about as well as the best one: a peak is luck.

    Args:
        metric: that needs or allows one.
        rows: n targets.
        shares: probabilities (n, 1).
    """
    some = [shares, *(shares[rows.target == one] for one in np.unique(rows.target))]
    quantiles = [np.quantile(one, np.linspace(0.02, 0.98, GRID)) for one in some]
    grid = np.unique(np.clip(np.append(np.concatenate(quantiles), EVEN), CLOSEST, 1.0 - CLOSEST))
    losses = metric.sign * _scores_from(grid, metric, rows, shares)
    good = losses <= losses.min() + FLAT * losses.std()
    best = int(losses.argmin())
    low, high = best, best
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(grid) and good[high + 1]:
        high += 1
    return float((grid[low] + grid[high]) / 2)


def _scores_from(grid: Scores, metric: Metric, rows: Judged, shares: Predictions) -> Scores:
    """(thresholds,)."""
    at_once = metric_of_trials(metric, "binary")
    if isinstance(at_once, AtBestThreshold):
        return at_once.scores_from(grid, rows.target, shares, rows.weight)
    whole = replace(rows, parts=(np.arange(len(rows)),))
    return np.concatenate([scores_of(metric, whole, (shares >= one).astype(float)[None]) for one in grid])
