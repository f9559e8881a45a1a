"""Ridge and logistic regression on scaled numbers, one-hot categories and bags of words: the cheap reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Predictions, link, link_for
from tunekit.space import HyperParameters


class Linear(Family):
    """scikit-learn's `Ridge`, or `LogisticRegression` for classes; the strength of the L2 penalty is searched."""

    name = "linear"

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        from sklearn.linear_model import LogisticRegression, Ridge

        del report
        usual = 0.3 if fold.text_columns else 3.0  # the weights of words are small numbers
        penalty = hp.Float("l2", 1e-2, 1e3, sampling="log", default=usual)
        layout = with_bag("flat", hp, fold, ["tfidf", "counts", "binary"], [20_000, 5_000, 1_000], ngrams=2)
        hp.settle()
        features = fold.features("train", layout)["features"].astype(np.float64)
        target, weight = fold.train.target, fold.train.weight
        if fold.task == "regression":
            model: Any = Ridge(alpha=penalty).fit(features, target, sample_weight=weight)
        else:
            model = LogisticRegression(C=1.0 / penalty, max_iter=2000).fit(features, target, sample_weight=weight)
        weights = np.atleast_2d(model.coef_).T
        bias = np.atleast_1d(model.intercept_)
        name = link_for(fold.task)

        def function(features: npt.NDArray[Any]) -> Predictions:
            return link(features.astype(np.float64) @ weights + bias, name)

        return ArrayModel(
            "linear", layout, fold.preparation, {"weights": weights, "bias": bias}, function, {"link": name}
        )
