"""Ridge and logistic regression on scaled numbers, one-hot categories and bags of words: the cheap reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.data.sparse import sparse_rows
from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Predictions, link, link_for
from tunekit.families.ridge import sparse_ridge
from tunekit.space import HyperParameters

MOST_DENSE = 128 * 2**20
"""Bytes of features up to which they are one matrix. More are kept without their zeros, to the same result."""


class Linear(Family):
    """scikit-learn's `Ridge`, or `LogisticRegression` for classes; the strength of the L2 penalty is searched.

    So is whether numbers are bent towards a bound, which tames outliers, or are taken as far out as they are: what is
    proportional to a number with a long tail, such as a delay, is told only by those.
    """

    name = "linear"
    chooses_target = True
    cheap = True

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Numbers as far out as they are."""
        del task, rows, temporal
        return [{"numbers": "plain"}]

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        from sklearn.linear_model import LogisticRegression, Ridge

        del report
        usual = 0.3 if fold.text_columns else 3.0  # the weights of words are small numbers
        most = 1e3
        if fold.naive:  # windows that overlap tell much less than so many rows, and their columns much the same
            usual, most = float(np.clip(len(fold.train) / 10, 3.0, 1e4)), 1e5
        penalty = hp.Float("l2", 1e-2, most, sampling="log", default=usual)
        numbers = hp.Choice("numbers", ["clipped", "plain"]) if fold.train.rows.numbers.shape[1] else "clipped"
        start = "plain" if numbers == "plain" else "flat"
        layout = with_bag(start, hp, fold, ["tfidf", "counts", "binary"], [20_000, 5_000, 1_000], ngrams=2)
        hp.settle()
        fold = fold.in_memory
        target, weight = fold.target(fold.train), fold.train.weight
        sparse = is_sparse(fold)
        features: Any = (
            _sparse(fold, layout) if sparse else fold.features("train", layout)["features"].astype(np.float64)
        )
        if fold.task == "regression" and sparse:
            weights, intercept = sparse_ridge(features, target, penalty, weight)
            weights, bias = weights[:, None], np.array([intercept])
        else:
            model: Any = Ridge(alpha=penalty)
            if fold.task != "regression":
                model = LogisticRegression(C=1.0 / penalty, max_iter=2000)
            model.fit(features, target, sample_weight=weight)
            weights, bias = np.atleast_2d(model.coef_).T, np.atleast_1d(model.intercept_)
        name = link_for(fold.task)

        def function(features: npt.NDArray[Any]) -> Predictions:
            return link(features.astype(np.float64) @ weights + bias, name)

        facts = {"link": name, "standardised": fold.relative}
        return ArrayModel("linear", layout, fold.preparation, {"weights": weights, "bias": bias}, function, facts)


def is_sparse(fold: Fold) -> bool:
    """Whether a fold's training rows are given to the model without their zeros."""
    width = len(fold.preparation.hot)
    return not (fold.array_names or fold.text_columns) and 8 * width * len(fold.train) > MOST_DENSE


def _sparse(fold: Fold, layout: str) -> Any:
    return fold.once(f"train as {layout}, sparse", lambda: sparse_rows(fold.preparation, fold.train.rows, layout))
