"""Scores of many predictions at once: a selection asks for thousands, and scikit-learn's checks would cost more.

For scikit-learn's own scorers that are asked for most; any other metric is asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.judged import Judged, Predictions
from tunekit.errors import MetricError
from tunekit.metrics import OF_COUNTS, MeanMetric, Metric, TargetMetric

Scores = npt.NDArray[np.float64]


def scores_of(metric: Metric, rows: Judged, stack: Predictions) -> Scores:
    """(candidates,): the mean over the parts of each candidate's score.

    Args:
        metric: of the study.
        rows: n targets.
        stack: predictions (candidates, n, outputs).
    """
    weights = [None if rows.weight is None else rows.weight[part] for part in rows.parts]
    found = [
        _scores(metric, rows.target[part], stack[:, part], weight)
        for part, weight in zip(rows.parts, weights, strict=True)
    ]
    return np.asarray(np.mean(found, axis=0))


def _scores(metric: Metric, target: Scores, stack: Predictions, weight: Scores | None) -> Scores:
    """(candidates,), all rows in one part."""
    if isinstance(metric, MeanMetric):

        def of_target(one: TargetMetric) -> Scores:
            return _scores(one.metric, target[:, one.column], stack[:, :, one.outputs], weight)

        return np.asarray(metric.mean_of(target, weight, of_target))
    if stack.shape[2] == 1 and weight is None and metric.scorer in COUNTS:
        return COUNTS[metric.scorer](target, stack)
    if stack.shape[2] > 1 and weight is None and metric.scorer in OF_CLASSES and metric.needs != "rank":
        return OF_CLASSES[metric.scorer](*_confusion(target, stack))
    of_rows = contributions(metric, target, stack)
    if of_rows is None:
        return np.array([metric.score(target, one, weight) for one in stack])
    mean = np.average(of_rows, axis=1, weights=weight)
    return np.asarray(np.sqrt(mean) if metric.scorer == ROOT else mean)


def contributions(metric: Metric, target: Scores, stack: Predictions) -> Scores | None:
    """(candidates, n): what each row is lost or won by, of whose mean the score is made; None for another metric.

    Of `ROOT` the score is the root of that mean.
    """
    usual = stack.shape[2] == 1 or (metric.scorer in MANY and metric.needs != "rank")
    return MEANS[metric.scorer](target, stack) if usual and metric.scorer in MEANS else None


def _squared(target: Scores, stack: Predictions) -> Scores:
    return np.asarray((stack[:, :, 0] - target) ** 2)


def _absolute(target: Scores, stack: Predictions) -> Scores:
    return np.abs(stack[:, :, 0] - target)


def _surprise(target: Scores, stack: Predictions) -> Scores:
    least = np.finfo(np.float64).eps
    if stack.shape[2] == 1:
        right = np.where(target == 1, stack[:, :, 0], 1.0 - stack[:, :, 0])
    else:
        right = np.take_along_axis(stack, target.astype(int)[None, :, None], axis=2)[:, :, 0] / stack.sum(axis=2)
    return np.asarray(-np.log(np.clip(right, least, 1.0 - least)))


def _right(target: Scores, stack: Predictions) -> Scores:
    found = stack[:, :, 0] >= 0.5 if stack.shape[2] == 1 else stack.argmax(axis=2)
    return np.asarray(found == target, dtype=np.float64)


def _area(target: Scores, stack: Predictions) -> Scores:
    """ROC-AUC by ranks (Mann and Whitney 1947); ties count half."""
    positive = _both(target) == 1
    count = positive.sum()
    found = []
    for one in stack[:, :, 0]:
        order, starts = ties(one)
        hits = np.add.reduceat(positive[order].astype(np.float64), starts)
        ends = np.r_[starts[1:], len(one)]
        found.append(hits @ ((starts + 1 + ends) / 2))  # rows of one probability have their mean rank
    return np.asarray((np.array(found) - count * (count + 1) / 2) / (count * (len(target) - count)))


def ties(values: Scores) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ascending order of values (n,), and where in it each one that differs begins."""
    order = np.argsort(values)
    return order, np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])


