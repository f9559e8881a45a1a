"""Ridge and logistic regression on scaled numbers and one-hot categories: the cheap reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Predictions, link, link_for
from tunekit.space import HyperParameters


class Linear(Family):
    """scikit-learn's `Ridge`, or `LogisticRegression` for classes; the strength of the L2 penalty is searched."""

    name = "linear"

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        from sklearn.linear_model import LogisticRegression, Ridge

        del report
        penalty = hp.Float("l2", 1e-2, 1e3, sampling="log", default=3.0)
        hp.settle()
        features = fold.features("train", "flat")["features"].astype(np.float64)
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
            "linear", "flat", fold.preparation, {"weights": weights, "bias": bias}, function, {"link": name}
        )
