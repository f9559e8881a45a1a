"""Several targets at once, such as the labels that a row may have: each with its own task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.tasks import MANY_CLASSES


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


def places(targets: Sequence[Target]) -> Iterator[tuple[int, Target, slice]]:
    """Each target with its column in the target matrix, and its columns in a prediction."""
    start = 0
    for position, target in enumerate(targets):
        yield position, target, slice(start, start + target.outputs)
        start += target.outputs


def has_two(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None) -> bool:
    """Whether there are two different values at least among rows that weigh anything."""
    known = values if weight is None else values[weight > 0]
    return len(known) > 0 and bool(known.min() < known.max())


def named_targets(y: Any, name: str) -> dict[str, Any]:
    """The columns of a target by their names.

    Args:
        y: n values; or several columns: a DataFrame, a dict of columns, or a matrix (n, targets).
        name: of a single one; those of a matrix have a number behind it.
    """
    if isinstance(y, (Mapping, pd.DataFrame)):
        return {str(key): y[key] for key in y}
    matrix = np.ndim(y) == 2 and not isinstance(y, pd.Series)
    if matrix and np.shape(y)[1] > 1:
        return {f"{name}{column}": np.asarray(y)[:, column] for column in range(np.shape(y)[1])}
    return {name: np.asarray(y).ravel() if matrix else y}
