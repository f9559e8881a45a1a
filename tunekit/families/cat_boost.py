"""Gradient-boosted symmetric trees by CatBoost, where it is installed."""

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
from tunekit.families.catboost_trees import from_catboost
from tunekit.families.extra import needs
from tunekit.families.rounds import Boosting, Rounds, better_shallow, deciding, dense
from tunekit.space import HyperParameters

CBM = "model.cbm"
"""CatBoost's own file of a model, for those who go on training it."""

MOST_HOT = 255
"""Codes of a category, up to which each is asked for alone; of more, and that is CatBoost's limit, they are numbers.

Instead of CatBoost's target statistics, which the exported graph would have to hold: with them Ames took eight times as
long (37 s instead of 4.5 s a fold) for no better error (log rmse 0.1255 instead of 0.1250), and attrition six times
(logloss 0.3548 instead of 0.3555). The numbers are codes in their texts' order; by frequency they do as well (flights
by 3,127 aeroplanes: rmse 17.93 and 17.90).
"""

_NAMES = np.array([b"none", *(b"%d" % code for code in range(MOST_HOT))], dtype=object)
"""What a gap and the codes are called."""


def catboost_predicts(folder: Path, rows: Encoded) -> Predictions:
    """What the `CBM` file of a fold predicts, as the model that was saved."""
    import catboost

    with np.load(folder / "preparation.npz") as arrays:
        preparation = Preparation.from_arrays(arrays)
    facts = load_facts(folder)
    model = catboost.CatBoost().load_model(str(folder / CBM))
    features = preparation.apply(rows.read(), facts["layout"])["features"]
    raw = _predicted(model, _pool(features, facts["hot"]), facts["rounds"], facts["link"])
    return preparation.in_units(raw, rows) if facts.get("standardised") else raw


