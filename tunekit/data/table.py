"""`Table`: rows from a file, a frame or a function, checked and typed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import KINDS, TEXTS, category_text, is_missing, typed_column
from tunekit.bundle.texts import MOST_READ
from tunekit.data.columnwise import Columns, typed_compactly
from tunekit.data.dataset import BALANCED, ClassWeights, Dataset, LeftOut
from tunekit.data.reading import read_frame
from tunekit.data.schema import Column, Schema
from tunekit.data.targets import Target
from tunekit.data.terms import LONGEST, too_long
from tunekit.errors import DataError

Source = str | Path | pd.DataFrame | Callable[[], pd.DataFrame]

MOST_CLASSES = 20
"""An integer target with at most this many different values is a class; with more it is a number."""

ID_SHARE = 0.9
"""A text column with more different values than this share of its rows names its rows; models can't learn from it."""

EXAMPLES = 200
"""Texts that are remembered of a column that is left out."""

SENTENCE = 5
"""Words from which on, on average, a text is read word by word."""


class Table:
    """Rows of a table, with a target.

    Types are inferred: numbers, booleans, dates and categories, each with missing values. `kinds` corrects them.

    Args:
        source: a path to a CSV or Parquet file, a DataFrame, or a function that returns a DataFrame (or a path). A
            Parquet file is read column by column, without those that are dropped.
        target: the column to predict; or several, to be predicted together, each with its own task.
        time: a date or number column: rows are ordered by it, and judged on later ones than they train on.
        group: a column: rows of one group never stand on both sides of a split. Models don't read it.
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
                    f"{_listed(list(frame.columns))}"
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
            if kind == "category" and name not in self.kinds and _is_text(frame[name]):
                kind = "text"
                notices.append(
                    f"column {name!r} is read as text (kinds={{{name!r}: 'category'}} or 'drop' changes that)"
                )
            if kind in TEXTS and (empty := int((frame[name].map(is_missing)).sum())):
                notices.append(f"{empty} text(s) of column {name!r} are empty: they have no words")
            if kind in TEXTS:
                notices += self._cut(frame[name], name, TEXTS[kind])
            if kind == "category" and name not in self.kinds and _names_rows(frame[name]):
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
            columns.append(Column(name, kind, shape=() if length is None else (length,)))
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
                f"id column {self.id!r}: {_plain(frame[self.id][doubled].iloc[0])!r} stands in more than one row; "
                "expected unique ids (group= is for rows that belong together)"
            )
        return typed_column(frame[self.id], "category", self.id)

    def _time(self, frame: Columns) -> npt.NDArray[np.float64] | None:
        if self.time is None:
            return None
        return row_times(frame[self.time], self.time, f"time column {self.time!r}")

    def _weights(self, frame: Columns) -> npt.NDArray[np.float64] | None:
        return None if self.weight is None else row_weights(frame[self.weight], f"weight column {self.weight!r}")


def row_times(values: Any, name: str, told: str) -> npt.NDArray[np.float64]:
    """When each row is, checked: (n,) numbers as they are, dates in seconds.

    Args:
        values: dates or numbers in any form.
        name: of the column.
        told: what it is called where it is refused as a whole.

    Raises:
        DataError: they can't be moments.
    """
    column = values if isinstance(values, pd.Series) else pd.Series(list(values))
    kind = infer_kind(column, name)
    if kind not in ("date", "number"):
        raise DataError(f"{told} holds {kind or 'nothing'}; expected dates or numbers")
    time = typed_column(column, kind, name)
    if np.isnan(time).any():
        raise DataError(
            f"{told} is missing in {int(np.isnan(time).sum())} row(s), the first of them row "
            f"{int(np.flatnonzero(np.isnan(time))[0])}; fill or drop them"
        )
    return time


def row_weights(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Row weights, checked.

    Raises:
        DataError: they can't be weights.
    """
    weight = typed_column(values, "number", name)
    wrong = np.flatnonzero(~(weight >= 0))
    if len(wrong):
        raise DataError(
            f"{name} holds {weight[wrong[0]]:g} in row {wrong[0]}; expected a number of 0 or more in every row"
        )
    if not weight.any():
        raise DataError(f"{name} is 0 in every row; expected some rows that weigh more")
    return weight


def in_order(classes: tuple[Any, ...], ordered: bool) -> bool:
    """Whether classes have an order.

    Raises:
        DataError: there are no classes that could.
    """
    if ordered and not classes:
        raise DataError("ordered=True, but the target has no classes; expected a single target with classes")
    return ordered


