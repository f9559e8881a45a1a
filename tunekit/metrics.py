"""What trials are judged by: scikit-learn's scorers under their own and their usual short names, or a callable."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import middle_class
from tunekit.errors import MetricError

SHORT_NAMES = {
    "accuracy": "accuracy",
    "average_precision": "average_precision",
    "balanced_accuracy": "balanced_accuracy",
    "brier": "neg_brier_score",
    "f1": "f1",
    "f1_macro": "f1_macro",
    "logloss": "neg_log_loss",
    "mae": "neg_mean_absolute_error",
    "mape": "neg_mean_absolute_percentage_error",
    "mcc": "matthews_corrcoef",
    "medae": "neg_median_absolute_error",
    "mse": "neg_mean_squared_error",
    "r2": "r2",
    "rmse": "neg_root_mean_squared_error",
    "rmsle": "neg_root_mean_squared_log_error",
    "roc_auc": "roc_auc",
}
"""Short name to scikit-learn's scorer. A "neg_" scorer is shown in its natural sign, and smaller is better."""

AGREEMENT = "qwk"
"""Name of the quadratic weighted kappa, for classes in an order."""

_ONE_CLASS_UNDEFINED = ("roc_auc", "average_precision")

_ONE_CLASS_JUDGED = ("accuracy", "neg_log_loss", "neg_brier_score")
"""Scorers that count each row by itself, and so need no rows of other classes."""


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Args:
        name: how it is shown.
        function: `function(y_true, y_pred)`, with `sample_weight=` if rows are weighted, gives a float.
        direction: "minimize" or "maximize".
        needs: what `y_pred` is: "value" (numbers), "class" (class positions), "rank" (the same, the middle class by
            the probabilities instead of the likeliest) or "probability" (of the second class for two classes, else one
            column per class).
        scorer: the name of scikit-learn's scorer that the function is, or None for a function of one's own.
        least: smaller values are taken for it, as the metric has no value for them; see `bounded`.

    >>> Metric("worst", lambda y, p: abs(y - p).max(), "minimize").score(np.array([1.0, 2.0]), np.array([[1.5], [2.0]]))
    0.5
    """

    name: str
    function: Callable[..., Any]
    direction: str
    needs: str = "value"
    scorer: str | None = None
    least: float = -math.inf

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise MetricError(f"direction={self.direction!r}; expected 'minimize' or 'maximize'")
        if self.needs not in ("value", "class", "rank", "probability"):
            raise MetricError(f"needs={self.needs!r}; expected 'value', 'class', 'rank' or 'probability'")

    def score(
        self,
        target: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None = None,
    ) -> float:
        """Score predictions.

        Args:
            target: (n,) values or class positions.
            predictions: (n, outputs) values or probabilities, as families predict them.
            weight: (n,) row weights or None.

        Raises:
            MetricError: the metric can't be computed on these rows.
        """
        shaped = self._shaped(predictions)
        weights = {} if weight is None else {"sample_weight": weight}
        try:
            score = float(self.function(target, shaped, **weights))
        except (ValueError, TypeError) as error:
            raise MetricError(f"metric {self.name!r} can't be computed on {len(target)} rows: {error}") from error
        if math.isnan(score):
            raise MetricError(
                f"metric {self.name!r} is nan on {len(target)} rows; expected a number: are there too few rows in a "
                "fold, or does a metric of your own divide by zero?"
            )
        return score

    def better(self, one: float, other: float) -> bool:
        """Whether score `one` is better than `other`."""
        return one < other if self.direction == "minimize" else one > other

    @property
    def sign(self) -> float:
        """1 if smaller is better, else -1: a score times it is a loss."""
        return 1.0 if self.direction == "minimize" else -1.0

    @property
    def identity(self) -> str:
        """Two metrics with the same one give scores that can be compared."""
        return self.name

    @property
    def worst(self) -> float:
        """A score that every other one beats."""
        return float("inf") if self.direction == "minimize" else float("-inf")

    def _shaped(self, predictions: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        single = predictions.shape[1] == 1
        if self.needs == "rank" and not single:
            return middle_class(predictions).astype(float)
        if self.needs in ("class", "rank"):
            return (predictions[:, 0] >= 0.5).astype(float) if single else predictions.argmax(axis=1).astype(float)
        if self.least > -math.inf:
            predictions = np.maximum(predictions, self.least)
        if single:
            return predictions[:, 0]
        return _summing_to_one(predictions) if self.needs == "probability" else predictions


@dataclass(frozen=True)
class AtBestThreshold(Metric):
    """The score of decisions between two classes, from that probability of the second one on which suits it best.

    Args:
        of_counts: the score of (right, wrong) decisions for the second class and (wrong, right) ones for the first.
    """

    of_counts: Callable[..., Any] = field(kw_only=True)

    @property
    def identity(self) -> str:
        """See `Metric.identity`."""
        return f"{self.name} at the best threshold"

    def score(
        self,
        target: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None = None,
    ) -> float:
        """See `Metric.score`."""
        order = np.argsort(predictions[:, 0])
        below = np.r_[0, np.flatnonzero(np.diff(predictions[order, 0])) + 1, len(order)]
        return float(np.max(self._scores(order, below, target, weight)))

    def scores_from(
        self,
        thresholds: npt.NDArray[np.float64],
        target: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """(thresholds,): the score of deciding for the second class from each of them on.

        Args:
            thresholds: (thresholds,).
            target: (n,) 0 or 1.
            predictions: (n, 1) probabilities.
            weight: (n,) or None.

        Raises:
            MetricError: the metric can't be computed on these rows.
        """
        order = np.argsort(predictions[:, 0])
        return self._scores(order, np.searchsorted(predictions[order, 0], thresholds), target, weight)

    def _scores(
        self,
        order: npt.NDArray[np.int64],
        below: npt.NDArray[np.int64],
        target: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None,
    ) -> npt.NDArray[np.float64]:
        """Where so many rows are below the threshold, of rows in the order of their probabilities."""
        second = target[order] if weight is None else target[order] * weight[order]
        every = np.arange(len(order) + 1.0) if weight is None else np.r_[0.0, np.cumsum(weight[order])]
        missed = np.r_[0.0, np.cumsum(second)]
        every, total, missed, found = every[below], every[-1], missed[below], missed[-1]
        rest = every - missed
        return np.asarray(self.of_counts(found - missed, total - found - rest, missed, rest))


def metric_of_trials(metric: Metric, task: str) -> Metric:
    """What trials are compared by: the metric, but for decisions between two classes at the best threshold of each.

    Where a class is rare, a model that finds it well is often nowhere sure of it by more than a half: there, scores
    tell how bold models are, and not what they know (Lipton 2014, arXiv 1402.1892). The blend's threshold is tuned in
    the end.

    Args:
        metric: of the study.
        task: of the data.
    """
    of_counts = OF_COUNTS.get(metric.scorer) if task == "binary" else None
    if of_counts is None:
        return metric
    return AtBestThreshold(metric.name, metric.function, metric.direction, "probability", of_counts=of_counts)


def _f1(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    del rest
    return _quotient(2 * hits, 2 * hits + wrong + missed)


def _jaccard(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    del rest
    return _quotient(hits, hits + wrong + missed)


def _f1_weighted(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    of_second, of_first = _f1(hits, wrong, missed, rest), _f1(rest, missed, wrong, hits)
    return _quotient(of_second * (hits + missed) + of_first * (wrong + rest), hits + missed + wrong + rest)


def _f1_macro(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    _check_both(hits + missed, wrong + rest)
    return (_f1(hits, wrong, missed, rest) + _f1(rest, missed, wrong, hits)) / 2


def _balanced_accuracy(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    _check_both(hits + missed, wrong + rest)
    return (hits / (hits + missed) + rest / (wrong + rest)) / 2


def _correlation(hits: Any, wrong: Any, missed: Any, rest: Any) -> Any:
    """Matthews 1975."""
    square = (hits + wrong) * (hits + missed) * (rest + wrong) * (rest + missed)
    return _quotient(hits * rest - wrong * missed, np.sqrt(square))


def _quotient(part: Any, whole: Any) -> Any:
    """0 of nothing, as scikit-learn has it."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _check_both(second: Any, first: Any) -> None:
    if not (second[0] and first[0]):
        raise MetricError("only one class is present; expected rows of every class")