def _precision(target: Scores, stack: Predictions) -> Scores:
    """Average precision: rows of one probability are found together."""
    _both(target)
    found = []
    for one in stack[:, :, 0]:
        order = np.argsort(-one)
        ends = np.flatnonzero(np.r_[np.diff(one[order]) != 0, True])
        hits = np.cumsum(target[order])[ends]
        found.append((np.diff(hits, prepend=0.0) * hits / (ends + 1)).sum() / hits[-1])
    return np.array(found)


def _determination(target: Scores, stack: Predictions) -> Scores:
    return np.asarray(1.0 - _squared(target, stack).mean(axis=1) / target.var())


def _decided(of_counts: Callable[..., Scores]) -> Callable[[Scores, Predictions], Scores]:
    """Scores of decisions at a half, by their counts."""

    def scores(target: Scores, stack: Predictions) -> Scores:
        positive = target == 1
        found = stack[:, :, 0] >= 0.5
        hits, said, total = (found & positive).sum(axis=1) * 1.0, found.sum(axis=1) * 1.0, float(positive.sum())
        return np.asarray(of_counts(hits, said - hits, total - hits, len(target) - total - (said - hits)))

    return scores


def _confusion(target: Scores, stack: Predictions) -> tuple[Scores, Scores, Scores]:
    """Rows of each class that are found, that are said to be of it, and that are: (candidates, classes) each."""
    classes = stack.shape[2]
    truth, found = target.astype(np.int64), stack.argmax(axis=2)
    counts = [np.bincount(one * classes + truth, minlength=classes**2).reshape(classes, classes) for one in found]
    table = np.array(counts, dtype=np.float64)
    return np.diagonal(table, axis1=1, axis2=2), table.sum(axis=2), table.sum(axis=1)


def _f1_of_each(hits: Scores, said: Scores, there: Scores) -> Scores:
    return np.asarray(2 * hits / np.maximum(said + there, 1.0))


def _macro(hits: Scores, said: Scores, there: Scores) -> Scores:
    """A class that is neither there nor said to be is left out of the mean."""
    return np.asarray(np.average(_f1_of_each(hits, said, there), axis=1, weights=said + there > 0))


def _weighted(hits: Scores, said: Scores, there: Scores) -> Scores:
    return np.asarray(np.average(_f1_of_each(hits, said, there), axis=1, weights=there))


def _recalled(hits: Scores, said: Scores, there: Scores) -> Scores:
    del said
    known = there[0] > 0  # the same rows for all candidates
    return np.asarray((hits[:, known] / there[:, known]).mean(axis=1))


def _both(target: Scores) -> Scores:
    if target.min() == target.max():
        raise MetricError("only one class is present; expected rows of every class")
    return target


ROOT = "neg_root_mean_squared_error"

MEANS: dict[str | None, Callable[[Scores, Predictions], Scores]] = {
    ROOT: _squared,
    "neg_mean_squared_error": _squared,
    "neg_mean_absolute_error": _absolute,
    "neg_log_loss": _surprise,
    "neg_brier_score": _squared,
    "accuracy": _right,
}
"""Scorers that are a mean over rows, weighted or not, of what is lost or won: (candidates, n)."""

COUNTS: dict[str | None, Callable[[Scores, Predictions], Scores]] = {
    **{name: _decided(of_counts) for name, of_counts in OF_COUNTS.items()},
    "r2": _determination,
    "roc_auc": _area,
    "average_precision": _precision,
}
"""Scorers of all rows together, without weights: (candidates,)."""

OF_CLASSES: dict[str | None, Callable[[Scores, Scores, Scores], Scores]] = {
    "balanced_accuracy": _recalled,
    "f1_macro": _macro,
    "f1_weighted": _weighted,
}
"""The same for several classes, by what `_confusion` gives."""

MANY = ("neg_log_loss", "accuracy")
"""Those that also fit predictions of several classes."""
