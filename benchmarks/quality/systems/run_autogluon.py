"""AutoGluon's `best_quality`; its size is that of a copy for deployment."""

from autogluon.tabular import TabularPredictor, __version__

from benchmarks.quality.systems.contest import Contest, size_of

METRICS = {
    "rmse": "root_mean_squared_error",
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "logloss": "log_loss",
}


def main() -> None:
    """Take part."""
    contest = Contest.begin()
    learner = TabularPredictor(
        contest.target,
        problem_type=contest.kind,
        eval_metric=METRICS[contest.metric],
        path=str(contest.folder / "whole"),
        verbosity=2,
    )
    with contest.timed("fit_seconds"):
        learner.fit(
            contest.train, presets="best_quality", time_limit=contest.seconds, num_cpus=contest.cores, num_gpus=0
        )
        learner.clone_for_deployment(str(contest.folder / "model"))
    served = TabularPredictor.load(str(contest.folder / "model"))
    contest.facts |= {"version": __version__, "models": learner.model_names(), "best": learner.model_best}
    if contest.kind == "regression":
        contest.end(served.predict, (), size_of(contest.folder / "model"))
    else:
        contest.end(served.predict_proba, served.class_labels, size_of(contest.folder / "model"))


if __name__ == "__main__":
    main()
