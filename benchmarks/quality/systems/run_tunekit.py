"""tunekit, as scikit-learn's users call it: what suits a table, and the exported bundle predicts."""

import tunekit as tk
from benchmarks.quality.systems.contest import Contest, size_of


def main() -> None:
    """Take part."""
    contest = Contest.begin()
    estimator = tk.TunekitRegressor if contest.kind == "regression" else tk.TunekitClassifier
    model = estimator(
        budget=contest.seconds, metric=contest.metric, workers=contest.cores, random_state=contest.seed, verbose=True
    )
    with contest.timed("fit_seconds"):
        model.fit(contest.x, contest.train[contest.target])
        model.export(contest.folder / "model")
    trials = [trial for trial in model.summary_["trials"] if trial["state"] == "complete"]
    members = model.summary_["ensemble"]["members"]
    contest.facts |= {
        "version": tk.__version__,
        "trials": len(trials),
        "blend": {f"{one['trial']} {one['family']}": round(one["weight"], 3) for one in members},
    }
    bundle = tk.Bundle.load(contest.folder / "model")
    contest.facts["refit"] = bundle.manifest["facts"]["ensemble"].get("refit", {}).get("told")
    predict = bundle.predict if contest.kind == "regression" else bundle.predict_proba
    contest.end(predict, getattr(model, "classes_", ()), size_of(contest.folder / "model"))


if __name__ == "__main__":
    main()
