"""How an estimator splits the rows that it is given: as a study does, but also where they are few or a class is rare.

Whoever calls `fit` has mostly set rows apart already, to judge the estimator on; so fewer rows than a study's fifth are
withheld from training for the verdict.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tunekit.data import Dataset, KFold, Split, StratifiedKFold, default_split

TEST = 0.05
"""Share of the rows that only the verdict sees, if they are many."""

ENOUGH = 20
"""Rows from which on a share of `TEST` is one at least, and the folds can be the usual ones."""

MOST_FOLDS = 5
"""Where rows are fewer than that."""

LEAST_ROWS = 4
"""Rows below which nothing can be split: a row to judge on, and more than one in each of two folds."""

LEAST_OF_CLASS = 4
"""Rows of a class below which some fold would not learn it."""


def often_enough(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None]:
    """The rows to use: all, those of a class that has too few to be split as often as it takes.

    Args:
        labels: (n,) position of each row's class.

    Returns:
        Positions of the rows, and what each weighs so that all copies of a row weigh 1; None if there are no copies.
    """
    counts = np.bincount(labels)
    times = -(-LEAST_OF_CLASS // np.maximum(counts, 1))[labels]
    positions = np.repeat(np.arange(len(labels)), times)
    return positions, None if len(positions) == len(labels) else 1.0 / times[positions]


def suitable_split(data: Dataset) -> Split:
    """The split for rows, of which each class has enough: the usual one, or fewer folds and a larger share to judge on.

    Args:
        data: the rows.
    """
    rows = len(data)
    if not data.classes:
        if rows >= 2 * ENOUGH:
            return replace(default_split(data), test=TEST)
        test = max(TEST, 1.5 / rows)
        return KFold(_folds(rows * (1 - test)), test=test)
    counts = np.bincount(data.target.astype(np.int64))
    # Metrics of two classes, such as ROC-AUC, need both in every part; of more, a part may lack one, but not each part.
    judged = int(counts.min() if len(counts) == 2 else counts.max())
    if judged >= ENOUGH and rows >= ENOUGH * (len(counts) + 1):
        return replace(default_split(data), test=TEST)
    test = min(max(TEST, (len(counts) + 0.5) / rows, 1.0 / judged), 0.5)
    apart = math.ceil(test * rows)
    return StratifiedKFold(_folds(judged - math.ceil(judged * apart / rows)), test=test)


def _folds(most: float) -> int:
    return max(2, min(MOST_FOLDS, int(most)))
