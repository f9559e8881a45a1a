"""Rows ready to be split, encoded and shared with the processes that train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import MANY_CLASSES, ORDINAL, SEVERAL
from tunekit.data.lazy import rows_at_once
from tunekit.data.schema import Schema
from tunekit.data.targets import Target, places

BALANCED = "balanced"
"""Class weights by which all classes together weigh the same."""

ClassWeights = tuple[float, ...] | str | None
"""What rows of each class of a target weigh, in the order of the classes, or `BALANCED`; None for all the same."""


@dataclass(frozen=True)
class LeftOut:
    """A column that loading left out on its own.

    Args:
        name: of the column.
        kind: "category" if its texts are different in nearly every row, "number" if it numbers the rows, "" if it is
            empty.
        unique: whether no two rows share a value.
        examples: some of its texts, from all over the rows.
    """

    name: str
    kind: str
    unique: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Typed columns, a target and what a split needs to know. Nothing in it is learnt from rows.

    Args:
        schema: the columns that models read; categories have no levels yet.
        columns: typed arrays (n,) by column name, as `tunekit.bundle.columns.typed_column` makes them; array columns
            (n, *shape) may be `LazyRows`.
        target: float64 (n,): the value, or the position of the class in `classes`; of several targets (n, targets).
        classes: the classes in order, empty for regression and for several targets. Of two, the second is the positive
            one.
        ids: (n,) stable row ids.
        time: float64 (n,) seconds, or None.
        group: int64 (n,) group numbers, or None.
        weight: float64 (n,) row weights, or None.
        notices: what loading decided on its own, in words.
        left_out: the columns that it left out.
        targets: what the columns of `target` are, if there are several.
        ordered: whether the classes have an order.
        class_weight: what rows of each class weigh in training, or "balanced"; None for all the same. Of several
            targets, one of these for each.
        horizon: of forecasts: seconds from when one is made to its target. Such rows overlap in time. None otherwise.
        naive: of forecasts: where the only array holds what a simple one would predict: its position among the values
            of a cell, by the simple forecast's name.
        anchor: the position of the one whose difference from the target is learnt; None to learn the target itself.
        given_as: the kind of data it was loaded from, such as "Table": what is missing is said in its terms.
    """

    schema: Schema
    columns: dict[str, Any]
    target: npt.NDArray[np.float64]
    classes: tuple[Any, ...]
    ids: npt.NDArray[Any]
    time: npt.NDArray[np.float64] | None = None
    group: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    notices: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    targets: tuple[Target, ...] = ()
    ordered: bool = False
    class_weight: ClassWeights | tuple[ClassWeights, ...] = None
    horizon: float | None = None
    naive: Mapping[str, int] = field(default_factory=dict)
    anchor: int | None = None
    given_as: str = "Table"

    def __len__(self) -> int:
        return len(self.target)

    @property
    def task(self) -> str:
        """One of `tunekit.bundle.tasks.TASKS`."""
        if self.targets:
            return SEVERAL
        if not self.classes:
            return "regression"
        if len(self.classes) == 2:
            return "binary"
        return ORDINAL if self.ordered else "multiclass"

    @property
    def outputs(self) -> int:
        """Columns of a prediction: the value; the probability of the second class; one per class; or all targets'."""
        if self.targets:
            return sum(target.outputs for target in self.targets)
        return len(self.classes) if self.task in MANY_CLASSES else 1

    @property
    def shares(self) -> list[float]:
        """Share of the rows per class; empty for regression."""
        counts = np.bincount(self.target.astype(int), minlength=len(self.classes)) if self.classes else np.array([])
        return [float(count) / len(self) for count in counts]

    def teaching(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of these rows that weigh anything: no model, scale or level is learnt from others."""
        return rows if self.weight is None else rows[self.weight[rows] > 0]

    def constant(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What predicts the targets of these rows best without any column: (outputs,)."""
        weight = None if self.weight is None else self.weight[rows]
        if not self.targets:
            return Target("", self.task, self.classes).constant(self.target[rows], weight)
        columns = [target.constant(self.target[rows, place], weight) for place, target, _ in places(self.targets)]
        return np.concatenate(columns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of columns, target and ids: two data sets with the same digest give the same trials."""
        digest = hashlib.sha256(repr((self.schema, self.classes, *self.targets, *self._more)).encode())
        arrays = [self.target, self.ids, *self.columns.values()]
        for array in [*arrays, *(extra for extra in (self.time, self.group, self.weight) if extra is not None)]:
            if array.dtype == object:
                digest.update("\x1f".join(map(str, array)).encode())
                continue
            step = rows_at_once(array)
            for start in range(0, len(array), step):
                digest.update(np.ascontiguousarray(array[start : start + step]).data)
        return digest.hexdigest()

    @property
    def _more(self) -> tuple[Any, ...]:
        """What few data sets have; those that don't keep their digest."""
        forecasts: tuple[Any, ...] = ()
        if self.horizon is not None:
            parts = [(column.by, column.parts) for column in self.schema.columns]
            forecasts = (self.horizon, self.anchor, parts)
        return tuple(one for one in (self.ordered, self.class_weight, forecasts) if one)

    def weights_of_classes(self, rows: npt.NDArray[np.int64]) -> list[Any] | None:
        """What rows of each class weigh in training, as JSON can hold it; balanced ones are those of the given rows.

        Of several targets, a list of these, of which those that have no classes or weights are None.
        """
        given = self.class_weight
        if given is None or not self.targets:
            return _weights(given, self.classes, self.target[rows])  # type: ignore[arg-type]
        return [
            _weights(own, target.classes, self.target[rows, column])  # type: ignore[arg-type]
            for own, (column, target, _) in zip(given, places(self.targets), strict=True)
        ]

    def raw_rows(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The typed columns of the given row positions."""
        return {name: column[rows] for name, column in self.columns.items()}


def _weights(given: ClassWeights, classes: tuple[Any, ...], target: npt.NDArray[np.float64]) -> list[float] | None:
    if given != BALANCED:
        return None if given is None else [float(one) for one in given]
    counts = np.bincount(target.astype(int), minlength=len(classes))
    return [float(len(target) / (len(counts) * max(count, 1))) for count in counts]
