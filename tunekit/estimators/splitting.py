"""How an estimator splits the rows that it is given: as a study does, but also where they are few or a class is rare.

Whoever calls `fit` has mostly set rows apart already, to judge the estimator on; so fewer rows than a study's fifth are
withheld from training for the verdict.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tunekit.data import Holdout, KFold, Split, StratifiedKFold
from tunekit.data.split import LARGE

TEST = 0.1
"""Share of the rows that only the verdict sees, if they are many."""

FOLDS = 5

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


def suitable_split(rows: int, labels: npt.NDArray[np.int64] | None) -> Split:
    """The split for so many rows.

    Args:
        rows: n.
        labels: (n,) position of each row's class, each class often enough; None for numbers.
    """
    if rows > LARGE:
        return Holdout(test=TEST)
    if labels is None:
        test = max(TEST, 1.5 / rows)
        return KFold(_folds(rows * (1 - test)), test=test)
    counts = np.bincount(labels)
    test = max(TEST, (len(counts) + 0.5) / rows)
    judged = int(counts.max())  # a fold may lack a class, but not every class
    if len(counts) == 2:
        judged = int(counts.min())  # metrics of two classes, such as ROC-AUC, need both in every part
        test = max(test, 1.0 / judged)
    test = min(test, 0.5)
    apart = math.ceil(test * rows)
    return StratifiedKFold(_folds(judged - math.ceil(judged * apart / rows)), test=test)


def _folds(most: float) -> int:
    return max(2, min(FOLDS, int(most)))
