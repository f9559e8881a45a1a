"""Gradient-boosted trees by XGBoost, with its own handling of missing values and categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import ORDINAL
from tunekit.data.preparation import BAG, Preparation
from tunekit.data.schema import Encoded
from tunekit.data.terms import Bag
from tunekit.families.base import ArrayModel, Fold, Part, Predictions, link_for, load_facts
from tunekit.families.rounds import Boosting, Rounds, better_shallow, deciding, dense, usual_rate
from tunekit.families.tree_arrays import from_xgboost
from tunekit.space import HyperParameters

MANY_CLASSES = 5
"""From so many on, trees are deeper by default: each tells one class from all others, and there are fewer rounds."""

UBJ = "model.ubj"
"""XGBoost's own file of a model, for those who go on training it."""


def boosted(folder: Path, rows: Encoded) -> Predictions:
    """What the `UBJ` file of a fold predicts, as the model that was saved."""
    import xgboost

    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    facts = load_facts(folder)
    booster = xgboost.Booster(model_file=str(folder / UBJ))
    cells = dense(preparation.apply(rows.read(), facts["layout"])["features"])
    matrix = xgboost.DMatrix(cells, feature_types=booster.feature_types, enable_categorical=True)
    raw = _predicted(booster, matrix)
    return preparation.in_units(raw, rows) if facts.get("standardised") else raw


class XGBoost(Boosting):
    """XGBoost's histogram trees with early stopping on the validation rows.

    Defaults: shallow trees on half of the columns, which do well on small tables at a fraction of the cost (of many
    classes, deeper ones). Second, of two classes or numbers with fewer than 20,000 training rows, shallower trees
    still, else XGB-TD, meta-tuned over many tables (Holzmueller 2024, arXiv 2407.04491): see
    `benchmarks/portfolios.py`. The search space follows Gorishniy 2021 (arXiv 2106.11959), with the learning rate
    around the defaults.
    """

    name = "xgboost"

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Shallower trees, or XGB-TD: its figures are the paper's, for numbers and for classes."""
        del temporal
        if better_shallow(task, rows):
            if task == "regression":
                return [{"max_depth": 3, "min_child_weight": 5.0, "subsample": 0.7, "reg_lambda": 3.0}]
            more = {"subsample": 0.7, "reg_lambda": 5.0}
            return [{**more, "learning_rate": 0.08, "max_depth": 2, "min_child_weight": 10.0}]
        common = {"colsample_bylevel": 0.9, "reg_lambda": 1e-3, "reg_alpha": 1e-4}
        if task == "regression":
            return [{**common, "learning_rate": 0.05, "max_depth": 9, "min_child_weight": 2.0, "subsample": 0.7}]
        return [{**common, "learning_rate": 0.08, "max_depth": 6, "min_child_weight": 1e-5, "subsample": 0.65}]

    def settings(self, hp: HyperParameters, fold: Fold) -> dict[str, Any]:
        """See `Boosting.settings`."""
        objectives: dict[str, dict[str, Any]] = {
            "binary": {"objective": "binary:logistic"},
            "multiclass": {"objective": "multi:softprob", "num_class": fold.outputs},
            "regression": {"objective": "reg:squarederror"},
        }
        objectives[ORDINAL] = objectives["multiclass"]
        return {
            **objectives[fold.task],
            "tree_method": "hist",
            "learning_rate": hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=usual_rate(fold)),
            "max_depth": hp.Int("max_depth", 2, 10, default=6 if fold.outputs >= MANY_CLASSES else 4),
            "min_child_weight": hp.Float("min_child_weight", 1e-5, 100.0, sampling="log", default=1.0),
            "subsample": hp.Float("subsample", 0.5, 1.0, default=0.8),
            "colsample_bylevel": hp.Float("colsample_bylevel", 0.3, 1.0, default=0.5),
            "reg_lambda": hp.Float("reg_lambda", 1e-3, 30.0, sampling="log", default=1.0),
            "reg_alpha": hp.Float("reg_alpha", 1e-4, 10.0, sampling="log", default=1e-4),
        }

    def grow(
        self, settings: dict[str, Any], fold: Fold, layout: str, halves: Sequence[int | None], rounds: Rounds
    ) -> Any:
        """See `Boosting.grow`."""
        import xgboost

        parts = [self._matrix(fold, deciding(fold, half), f"valid {half}", layout) for half in halves]
        return xgboost.train(
            {**settings, "seed": fold.seed, "nthread": fold.threads, "verbosity": 0},
            self._matrix(fold, fold.train, "train None", layout),
            num_boost_round=self.steps(fold),
            evals=[(matrix, str(number)) for number, matrix in enumerate(parts)],
            verbose_eval=False,
            callbacks=[_watching(rounds, len(parts))] if parts else [],
        )

    def judge(self, grown: Any, fold: Fold, layout: str, half: int, rounds: int) -> Predictions:
        """See `Boosting.judge`."""
        return _predicted(grown[:rounds], self._matrix(fold, deciding(fold, half), f"valid {half}", layout))

    def keep(self, grown: Any, fold: Fold, layout: str, rounds: int) -> ArrayModel:
        """See `Boosting.keep`."""
        import xgboost

        kept, types = grown[:rounds], self._types(fold, layout)

        def function(features: npt.NDArray[Any]) -> Predictions:
            cells, threads = dense(features), fold.threads
            return _predicted(
                kept, xgboost.DMatrix(cells, feature_types=types, enable_categorical=True, nthread=threads)
            )

        arrays = from_xgboost(kept, fold.outputs, link_for(fold.task)).to_arrays()
        facts = {"rounds": rounds, "standardised": fold.relative}
        files = {UBJ: bytes(kept.save_raw("ubj"))}
        return ArrayModel("trees", layout, fold.preparation, arrays, function, facts, files)

    def _types(self, fold: Fold, layout: str) -> list[str]:
        rows = fold.train.rows
        cells = sum(math.prod(array.shape[1:]) for array in rows.arrays)
        _, _, bag = layout.partition(BAG)
        cells += sum(len(terms.chosen(Bag.parse(bag))) for terms in fold.preparation.texts) if bag else 0
        return ["q"] * rows.numbers.shape[1] + ["c"] * len(fold.cardinalities) + ["q"] * cells

    def _matrix(self, fold: Fold, part: Part, name: str, layout: str) -> Any:
        """Rows as XGBoost takes them; once binned, they stay so for the trials to come."""
        import xgboost

        return fold.once(
            f"{name} as xgboost's {layout}",
            lambda: xgboost.DMatrix(
                dense(fold.preparation.apply(part.rows, layout)["features"]),
                label=fold.target(part),
                weight=part.weight,
                feature_types=self._types(fold, layout),
                enable_categorical=True,
                nthread=fold.threads,
            ),
        )


def _watching(rounds: Rounds, parts: int) -> Any:
    """An XGBoost callback that tells the losses of so many parts of the rows."""
    import xgboost

    class Watching(xgboost.callback.TrainingCallback):
        """Asked after each round."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            losses = [next(iter(evals_log[str(number)].values()))[-1] for number in range(parts)]
            return rounds.end_after(epoch + 1, losses)

    return Watching()


def _predicted(booster: Any, matrix: Any) -> Predictions:
    """Predictions (n, outputs)."""
    raw = np.asarray(booster.predict(matrix), dtype=np.float64)
    return raw[:, None] if raw.ndim == 1 else raw
