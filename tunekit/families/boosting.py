"""Gradient-boosted trees by XGBoost, with its own handling of missing values and categories."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import ORDINAL
from tunekit.data.lazy import Places
from tunekit.data.preparation import BAG, Preparation
from tunekit.data.schema import Encoded
from tunekit.data.terms import Bag
from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Part, Predictions, link_for, load_facts
from tunekit.families.tree_arrays import from_xgboost
from tunekit.space import HyperParameters

PATIENCE = 50
"""Rounds without a better validation loss before boosting ends."""

MOST_ROUNDS = 2000


UBJ = "model.ubj"
"""XGBoost's own file of a model, for those who go on training it."""


def boosted(folder: Path, rows: Encoded) -> Predictions:
    """What the `UBJ` file of a fold predicts, as the model that was saved."""
    import xgboost

    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    facts = load_facts(folder)
    booster = xgboost.Booster(model_file=str(folder / UBJ))
    cells = _dense(preparation.apply(rows.read(), facts["layout"])["features"])
    matrix = xgboost.DMatrix(cells, feature_types=booster.feature_types, enable_categorical=True)
    raw = _predicted(booster, matrix)
    return preparation.in_units(raw, rows) if facts.get("standardised") else raw


class XGBoost(Family):
    """XGBoost's histogram trees with early stopping on the validation rows.

    Defaults: shallow trees on half of the columns, which do well on small tables at a fraction of the cost; then
    XGB-TD, meta-tuned over many tables (Holzmueller 2024, arXiv 2407.04491). The search space follows Gorishniy 2021
    (arXiv 2106.11959), with the learning rate around the defaults.
    """

    name = "xgboost"
    chooses_target = True

    def portfolio(self, task: str, *, temporal: bool) -> list[dict[str, Any]]:
        """XGB-TD: the figures are the paper's, for numbers and for classes."""
        del temporal
        common = {"colsample_bylevel": 0.9, "reg_lambda": 1e-3, "reg_alpha": 1e-4}
        if task == "regression":
            return [{**common, "learning_rate": 0.05, "max_depth": 9, "min_child_weight": 2.0, "subsample": 0.7}]
        return [{**common, "learning_rate": 0.08, "max_depth": 6, "min_child_weight": 1e-5, "subsample": 0.65}]

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        import xgboost

        del report
        parameters = self._parameters(hp, fold)
        layout = with_bag("native", hp, fold, ["counts", "binary"], [1_000, 3_000, 300])
        hp.settle()
        fold = fold.in_memory
        types = self._types(fold, layout)
        parts = self._deciding(fold, layout)
        rounds = _rounds([matrix for _, matrix in parts], squared=fold.task == "regression", seconds=fold.seconds)
        fixed = fold.length
        booster = xgboost.train(
            {**parameters, "seed": fold.seed, "nthread": fold.threads, "verbosity": 0},
            self._matrix(fold, "train", layout),
            num_boost_round=fixed.steps if fixed else MOST_ROUNDS,
            evals=[] if fixed else [(matrix, str(number)) for number, (_, matrix) in enumerate(parts)],
            verbose_eval=False,
            callbacks=[] if fixed else [rounds],
        )
        best = fixed.steps if fixed else rounds.best
        kept = booster[:best]

        def function(features: npt.NDArray[Any]) -> Predictions:
            cells, threads = _dense(features), fold.threads
            return _predicted(
                kept, xgboost.DMatrix(cells, feature_types=types, enable_categorical=True, nthread=threads)
            )

        trees = from_xgboost(kept, fold.outputs, link_for(fold.task))
        facts = {"rounds": best, "standardised": fold.relative}
        model = ArrayModel(
            "trees", layout, fold.preparation, trees.to_arrays(), function, facts, {UBJ: bytes(kept.save_raw("ubj"))}
        )
        model.best_epoch = best
        if len(parts) > 1 and not fixed:
            raw = np.empty((len(fold.valid), fold.outputs))
            for (rows, matrix), number in zip(parts, reversed(rounds.best_by_part), strict=True):
                raw[rows] = _predicted(booster[:number], matrix)
            model.out_of_fold = fold.preparation.in_units(raw, fold.valid.rows) if fold.relative else raw
        return model

    def _parameters(self, hp: HyperParameters, fold: Fold) -> dict[str, Any]:
        objectives: dict[str, dict[str, Any]] = {
            "binary": {"objective": "binary:logistic"},
            "multiclass": {"objective": "multi:softprob", "num_class": fold.outputs},
            "regression": {"objective": "reg:squarederror"},
        }
        objectives[ORDINAL] = objectives["multiclass"]
        return {
            **objectives[fold.task],
            "tree_method": "hist",
            "learning_rate": hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=0.05),
            "max_depth": hp.Int("max_depth", 2, 10, default=4),
            "min_child_weight": hp.Float("min_child_weight", 1e-5, 100.0, sampling="log", default=1.0),
            "subsample": hp.Float("subsample", 0.5, 1.0, default=0.8),
            "colsample_bylevel": hp.Float("colsample_bylevel", 0.3, 1.0, default=0.5),
            "reg_lambda": hp.Float("reg_lambda", 1e-3, 30.0, sampling="log", default=1.0),
            "reg_alpha": hp.Float("reg_alpha", 1e-4, 10.0, sampling="log", default=1e-4),
        }

    def _types(self, fold: Fold, layout: str) -> list[str]:
        rows = fold.train.rows
        cells = sum(math.prod(array.shape[1:]) for array in rows.arrays)
        _, _, bag = layout.partition(BAG)
        cells += sum(len(terms.chosen(Bag.parse(bag))) for terms in fold.preparation.texts) if bag else 0
        return ["q"] * rows.numbers.shape[1] + ["c"] * len(fold.cardinalities) + ["q"] * cells

    def _deciding(self, fold: Fold, layout: str) -> list[tuple[Places, Any]]:
        """The validation rows in the parts that decide on the rounds."""
        if len(fold.deciding) == 1:
            return [(fold.deciding[0], self._matrix(fold, "valid", layout))]
        return [(rows, self._matrix(fold, "valid", layout, half)) for half, rows in enumerate(fold.deciding)]

    def _matrix(self, fold: Fold, part: str, layout: str, half: int | None = None) -> Any:
        """The rows, or a half of them, as XGBoost takes them; once binned, they stay so for the trials to come."""
        import xgboost

        rows: Part = getattr(fold, part)
        if half is not None:
            rows = rows.take(fold.deciding[half])
        return fold.once(
            f"{part} {half} as xgboost's {layout}",
            lambda: xgboost.DMatrix(
                _dense(fold.preparation.apply(rows.rows, layout)["features"]),
                label=fold.target(rows),
                weight=rows.weight,
                feature_types=self._types(fold, layout),
                enable_categorical=True,
                nthread=fold.threads,
            ),
        )


