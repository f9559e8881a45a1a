"""Metrics: scikit-learn's figures under short names, in their natural sign, for every shape of prediction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from tunekit.errors import MetricError
from tunekit.metrics import SHORT_NAMES, Metric, bounded, find_metric, metric_of_trials, usual_metric

ROWS = 80
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.random(ROWS) + 0.1

BINARY = RANDOM.integers(0, 2, ROWS).astype(float)
BINARY_SHARES = np.clip(0.5 * BINARY + 0.5 * RANDOM.random(ROWS), 0, 1)[:, None]
CLASSES = RANDOM.integers(0, 3, ROWS).astype(float)
CLASS_SHARES = RANDOM.dirichlet([1, 1, 1], ROWS) + np.eye(3)[CLASSES.astype(int)] / 2
CLASS_SHARES /= CLASS_SHARES.sum(axis=1, keepdims=True)
VALUES = RANDOM.lognormal(1, 1, ROWS)
GUESSES = (VALUES + RANDOM.normal(0, 0.2, ROWS)).clip(0.01)[:, None]

HARD = (BINARY_SHARES[:, 0] >= 0.5).astype(float)
HARD_CLASSES = CLASS_SHARES.argmax(axis=1)

Expected = Callable[..., Any]

BINARY_CASES: dict[str, Expected] = {
    "accuracy": lambda **w: sk.accuracy_score(BINARY, HARD, **w),
    "average_precision": lambda **w: sk.average_precision_score(BINARY, BINARY_SHARES[:, 0], **w),
    "balanced_accuracy": lambda **w: sk.balanced_accuracy_score(BINARY, HARD, **w),
    "brier": lambda **w: sk.brier_score_loss(BINARY, BINARY_SHARES[:, 0], **w),
    "f1": lambda **w: sk.f1_score(BINARY, HARD, **w),
    "f1_macro": lambda **w: sk.f1_score(BINARY, HARD, average="macro", **w),
    "logloss": lambda **w: sk.log_loss(BINARY, BINARY_SHARES[:, 0], **w),
    "mcc": lambda **w: sk.matthews_corrcoef(BINARY, HARD, **w),
    "precision": lambda **w: sk.precision_score(BINARY, HARD, **w),
    "roc_auc": lambda **w: sk.roc_auc_score(BINARY, BINARY_SHARES[:, 0], **w),
}
CLASS_CASES: dict[str, Expected] = {
    "accuracy": lambda **w: sk.accuracy_score(CLASSES, HARD_CLASSES, **w),
    "balanced_accuracy": lambda **w: sk.balanced_accuracy_score(CLASSES, HARD_CLASSES, **w),
    "f1_macro": lambda **w: sk.f1_score(CLASSES, HARD_CLASSES, average="macro", **w),
    "f1_weighted": lambda **w: sk.f1_score(CLASSES, HARD_CLASSES, average="weighted", **w),
    "logloss": lambda **w: sk.log_loss(CLASSES, CLASS_SHARES, **w),
    "mcc": lambda **w: sk.matthews_corrcoef(CLASSES, HARD_CLASSES, **w),
    "roc_auc": lambda **w: sk.roc_auc_score(CLASSES, CLASS_SHARES, multi_class="ovr", **w),
}
VALUE_CASES: dict[str, Expected] = {
    "mae": lambda **w: sk.mean_absolute_error(VALUES, GUESSES[:, 0], **w),
    "mape": lambda **w: sk.mean_absolute_percentage_error(VALUES, GUESSES[:, 0], **w),
    "medae": lambda **w: sk.median_absolute_error(VALUES, GUESSES[:, 0], **w),
    "mse": lambda **w: sk.mean_squared_error(VALUES, GUESSES[:, 0], **w),
    "r2": lambda **w: sk.r2_score(VALUES, GUESSES[:, 0], **w),
    "rmse": lambda **w: sk.root_mean_squared_error(VALUES, GUESSES[:, 0], **w),
    "rmsle": lambda **w: sk.root_mean_squared_log_error(VALUES, GUESSES[:, 0], **w),
    "explained_variance": lambda **w: sk.explained_variance_score(VALUES, GUESSES[:, 0], **w),
    "neg_mean_absolute_error": lambda **w: sk.mean_absolute_error(VALUES, GUESSES[:, 0], **w),
}
TASKS: dict[str, tuple[dict[str, Expected], np.ndarray, np.ndarray]] = {
    "binary": (BINARY_CASES, BINARY, BINARY_SHARES),
    "multiclass": (CLASS_CASES, CLASSES, CLASS_SHARES),
    "regression": (VALUE_CASES, VALUES, GUESSES),
}
CASES = [(task, name) for task, (cases, _, _) in TASKS.items() for name in cases]


@pytest.mark.parametrize(("task", "name"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_figures_are_those_of_sklearn(task, name, weighted) -> None:
    cases, target, predictions = TASKS[task]
    metric = find_metric(name, task, predictions.shape[1])
    weights = {"sample_weight": WEIGHT} if weighted else {}
    scored = metric.score(target, predictions, WEIGHT if weighted else None)
    assert scored == cases[name](**weights), "the same function on the same numbers"
    assert type(scored) is float
    assert metric.name == name


@pytest.mark.parametrize(("task", "name"), CASES)
def test_better_predictions_score_better(task, name) -> None:
    """The direction is that of the figure as it is shown."""
    _, target, predictions = TASKS[task]
    metric = find_metric(name, task, predictions.shape[1])
    shuffled = np.random.default_rng(1).permutation(predictions)
    good, bad = metric.score(target, predictions), metric.score(target, shuffled)
    assert metric.better(good, bad)
    assert not metric.better(bad, good)
    assert not metric.better(good, good)
    assert metric.better(bad, metric.worst)
    small = name.startswith("neg_") or SHORT_NAMES.get(name, name).startswith("neg_")
    assert metric.direction == ("minimize" if small else "maximize")


def test_short_names_fit_a_task() -> None:
    assert set(SHORT_NAMES) <= {name for _, name in CASES}, "every short name is compared above"


@pytest.mark.parametrize(
    ("name", "task", "needs"),
    [
        ("accuracy", "binary", "class"),
        ("accuracy", "multiclass", "class"),
        ("roc_auc", "binary", "probability"),
        ("average_precision", "binary", "probability"),
        ("logloss", "multiclass", "probability"),
        ("rmse", "regression", "value"),
    ],
)
def test_what_they_need(name, task, needs) -> None:
    assert find_metric(name, task, 3 if task == "multiclass" else 1).needs == needs


def test_a_class_is_the_likeliest() -> None:
    hits = Metric("hits", lambda y, p: float((y == p).mean()), "maximize", "class")
    assert hits.score(np.array([0.0, 1.0, 1.0]), np.array([[0.4], [0.5], [0.9]])) == 1.0
    assert hits.score(np.array([2.0, 0.0]), np.array([[0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])) == 1.0


def test_rows_may_lack_a_class_where_the_figure_is_still_defined() -> None:
    """A validation part without a rare class: the log loss counts what is there."""
    metric = find_metric("logloss", "multiclass", 3)
    rows = CLASSES != 2
    expected = -np.log(CLASS_SHARES[rows, CLASSES[rows].astype(int)]).mean()
    assert metric.score(CLASSES[rows], CLASS_SHARES[rows]) == pytest.approx(expected)  # another order of sums
    one = find_metric("logloss", "binary", 1).score(np.ones(3), np.full((3, 1), 0.5))
    assert one == pytest.approx(np.log(2))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_one_class_can_not_be_ranked(name) -> None:
    metric = find_metric(name, "binary", 1)
    with pytest.raises(MetricError, match=f"metric '{name}' can't be computed on 3 rows: only one class is present"):
        metric.score(np.ones(3), np.full((3, 1), 0.5))


def test_a_figure_that_is_not_a_number_is_refused() -> None:
    """A NaN ranks nothing, and Optuna takes none."""
    metric = Metric("ratio", lambda y, p: float("nan"), "minimize")
    with pytest.raises(MetricError, match="metric 'ratio' is nan on 2 rows; expected a number"):
        metric.score(np.ones(2), np.ones((2, 1)))


def test_a_metric_that_fails_is_named() -> None:
    def broken(target: Any, predictions: Any) -> float:
        raise ValueError("no logarithm of -1")

    with pytest.raises(MetricError, match="metric 'broken' can't be computed on 2 rows: no logarithm of -1"):
        find_metric(broken, "regression", 1).score(np.ones(2), np.ones((2, 1)))


def test_a_callable_is_an_error_to_make_small() -> None:
    def worst_error(target: Any, predictions: Any) -> float:
        assert predictions.ndim == 1
        return float(abs(target - predictions).max())

    metric = find_metric(worst_error, "regression", 1)
    assert (metric.name, metric.direction, metric.needs) == ("worst_error", "minimize", "value")
    assert metric.score(np.array([1.0, 2.0]), np.array([[1.5], [2.0]])) == 0.5
    with pytest.raises(MetricError, match="worst_error"):  # it takes no sample_weight
        metric.score(np.array([1.0, 2.0]), np.array([[1.5], [2.0]]), np.ones(2))


@pytest.mark.parametrize(
    ("function", "task", "name", "direction", "needs"),
    [
        (sk.r2_score, "regression", "r2", "maximize", "value"),
        (sk.root_mean_squared_error, "regression", "rmse", "minimize", "value"),
        (sk.roc_auc_score, "binary", "roc_auc", "maximize", "probability"),
        (sk.f1_score, "binary", "f1", "maximize", "class"),
        (sk.log_loss, "multiclass", "logloss", "minimize", "probability"),
        (sk.mean_poisson_deviance, "regression", "neg_mean_poisson_deviance", "minimize", "value"),
    ],
)
def test_a_function_of_scikit_learn_is_what_its_scorer_is(function, task, name, direction, needs) -> None:
    metric = find_metric(function, task, 3 if task == "multiclass" else 1)
    assert (metric.name, metric.direction, metric.needs) == (name, direction, needs)
    assert metric.scorer == find_metric(name, task, 3 if task == "multiclass" else 1).scorer


DECISIONS = ["f1", "f1_macro", "f1_weighted", "jaccard", "mcc", "balanced_accuracy"]


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("decimals", [1, 9], ids=["ties", "no ties"])
def test_trials_are_compared_at_the_best_threshold_of_each(name, weighted, decimals) -> None:
    metric = find_metric(name, "binary", 1)
    of_trials = metric_of_trials(metric, "binary")
    shares = np.round(BINARY_SHARES**4, decimals)  # timid: few are above a half
    weight = WEIGHT if weighted else None
    thresholds = [*np.unique(shares), 2.0]
    decided = [metric.score(BINARY, (shares >= one).astype(float), weight) for one in thresholds]
    found = of_trials.score(BINARY, shares, weight)
    assert found == pytest.approx(max(decided), rel=1e-12)
    assert found > metric.score(BINARY, shares, weight)
    assert (of_trials.name, of_trials.direction) == (metric.name, metric.direction)
    assert of_trials.identity != metric.identity, "trials of before can't be compared with these"


@pytest.mark.parametrize(("name", "task"), [("accuracy", "binary"), ("roc_auc", "binary"), ("f1_macro", "multiclass")])
def test_other_trials_are_compared_by_the_metric(name, task) -> None:
    metric = find_metric(name, task, 1 if task == "binary" else 3)
    assert metric_of_trials(metric, task) is metric


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "jaccard", "f1_macro"])
def test_where_nothing_is_found_nobody_is_warned(name) -> None:
    found = find_metric(name, "binary", 1).score(BINARY, np.full((ROWS, 1), 0.1))
    assert found == (pytest.approx(0.5 * sk.f1_score(1 - BINARY, np.ones(ROWS))) if name == "f1_macro" else 0.0)


@pytest.mark.parametrize(
    ("name", "target", "least"),
    [
        ("rmsle", [0.0, 1.0, 5.0], 0.0),
        ("rmsle", [-0.5, 1.0, 5.0], -0.5),
        ("neg_mean_poisson_deviance", [0.0, 1.0, 5.0], 0.02),
        ("neg_mean_poisson_deviance", [1.0, 5.0, 6.0], 1.0),
        ("neg_mean_gamma_deviance", [0.25, 1.0, 5.0], 0.25),
        ("rmse", [0.0, 1.0, 5.0], -np.inf),
    ],
)
def test_predictions_that_a_metric_has_no_value_for_are_the_least(name, target, least) -> None:
    metric = bounded(find_metric(name, "regression", 1), np.array(target))
    assert metric.least == pytest.approx(least)
    if name != "rmse":
        found, expected = (metric.score(np.array(target), np.array([[one], [1.5], [4.0]])) for one in (-7.0, least))
        assert found == pytest.approx(expected)


def test_decisions_of_one_class_alone() -> None:
    target, shares = np.zeros(4), np.linspace(0.1, 0.9, 4)[:, None]
    assert metric_of_trials(find_metric("f1", "binary", 1), "binary").score(target, shares) == 0.0
    with pytest.raises(MetricError, match="only one class is present"):
        metric_of_trials(find_metric("balanced_accuracy", "binary", 1), "binary").score(target, shares)


def test_a_metric_is_taken_as_it_is() -> None:
    metric = Metric("own", lambda y, p: 0.0, "maximize", "probability")
    assert find_metric(metric, "multiclass", 3) is metric


def test_unknown_names_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(MetricError) as caught:
        find_metric("rsme", "regression", 1)
    message = str(caught.value)
    assert "metric 'rsme' is unknown; expected one of accuracy," in message
    assert "rmse" in message
    assert "a tk.Metric, or a function of (y_true, y_pred)" in message


@pytest.mark.parametrize(
    ("name", "task", "told"),
    [
        ("rmse", "binary", "metric 'rmse' does not fit a binary task; expected one such as roc_auc"),
        ("r2", "multiclass", "does not fit a multiclass task"),
        ("roc_auc", "regression", "metric 'roc_auc' does not fit a regression task; expected one such as rmse, mae"),
        ("logloss", "regression", "does not fit a regression task"),
        ("f1", "multiclass", "is for two classes, but the target has 3; try f1_macro or logloss"),
        ("average_precision", "multiclass", "is for two classes, but the target has 3"),
    ],
)
def test_metrics_that_do_not_fit_the_task_are_refused(name, task, told) -> None:
    with pytest.raises(MetricError) as caught:
        find_metric(name, task, 3 if task == "multiclass" else 1)
    assert told in str(caught.value)


def test_contradictions_are_refused() -> None:
    with pytest.raises(MetricError, match="direction='min'; expected 'minimize' or 'maximize'"):
        Metric("x", lambda y, p: 0.0, "min")
    with pytest.raises(MetricError, match="needs='labels'; expected 'value', 'class', 'rank' or 'probability'"):
        Metric("x", lambda y, p: 0.0, "minimize", "labels")


@pytest.mark.parametrize(
    ("task", "shares", "name"),
    [
        ("regression", [], "rmse"),
        ("multiclass", [0.2, 0.3, 0.5], "logloss"),
        ("binary", [0.5, 0.5], "roc_auc"),
        ("binary", [0.75, 0.25], "roc_auc"),
        ("binary", [0.84, 0.16], "average_precision"),
        ("binary", [0.05, 0.95], "roc_auc"),
    ],
)
def test_the_usual_metric_follows_the_task(task, shares, name) -> None:
    found, reason = usual_metric(task, shares)
    assert found == name
    assert len(reason.split()) > 4, "says why"
    find_metric(found, task, max(1, len(shares)) if task == "multiclass" else 1)
