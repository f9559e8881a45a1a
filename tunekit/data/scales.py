"""How arrays and targets are scaled: by all training rows, or each series by its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.data.lazy import LazyRows, rows_at_once
from tunekit.data.schema import MISSING, Encoded

if TYPE_CHECKING:
    from tunekit.data.dataset import Dataset

LONG_TAIL = 1.0
"""Skewness of a target from which on its logarithm is learnt, if that is at most half as skewed."""

RARE = 2
"""A level in fewer training rows than this shares the code of unseen levels, so that this code is trained too."""


@dataclass(frozen=True)
class Scaling:
    """By what arrays and the target are scaled, where not by all rows alike.

    Args:
        by: per array column, the position of the category column by whose levels it and the target are scaled; -1 or
            left out to scale all rows alike.
        anchor: position of the value among those of the first array column's cells from which the target's difference
            is learnt; -1 for none.
        weight: (n,) by which training rows count for the scale of the target; None for all the same.
    """

    by: tuple[int, ...] = ()
    anchor: int = -1
    weight: npt.NDArray[np.float64] | None = None


ALIKE = Scaling()
"""By all rows alike."""


@dataclass(frozen=True)
class ArrayScale:
    """How one array column is scaled: (x - center) * factor, channel by channel, the channels being its last axis.

    Args:
        name: of the column.
        shape: of a cell.
        center: (channels,) float32 means over the training rows and all other axes; or (codes, channels), one row for
            each code of a category column, where missing, unseen and rare levels have that of all rows.
        factor: in the same shape, float32 1 / standard deviation; 0 for a constant channel.
        by: position of that category column; -1 for none.
    """

    name: str
    shape: tuple[int, ...]
    center: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]
    by: int = -1

    @classmethod
    def fit_by(cls, name: str, cells: Any, codes: npt.NDArray[np.int32], size: int, by: int) -> ArrayScale:
        """Learn from the cells of training rows, those of each code apart.

        Args:
            name: of the column.
            cells: (n, *shape).
            codes: (n,) of the category column.
            size: how many codes there are.
            by: the category column's position.
        """
        whole = cls.fit(name, cells)
        center, factor = (np.tile(array, (size, 1)) for array in (whole.center, whole.factor))
        for code in _own_scales(codes, size):
            here = np.flatnonzero(codes == code)
            own = cls.fit(name, cells.take(here) if isinstance(cells, LazyRows) else cells[here])
            center[code], factor[code] = own.center, own.factor
        return cls(name, whole.shape, center, factor, by)

    @classmethod
    def fit(cls, name: str, cells: Any) -> ArrayScale:
        """Learn from the cells of training rows, (n, *shape), some at a time: memory holds no second copy of them.

        Codes (int32) stay as they are: which they are is all they say.
        """
        channels = cells.shape[-1]
        if cells.dtype == np.int32:
            return cls(name, cells.shape[1:], np.zeros(channels, np.float32), np.ones(channels, np.float32))
        total, squares, count = np.zeros(channels), np.zeros(channels), cells.size // max(channels, 1)
        step = rows_at_once(cells)
        for start in range(0, len(cells), step):
            total += cells[start : start + step].reshape(-1, channels).sum(axis=0, dtype=np.float64)
        center = total / max(count, 1)
        for start in range(0, len(cells), step):
            squares += ((cells[start : start + step].reshape(-1, channels) - center) ** 2).sum(axis=0)
        spread = np.sqrt(squares / max(count, 1))
        factor = np.divide(1.0, spread, out=np.zeros(channels), where=spread > 0)
        return cls(name, cells.shape[1:], center.astype(np.float32), factor.astype(np.float32))

    def apply(self, cells: Any, codes: npt.NDArray[np.int32] | None = None) -> Any:
        """Scale cells, (n, *shape), lazy ones when they are asked for; `codes`, (n, C), are those of all categories."""
        if isinstance(cells, LazyRows):
            return LazyRows(
                lambda places: self.apply(cells[places], None if codes is None else codes[places]),
                cells.shape,
                np.dtype(np.float32),
            )
        center, factor = self.center, self.factor
        if self.by >= 0:
            assert codes is not None
            alike = (len(cells), *(1 for _ in self.shape[:-1]), self.shape[-1])
            center, factor = (table[codes[:, self.by]].reshape(alike) for table in (center, factor))
        return (np.asarray(cells, dtype=np.float32) - center) * factor


def _own_scales(codes: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int64]:
    """The codes of levels with rows enough for a scale of their own."""
    counts = np.bincount(codes, minlength=size)
    return np.array([code for code in range(MISSING + 1, size - 1) if counts[code] >= RARE], dtype=np.int64)


def anchors(rows: Encoded, place: int) -> npt.NDArray[np.float64]:
    """(n,): one value of the first array column's cells."""
    cells: Any = rows.arrays[0]
    parts = cells.chunks() if isinstance(cells, LazyRows) else [cells]
    return np.concatenate([part.reshape(len(part), -1)[:, place] for part in parts]).astype(np.float64)


def suits_logarithm(data: Dataset, rows: npt.NDArray[np.int64]) -> bool | None:
    """Whether models do well to learn the logarithm of the target: positive values with a long tail, such as prices.

    Args:
        data: the data set.
        rows: positions of the rows to look at.

    Returns:
        None where it can't be learnt, or rows have scales or anchors of their own.
    """
    if data.task != "regression" or data.anchor is not None or max(data.schema.scaled_by, default=-1) >= 0:
        return None
    if data.target[rows].min() <= 0:
        return None
    target = data.target[rows if data.weight is None else rows[data.weight[rows] > 0]]
    if not len(target) or target.min() == target.max():
        return None
    tail, left = (float(np.mean(((of - of.mean()) / of.std()) ** 3)) for of in (target, np.log(target)))
    return tail > LONG_TAIL and abs(left) < tail / 2


def mean_and_spread(
    target: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Mean and standard deviation, 1 for one of 0; rows count by their weight, unless none of them has any."""
    if weight is not None and not weight.any():
        weight = None
    mean = float(np.average(target, weights=weight))
    spread = math.sqrt(float(np.average((target - mean) ** 2, weights=weight)))
    return mean, spread if spread > 0 else 1.0


def target_scales(
    target: npt.NDArray[np.float64] | None,
    codes: npt.NDArray[np.int32],
    cardinalities: tuple[int, ...],
    by: int,
    weight: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """(codes, 2): mean and deviation of the target for each code of a category column; (0, 2) for none.

    Codes whose rows weigh nothing have those of all.
    """
    if target is None or by < 0:
        return np.empty((0, 2))
    size = cardinalities[by]
    table = np.tile(mean_and_spread(target, weight), (size, 1))
    for code in _own_scales(codes[:, by] if weight is None else codes[weight > 0, by], size):
        here = codes[:, by] == code
        table[code] = mean_and_spread(target[here], None if weight is None else weight[here])
    return table