def _rounds(parts: list[Any], *, squared: bool, seconds: float) -> Any:
    """An XGBoost callback that ends boosting in time, and knows the best numbers of rounds.

    Args:
        parts: of the validation rows, in the order of `evals`.
        squared: whether the loss is a root of a mean.
        seconds: from now on; it ends then at the latest.
    """
    import xgboost

    deadline = time.monotonic() + seconds
    sizes = [matrix.get_weight().sum() or matrix.num_row() for matrix in parts]

    class Rounds(xgboost.callback.TrainingCallback):
        """Attributes: `best` number of rounds on all parts together, and `best_by_part`.

        Each is decided by its own losses alone: with patience, and whatever else boosting goes on for.
        """

        def __init__(self) -> None:
            super().__init__()
            self._bests = np.ones(1 + len(sizes), dtype=int)
            self._lowest = np.full(1 + len(sizes), np.inf)
            self._open = np.ones(1 + len(sizes), dtype=bool)

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            """Whether to end."""
            losses = [next(iter(evals_log[str(number)].values()))[-1] for number in range(len(sizes))]
            now = np.array([np.average(np.square(losses) if squared else losses, weights=sizes), *losses])
            better = self._open & (now < self._lowest)
            self._bests[better] = epoch + 1
            self._lowest[better] = now[better]
            self._open &= epoch + 1 - self._bests < PATIENCE
            return not self._open.any() or time.monotonic() > deadline

        @property
        def best(self) -> int:
            return int(self._bests[0])

        @property
        def best_by_part(self) -> list[int]:
            return [int(best) for best in self._bests[1:]]

    return Rounds()


def _predicted(booster: Any, matrix: Any) -> Predictions:
    """Predictions (n, outputs)."""
    raw = np.asarray(booster.predict(matrix), dtype=np.float64)
    return raw[:, None] if raw.ndim == 1 else raw


def _dense(features: Any) -> npt.NDArray[Any]:
    """Features as they are: XGBoost takes what a sparse matrix leaves out as missing, not as zero."""
    return np.asarray(features.toarray() if hasattr(features, "toarray") else features)
