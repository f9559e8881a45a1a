"""FLAML with its ensemble; it has no format of its own, so its size is that of its pickle."""

import pickle

import flaml

from benchmarks.quality.systems.contest import Contest

METRICS = {"rmse": "rmse", "roc_auc": "roc_auc", "average_precision": "ap", "logloss": "log_loss"}
TASKS = {"binary": "classification", "multiclass": "classification", "regression": "regression"}


def main() -> None:
    """Take part."""
    contest = Contest.begin()
    model = flaml.AutoML()
    with contest.timed("fit_seconds"):
        model.fit(
            contest.x,
            contest.train[contest.target],
            task=TASKS[contest.kind],
            metric=METRICS[contest.metric],
            time_budget=contest.seconds,
            ensemble=True,
            n_jobs=contest.cores,
            seed=contest.seed,
            verbose=3,
        )
        size = len(pickle.dumps(model))
    contest.facts |= {"version": flaml.__version__, "best": model.best_estimator, "model": str(model.model)[:500]}
    regression = contest.kind == "regression"
    contest.end(model.predict if regression else model.predict_proba, () if regression else model.classes_, size)


if __name__ == "__main__":
    main()
