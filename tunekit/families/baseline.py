"""Predicts a constant, or what was seen last: what any model must beat before it is worth its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Predictions
from tunekit.space import HyperParameters


class Baseline(Family):
    """Mean or median of the training target, the shares of its classes, or its last value where rows have a time.

    Of forecasts the first guess is the value a season before the target's moment, such as at the same hour yesterday;
    "last" is the last known value of each window.
    """

    name = "baseline"

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """The other strategies."""
        del rows
        if task != "regression":
            return []
        if not temporal:
            return [{"strategy": "median"}]
        return [
            {"strategy": "last"},
            {"strategy": "mean"},
            {"strategy": "median"},
        ]  # of forecasts the mean is no default

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        del report
        target, weight = fold.train.target, fold.train.counts
        if fold.task == "regression":
            usual = ["mean", "median"]
            last = ["last"] if fold.last is not None else []
            strategy = hp.Choice("strategy", [*fold.naive, *usual] if fold.naive else [*usual, *last])
            if strategy in fold.naive:
                hp.settle()
                return _copied(fold, fold.naive[strategy])
            constants = {"mean": np.average(target, weights=weight), "median": _median(target, weight)}
            if fold.last is not None:
                constants["last"] = target[fold.last]
            value = np.array([constants[strategy]])
        else:
            hp.Fixed("constant", "shares")
            value = shares_of(fold)
        hp.settle()
        return constant(fold, value)


def shares_of(fold: Fold) -> npt.NDArray[np.float64]:
    """(outputs,): the shares of the classes among the training rows; of two, that of the second."""
    target, weight = fold.train.target, fold.train.counts
    classes = 2 if fold.outputs == 1 else fold.outputs
    counts = np.bincount(target.astype(int), weights=weight, minlength=classes)
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    return shares[1:] if fold.outputs == 1 else shares


def constant(fold: Fold, value: npt.NDArray[np.float64]) -> ArrayModel:
    """A model that predicts the same for each row: (outputs,)."""
    return ArrayModel(
        "constant",
        "native",  # the smallest: all that it needs is how many rows there are
        fold.preparation,
        {"value": value},
        lambda features: np.repeat(value[None, :], len(features), axis=0),
    )


def _median(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None) -> float:
    """The value with half of the weight on either side."""
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _copied(fold: Fold, place: int) -> Fitted:
    """Predicts one of the values of the array column, as it is."""
    position = fold.train.rows.numbers.shape[1] + len(fold.cardinalities) + place

    def function(features: npt.NDArray[Any]) -> Predictions:
        return features[:, position : position + 1].astype(np.float64)

    return ArrayModel("feature", "native", fold.preparation, {}, function, {"position": position})
