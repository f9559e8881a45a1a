"""`Table`: rows from a file, a frame or a function, checked and typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import KINDS, TEXTS, is_missing, typed_column
from tunekit.bundle.texts import MOST_READ
from tunekit.data.columnwise import Columns, typed_compactly
from tunekit.data.dataset import Dataset, LeftOut
from tunekit.data.kinds import infer_kind, is_text, names_rows, numbers_rows
from tunekit.data.reading import read_frame
from tunekit.data.roles import (
    groups_of,
    in_order,
    listed,
    plain_class,
    row_times,
    row_weights,
    typed_targets,
    weights_by_class,
)
from tunekit.data.schema import Column, Schema
from tunekit.data.spelling import held_as
from tunekit.data.terms import LONGEST, too_long
from tunekit.errors import DataError

Source = str | Path | pd.DataFrame | Callable[[], pd.DataFrame]

EXAMPLES = 200
"""Texts that are remembered of a column that is left out."""


class Table:
    """Rows of a table, with a target.

    Types are inferred: numbers, booleans, dates and categories, each with missing values. `kinds` corrects them.

    Args:
        source: a path to a CSV or Parquet file, a DataFrame, or a function that returns a DataFrame (or a path). A
            Parquet file is read column by column, without those that are dropped.
        target: the column to predict; or several, to be predicted together, each with its own task.
        time: a date or number column: rows are ordered by it, and judged on later ones than they train on.
        group: a column: rows of one group never stand on both sides of a split, unless it is in time. Models don't
            read it.
        weight: a column of non-negative row weights. Models don't read it.
        id: a column of unique row ids. Models don't read it; without it, rows have their position.
        kinds: corrections, column to "number", "boolean", "date", "category", "text" (read word by word), "characters"
            (a text, read letter by letter) or "drop". For the target, "category" asks for classification and
            "number" for regression.
        classes: the classes in order; of two, the second is the positive one. Default: sorted. Not for several targets.
        ordered: whether the classes have an order, such as grades: a wrong one is the worse the farther it is off.
        class_weight: what rows of each class weigh in training, by class; or "balanced", so that all classes weigh the
            same together. Of several targets "balanced" is for all that have classes; a dict by target says it of
            some: {"fraud": "balanced", "kind": {"a": 1, "b": 3}}. Rows that judge are not weighed by it.
        length: how many words of a text nets read, its first ones; or a dict, column to that. Left out, as many as
            nearly all texts have, and 400 at most, or 1,000 characters. Bags of words have all.

    Raises:
        DataError: on `load`, where the table can't be used.

    >>> frame = pd.DataFrame({"size": [1.0, 2.0, None], "kind": ["a", "b", "a"], "sold": ["no", "yes", "no"]})
    >>> data = Table(frame, target="sold").load()
    >>> data.task, data.classes, [column.kind for column in data.schema.columns]
    ('binary', ('no', 'yes'), ['number', 'category'])
    """

    def __init__(
        self,
        source: Source,
        *,
        target: str | Sequence[str],
        time: str | None = None,
        group: str | None = None,
        weight: str | None = None,
        id: str | None = None,
        kinds: Mapping[str, str] | None = None,
        classes: tuple[Any, ...] | list[Any] | None = None,
        ordered: bool = False,
        class_weight: Mapping[Any, Any] | str | None = None,
        length: int | Mapping[str, int] | None = None,
    ) -> None:
        for one in length.values() if isinstance(length, Mapping) else [length]:
            if one is not None and one < 1:
                raise DataError(f"length is {length!r}; expected how many words of a text nets read, such as 1000")
        self.source = source
        self.target = target if isinstance(target, str) else list(target)
        self.targets = [target] if isinstance(target, str) else list(target)
        self.time = time
        self.group = group
        self.weight = weight
        self.id = id
        self.kinds = dict(kinds or {})
        self.classes = tuple(classes or ())
        self.ordered = ordered
        self.class_weight = class_weight
        self.length = length

    def load(self) -> Dataset:
        """Read, check and type the rows."""
        frame = self._frame()
        notices: list[str] = []
        frame = self._labelled(frame, notices)
        columns_to_predict = {name: frame[name] for name in self.targets}
        target, classes, targets = typed_targets(columns_to_predict, self.kinds, self.classes)
        left_out: list[LeftOut] = []
        columns, typed = self._features(frame, notices, left_out)
        return Dataset(
            schema=Schema(columns),
            columns=typed,
            target=target,
            classes=classes,
            ids=self._ids(frame),
            time=self._time(frame),
            group=None if self.group is None else groups_of(frame[self.group], self.group),
            weight=self._weights(frame),
            notices=tuple(notices),
            left_out=tuple(left_out),
            targets=targets,
            ordered=in_order(classes, self.ordered),
            class_weight=weights_by_class(self.class_weight, classes, targets),
        )

    def frame(self) -> pd.DataFrame:
        """The table as it is given, read anew: for a study that changes it before it is loaded.

        Raises:
            DataError: there is no such file, or it can't be read.

        >>> data = Table(pd.DataFrame({"size": [1.0, 2.0], "price": [3.0, 5.0]}), target="price")
        >>> data.source = data.frame().assign(size=lambda table: table["size"].clip(0.0, 1.5))
        """
        return read_frame(self.source() if callable(self.source) else self.source)

    def _frame(self) -> Columns:
        frame = Columns.of(self.source() if callable(self.source) else self.source)
        doubled = frame.columns[frame.columns.duplicated()].unique().tolist()
        if doubled:
            raise DataError(f"the table has more than one column named {', '.join(doubled)}; expected unique names")
        if not len(frame) or not len(frame.columns):
            raise DataError(f"the table is empty ({len(frame)} rows, {len(frame.columns)} columns); expected rows")
        named = {"time": self.time, "group": self.group, "weight": self.weight, "id": self.id}
        named |= {"target" if len(self.targets) == 1 else f"target {name!r}": name for name in self.targets}
        named |= {f"kinds[{name!r}]": name for name in self.kinds}
        for role, name in named.items():
            if name is not None and name not in frame.columns:
                raise DataError(
                    f"{role}: the table has no column {name!r}; its {len(frame.columns)} columns are "
                    f"{listed(list(frame.columns))}"
                )
        for name, kind in self.kinds.items():
            if kind not in (*KINDS, "drop"):
                raise DataError(f"kinds[{name!r}] is {kind!r}; expected one of {', '.join((*KINDS, 'drop'))}")
        return frame

    def _labelled(self, frame: Columns, notices: list[str]) -> Columns:
        for name in self.targets:
            absent = frame[name].isna()
            if absent.all():
                raise DataError(f"target {name!r} is missing in every row; expected a value to learn from")
            if absent.any():
                notices.append(f"{int(absent.sum())} row(s) without a {name!r} are left out")
            frame = frame.where(~absent.to_numpy())
        return frame

    def _features(
        self, frame: Columns, notices: list[str], left_out: list[LeftOut]
    ) -> tuple[tuple[Column, ...], dict[str, npt.NDArray[Any]]]:
        roles = {*self.targets, self.group, self.weight, self.id}
        columns, typed = [], {}
        for name in frame.columns:
            if name in roles or self.kinds.get(name) == "drop":
                continue
            kind = self.kinds.get(name) or infer_kind(frame[name], name)
            if kind is None:
                notices.append(f"column {name!r} is empty and left out")
                left_out.append(LeftOut(name, ""))
                continue
            if kind == "category" and name not in self.kinds and is_text(frame[name]):
                kind = "text"
                notices.append(
                    f"column {name!r} is read as text (kinds={{{name!r}: 'category'}} or 'drop' changes that)"
                )
            if kind in TEXTS and (empty := int((frame[name].map(is_missing)).sum())):
                notices.append(f"{empty} text(s) of column {name!r} are empty: they have no words")
            if kind in TEXTS:
                notices += self._cut(frame[name], name, TEXTS[kind])
            if kind == "category" and name not in self.kinds and names_rows(frame[name]):
                notices.append(
                    f"column {name!r} has a different text in nearly every row and is left out "
                    f"(kinds={{{name!r}: 'category'}} keeps it)"
                )
                left_out.append(LeftOut(name, kind, frame[name].is_unique, _examples(frame[name])))
                continue
            if kind == "number" and name not in self.kinds and name != self.time and numbers_rows(frame[name]):
                notices.append(
                    f"column {name!r} numbers the rows and is left out (kinds={{{name!r}: 'number'}} keeps it)"
                )
                left_out.append(LeftOut(name, kind, unique=True))
                continue
            length = self._length(name) if kind in TEXTS else None
            held = held_as(frame[name]) if kind == "category" or kind in TEXTS else ""
            columns.append(Column(name, kind, shape=() if length is None else (length,), held=held))
            typed[name] = typed_compactly(frame[name], kind, name)
        if not columns:
            raise DataError(f"no column is left to learn from beside the target {self.target!r}; expected at least one")
        if isinstance(self.length, Mapping) and (
            wrong := set(self.length) - {column.name for column in columns if column.kind in TEXTS}
        ):
            raise DataError(f"length has {sorted(wrong)[0]!r}, which is no text column; kinds= says which ones are")
        return tuple(columns), typed

    def _length(self, name: str) -> int | None:
        """How many words of a text column nets are to read, if that is said."""
        return self.length.get(name) if isinstance(self.length, Mapping) else self.length

    def _cut(self, texts: pd.Series[Any], name: str, tokens: str) -> list[str]:
        """Which texts models don't read to their end."""
        most = self._length(name) or LONGEST[tokens]
        told = []
        if cut := too_long(texts, tokens, most):
            told.append(
                f"{cut} text(s) of column {name!r} have more than {most:,} {tokens}: nets don't read what comes after "
                "(length= lets them read more); bags of words do"
            )
        if cut and (cut := too_long(texts, tokens, MOST_READ[tokens])):
            told.append(
                f"{cut} text(s) of column {name!r} have more than {MOST_READ[tokens]:,} {tokens}: no model reads what "
                "comes after"
            )
        return told

    def _ids(self, frame: Columns) -> npt.NDArray[Any]:
        if self.id is None:
            return np.arange(len(frame))
        doubled = frame[self.id].duplicated()
        if doubled.any():
            raise DataError(
                f"id column {self.id!r}: {plain_class(frame[self.id][doubled].iloc[0])!r} stands in more than one row; "
                "expected unique ids (group= is for rows that belong together)"
            )
        return typed_column(frame[self.id], "category", self.id)

    def _time(self, frame: Columns) -> npt.NDArray[np.float64] | None:
        if self.time is None:
            return None
        return row_times(frame[self.time], self.time, f"time column {self.time!r}")

    def _weights(self, frame: Columns) -> npt.NDArray[np.float64] | None:
        return None if self.weight is None else row_weights(frame[self.weight], f"weight column {self.weight!r}")


def _examples(column: pd.Series[Any]) -> tuple[str, ...]:
    known = column.dropna()
    return tuple(str(value) for value in known.iloc[:: max(1, len(known) // EXAMPLES)])
