"""What the coach looks at before a search: some of the rows, column by column, without the test rows' targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.data.lazy import LazyRows
from tunekit.data.targets import Target
from tunekit.study.prepared import Prepared

if TYPE_CHECKING:
    from tunekit.study import Study

MOST_LOOKED_AT = 20_000
"""Rows of either part that are looked at; a share of 1% is then known to within 0.2%."""

MOST_FITTED = 5_000
"""Rows of a fold that a small model learns from, and as many that judge it: R^2 is then known to within 0.01."""

MOST_FOLDS = 3
"""Folds that small models are fitted on."""

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """A column, as numbers: those of a category are the positions of its texts, and all texts are known.

    Args:
        name: of the column, or what it was made of.
        kind: "number", "boolean", "date" or "category".
        all: float64, of every row of the data; NaN where missing.
        texts: of a category, by position.
    """

    name: str
    kind: str
    all: Values
    texts: tuple[str, ...] = ()

    @property
    def is_category(self) -> bool:
        """Whether its numbers mean nothing but themselves."""
        return self.kind == "category"


@dataclass(frozen=True)
class Sight:
    """A study's rows as the coach sees them.

    Args:
        study: the declaration.
        prepared: its rows, split.
    """

    study: Study
    prepared: Prepared

    @cached_property
    def rows(self) -> Rows:
        """Rows that are looked at, of those that aren't test rows."""
        return some(self.prepared.folds.development, MOST_LOOKED_AT)

    @cached_property
    def tests(self) -> Rows:
        """Test rows that are looked at; never at their targets."""
        return some(self.prepared.folds.test, MOST_LOOKED_AT)

    @cached_property
    def pairs(self) -> list[tuple[Rows, Rows]]:
        """Training and validation rows of some folds, some of each: the study's own, so that its groups stay whole."""
        folds = self.prepared.folds.pairs[-MOST_FOLDS:]  # of a split in time, the last ones have learnt the most
        return [(some(train, MOST_FITTED), some(valid, MOST_FITTED)) for train, valid in folds]

    @property
    def sampled(self) -> str:
        """What is to be said where not all rows were looked at."""
        count = len(self.prepared.folds.development)
        return "" if len(self.rows) == count else f" (in a sample of {len(self.rows):,} of {count:,} rows)"

    @property
    def time(self) -> str | None:
        """The column with the rows' times, where they are one."""
        own = getattr(self.study.data, "time", None)
        return own if isinstance(own, str) else None

    @cached_property
    def columns(self) -> list[Look]:
        """The columns of a table; of series each channel's last value, as a difference if the target is learnt so."""
        data = self.prepared.data
        looks = []
        for column in data.schema.columns:
            values = data.columns[column.name]
            if column.is_number:
                looks.append(Look(column.name, column.kind, np.asarray(values, dtype=np.float64)))
            elif column.kind == "category":
                codes, texts = pd.factorize(np.asarray(values, dtype=object))
                known = np.where(texts[codes] == "", np.nan, codes.astype(np.float64))
                looks.append(Look(column.name, "category", known, tuple(map(str, texts))))
        return looks + list(self._channels())

    def _channels(self) -> Iterator[Look]:
        data = self.prepared.data
        told: Any = getattr(self.study.data, "told", None)
        if data.horizon is None or told is None:
            return
        window = data.columns[data.schema.arrays[0].name]
        for position, name in enumerate(told["channels"]):
            last = np.asarray(window[:, -1, position], dtype=np.float64) if not isinstance(window, LazyRows) else None
            if last is not None:
                yield Look(f"{name} (its last value)", "number", last - self._anchors)

    @cached_property
    def _anchors(self) -> Any:
        """What the target is told as a difference from; 0 where it is told as it is."""
        data = self.prepared.data
        if data.horizon is None or data.anchor is None:
            return 0.0
        window = np.asarray(data.columns[data.schema.arrays[0].name], dtype=np.float64)
        return window.reshape(len(window), -1)[:, data.anchor]

    def targets(self) -> Iterator[tuple[str, Target, Values]]:
        """Each target: how to call it, what it is, and its values by row; NaN in test rows, which nobody may read."""
        data, test = self.prepared.data, self.prepared.folds.test
        told = data.target - self._anchors if not data.targets else data.target
        known = np.array(told, dtype=np.float64)
        known[test] = np.nan
        if not data.targets:
            yield "the target", Target("", data.task, data.classes), known
        for place, target in enumerate(data.targets):
            yield f"target {target.name!r}", target, known[:, place]


def some(rows: Rows, most: int) -> Rows:
    """At most so many of the rows, the same ones each time, in order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
