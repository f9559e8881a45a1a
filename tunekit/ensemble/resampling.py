"""Scores on many resamples of the same rows (Efron 1979).

A row that is drawn twice counts twice, so that a resample is scored as rows of other weights are. The usual metrics
are computed so for many resamples at once: scikit-learn's functions look at their arguments at each call, which takes
ten times as long as the score of some hundred rows. All other metrics are called for one resample after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.judged import Predictions, Rows
from tunekit.ensemble.quick import ROOT, contributions, ties
from tunekit.errors import MetricError
from tunekit.metrics import Metric

RESAMPLES = 500
FEWEST = 50

AT_ONCE = 2**21
"""Counts of rows that are held at once: 16 MB."""

ONE_BY_ONE = 10
"""Resamples between two looks at the clock where each takes a call of the metric."""

Floats = npt.NDArray[np.float64]

Scores = Callable[[Floats], Floats]
"""Gives (samples,) scores for (samples, n) what each row counts; NaN where a sample lacks one of two classes."""


def resampled(
    metric: Metric,
    target: Floats,
    weight: Floats | None,
    predictions: Mapping[str, Predictions],
    seed: int,
    seconds: float,
    group: Rows | None = None,
) -> dict[str, Floats]:
    """Score predictions on resamples of the rows, all on the same ones.

    Rows of a group, such as those of one patient, are right or wrong together: that many of them agree says little, and
    so whole groups are drawn (Davison and Hinkley 1997, section 3.8). Of a single group, nothing tells how much others
    differ: its rows are drawn.

    Args:
        metric: of the scores.
        target: (n,), or (n, targets).
        weight: (n,) or None.
        predictions: (n, outputs) each.
        seed: of the resampling.
        seconds: for it; with little time there are fewer resamples than `RESAMPLES`, but at least `FEWEST`.
        group: (n,) numbers of groups that are drawn whole, or None.

    Returns:
        (samples,) scores of each, without the samples that can't be scored, such as those without one of the classes.
    """
    random, rows = np.random.default_rng(seed), len(target)
    place = None if group is None else np.unique(group, return_inverse=True)[1]
    ways = {name: _at_once(metric, target, one) for name, one in predictions.items()}
    found: dict[str, list[Floats]] = {name: [] for name in predictions}
    most = min(max(AT_ONCE // rows, 1), RESAMPLES if all(ways.values()) else ONE_BY_ONE)
    deadline, done = time.monotonic() + seconds, 0
    while done < RESAMPLES and (done < FEWEST or time.monotonic() < deadline):
        drawn = [_drawn(random, rows, place) for _ in range(min(most, RESAMPLES - done))]
        counts = np.stack([_counts(some, weight, rows) for some in drawn])
        scores = {
            name: way(counts) if way else _one_by_one(metric, target, weight, predictions[name], drawn)
            for name, way in ways.items()
        }
        usable = ~np.isnan(np.stack(list(scores.values()))).any(axis=0)
        for name, values in scores.items():
            found[name].append(values[usable])
        done += len(drawn)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _drawn(random: np.random.Generator, rows: int, place: Rows | None) -> Rows:
    """Positions of rows, drawn with replacement: as many rows, or as many groups, as there are.

    Args:
        random: draws.
        rows: how many there are.
        place: (n,) the number of each row's group, or None.
    """
    if place is None or not place.any():
        return random.integers(0, rows, rows)
    groups = int(place.max()) + 1
    times = np.bincount(random.integers(0, groups, groups), minlength=groups)
    return np.repeat(np.arange(rows), times[place])


def _counts(drawn: Rows, weight: Floats | None, rows: int) -> Floats:
    """(n,): how often each row was drawn, times its weight."""
    return np.bincount(drawn, None if weight is None else weight[drawn], rows).astype(np.float64)


def _one_by_one(
    metric: Metric, target: Floats, weight: Floats | None, predictions: Predictions, drawn: Sequence[Rows]
) -> Floats:
    def score(rows: Rows) -> float:
        try:
            return metric.score(target[rows], predictions[rows], None if weight is None else weight[rows])
        except MetricError:  # a sample without one of the classes
            return np.nan

    return np.array([score(rows) for rows in drawn])


def _at_once(metric: Metric, target: Floats, predictions: Predictions) -> Scores | None:
    """How many resamples are scored at once; None for a metric of which that isn't known."""
    if metric.scorer is None:
        return None
    if (each := contributions(metric, target, predictions[None])) is not None:
        of_rows, root = each[0], metric.scorer == ROOT
        return lambda counts: np.sqrt(_mean(counts, of_rows)) if root else _mean(counts, of_rows)
    ranked = _RANKED.get(metric.scorer)
    return ranked(target, predictions[:, 0]) if ranked is not None and predictions.shape[1] == 1 else None


def _mean(counts: Floats, of_rows: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # a sample of rows that weigh nothing
        return np.asarray(counts @ of_rows / counts.sum(axis=1))


def _area_under_roc(target: Floats, scores: Floats) -> Scores:
    """The share of pairs of both classes that are in order, those of equal scores counting half (Hanley 1982)."""
    order, starts = ties(scores)
    positive = target[order] == 1

    def area(counts: Floats) -> Floats:
        ones, zeros = _by_class(counts[:, order], positive, starts)
        below = zeros.cumsum(axis=1) - zeros / 2
        with np.errstate(invalid="ignore"):
            return np.asarray((ones * below).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1)))

    return area


def _average_precision(target: Floats, scores: Floats) -> Scores:
    """The mean over the positives of the precision among what is scored as high."""
    order, starts = ties(-scores)
    positive = target[order] == 1

    def mean(counts: Floats) -> Floats:
        ones, zeros = _by_class(counts[:, order], positive, starts)
        found, taken = ones.cumsum(axis=1), (ones + zeros).cumsum(axis=1)
        precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        with np.errstate(invalid="ignore"):
            scored = (ones * precision).sum(axis=1) / found[:, -1]
        return np.where(zeros.sum(axis=1) > 0, scored, np.nan)

    return mean


def _by_class(counts: Floats, positive: npt.NDArray[np.bool_], starts: Rows) -> tuple[Floats, Floats]:
    """(samples, ties) what positives count, and the others."""
    ones, zeros = (np.add.reduceat(counts * which, starts, axis=1) for which in (positive, ~positive))
    return ones, zeros


_RANKED: dict[str, Callable[[Floats, Floats], Scores]] = {
    "average_precision": _average_precision,
    "roc_auc": _area_under_roc,
}
"""By scikit-learn's name of a scorer of two classes."""
