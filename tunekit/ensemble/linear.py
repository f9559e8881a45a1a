"""Stacking by a regularised linear model: of values, or of log odds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import SEVERAL
from tunekit.ensemble.calibration import log_odds
from tunekit.ensemble.combination import Combination
from tunekit.ensemble.combiner import Combiner, Fitting
from tunekit.ensemble.nesting import nested

Floats = npt.NDArray[np.float64]

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the pull towards the selection's weights, from almost free to almost none other; chosen inside."""

NEGLIGIBLE = 0.01
"""A share of the weights below which a member is left out."""


class Linear(Combiner):
    """A ridge of values, or a logistic regression of log odds, with weights that aren't negative.

    Weights are pulled towards those of the greedy selection, not towards zero: with little evidence it is that. They
    can't be negative, which spares stacking most of what it learns of leaks (Breiman 1996 on why it also stacks
    better). How strong the pull is, is chosen on rows that the weights were not fitted on.
    """

    name = "linear stacking"
    least_rows = 200
    stacks = True

    def suits(self, task: str) -> bool:
        """See `Combiner.suits`."""
        return task != SEVERAL

    def fit(self, fitting: Fitting) -> Combination:
        """See `Combiner.fit`."""
        pool = fitting.pool
        make = _Ridge if fitting.task == "regression" else _Logistic
        model = make(fitting, pool)
        strength = _best_strength(model, fitting)
        weights, bias = model.fit(np.arange(len(fitting.rows)), strength)
        weights = np.where(weights >= NEGLIGIBLE * weights.sum(), weights, 0.0)
        everyone = np.zeros(len(fitting.stack))
        everyone[pool] = weights
        if not weights.sum() > 0:  # nothing tells more than a constant: then the selection does no harm
            return Combination.weighted(fitting.task, fitting.selection, fitting.outputs)
        kind = "linear" if fitting.task == "regression" else "logits"
        return Combination(kind, fitting.task, everyone, bias, everyone / everyone.sum())


class _Model:
    """A linear model of the pool's predictions.

    Args:
        fitting: the rows and their predictions.
        pool: positions of the candidates that are read.
    """

    def __init__(self, fitting: Fitting, pool: npt.NDArray[np.int64]) -> None:
        self.target = fitting.rows.target
        weight = fitting.rows.weight
        self.weight = np.ones(len(self.target)) if weight is None else weight
        self.prior = fitting.selection[pool]
        self.stack = fitting.stack[pool]

    def fit(self, rows: npt.NDArray[np.int64], strength: float) -> tuple[Floats, Floats]:
        """Weights (pool,) and bias (outputs,), of some rows."""
        raise NotImplementedError

    def loss(self, rows: npt.NDArray[np.int64], weights: Floats, bias: Floats) -> float:
        """On rows."""
        raise NotImplementedError


class _Ridge(_Model):
    def fit(self, rows: npt.NDArray[np.int64], strength: float) -> tuple[Floats, Floats]:
        """See `_Model.fit`: the normal equations, which `nnls` solves without negative weights."""
        from scipy.optimize import nnls

        x, y = self.stack[:, rows, 0].T, self.target[rows]
        share = self.weight[rows] / self.weight[rows].sum()
        x_mean, y_mean = share @ x, share @ y
        centred = x - x_mean
        gram = centred.T @ (share[:, None] * centred)
        # A pull in units of what predictions have in common is nothing to what tells them apart: `strength` is small.
        size = max(float(np.trace(gram)), np.finfo(float).tiny)
        pull = strength * size / len(gram) / 10
        root = np.linalg.cholesky(gram + (pull + 1e-9 * size) * np.eye(len(gram)))
        right = centred.T @ (share * (y - y_mean)) + pull * self.prior
        weights, _ = nnls(root.T, np.linalg.solve(root, right))
        return weights, np.array([y_mean - weights @ x_mean])

    def loss(self, rows: npt.NDArray[np.int64], weights: Floats, bias: Floats) -> float:
        """See `_Model.loss`: the mean squared error."""
        found = weights @ self.stack[:, rows, 0] + bias
        return float(np.average((found - self.target[rows]) ** 2, weights=self.weight[rows]))


class _Logistic(_Model):
    def __init__(self, fitting: Fitting, pool: npt.NDArray[np.int64]) -> None:
        super().__init__(fitting, pool)
        self.odds = log_odds(self.stack)

    def fit(self, rows: npt.NDArray[np.int64], strength: float) -> tuple[Floats, Floats]:
        """See `_Model.fit`: a weight for each candidate, whatever the class, and a bias for each class."""
        from scipy.optimize import minimize

        odds, members = self.odds[:, rows], len(self.prior)
        share = self.weight[rows] / self.weight[rows].sum()

        def loss(values: Floats) -> tuple[float, Floats]:
            weights, bias = values[:members], values[members:]
            lost, slope = _logistic(np.tensordot(weights, odds, axes=1) + bias, self.target[rows])
            slope *= share[:, None]
            off, drift = weights - self.prior, bias
            gradient = np.tensordot(odds, slope, axes=([1, 2], [0, 1])) + 2 * strength * off
            slant = slope.sum(axis=0) + 2 * strength * drift
            total = share @ lost + strength * (off @ off + drift @ drift)
            return float(total), np.concatenate([gradient, slant])

        start = np.concatenate([self.prior, np.zeros(odds.shape[2])])
        bounds = [(0.0, None)] * members + [(None, None)] * odds.shape[2]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})
        return found.x[:members], found.x[members:]

    def loss(self, rows: npt.NDArray[np.int64], weights: Floats, bias: Floats) -> float:
        """See `_Model.loss`: the cross-entropy."""
        lost, _ = _logistic(np.tensordot(weights, self.odds[:, rows], axes=1) + bias, self.target[rows])
        return float(np.average(lost, weights=self.weight[rows]))


def _logistic(raw: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Cross-entropy (n,) of raw outputs (n, outputs), and its slope (n, outputs)."""
    if raw.shape[1] == 1:
        lost = np.logaddexp(0.0, np.where(target == 1, -raw[:, 0], raw[:, 0]))
        return lost, (1.0 / (1.0 + np.exp(-np.clip(raw, -500, 500)))) - target[:, None]
    norm = np.logaddexp.reduce(raw, axis=1, keepdims=True)
    right = target.astype(int)[:, None]
    slope = np.exp(raw - norm)
    lost = (norm - np.take_along_axis(raw, right, axis=1))[:, 0]
    np.put_along_axis(slope, right, np.take_along_axis(slope, right, axis=1) - 1.0, axis=1)
    return lost, slope


def _best_strength(model: _Model, fitting: Fitting) -> float:
    """The pull that does best on rows that the weights were not fitted on."""
    pairs = nested(fitting.rows, fitting.seed)
    if not pairs:
        return STRENGTHS[-1]
    losses = [np.mean([model.loss(judge, *model.fit(fit, one)) for fit, judge in pairs]) for one in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]