OF_COUNTS: dict[str | None, Callable[..., Any]] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "f1_weighted": _f1_weighted,
    "jaccard": _jaccard,
    "matthews_corrcoef": _correlation,
}
"""Scorers of decisions of which a half is rarely the best threshold, by the counts of right and wrong ones. Of accuracy
it is, if probabilities are right; precision or recall alone would want all rows, or none."""


def _summing_to_one(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Free of float32's rounding, which scikit-learn warns of; what is off by more is left as it is."""
    sums = shares.sum(axis=1, keepdims=True)
    return np.where(np.abs(sums - 1.0) < ROUNDING, shares / sums, shares)


ROUNDING = 1e-5
"""How far the float32 probabilities of a row may sum to something else than one."""

IMBALANCED = 0.25
"""Two classes are imbalanced if the rarer one has less than this share of the rows."""


def usual_metric(task: str, shares: Sequence[float]) -> tuple[str, str]:
    """The metric that fits a task when its owner names none, and why.

    Args:
        task: "binary", "multiclass" or "regression".
        shares: of the classes among the rows; empty for regression.

    >>> usual_metric("binary", [0.84, 0.16])[0], usual_metric("binary", [0.6, 0.4])[0]
    ('average_precision', 'roc_auc')
    """
    if task == "regression":
        return "rmse", "the usual one for numbers: large errors count most (mae counts all alike)"
    if task == "ordinal":
        return "qwk", "classes in an order: agreement, an error counting by its squared distance"
    if task == "multiclass":
        return "logloss", "classes: good probabilities are rewarded (accuracy only counts hits)"
    if shares[0] < IMBALANCED:
        return "roc_auc", (
            f"the first class has {shares[0]:.0%} of the rows; to find it is what average_precision and f1 judge where "
            "it is the second one: say classes=, the rarer one last"
        )
    if shares[1] < IMBALANCED:
        return "average_precision", f"the rarer class has {shares[1]:.0%} of the rows: precision and recall tell more"
    return "roc_auc", "two balanced classes: how well they are told apart, at any threshold"


def has_two(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None) -> bool:
    """Whether there are two different values at least among rows that weigh anything."""
    known = values if weight is None else values[weight > 0]
    return len(known) > 0 and bool(known.min() < known.max())


@dataclass(frozen=True)
class TargetMetric:
    """One target's share in the score of several.

    Args:
        column: of the target matrix.
        outputs: its columns of a prediction.
        metric: of the target.
        name: of the target.
        classes: of the target; empty for numbers.
        unit: what its loss is divided by: that of a constant; None for its score as it is.
    """

    column: int
    outputs: slice
    metric: Metric
    name: str
    classes: tuple[Any, ...] = ()
    unit: float | None = None

    @property
    def needs_two(self) -> bool:
        """Whether its metric needs rows of two classes at least, as most metrics of classes do."""
        return bool(self.classes) and self.metric.scorer not in _ONE_CLASS_JUDGED

    def judged_by(self, target: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None) -> bool:
        """Whether rows can judge it; arguments are those of `MeanMetric.score`."""
        return not self.needs_two or has_two(target[:, self.column], weight)

    def score(
        self,
        target: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None = None,
    ) -> float:
        """Its score; arguments are those of `MeanMetric.score`.

        Raises:
            MetricError: it can't be computed on these rows.
        """
        try:
            return self.metric.score(target[:, self.column], predictions[:, self.outputs], weight)
        except MetricError as error:
            raise MetricError(f"target {self.name!r}: {error}") from error


@dataclass(frozen=True)
class MeanMetric(Metric):
    """The mean over several targets of their scores, or of their losses as shares of what a constant loses.

    Targets that some rows can't judge, such as a label that none of them has, are left out of the mean on these rows.
    """

    parts: tuple[TargetMetric, ...] = ()

    @property
    def identity(self) -> str:
        """See `Metric.identity`."""
        return f"{self.name} of {', '.join(part.metric.name for part in self.parts)}"

    def score(
        self,
        target: npt.NDArray[np.float64],
        predictions: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None = None,
    ) -> float:
        """See `Metric.score`; `target` is (n, targets)."""
        return float(self.mean_of(target, weight, lambda part: part.score(target, predictions, weight)))

    def mean_of(
        self,
        target: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64] | None,
        score: Callable[[TargetMetric], Any],
    ) -> Any:
        """The mean of what `score` gives for each target, a number or an array of them.

        Args:
            target: (n, targets).
            weight: (n,) or None.
            score: of a target on these rows, by its own metric.

        Raises:
            MetricError: no target can be judged on these rows.
        """
        able = [part for part in self.parts if part.judged_by(target, weight)]
        if not able:
            raise MetricError(
                f"none of the targets {', '.join(part.name for part in self.parts)} has more than one class on "
                f"{len(target)} rows; expected rows of two classes of one of them"
            )
        scores = [score(part) if part.unit is None else _loss(score(part), part.metric) / part.unit for part in able]
        return np.mean(scores, axis=0)