def weights_by_class(
    given: Mapping[Any, Any] | str | None, classes: tuple[Any, ...], targets: tuple[Target, ...] = ()
) -> ClassWeights | tuple[ClassWeights, ...]:
    """Class weights in the order of the classes, or "balanced"; of several targets, those of each.

    Args:
        given: as `Table` takes them.
        classes: of a single target.
        targets: if there are several.

    Raises:
        DataError: they don't fit the classes.
    """
    if given is None or not targets:
        return _weights_of_one(given, classes, "class_weight")
    able = [target.name for target in targets if target.classes]
    each = dict.fromkeys(able, BALANCED) if given == BALANCED else given
    if not isinstance(each, Mapping) or not each or set(each) - set(able):
        raise DataError(
            f"class_weight={given!r}, and the targets with classes are {able}; expected 'balanced' for all of them, or "
            f"a dict by target, such as {{{(able or ['label'])[0]!r}: 'balanced'}}; weight= is for weights of rows"
        )
    return tuple(
        _weights_of_one(each.get(target.name), target.classes, f"class_weight[{target.name!r}]") for target in targets
    )


def _weights_of_one(given: Any, classes: tuple[Any, ...], called: str) -> ClassWeights:
    if given is None or (given == BALANCED and classes):
        return given if given is None else BALANCED
    weights = dict(given) if isinstance(given, Mapping) else {}
    if not classes or set(weights) != set(classes) or not all(0 < weight < math.inf for weight in weights.values()):
        raise DataError(
            f"{called}={given!r}, and the classes are {list(classes)}; expected 'balanced', or a positive number for "
            "each class"
        )
    return tuple(float(weights[one]) for one in classes)


def typed_targets(
    columns: Mapping[str, pd.Series[Any]], kinds: Mapping[str, str], classes: tuple[Any, ...] = ()
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...], tuple[Target, ...]]:
    """What is to be predicted, as a `Dataset` holds it: target, classes and, if there are several, targets.

    Args:
        columns: by name, one or several.
        kinds: "category" for classes, "number" for numbers, by name; left out for what a column looks like.
        classes: of a single target, in order; empty for those that are found.

    Raises:
        DataError: it can't be predicted.
    """
    for name, column in columns.items():
        if column.isna().any():
            row = int(np.flatnonzero(column.isna())[0])
            raise DataError(f"target {name!r} is missing in row {row}; expected a value")
    found = {
        name: _target(column, name, kinds.get(name), classes if len(columns) == 1 else ())
        for name, column in columns.items()
    }
    if len(found) == 1:
        return *next(iter(found.values())), ()
    if classes or not found:
        raise DataError(f"classes={classes!r} came with targets {list(columns)}; expected them with a single target")
    tasks = {0: "regression", 2: "binary"}
    targets = tuple(Target(name, tasks.get(len(own), "multiclass"), own) for name, (_, own) in found.items())
    return np.stack([values for values, _ in found.values()], axis=1), (), targets


def checked_kind(kind: str | None) -> str | None:
    """What a target is said to be, if that can be said.

    Raises:
        DataError: it can't.
    """
    if kind not in (None, "category", "number"):
        raise DataError(f"kind is {kind!r}; expected 'category' or 'number'")
    return kind


def typed_y(
    columns: Mapping[str, Any], kind: str | None, classes: tuple[Any, ...], kinds: Mapping[str, str] | None = None
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...], tuple[Target, ...]]:
    """`typed_targets` of columns in any form, all of one kind, or those of `kinds`."""
    wanted = {name: pd.Series(list(values)) for name, values in columns.items()}
    return typed_targets(wanted, ({} if kind is None else dict.fromkeys(wanted, kind)) | dict(kinds or {}), classes)


def groups_of(values: Any, name: str) -> npt.NDArray[np.int64]:
    """(n,): a number for each group.

    Raises:
        DataError: a row has none: nothing tells with which rows it belongs.
    """
    codes = pd.factorize(np.asarray(values))[0].astype(np.int64)
    if len(bad := np.flatnonzero(codes < 0)):
        raise DataError(
            f"{len(bad)} row(s) have no group ({name!r}), the first of them row {bad[0]}; expected one for each: leave "
            "these rows out, or give each a group of its own"
        )
    return codes


def infer_kind(column: pd.Series[Any], name: str) -> str | None:
    """The kind of a raw column, or None if it holds nothing.

    Raises:
        DataError: the values are of mixed types.
    """
    present = column.dropna()
    if present.empty:
        return None
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(present):
        return "boolean"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    return _kind_of_objects(present, name)


def _kind_of_objects(present: pd.Series[Any], name: str) -> str:
    if isinstance(present.dtype, pd.StringDtype):
        return _kind_of_texts(present, name)
    kinds = present.map(_value_kind)
    counts = kinds.value_counts()
    if len(counts) > 1:
        examples = {kind: present[kinds == kind].iloc[0] for kind in counts.index}
        told = ", ".join(f"{counts[kind]} {kind} value(s) such as {examples[kind]!r}" for kind in counts.index)
        raise DataError(
            f"column {name!r} mixes types: {told}; expected one type. Clean the odd values, make them missing, or say "
            f"kinds={{{name!r}: 'category'}} to take every value as a text"
        )
    kind = counts.index[0]
    return _kind_of_texts(present, name) if kind == "text" else str(kind)


