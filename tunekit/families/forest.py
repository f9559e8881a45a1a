"""Random forests and extremely randomised trees."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Predictions
from tunekit.families.tree_arrays import from_forest
from tunekit.space import HyperParameters

MANY = 100
"""Values of an array, from which on a split looks at few of them by default: neighbouring pixels tell the same. So it
does of the many words of texts."""


MOST_OF_A_TREE = 50_000
"""Rows that a tree learns from."""

TREES_AT_ONCE = 10
"""After as many it is looked whether there is time for more."""


class Forest(Family):
    """scikit-learn's forests on scaled numbers with gap indicators and category codes.

    Breiman 2001 (random), Geurts 2006 (extra). Half of the features per split and small leaves do well on tables
    (Grinsztajn 2022, arXiv 2207.08815, searches around them too). Probabilities need more trees than means do, above
    all those of rare classes. Of many rows each tree learns from some, drawn with replacement, and its leaves hold
    more: grown to the end, it would have nearly as many nodes as there are rows. Where time is short there are fewer
    trees.
    """

    name = "forest"
    threaded = True
    chooses_target = True
    cheap = True

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """The other kind of forest."""
        del task, rows, temporal
        return [{"kind": "random"}]

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        from sklearn import ensemble

        del report
        kind = hp.Choice("kind", ["extra", "random"])
        names = {"extra": "ExtraTrees", "random": "RandomForest"}
        wide = bool(fold.text_columns) or any(array[0].size > MANY for array in fold.train.rows.arrays)
        suffix = "Regressor" if fold.task == "regression" else "Classifier"
        trees = hp.Int("trees", 100, 400, step=100, default=100 if fold.task == "regression" else 200)
        estimator: Any = getattr(ensemble, names[kind] + suffix)(
            max_features=hp.Float("max_features", 0.05, 1.0, sampling="log", default=0.05 if wide else 0.5),
            **_growth(hp, len(fold.train)),
            random_state=fold.seed,
            n_jobs=fold.threads,
        )
        layout = with_bag("ordinal", hp, fold, ["counts", "binary"], [1_000, 3_000, 300])
        hp.settle()
        fold = fold.in_memory
        features = fold.features("train", layout)["features"]
        target = fold.target(fold.train) if fold.task == "regression" else fold.train.target.astype(int)
        _grow(estimator, features, target, fold, fold.length.steps if fold.length else trees)
        estimator.n_jobs = 1  # several threads add the trees' votes in any order, to another last bit

        def function(features: npt.NDArray[Any]) -> Predictions:
            if fold.task == "regression":
                return np.asarray(estimator.predict(features), dtype=np.float64)[:, None]
            shares = np.asarray(estimator.predict_proba(features), dtype=np.float64)
            return shares[:, 1:] if fold.outputs == 1 else shares

        grown = len(estimator.estimators_)
        facts = {"rounds": grown, "standardised": fold.relative}
        arrays = from_forest(estimator, fold.task).to_arrays()
        model = ArrayModel("trees", layout, fold.preparation, arrays, function, facts)
        model.best_epoch = grown
        return model


def _grow(estimator: Any, features: Any, target: npt.NDArray[Any], fold: Fold, trees: int) -> None:
    """Grow so many trees, or those that there is time for; the same ones in whatever steps."""
    begun = time.monotonic()
    step = trees if math.isinf(fold.seconds) else max(TREES_AT_ONCE, fold.threads)
    estimator.warm_start = True
    for number in range(step, trees + step, step):
        estimator.n_estimators = min(number, trees)
        estimator.fit(features, target, sample_weight=fold.train.weight)
        spent = time.monotonic() - begun
        if spent * (number + step) > fold.seconds * number:
            return


def _growth(hp: HyperParameters, rows: int) -> dict[str, Any]:
    """How far trees grow, and from which rows."""
    if rows <= MOST_OF_A_TREE:
        return {"min_samples_leaf": hp.Int("min_samples_leaf", 1, 16, sampling="log", default=2)}
    leaf = hp.Int("min_samples_leaf", 4, 64, sampling="log", default=8)
    return {"min_samples_leaf": leaf, "bootstrap": True, "max_samples": MOST_OF_A_TREE}
