"""What scikit-learn's callers hand over, as rows of a study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight

from tunekit.data import Dataset, Table


class TypedRows:
    """Rows that are typed already, as a study's data.

    Args:
        dataset: the rows.
        target: the name of what is predicted.
    """

    suits = "table"

    def __init__(self, dataset: Dataset, target: str) -> None:
        self.dataset = dataset
        self.target = target

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        target: npt.NDArray[Any],
        weight: npt.NDArray[np.float64] | None,
        *,
        classes: list[Any] | None,
        numeric: bool,
    ) -> TypedRows:
        """Type the columns of a frame.

        Args:
            frame: (n, columns).
            target: (n,) numbers, or classes.
            weight: (n,) or None.
            classes: in order; None for numbers.
            numeric: whether each column holds numbers, whatever they look like.
        """
        name, weighing = _free(frame, "target"), _free(frame, "weight")
        kinds = dict.fromkeys(frame.columns, "number") if numeric else {}
        kinds[name] = "number" if classes is None else "category"
        added = {name: target} if weight is None else {name: target, weighing: weight}
        weighed_by = None if weight is None else weighing
        table = Table(frame.assign(**added), target=name, weight=weighed_by, kinds=kinds, classes=classes)
        return cls(table.load(), name)

    def load(self) -> Dataset:
        """The rows."""
        return self.dataset


def numbered(names: Iterable[Any]) -> list[str]:
    """Names of columns that have none, or that are numbers."""
    return [f"x{name}" for name in names]


def given(y: Any) -> Any:
    """What is to be predicted, if it is there."""
    if y is None:
        raise ValueError("the estimator requires y to be passed, but the target y is None; expected fit(X, y)")
    return y


def weighing(frame: pd.DataFrame, y: npt.NDArray[Any], sample_weight: Any) -> tuple[Any, ...]:
    """The rows that weigh anything, their y and their weights: a row without weight is no row."""
    check_consistent_length(frame, y)
    if sample_weight is None:
        return frame, y, None
    weight = _check_sample_weight(sample_weight, frame, ensure_non_negative=True)
    kept = weight > 0
    return frame[kept].reset_index(drop=True), y[kept], weight[kept]


def _free(frame: pd.DataFrame, name: str) -> str:
    """A name that no column has."""
    while name in frame.columns:
        name += "_"
    return name