def _kind_of_texts(present: pd.Series[Any], name: str) -> str:
    if not pd.to_numeric(present.drop_duplicates(), errors="coerce").isna().all():
        _refuse_mixed_text(present, name)
        return "category"
    return "date" if _are_dates(present) else "category"


def _value_kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.number)):
        return "number"
    if isinstance(value, str):
        return "text"
    if hasattr(value, "year") and hasattr(value, "month"):
        return "date"
    return "number" if type(value).__name__ == "Decimal" else type(value).__name__


def _refuse_mixed_text(present: pd.Series[Any], name: str) -> None:
    """Text that is mostly numbers was meant as numbers: a few odd values would turn all of it into categories."""
    odd = present[pd.to_numeric(present, errors="coerce").isna()]
    if 0 < len(odd) < len(present) / 2:
        raise DataError(
            f"column {name!r} mixes types: {len(present) - len(odd)} of its values are numbers and {len(odd)} are "
            f"not, such as {odd.iloc[0]!r} in row {odd.index[0]}; expected one type. Clean the odd values, make them "
            f"missing, or say kinds={{{name!r}: 'category'}} to take every value as a text"
        )


def _are_dates(present: pd.Series[Any]) -> bool:
    sample = present.iloc[:: max(1, len(present) // 200)]
    if not sample.str.match(r"^\s*\d{4}[-/]\d{2}[-/]\d{2}([ T]\d{2}:\d{2}|\s*$)").all():
        return False
    try:
        typed_column(present, "date", str(present.name))
    except DataError:
        return False
    return True


def _names_rows(column: pd.Series[Any]) -> bool:
    return len(column) > MOST_CLASSES and column.nunique() > ID_SHARE * len(column)


def _examples(column: pd.Series[Any]) -> tuple[str, ...]:
    known = column.dropna()
    return tuple(str(value) for value in known.iloc[:: max(1, len(known) // EXAMPLES)])


def _is_text(column: pd.Series[Any]) -> bool:
    """Whether a column of texts, hardly two alike, holds sentences rather than names."""
    if not _names_rows(column):
        return False
    words = [len(str(value).split()) for value in column.dropna()]
    return bool(np.mean(words) >= SENTENCE)


def numbers_rows(column: pd.Series[Any]) -> bool:
    """Whether a column holds consecutive whole numbers, each once: it tells where a row stands, not what it is."""
    if len(column) <= MOST_CLASSES or not column.is_unique or column.isna().any():
        return False
    return bool(column.max() - column.min() == len(column) - 1 and (column % 1 == 0).all())


def _target(
    column: pd.Series[Any], name: str, kind: str | None, classes: tuple[Any, ...]
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...]]:
    wanted, kind = kind, kind or infer_kind(column, name)
    if column.nunique() == 1:
        raise DataError(
            f"target {name!r} is {_plain(column.iloc[0])!r} in every row; expected at least two different values"
        )
    if kind == "date":
        raise DataError(f"target {name!r} holds dates; expected numbers or classes (turn it into a number of days)")
    if classes or kind in ("category", "boolean"):
        return _classes(column, name, classes)
    number = typed_column(column, "number", name)
    few = column.nunique() == 2 or ((number % 1 == 0).all() and column.nunique() <= MOST_CLASSES)
    return _classes(column, name, classes) if few and wanted is None else (number, ())


def _classes(
    column: pd.Series[Any], name: str, classes: tuple[Any, ...]
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...]]:
    values = [_plain(value) for value in column]
    found = sorted(set(values), key=lambda value: (str(type(value)), value))
    if classes and set(classes) != set(found):
        raise DataError(f"classes={classes!r}, but target {name!r} holds {_listed(found)}; expected each exactly once")
    if len(found) > len(values) / 2 and len(found) > 2:
        raise DataError(
            f"target {name!r} has {len(found)} different texts in {len(values)} rows; expected a number to predict, or "
            "classes with several rows each"
        )
    order = {value: position for position, value in enumerate(classes or found)}
    return np.array([order[value] for value in values], dtype=np.float64), tuple(classes or found)


def _plain(value: Any) -> Any:
    """A class as JSON can hold it: a text, an int or a bool."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, float, np.number)) and not is_missing(value) and float(value).is_integer():
        return int(value)
    return float(value) if isinstance(value, (float, np.floating)) else category_text(value)


def _listed(names: list[Any], most: int = 12) -> str:
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
