"""How much one column alone tells of a target: a small model of it, judged on the study's own folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.coach.sight import Look, Rows, Values
from tunekit.data.targets import Target

LEAF = 5
"""Rows that a leaf holds at least: fewer would tell of single rows."""

PRIOR = 2.0
"""Rows' worth of the mean that each level of a category begins with."""


@dataclass(frozen=True)
class Told:
    """What a column alone tells.

    Args:
        score: the area under the ROC curve for classes (of several, the mean of one against the others by their
            shares); else the share of the variance of the target's ranks that is explained, which no outlier decides.
        name: of the score, in words.
    """

    score: float
    name: str


def told_by(column: Look, target: Target, values: Values, pairs: list[tuple[Rows, Rows]]) -> Told | None:
    """How well a small tree (of a category: the means of its levels) of one column predicts a target.

    Args:
        column: the only feature.
        target: what it is.
        values: of the target, by row.
        pairs: training and validation rows.

    Returns:
        The mean over the folds; None where no fold can be judged.
    """
    scores = []
    for train, valid in pairs:
        seen, known = column.all[train], values[train]
        if len(np.unique(known)) < 2 or len(np.unique(values[valid])) < 2 or np.isnan(seen).all():
            continue
        if target.task == "regression":
            ranks, judged = _ranks(known, known), _ranks(values[valid], known)
            predicted = _predicted(column, seen, ranks[:, None], column.all[valid])[:, 0]
            scores.append(1.0 - float(np.mean((judged - predicted) ** 2) / np.var(judged)))
            continue
        hot = np.eye(len(target.classes))[known.astype(int)]
        scores.append(_area(values[valid].astype(int), _predicted(column, seen, hot, column.all[valid])))
    if not scores:
        return None
    name = "R^2 of its rank" if target.task == "regression" else "ROC AUC"
    return Told(float(np.mean(scores)), name)


def _ranks(values: Values, among: Values) -> Values:
    """Where values stand among others, from 0 to 1; equal ones in the middle of their places."""
    ordered = np.sort(among)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((below + upto) / 2 / len(ordered))


def _predicted(column: Look, seen: Values, known: npt.NDArray[np.float64], new: Values) -> npt.NDArray[np.float64]:
    """Means of the known targets (n, k) for new values of the column: (m, k)."""
    if column.is_category:
        return _means(seen, known, new)
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(min_samples_leaf=LEAF, random_state=0).fit(seen[:, None], known)
    return np.asarray(tree.predict(new[:, None]), dtype=np.float64).reshape(len(new), -1)


def _means(seen: Values, known: npt.NDArray[np.float64], new: Values) -> npt.NDArray[np.float64]:
    size = int(np.nanmax(np.concatenate([seen, new]))) + 2
    seen_codes, new_codes = (np.where(np.isnan(one), size - 1, one).astype(int) for one in (seen, new))
    counts = np.bincount(seen_codes, minlength=size)[:, None]
    sums = np.stack([np.bincount(seen_codes, weights=one, minlength=size) for one in known.T], axis=1)
    means = (sums + PRIOR * known.mean(axis=0)) / (counts + PRIOR)
    return np.asarray(means[new_codes])


def _area(labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    shares = [float(np.mean(labels == one)) for one in present]
    areas = [float(roc_auc_score(labels == one, predicted[:, one])) for one in present]
    return float(np.average(areas, weights=shares))
