"""Stacking by boosted trees, which correct the selection where its members disagree."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import SEVERAL
from tunekit.ensemble.calibration import log_odds
from tunekit.ensemble.combination import Combination, features_of
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.nesting import nested
from tunekit.families.base import link_for
from tunekit.families.tree_arrays import TreeArrays, from_xgboost

MOST_ROUNDS = 60
PATIENCE = 8
"""Rounds without a better loss on the rows apart before boosting ends."""

SETTINGS: dict[str, Any] = {
    "tree_method": "hist",
    "max_depth": 2,  # pairs of members: what one says where another says that
    "eta": 0.05,
    "subsample": 0.8,
    "lambda": 10.0,
    "nthread": 1,
    "verbosity": 0,
}

LEAST_LEAF = 0.01
"""Share of the rows that a leaf holds at least."""


class Boosted(Combiner):
    """Shallow boosted trees on the members' predictions, added to what the greedy selection predicts.

    Of one output, trees may only rise with each prediction: a leak in the out-of-fold predictions mostly shows as a
    correction against what the members say (AutoGluon's issue 2779). How many rounds is chosen on rows apart.
    """

    name = "boosted stacking"
    least_rows = 1_000
    stacks = True

    def suits(self, task: str) -> bool:
        """See `Combiner.suits`."""
        return task != SEVERAL

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        plain = Combination.weighted(fitting.task, fitting.selection, fitting.outputs)
        pool = fitting.pool
        pairs = nested(fitting.rows, fitting.seed)
        if not pairs:
            return plain
        data = _Matrices(fitting, pool)
        fit, apart = pairs[-1]
        tried = data.boost(fit, apart, MOST_ROUNDS)
        rounds = data.best_rounds(tried, apart)
        if not rounds:
            return plain
        whole = data.boost(np.arange(len(fitting.rows)), None, rounds)
        trees = replace(
            from_xgboost(whole, fitting.outputs, link_for(fitting.task)),
            link="identity",  # it corrects log odds, or a number
            base=np.zeros(fitting.outputs),
        )
        combination = replace(plain, kind="boosted", trees=_spread(trees, pool, fitting.outputs))
        return replace(combination, importance=_importance(combination, fitting))


class _Matrices:
    """Rows as XGBoost takes them.

    Args:
        fitting: the rows and their predictions.
        pool: positions of the candidates that are read.
    """

    def __init__(self, fitting: Fitting, pool: npt.NDArray[np.int64]) -> None:
        self.fitting = fitting
        self.features = features_of(fitting.stack[pool])
        mean = np.tensordot(fitting.selection, fitting.stack, axes=1)
        self.margin = mean if fitting.task == "regression" else log_odds(mean)

    def boost(self, rows: npt.NDArray[np.int64], apart: npt.NDArray[np.int64] | None, rounds: int) -> Any:
        """Boost on some rows, until others get no better."""
        import xgboost

        objectives: dict[str, dict[str, Any]] = {
            "regression": {"objective": "reg:squarederror", "base_score": 0.0},
            "binary": {"objective": "binary:logistic", "base_score": 0.5},
        }
        many = {"objective": "multi:softprob", "num_class": self.fitting.outputs, "base_score": 0.0}
        settings = {**SETTINGS, **objectives.get(self.fitting.task, many), "seed": self.fitting.seed % 2**31}
        # A row counts as 1 in the curvature of a number, as at most a quarter in that of a probability.
        settings["min_child_weight"] = LEAST_LEAF * len(rows) * (1.0 if self.fitting.task == "regression" else 0.1)
        if self.fitting.outputs == 1:
            settings["monotone_constraints"] = (1,) * self.features.shape[1]
        evals = [] if apart is None else [(self.matrix(apart), "apart")]
        stops = [] if apart is None else [xgboost.callback.EarlyStopping(rounds=PATIENCE)]
        calls: list[Any] = [*stops, _ends_by(self.fitting.deadline)]
        return xgboost.train(settings, self.matrix(rows), rounds, evals=evals, verbose_eval=False, callbacks=calls)

    def matrix(self, rows: npt.NDArray[np.int64]) -> Any:
        """Some rows."""
        import xgboost

        weight = self.fitting.rows.weight
        return xgboost.DMatrix(
            self.features[rows],
            label=self.fitting.rows.target[rows],
            weight=None if weight is None else weight[rows],
            base_margin=self.margin[rows] if self.fitting.outputs > 1 else self.margin[rows, 0],
            nthread=1,
        )

    def best_rounds(self, booster: Any, apart: npt.NDArray[np.int64]) -> int:
        """How many rounds do best on the rows apart; none, where the selection alone does."""
        before = self.loss(np.zeros_like(self.margin[apart]), apart)
        after = float(booster.best_score) ** (2 if self.fitting.task == "regression" else 1)
        return int(booster.best_iteration) + 1 if after < before else 0

    def loss(self, correction: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> float:
        """Of the selection: squared error, or cross-entropy."""
        raw, target = self.margin[rows] + correction, self.fitting.rows.target[rows]
        if self.fitting.task == "regression":
            lost = (raw[:, 0] - target) ** 2
        elif raw.shape[1] == 1:
            lost = np.logaddexp(0.0, np.where(target == 1, -raw[:, 0], raw[:, 0]))
        else:
            right = np.take_along_axis(raw, target.astype(int)[:, None], axis=1)[:, 0]
            lost = np.logaddexp.reduce(raw, axis=1) - right
        weight = self.fitting.rows.weight
        return float(np.average(lost, weights=None if weight is None else weight[rows]))


def _spread(trees: TreeArrays, pool: npt.NDArray[np.int64], outputs: int) -> TreeArrays:
    """The same trees, reading the columns of all candidates instead of the pool's."""
    columns = (pool[:, None] * outputs + np.arange(outputs)).ravel()
    return replace(trees, feature=np.where(trees.feature < 0, trees.feature, columns[trees.feature]))


def _importance(combination: Combination, fitting: Fitting, most: int = 2_000) -> npt.NDArray[np.float64]:
    """(candidates,): shares of what each moves the prediction by, if its rows are shuffled (Breiman 2001)."""
    assert combination.trees is not None
    random = np.random.default_rng(fitting.seed)
    rows = random.permutation(len(fitting.rows))[:most]
    stack = fitting.stack[:, rows]
    whole, moved = combination.apply(stack), np.zeros(len(stack))
    read = {int(column) // fitting.outputs for column in combination.trees.feature if column >= 0}
    for place in read | set(np.flatnonzero(combination.weights)):
        shuffled = stack.copy()
        shuffled[place] = stack[place, random.permutation(len(rows))]
        moved[place] = np.sqrt(((combination.apply(shuffled) - whole) ** 2).mean())
    moved[[*read]] += 1e-6 * moved.sum()  # a tree that reads a member needs it, however little that moves
    return np.asarray(moved / moved.sum()) if moved.sum() > 0 else combination.weights


def _ends_by(deadline: float) -> Any:
    """An XGBoost callback that ends boosting after a moment of `time.monotonic()`."""
    import xgboost

    class EndsBy(xgboost.callback.TrainingCallback):
        """Asked after each round."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return time.monotonic() > deadline

    return EndsBy()