def _loss(score: Any, metric: Metric) -> Any:
    """What is to be made small; of a metric to be maximized, which is 1 at best, what is missing."""
    return score if metric.direction == "minimize" else 1.0 - score


def mean_metric(
    parts: Sequence[TargetMetric],
    target: npt.NDArray[np.float64],
    constant: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | None = None,
) -> Metric:
    """The metric of several targets.

    The mean of their scores, where all have the same metric, to be maximized. Else the figures can't be added: then it
    is the mean of their losses, each as a share of what a constant loses, so that 1 is as bad as the baseline.
    A target that some rows can't judge (a label that none of them has, by average precision) is left out there.

    Args:
        parts: the targets, without a unit.
        target: (n, targets) of all rows that aren't test rows.
        constant: (outputs,), what predicts these best without any column.
        weight: (n,) of these rows, or None.
    """
    names = {part.metric.name for part in parts}
    function: Callable[..., Any] = _not_called
    if len(names) == 1 and all(part.metric.direction == "maximize" for part in parts):
        return MeanMetric(f"mean_{names.pop()}", function, "maximize", parts=tuple(parts))
    told = []
    for part in parts:
        guess = np.tile(constant, (len(target), 1))
        able = part.judged_by(target, weight)
        lost = _loss(part.score(target, guess, weight), part.metric) if able else 0.0
        told.append(replace(part, unit=lost if lost > 0 else 1.0))
    return MeanMetric("relative_loss", function, "minimize", parts=tuple(told))


