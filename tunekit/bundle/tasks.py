"""The tasks, and how a prediction becomes a decision. Only numpy is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ORDINAL = "ordinal"
"""Classes in an order, more than two."""

MANY_CLASSES = ("multiclass", ORDINAL)
"""Tasks whose predictions have a column for each class."""

SEVERAL = "several"
"""Several targets, each with a task of its own."""

TASKS = ("binary", *MANY_CLASSES, "regression", SEVERAL)


EVEN = 0.5
"""The probability from which on the second of two classes is predicted, if nothing else is said."""


def decided(
    raw: npt.NDArray[np.float64], task: str, classes: list[Any], *, threshold: float = EVEN
) -> npt.NDArray[Any]:
    """Values, or classes, of n rows.

    Args:
        raw: (n, outputs): values, the probability of the second of two classes, or of each class.
        task: one of `TASKS` but "several".
        classes: in order.
        threshold: the probability from which on the second of two classes is predicted.
    """
    if task == "regression":
        return np.asarray(raw[:, 0])
    if task == "binary":
        position = (raw[:, 0] >= threshold).astype(np.int64)
    else:
        position = middle_class(raw) if task == ORDINAL else raw.argmax(axis=1)
    return np.asarray(_labels(classes)[position])


def middle_class(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(n,): the median of ordered classes by their probabilities, (n, K)."""
    reached = np.cumsum(shares, axis=1) >= 0.5 * shares.sum(axis=1, keepdims=True)
    return np.asarray(reached.argmax(axis=1))


def shares_of(raw: npt.NDArray[np.float64], task: str) -> npt.NDArray[np.float64]:
    """The probability of each class."""
    return np.concatenate([1.0 - raw, raw], axis=1) if task == "binary" else raw


def _labels(classes: list[Any]) -> npt.NDArray[Any]:
    """The classes as an array; of mixed types as objects, so that none becomes a text."""
    if len({type(label) for label in classes}) == 1:
        return np.array(classes)
    labels = np.empty(len(classes), dtype=object)
    labels[:] = classes
    return labels
