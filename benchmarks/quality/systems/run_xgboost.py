"""Plain tuned XGBoost: Optuna's TPE around it with early stopping, then a fit on all rows with the best values.

The space is that of Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data" (NeurIPS 2021), with rates
that a stated number of rounds can use. Few rows are judged in five folds, many in one part.
"""

import json
import time
from typing import Any

import numpy as np
import optuna
import pandas as pd
import xgboost
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.quality.systems.contest import Contest

MANY = 10_000
"""Rows from which on one part judges instead of five."""

MOST_ROUNDS = 3000
PATIENCE = 50

GOALS = {
    "rmse": ("reg:squarederror", "rmse"),
    "roc_auc": ("binary:logistic", "auc"),
    "average_precision": ("binary:logistic", "ap"),
    "logloss": ("multi:softprob", "mlogloss"),
}

DEFAULTS = {"learning_rate": 0.1, "max_depth": 6, "min_child_weight": 1.0, "subsample": 0.8, "colsample_bytree": 0.8}


def average_precision(predicted: Any, rows: Any) -> tuple[str, float]:
    """XGBoost's own "aucpr" interpolates between points; this is what the benchmark judges by."""
    return "ap", float(average_precision_score(rows.get_label(), predicted))


class Deadline(xgboost.callback.TrainingCallback):
    """Ends a training at a moment."""

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Whether to end."""
        return time.monotonic() > self.moment


class Tuned:
    """A search in time.

    Args:
        contest: what it is for.
        end: when the last fit must have ended.
        columns: makes XGBoost's rows of a frame.
        target: of the rows to learn from.
    """

    def __init__(self, contest: Contest, end: float, columns: Any, target: Any) -> None:
        self._contest = contest
        self._end = end
        self._columns = columns
        self._target = target
        self._classes = int(target.max()) + 1
        kind = StratifiedKFold if contest.kind != "regression" else KFold
        parts = list(kind(5, shuffle=True, random_state=contest.seed).split(contest.x, target))
        self._parts = parts[:1] if len(target) >= MANY else parts
        self._longest = 0.05 * contest.seconds
        self.rounds: dict[int, int] = {}

    @property
    def deadline(self) -> float:
        """When the search must end, for the fit on all rows takes somewhat longer than the longest on a part."""
        return self._end - 1.5 * self._longest

    def __call__(self, trial: Any) -> float:
        """The score of a trial's values."""
        values = {
            "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 10),
            "min_child_weight": trial.suggest_float("min_child_weight", 1e-3, 1e2, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.5, 1.0),
            "gamma": trial.suggest_float("gamma", 1e-8, 1e2, log=True),
            "lambda": trial.suggest_float("lambda", 1e-8, 1e2, log=True),
            "alpha": trial.suggest_float("alpha", 1e-8, 1e2, log=True),
        }
        scores, rounds = [], []
        for train, valid in self._parts:
            begun = time.monotonic()
            booster = self.fit(values, train, valid)
            self._longest = max(self._longest, time.monotonic() - begun)
            over = time.monotonic() > self.deadline
            if over and trial.number:  # cut short, it tells too little, unless there is no other
                raise optuna.TrialPruned
            scores.append(booster.best_score)
            rounds.append(booster.best_iteration + 1)
            if over:
                break
        self.rounds[trial.number] = int(np.mean(rounds))
        return float(np.mean(scores))

    def fit(self, values: dict[str, Any], train: Any, valid: Any = None, rounds: int = MOST_ROUNDS) -> Any:
        """Boost on some rows; with others to judge on, until these gain nothing."""
        objective, metric = GOALS[self._contest.metric]
        settings = {"objective": objective, "tree_method": "hist", "nthread": self._contest.cores, **values}
        settings |= {"seed": self._contest.seed}
        settings |= {"num_class": self._classes} if self._contest.kind == "multiclass" else {}
        own = average_precision if metric == "ap" else None
        settings |= {"disable_default_eval_metric": 1} if own else {"eval_metric": metric}
        if valid is None:
            return xgboost.train(settings, self._rows(train), rounds)
        stop = xgboost.callback.EarlyStopping(PATIENCE, maximize=metric in ("auc", "ap"), save_best=True)
        return xgboost.train(
            settings,
            self._rows(train),
            rounds,
            evals=[(self._rows(valid), "valid")],
            custom_metric=own,
            callbacks=[stop, Deadline(self.deadline)],  # the first that ends a round is the last to see it
            verbose_eval=False,
        )

    def _rows(self, places: Any) -> Any:
        return xgboost.DMatrix(
            self._columns(self._contest.x.iloc[places]), self._target[places], enable_categorical=True
        )


def main() -> None:
    """Take part."""
    begun = time.monotonic()
    contest = Contest.begin()
    levels = {
        str(name): sorted(column.dropna().astype(str).unique())
        for name, column in contest.x.items()
        if not pd.api.types.is_numeric_dtype(column)
    }

    def columns(frame: pd.DataFrame) -> pd.DataFrame:
        known = {str(name): pd.Categorical(frame[name], categories=texts) for name, texts in levels.items()}
        return frame.assign(**known)

    target, classes = np.asarray(contest.train[contest.target]), np.array([])
    if contest.kind != "regression":
        classes, target = np.unique(target.astype(str), return_inverse=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    higher = contest.metric in ("roc_auc", "average_precision")
    with contest.timed("fit_seconds"):
        tuned = Tuned(contest, begun + contest.seconds, columns, target)
        sampler = optuna.samplers.TPESampler(seed=contest.seed)
        study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
        study.enqueue_trial(DEFAULTS | {"gamma": 1e-8, "lambda": 1.0, "alpha": 1e-8})
        while time.monotonic() < tuned.deadline:
            study.optimize(tuned, n_trials=1)
        best = study.best_trial
        booster = tuned.fit(best.params, np.arange(len(target)), rounds=tuned.rounds[best.number])
        booster.set_param({"nthread": 1})  # best for single rows
        booster.save_model(contest.folder / "model.ubj")
    (contest.folder / "levels.json").write_text(json.dumps(levels))
    size = sum((contest.folder / name).stat().st_size for name in ("model.ubj", "levels.json"))
    contest.facts |= {"version": xgboost.__version__, "trials": len(study.trials), "values": best.params}

    def predict(frame: pd.DataFrame) -> Any:
        predicted = booster.predict(xgboost.DMatrix(columns(frame), enable_categorical=True))
        return np.stack([1 - predicted, predicted], axis=1) if contest.kind == "binary" else predicted

    contest.end(predict, classes, size)


if __name__ == "__main__":
    main()
