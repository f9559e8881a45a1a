"""Gradient-boosted trees by LightGBM, where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import ORDINAL
from tunekit.data.preparation import Preparation
from tunekit.data.schema import Encoded
from tunekit.families.base import ArrayModel, Fold, Part, Predictions, link, link_for, load_facts
from tunekit.families.extra import needs
from tunekit.families.lightgbm_trees import from_lightgbm
from tunekit.families.rounds import Boosting, Rounds, better_shallow, deciding, usual_rate
from tunekit.space import HyperParameters

TEXT = "model.txt"
"""LightGBM's own file of a model, for those who go on training it."""

_BINNED = {"verbose": -1, "feature_pre_filter": False}
"""Settings of rows: they don't depend on those of a trial, and so serve all."""


def lightgbm_predicts(folder: Path, rows: Encoded) -> Predictions:
    """What the `TEXT` file of a fold predicts, as the model that was saved."""
    import lightgbm

    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    facts = load_facts(folder)
    booster = lightgbm.Booster(model_file=str(folder / TEXT))
    features = preparation.apply(rows.read(), facts["layout"])["features"]
    raw = _predicted(booster, features, facts["rounds"], facts["link"])
    return preparation.in_units(raw, rows) if facts.get("standardised") else raw


class LightGBM(Boosting):
    """LightGBM's trees, grown leaf by leaf, with early stopping on the validation rows (Ke 2017).

    Defaults: small trees on half of the columns. Second, of two classes or numbers with fewer than 20,000 training
    rows, smaller ones, else LGBM-TD, meta-tuned over many tables (Holzmueller 2024, arXiv 2407.04491): see
    `benchmarks/portfolios.py`. The search space is TabArena's (Erickson 2025, arXiv 2506.16791), with the learning
    rate and the leaves around the defaults.

    Raises:
        StudyError: LightGBM is not installed.
    """

    name = "lightgbm"

    def __init__(self) -> None:
        needs("lightgbm", type(self).__name__)

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Smaller trees, or LGBM-TD: its figures are the paper's, for numbers and for classes."""
        del temporal
        if better_shallow(task, rows):
            if task == "regression":
                return [{"num_leaves": 6, "min_data_in_leaf": 10, "bagging_fraction": 0.7, "lambda_l2": 3.0}]
            more = {"bagging_fraction": 0.7, "lambda_l2": 5.0}
            return [{**more, "learning_rate": 0.08, "num_leaves": 4, "min_data_in_leaf": 20}]
        common = {"feature_fraction": 1.0, "lambda_l2": 1e-4, "min_sum_hessian_in_leaf": 1e-7}
        if task == "regression":
            return [
                {**common, "learning_rate": 0.05, "num_leaves": 100, "min_data_in_leaf": 3, "bagging_fraction": 0.7}
            ]
        return [{**common, "learning_rate": 0.04, "num_leaves": 50, "min_data_in_leaf": 40, "bagging_fraction": 0.75}]

    def settings(self, hp: HyperParameters, fold: Fold) -> dict[str, Any]:
        """See `Boosting.settings`."""
        many = {"objective": "multiclass", "metric": "multi_logloss", "num_class": fold.outputs}
        objectives: dict[str, dict[str, Any]] = {
            "binary": {"objective": "binary", "metric": "binary_logloss"},
            "multiclass": many,
            ORDINAL: many,
            "regression": {"objective": "regression", "metric": "rmse"},
        }
        asked = {
            "learning_rate": hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=usual_rate(fold)),
            "num_leaves": hp.Int("num_leaves", 4, 256, sampling="log", default=8),
            "min_data_in_leaf": hp.Int("min_data_in_leaf", 1, 64, sampling="log", default=5),
            "feature_fraction": hp.Float("feature_fraction", 0.3, 1.0, default=0.5),
            "bagging_fraction": hp.Float("bagging_fraction", 0.5, 1.0, default=0.8),
            "lambda_l2": hp.Float("lambda_l2", 1e-4, 30.0, sampling="log", default=1.0),
            "min_sum_hessian_in_leaf": hp.Float("min_sum_hessian_in_leaf", 1e-7, 10.0, sampling="log", default=1e-3),
            "extra_trees": hp.Boolean("extra_trees"),
        }
        if fold.cardinalities:
            asked["cat_smooth"] = hp.Float("cat_smooth", 1e-1, 100.0, sampling="log", default=10.0)
            asked["min_data_per_group"] = hp.Int("min_data_per_group", 2, 100, sampling="log", default=20)
        fixed = {"bagging_freq": 1, "deterministic": True, "force_col_wise": True}
        return {**objectives[fold.task], **asked, **fixed}

    def grow(
        self, settings: dict[str, Any], fold: Fold, layout: str, halves: Sequence[int | None], rounds: Rounds
    ) -> Any:
        """See `Boosting.grow`."""
        import lightgbm

        learnt = self._rows(fold, fold.train, "train None", layout, None)
        parts = [self._rows(fold, deciding(fold, half), f"valid {half}", layout, learnt) for half in halves]

        def watch(env: Any) -> None:
            losses = [one.metric_value for one in env.evaluation_result_list]
            if rounds.end_after(env.iteration + 1, losses) or env.model.current_iteration() <= env.iteration:
                raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

        return lightgbm.train(
            {**settings, **_BINNED, "seed": fold.seed % 2**31, "num_threads": fold.threads},
            learnt,
            num_boost_round=self.steps(fold),
            valid_sets=parts,
            valid_names=[str(number) for number in range(len(parts))],
            callbacks=[watch] if parts else [],
        )

    def judge(self, grown: Any, fold: Fold, layout: str, half: int, rounds: int) -> Predictions:
        """See `Boosting.judge`."""
        features = fold.preparation.apply(deciding(fold, half).rows, layout)["features"]
        return _predicted(grown, features, rounds, link_for(fold.task))

    def keep(self, grown: Any, fold: Fold, layout: str, rounds: int) -> ArrayModel:
        """See `Boosting.keep`."""
        name = link_for(fold.task)

        def function(features: npt.NDArray[Any]) -> Predictions:
            return _predicted(grown, features, rounds, name)

        arrays = from_lightgbm(grown, rounds, fold.outputs, name).to_arrays()
        facts = {"rounds": rounds, "link": name, "standardised": fold.relative}
        files = {TEXT: grown.model_to_string(num_iteration=rounds).encode()}
        return ArrayModel("trees", layout, fold.preparation, arrays, function, facts, files)

    def _rows(self, fold: Fold, part: Part, name: str, layout: str, like: Any) -> Any:
        """Rows as LightGBM takes them, in the bins of others; once binned, they stay so for the trials to come."""
        import lightgbm

        first = fold.train.rows.numbers.shape[1]
        return fold.once(
            f"{name} as lightgbm's {layout}",
            lambda: lightgbm.Dataset(
                fold.preparation.apply(part.rows, layout)["features"],
                label=fold.target(part),
                weight=part.weight,
                reference=like,
                categorical_feature=list(range(first, first + len(fold.cardinalities))),
                params={**_BINNED, "num_threads": fold.threads},
            ),
        )


def _predicted(booster: Any, features: Any, rounds: int, name: str) -> Predictions:
    """Predictions (n, outputs)."""
    raw = np.asarray(booster.predict(features, num_iteration=rounds, raw_score=True, num_threads=1))
    return link(raw[:, None] if raw.ndim == 1 else raw, name)
