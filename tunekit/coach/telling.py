"""How much one column alone tells of a target: a small model of it, judged on the study's own folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.coach.sight import Look, Rows, Values
from tunekit.data.targets import Target

LEAF = 5
"""Rows that a leaf holds at least: fewer would tell of single rows."""

PARTS = 6
"""Leaves, at most, of a second tree, which of few rows tells what the noise hides from the first; so does a line."""

PRIORS = (2.0, 10.0)
"""Rows' worth of the mean that each level of a category begins with, in the fine model and in the coarse one."""


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
    """How well a small model of one column predicts a target: the best of two trees and a line, or means of levels.

    Args:
        column: the only feature.
        target: what it is.
        values: of the target, by row.
        pairs: training and validation rows.

    Returns:
        The mean over the folds; None where no fold can be judged.
    """
    scores = [found for train, valid in pairs if (found := _judged(column, target, values, train, valid)) is not None]
    if not scores:
        return None
    name = "R^2 of its rank" if target.task == "regression" else "ROC AUC"
    return Told(float(np.mean(scores, axis=0).max()), name)


def _judged(column: Look, target: Target, values: Values, train: Rows, valid: Rows) -> list[float] | None:
    """The scores of a fine model and of coarser ones in one fold; None where it can't be judged."""
    seen, known = column.all[train], values[train]
    if len(np.unique(known)) < 2 or len(np.unique(values[valid])) < 2 or np.isnan(seen).all():
        return None
    if target.task == "regression":
        ranks, judged = _ranks(known, known), _ranks(values[valid], known)
        made = [one[:, 0] for one in _predicted(column, seen, ranks[:, None], column.all[valid])]
        return [1.0 - float(np.mean((judged - predicted) ** 2) / np.var(judged)) for predicted in made]
    hot = np.eye(len(target.classes))[known.astype(int)]
    labels = values[valid].astype(int)
    return [_area(labels, predicted) for predicted in _predicted(column, seen, hot, column.all[valid])]


def _ranks(values: Values, among: Values) -> Values:
    """Where values stand among others, from 0 to 1; equal ones in the middle of their places."""
    ordered = np.sort(among)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((below + upto) / 2 / len(ordered))


def _predicted(column: Look, seen: Values, known: npt.NDArray[np.float64], new: Values) -> list[Values]:
    """Means of the known targets (n, k) for new values of the column: (m, k), by a fine model and coarser ones."""
    if column.is_category:
        return [_means(seen, known, new, prior) for prior in PRIORS]
    from sklearn.tree import DecisionTreeRegressor

    found = [_line(seen, known, new)]
    for leaf in (LEAF, max(LEAF, len(seen) // PARTS)):
        tree = DecisionTreeRegressor(min_samples_leaf=leaf, random_state=0).fit(seen[:, None], known)
        found.append(np.asarray(tree.predict(new[:, None]), dtype=np.float64).reshape(len(new), -1))
    return found


def _line(seen: Values, known: npt.NDArray[np.float64], new: Values) -> Values:
    """A straight line through the column's ranks; a gap stands in the middle."""
    present = seen[~np.isnan(seen)]
    ranks, others = (np.where(np.isnan(one), 0.5, _ranks(one, present)) - 0.5 for one in (seen, new))
    slope = (ranks - ranks.mean()) @ known / max(float(((ranks - ranks.mean()) ** 2).sum()), 1e-12)
    return np.asarray(known.mean(axis=0) + (others - ranks.mean())[:, None] * slope)


def _means(seen: Values, known: npt.NDArray[np.float64], new: Values, prior: float) -> npt.NDArray[np.float64]:
    size = int(np.nanmax(np.concatenate([seen, new]))) + 2
    seen_codes, new_codes = (np.where(np.isnan(one), size - 1, one).astype(int) for one in (seen, new))
    counts = np.bincount(seen_codes, minlength=size)[:, None]
    sums = np.stack([np.bincount(seen_codes, weights=one, minlength=size) for one in known.T], axis=1)
    means = (sums + prior * known.mean(axis=0)) / (counts + prior)
    return np.asarray(means[new_codes])


def _area(labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    shares = [float(np.mean(labels == one)) for one in present]
    areas = [float(roc_auc_score(labels == one, predicted[:, one])) for one in present]
    return float(np.average(areas, weights=shares))