def _not_called(target: Any, predictions: Any) -> float:
    raise NotImplementedError("a mean over targets has no function of its own")


def find_metric(metric: str | Metric | Callable[..., Any], task: str, outputs: int) -> Metric:
    """The metric that a study names, fitted to its task.

    Args:
        metric: a short name, a name of scikit-learn's scorers or the function behind one, a `Metric`, a callable
            `f(y_true, y_pred)` where smaller is better.
        task: "binary", "multiclass" or "regression".
        outputs: columns of a prediction.

    Raises:
        MetricError: the name is unknown, or the metric does not fit the task.

    >>> find_metric("rmse", "regression", 1).direction
    'minimize'
    """
    if isinstance(metric, Metric):
        return metric
    name = _scorer_of(metric) if callable(metric) else metric
    if name is None:
        return Metric(getattr(metric, "__name__", "metric"), metric, "minimize")  # type: ignore[arg-type]
    return _named(name, task, outputs)


def _scorer_of(function: Callable[..., Any]) -> str | None:
    """The name of scikit-learn's scorer that a function of its own is behind, the plainest of several; else None."""
    from sklearn.metrics import get_scorer, get_scorer_names

    found = [name for name in get_scorer_names() if get_scorer(name)._score_func is function]
    short = {scorer: name for name, scorer in SHORT_NAMES.items()}
    return short.get(plainest := min(found, key=len), plainest) if found else None


def check_smaller_is_better(
    metric: Metric,
    target: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    constant: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | None = None,
) -> None:
    """Refuse a function that came without a direction and is larger for right predictions than for a constant.

    Args:
        metric: of the function.
        target: (n,) values or class positions.
        right: (n, outputs), predictions of just that.
        constant: (n, outputs), the same one in each row.
        weight: (n,) row weights or None.

    Raises:
        MetricError: a search would look for the worst model.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            best, usual = (metric.score(target, predictions, weight) for predictions in (right, constant))
        except MetricError:
            return  # it is told of where it matters
    if best > usual:
        raise MetricError(
            f"metric {metric.name!r} is a function, of which smaller would be better, but it is {best:.5g} for right "
            f"predictions and {usual:.5g} for a constant; expected tk.Metric({metric.name!r}, {metric.name}, "
            "'maximize'), or an error"
        )


def _agreement(outputs: int) -> Metric:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 for all right, 0 for what chance would do."""
    from sklearn.metrics import cohen_kappa_score

    def function(target: Any, predictions: Any, **more: Any) -> float:
        labels = np.arange(max(outputs, 2))
        return float(cohen_kappa_score(target, predictions, labels=labels, weights="quadratic", **more))

    return Metric(AGREEMENT, function, "maximize", "rank")


