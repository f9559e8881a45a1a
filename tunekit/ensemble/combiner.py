"""The interface of all ways to combine candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunekit.ensemble.combination import Combination
from tunekit.ensemble.judged import Judged, Predictions
from tunekit.ensemble.quick import scores_of
from tunekit.metrics import Metric

MOST_STACKED = 12
"""Candidates that a stacking model reads: each one makes the bundle slower and larger."""

BEST = 3
"""Of the best candidates by themselves, so many are read by a stacking model, also if the selection leaves them out."""


@dataclass(frozen=True)
class Fitting:
    """What a combination is fitted on.

    Args:
        stack: out-of-fold predictions (candidates, n, outputs).
        rows: the n rows' targets.
        metric: of the study.
        task: of the data.
        selection: (candidates,) what greedy selection found on the same rows: others start from it.
        deadline: of `time.monotonic()`.
        seed: of whatever is drawn.
    """

    stack: Predictions
    rows: Judged
    metric: Metric
    task: str
    selection: npt.NDArray[np.float64]
    deadline: float
    seed: int

    @property
    def outputs(self) -> int:
        """Columns of a prediction."""
        return int(self.stack.shape[2])

    @property
    def pool(self) -> npt.NDArray[np.int64]:
        """Positions of the candidates that a stacking model reads: those that were selected, and the best."""
        scores = scores_of(self.metric, self.rows, self.stack)
        best = np.argsort(self.metric.sign * scores, kind="stable")[:BEST]
        heaviest = np.argsort(-self.selection, kind="stable")[: min(MOST_STACKED - BEST, (self.selection > 0).sum())]
        return np.unique(np.concatenate([heaviest, best]))


class Combiner(ABC):
    """A way to combine candidates. Without state: what it learns is the combination that it returns.

    Attributes:
        name: as people read it.
        least_rows: with fewer, it isn't tried.
        stacks: whether a model is fitted on the predictions, so that leaks in these would be learnt.
        noise: standard errors by which it must be better than a way that stands before it. One that is no better has
            a difference of 1.5 by luck one time in fifteen.
    """

    name: str
    least_rows: int = 0
    stacks: bool = False
    noise: float = 1.5

    def suits(self, task: str) -> bool:
        """Whether it can combine predictions of a task."""
        del task
        return True

    @abstractmethod
    def fit(self, fitting: Fitting) -> Combination:
        """Fit on out-of-fold predictions.

        Returns:
            How all candidates of the fitting are combined; most may have no part in it.
        """
