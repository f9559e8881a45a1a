"""Scores of resamples: the same as the metric's own of the rows that were drawn."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from tunekit.ensemble.resampling import RESAMPLES, _at_once, resampled
from tunekit.errors import MetricError
from tunekit.metrics import Metric, find_metric

AT_ONCE = [
    ("regression", 1, "rmse"),
    ("regression", 1, "mae"),
    ("regression", 1, "mse"),
    ("binary", 1, "roc_auc"),
    ("binary", 1, "average_precision"),
    ("binary", 1, "logloss"),
    ("binary", 1, "brier"),
    ("binary", 1, "accuracy"),
    ("multiclass", 3, "logloss"),
    ("multiclass", 3, "accuracy"),
]
ONE_BY_ONE = [("regression", 1, "r2"), ("binary", 1, "f1"), ("multiclass", 3, "roc_auc"), ("ordinal", 3, "accuracy")]


def judged(task: str, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets of 60 rows and predictions with ties, some of them sure and wrong."""
    random = np.random.default_rng(1)
    if task == "regression":
        target = load_diabetes().target[:60]
        return target, (target + random.normal(0, 50, 60)).round(-1)[:, None]
    classes = load_iris().target[::5][random.permutation(30)].repeat(2).astype(float)
    target = np.minimum(classes, max(outputs, 2) - 1)
    if outputs == 1:
        return target, np.clip(target * 0.3 + random.normal(0.35, 0.4, 60), 0, 1).round(1)[:, None]
    shares = random.dirichlet(np.ones(outputs), 60) + 0.3 * np.eye(outputs)[target.astype(int)]
    return target, shares / shares.sum(axis=1, keepdims=True)


def by_hand(metric: Metric, target: np.ndarray, given: np.ndarray, weight: np.ndarray | None, seed: int) -> np.ndarray:
    """Each resample's rows, scored as any rows are."""
    random, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(target), len(target))
        try:
            found.append(metric.score(target[rows], given[rows], None if weight is None else weight[rows]))
        except MetricError:
            continue
    return np.array(found)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("task", "outputs", "name"), [*AT_ONCE, ONE_BY_ONE[0]])
def test_they_are_the_scores_of_the_rows_that_are_drawn(task: str, outputs: int, name: str, weighted: bool) -> None:
    metric, (target, given) = find_metric(name, task, outputs), judged(task, outputs)
    weight = np.random.default_rng(2).integers(0, 3, len(target)).astype(float) if weighted else None
    found = resampled(metric, target, weight, {"one": given}, 5, 1e9)["one"]
    expected = by_hand(metric, target, given, weight, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(np.unique(found)) > 8


@pytest.mark.parametrize(("task", "outputs", "name"), [*AT_ONCE, *ONE_BY_ONE])
def test_only_what_is_known_is_computed_at_once(task: str, outputs: int, name: str) -> None:
    way = _at_once(find_metric(name, task, outputs), *judged(task, outputs))
    assert (way is not None) == ((task, outputs, name) in AT_ONCE)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_samples_without_one_of_the_classes_are_left_out_of_both(name: str) -> None:
    metric, target = find_metric(name, "binary", 1), np.array([0.0, 0.0, 0.0, 1.0])
    given = np.array([[0.1], [0.4], [0.2], [0.3]])
    drawn = resampled(metric, target, None, {"one": given, "other": 1 - given}, 0, 1e9)
    kept = [rows for rows in draws(len(target)) if 0 < target[rows].sum() < len(rows)]
    assert len(drawn["one"]) == len(drawn["other"]) == len(kept) < RESAMPLES
    expected = [metric.score(target[rows], given[rows]) for rows in kept]
    np.testing.assert_allclose(drawn["one"], expected, rtol=1e-12)


def draws(rows: int) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.integers(0, rows, rows) for _ in range(RESAMPLES)]


def test_a_metric_of_ones_own_is_asked_as_often_as_there_is_time() -> None:
    asked = []

    def largest(target: Any, given: Any) -> float:
        asked.append(len(target))
        return float(np.abs(target - given).max())

    target, given = judged("regression", 1)
    drawn = resampled(Metric("largest", largest, "minimize"), target, None, {"one": given}, 0, seconds=0.0)
    assert len(drawn["one"]) == len(asked) == 50
