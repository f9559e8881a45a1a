"""The rows that a blend is chosen and judged on, with what must not be torn apart when they are divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.metrics import Metric

Predictions = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Rows with targets, in the parts by which trials are scored: one per fold.

    Args:
        target: (n,), or (n, targets).
        parts: row positions per fold; a score is the mean over them.
        weight: (n,) or None.
        time: (n,) seconds, if rows are judged by models of earlier ones; None otherwise.
        group: (n,) numbers of groups that stay together, or None.
        horizon: seconds that pass until a target is known.
    """

    target: npt.NDArray[np.float64]
    parts: tuple[Rows, ...]
    weight: npt.NDArray[np.float64] | None = None
    time: npt.NDArray[np.float64] | None = None
    group: npt.NDArray[np.int64] | None = None
    horizon: float = 0.0

    def __len__(self) -> int:
        return len(self.target)

    def score(self, metric: Metric, predictions: Predictions) -> float:
        """Mean of the parts' scores."""
        return float(np.mean([self.score_of(metric, predictions[part], part) for part in self.parts]))

    def score_of(self, metric: Metric, predictions: Predictions, rows: Rows) -> float:
        """Score of some rows' predictions."""
        return metric.score(self.target[rows], predictions, None if self.weight is None else self.weight[rows])

    def only(self, rows: Rows) -> Judged:
        """Some of the rows, in their parts, as if there were no others."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        parts = (place[part] for part in self.parts)
        left = tuple(part for each in parts if len(part := each[each >= 0]))

        def taken(values: npt.NDArray[Any] | None) -> Any:
            return None if values is None else values[rows]

        return Judged(self.target[rows], left, taken(self.weight), taken(self.time), taken(self.group), self.horizon)
