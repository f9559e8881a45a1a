"""Several targets at once, such as the labels that a row may have: each with its own task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.tasks import MANY_CLASSES

SURE = 0.99
"""A probability that is nearly one, of which logarithms and quotients are finite."""


@dataclass(frozen=True)
class Target:
    """One of several targets.

    Args:
        name: of the target.
        task: "binary", "multiclass", "ordinal" or "regression".
        classes: in order, empty for regression; of two, the second is the positive one.
    """

    name: str
    task: str
    classes: tuple[Any, ...] = ()

    @property
    def outputs(self) -> int:
        """Columns of its prediction: the value; the probability of the second class; or one per class."""
        return len(self.classes) if self.task in MANY_CLASSES else 1

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Target:
        """The inverse of `plain`."""
        return cls(plain["name"], plain["task"], tuple(plain["classes"]))

    def constant(
        self, values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """What predicts these values best without any column: their mean, or the shares of the classes: (outputs,).

        Args:
            values: (n,).
            weight: (n,), not all zero; None for all the same.
        """
        if self.task == "regression":
            return np.array([np.average(values, weights=weight)])
        counts = np.bincount(values.astype(int), weights=weight, minlength=len(self.classes))
        shares: npt.NDArray[np.float64] = counts / counts.sum()
        return shares[1:] if self.task == "binary" else shares

    def nearly(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Predictions that are right, those of classes with `SURE` a probability: (n, outputs)."""
        if self.task == "regression":
            return values[:, None]
        if self.task == "binary":
            return np.where(values == 1, SURE, 1 - SURE)[:, None]
        return np.where(np.eye(len(self.classes))[values.astype(int)] == 1, SURE, (1 - SURE) / (len(self.classes) - 1))


def places(targets: Sequence[Target]) -> Iterator[tuple[int, Target, slice]]:
    """Each target with its column in the target matrix, and its columns in a prediction."""
    start = 0
    for position, target in enumerate(targets):
        yield position, target, slice(start, start + target.outputs)
        start += target.outputs


def named_targets(y: Any, name: str, kind: str | None = None, classes: Sequence[Any] = ()) -> dict[str, Any]:
    """The columns of a target by their names.

    One rule for all data: a matrix whose rows are one-hot, one 1 and else 0, is one target, the position of the 1.
    Columns that have names of their own, in a DataFrame or a dict, are a target each whatever is in them.

    Args:
        y: n values, or one-hot rows (n, classes); or several targets: a DataFrame, a dict of any of these, or a matrix
            (n, targets).
        name: of a single one; those of a matrix have a number behind it.
        kind: of all; numbers are never one-hot.
        classes: of a single target; if they aren't their numbers, they name the columns of one-hot rows.
    """
    if isinstance(y, pd.DataFrame):
        return {str(key): y[key] for key in y}
    if isinstance(y, Mapping):
        return {own: of for key in y for own, of in named_targets(y[key], str(key), kind).items()}
    if isinstance(y, pd.Series) or np.ndim(y) != 2:
        return {name: y}
    matrix = np.asarray(y)
    if matrix.shape[1] == 1:
        return {name: matrix[:, 0]}
    if kind != "number" and is_one_hot(matrix):
        places = matrix.argmax(axis=1)
        named = len(classes) == matrix.shape[1] and set(classes) != set(range(matrix.shape[1]))
        return {name: [classes[place] for place in places] if named else places}
    return {f"{name}{column}": matrix[:, column] for column in range(matrix.shape[1])}


def is_one_hot(values: npt.NDArray[Any]) -> bool:
    """Whether each row of a matrix holds one 1, and else 0."""
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "biuf":
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def told_one_hot(y: Any, name: str, kind: str | None = None) -> list[str]:
    """What is said of one-hot targets, which might have been meant as labels."""
    if isinstance(y, Mapping):
        return [told for key in y for told in told_one_hot(y[key], str(key), kind)]
    if isinstance(y, (pd.DataFrame, pd.Series)) or kind == "number" or not is_one_hot(np.asarray(y)):
        return []
    return [
        f"each row of target {name!r} holds one 1 in {np.shape(y)[1]} columns: these are its classes, by their number "
        "(labels, of which a row may have several, are a DataFrame or a dict of columns)"
    ]