def bounded(metric: Metric, target: npt.NDArray[np.float64]) -> Metric:
    """With the least prediction that it takes, of a metric that has no value for those at an edge, or beyond.

    A linear model or a net may predict less, and means something small by it. That is then the smallest target, below
    which nobody has seen any; or, if that is the edge, a hundredth of the mean off it: one row that is not nothing
    after all would decide the score of predictions that are nearer.

    Args:
        metric: of a target.
        target: (n,) values of the rows that aren't test rows.
    """
    edge = _EDGES.get(metric.scorer)
    if edge is None:
        return metric
    lowest = float(target.min())
    return replace(metric, least=lowest if lowest > edge else edge + OFF_THE_EDGE * (float(target.mean()) - edge))


OFF_THE_EDGE = 0.01

_EDGES: dict[str | None, float] = {
    "neg_mean_gamma_deviance": 0.0,
    "neg_mean_poisson_deviance": 0.0,
    "neg_mean_squared_log_error": -1.0,
    "neg_root_mean_squared_log_error": -1.0,
}
"""Scorers, and what predictions must be larger than."""


def _named(name: str, task: str, outputs: int) -> Metric:
    from sklearn.metrics import get_scorer, get_scorer_names

    if name == AGREEMENT and task in ("binary", "ordinal"):
        return _agreement(outputs)
    scorer_name = SHORT_NAMES.get(name, name)
    if scorer_name not in get_scorer_names():
        raise MetricError(
            f"metric {name!r} is unknown; expected one of {', '.join(sorted([*SHORT_NAMES, AGREEMENT]))}, a name of "
            "scikit-learn's scorers, a tk.Metric, or a function of (y_true, y_pred)"
        )
    scorer: Any = get_scorer(scorer_name)
    needs = _needs(scorer, task)
    needs = "rank" if (task, needs) == ("ordinal", "class") else needs
    arguments = dict(scorer._kwargs)
    if "zero_division" in inspect.signature(scorer._score_func).parameters:
        arguments.setdefault("zero_division", 0.0)  # the default, without a warning at each call
    if needs == "probability" and outputs > 1:
        if scorer_name == "roc_auc":
            arguments["multi_class"] = "ovr"
        if scorer_name in ("roc_auc", "neg_log_loss"):
            arguments["labels"] = np.arange(outputs)
    elif scorer_name == "neg_log_loss":
        arguments["labels"] = np.arange(2)
    _check_task(name, scorer_name, task, needs, outputs)

    def function(target: Any, predictions: Any, **more: Any) -> float:
        if scorer_name in _ONE_CLASS_UNDEFINED and len(np.unique(target)) < 2:
            raise ValueError("only one class is present; expected rows of every class")
        return float(scorer._score_func(target, predictions, **arguments, **more))

    return Metric(name, function, "maximize" if scorer._sign > 0 else "minimize", needs, scorer_name)


def _needs(scorer: Any, task: str) -> str:
    if task == "regression":
        return "value"
    methods = scorer._response_method
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    return "probability" if any(method != "predict" for method in methods) else "class"


def _check_task(name: str, scorer_name: str, task: str, needs: str, outputs: int) -> None:
    for_numbers = scorer_name.startswith("neg_m") or scorer_name in (
        "r2",
        "explained_variance",
        "neg_root_mean_squared_error",
        "neg_root_mean_squared_log_error",
        "d2_absolute_error_score",
    )
    if (task == "regression") != for_numbers:
        fitting = "rmse, mae, r2" if task == "regression" else "roc_auc, average_precision, logloss, accuracy, f1_macro"
        number = "" if task == "regression" else '; if the target is a number, say so: kinds={TARGET: "number"}'
        raise MetricError(f"metric {name!r} does not fit a {task} task; expected one such as {fitting}{number}")
    binary_only = scorer_name in ("f1", "precision", "recall", "jaccard", "average_precision", "neg_brier_score")
    if task in ("multiclass", "ordinal") and binary_only:
        raise MetricError(f"metric {name!r} is for two classes, but the target has {outputs}; try f1_macro or logloss")