class CatBoost(Boosting):
    """CatBoost's symmetric trees with early stopping on the validation rows (Prokhorenkova 2018).

    A category is split by one code against all others, or, of very many codes, by their order.

    Defaults: shallow trees. Second, of two classes or numbers with fewer than 20,000 training rows, shallower ones,
    else CatBoost-TD, meta-tuned over many tables (Holzmueller 2024, arXiv 2407.04491): see
    `benchmarks/portfolios.py`. The search space is TabArena's (Erickson 2025, arXiv 2506.16791), widened to hold these.

    Raises:
        StudyError: CatBoost is not installed.
    """

    name = "catboost"
    most_rounds = 1000  # as CatBoost has it, and the paper: each costs some times what one of the others' does

    def __init__(self) -> None:
        needs("catboost", type(self).__name__)

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Shallower trees, or CatBoost-TD: its figures are the paper's, for numbers and for classes."""
        del temporal
        if better_shallow(task, rows):
            return [{"depth": 3, "l2_leaf_reg": 10.0, "subsample": 0.7}]
        common = {"l2_leaf_reg": 1e-5, "subsample": 0.9, "rsm": 1.0}
        if task == "regression":
            more = {"learning_rate": 0.09, "depth": 9, "random_strength": 0.0, "leaf_estimation_iterations": 20}
        else:
            more = {"learning_rate": 0.08, "depth": 7, "random_strength": 0.8, "leaf_estimation_iterations": 1}
        return [{**common, **more}]

    def settings(self, hp: HyperParameters, fold: Fold) -> dict[str, Any]:
        """See `Boosting.settings`."""
        many = {"loss_function": "MultiClass", "classes_count": fold.outputs}
        objectives: dict[str, dict[str, Any]] = {
            "binary": {"loss_function": "Logloss"},
            "multiclass": many,
            ORDINAL: many,
            "regression": {"loss_function": "RMSE"},
        }
        return {
            **objectives[fold.task],
            "learning_rate": hp.Float("learning_rate", 0.01, 0.3, sampling="log", default=0.1),
            "depth": hp.Int("depth", 3, 9, default=5),
            "l2_leaf_reg": hp.Float("l2_leaf_reg", 1e-5, 10.0, sampling="log", default=3.0),
            "subsample": hp.Float("subsample", 0.5, 1.0, default=0.8),
            "rsm": hp.Float("rsm", 0.3, 1.0, default=0.5),
            "random_strength": hp.Float("random_strength", 0.0, 2.0, default=1.0),
            "leaf_estimation_iterations": hp.Int("leaf_estimation_iterations", 1, 20, sampling="log", default=1),
            "bootstrap_type": "Bernoulli",
            "boosting_type": "Plain",
            "one_hot_max_size": MOST_HOT,
            "allow_const_label": True,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }

    def grow(
        self, settings: dict[str, Any], fold: Fold, layout: str, halves: Sequence[int | None], rounds: Rounds
    ) -> Any:
        """See `Boosting.grow`."""
        import catboost

        own = {"iterations": self.steps(fold), "random_seed": fold.seed, "thread_count": fold.threads}
        model = catboost.CatBoost({**settings, **own})
        parts = [self._rows(fold, deciding(fold, half), f"valid {half}", layout) for half in halves]
        return model.fit(
            self._rows(fold, fold.train, "train None", layout),
            eval_set=parts or None,
            use_best_model=False,
            callbacks=[_Watching(rounds, len(parts))] if parts else None,
        )

    def judge(self, grown: Any, fold: Fold, layout: str, half: int, rounds: int) -> Predictions:
        """See `Boosting.judge`."""
        pool = self._rows(fold, deciding(fold, half), f"valid {half}", layout)
        return _predicted(grown, pool, rounds, link_for(fold.task))

    def keep(self, grown: Any, fold: Fold, layout: str, rounds: int) -> ArrayModel:
        """See `Boosting.keep`."""
        name, hot = link_for(fold.task), _hot(fold)
        kept = grown.copy()
        kept.shrink(min(rounds, kept.tree_count_))

        def function(features: npt.NDArray[Any]) -> Predictions:
            return _predicted(kept, _pool(features, hot), rounds, name)

        learnt = self._rows(fold, fold.train, "train None", layout)
        numeric = [column for column in range(learnt.num_col()) if column not in hot]
        arrays = from_catboost(kept, learnt, numeric, hot, fold.outputs, name).to_arrays()
        facts = {"rounds": rounds, "link": name, "hot": hot, "standardised": fold.relative}
        files = {CBM: kept._serialize_model()}
        return ArrayModel("trees", layout, fold.preparation, arrays, function, facts, files)

    def _rows(self, fold: Fold, part: Part, name: str, layout: str) -> Any:
        """Rows as CatBoost takes them, for the trials to come as well."""
        return fold.once(
            f"{name} as catboost's {layout}",
            lambda: _pool(
                fold.preparation.apply(part.rows, layout)["features"],
                _hot(fold),
                label=fold.target(part) if fold.task == "regression" else part.target.astype(int),
                weight=part.weight,
                thread_count=fold.threads,
            ),
        )


class _Watching:
    """A CatBoost callback that tells the losses of so many parts of the rows."""

    def __init__(self, rounds: Rounds, parts: int) -> None:
        self._rounds = rounds
        self._names = ["validation"] if parts == 1 else [f"validation_{number}" for number in range(parts)]

    def after_iteration(self, info: Any) -> bool:
        """Whether to go on."""
        losses = [next(iter(info.metrics[name].values()))[-1] for name in self._names]
        return not self._rounds.end_after(info.iteration, losses)


def _hot(fold: Fold) -> list[int]:
    """Positions among the features of the categories whose codes are asked for one by one."""
    first = fold.train.rows.numbers.shape[1]
    return [first + column for column, codes in enumerate(fold.cardinalities) if codes <= MOST_HOT]


def _pool(features: Any, hot: Sequence[int], **more: Any) -> Any:
    """Features as CatBoost takes them: numbers, then categories as texts."""
    import catboost

    cells = dense(features)
    names = None
    if hot:
        codes = cells[:, list(hot)]
        names = _NAMES[np.where(np.isnan(codes), -1, codes).astype(np.int64) + 1]
        cells = np.delete(cells, list(hot), axis=1)
    numbers = np.ascontiguousarray(cells) if cells.shape[1] else None
    return catboost.Pool(catboost.FeaturesData(num_feature_data=numbers, cat_feature_data=names), **more)


def _predicted(model: Any, pool: Any, rounds: int, name: str) -> Predictions:
    """Predictions (n, outputs)."""
    raw = np.asarray(model.predict(pool, ntree_end=min(rounds, model.tree_count_), thread_count=1))
    return link(raw[:, None] if raw.ndim == 1 else raw, name)
