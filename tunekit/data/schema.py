"""The typed columns of a table, and the one encoding of rows that everything after it reads.

Encoding is storage, not learning: numbers stay numbers, dates become calendar parts by arithmetic, and a category
becomes the position of its text in the column's list of levels. Nothing here depends on which rows train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import ARRAY, TEXTS, array_column, raw_columns, typed_column
from tunekit.bundle.texts import MOST_READ, TokenRows, Vocabulary
from tunekit.data.lazy import LazyRows
from tunekit.data.terms import LONGEST_TERM, TextColumn, learn_words
from tunekit.errors import DataError

COLUMN_INPUTS = {"numbers", "codes", "plain"}
"""Names of a net's inputs that a table's columns become; array and text columns have their own."""

MISSING = 0
"""Code of a missing category. Levels have codes 1..L, and a text that is no level has L + 1."""

CALENDAR = ("days", "year", "month", "day", "weekday", "hour")
"""What a date column becomes, in this order: six numbers."""

FINEST = 2.0**20
"""Steps that sines are rounded to: the last bits differ between libraries, and trees compare to the last one."""

CYCLES = {"day": 86_400.0, "week": 604_800.0, "year": 31_556_952.0}
"""Seconds of the cycles that a date can be told in: a part "day_sin" is the sine of where in the day it is."""

Number = TypeVar("Number")


@dataclass(frozen=True)
class Column:
    """One raw column that models read.

    Args:
        name: as in the table.
        kind: "number", "boolean", "date", "category", "text", "characters" or "array".
        levels: for a category, its texts in sorted order; for a text, its words, the most frequent first. The code of
            a level is its position plus one.
        shape: of an array's cells; the last axis is that of the channels. Of a text, how many words nets read.
        dtype: of an array: "uint8", "float32", or "int32" for codes.
        by: of an array: the category column whose levels are each scaled by their own rows; "" to scale all alike.
        parts: what a date becomes: some of `CALENDAR`, or a cycle's "_sin" and "_cos".
        held: of a category or a text: what its values were before they were texts, see `tunekit.data.spelling`.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = ""
    by: str = field(default="", repr=False)
    parts: tuple[str, ...] = field(default=CALENDAR, repr=False)
    held: str = field(default="", repr=False)

    @property
    def is_number(self) -> bool:
        """Whether it becomes one number or more."""
        return self.kind in ("number", "boolean", "date")

    @property
    def vocabulary(self) -> Vocabulary:
        """Numbers of a text's words."""
        return Vocabulary(self.levels, self.most_read, TEXTS[self.kind])

    @property
    def most_read(self) -> int:
        """How many words of a text are read at most; nets read fewer."""
        return MOST_READ[TEXTS[self.kind]]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers that this column becomes; none for a category, a text or an array."""
        if not self.is_number:
            return ()
        return tuple(f"{self.name}:{part}" for part in self.parts) if self.kind == "date" else (self.name,)


@dataclass(frozen=True)
class Encoded:
    """Rows as arrays.

    Args:
        numbers: float64 (n, D), NaN for missing.
        codes: int32 (n, C).
        arrays: each (n, *shape); they may be lazy: see `LazyRows`.
        texts: each n rows, as `tunekit.bundle.texts.Vocabulary` makes them.
    """

    numbers: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]
    arrays: tuple[Any, ...] = ()
    texts: tuple[TokenRows, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def all(self) -> tuple[Any, ...]:
        """Numbers, codes, each array column and each text column."""
        return self.numbers, self.codes, *self.arrays, *self.texts

    @classmethod
    def of(cls, parts: Sequence[Any], arrays: int) -> Encoded:
        """The inverse of `all`, given how many array columns there are."""
        return cls(parts[0], parts[1], tuple(parts[2 : 2 + arrays]), tuple(parts[2 + arrays :]))

    @property
    def lazy(self) -> bool:
        """Whether some of it is read only when it is asked for."""
        return any(isinstance(array, LazyRows) for array in self.arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, but for what is lazy."""
        return sum(array.nbytes for array in self.all if not isinstance(array, LazyRows))

    def take(self, rows: npt.NDArray[np.int64]) -> Encoded:
        """The same columns for the given row positions; what is lazy stays so."""
        lazy = (LazyRows, TokenRows)
        taken = [array.take(rows) if isinstance(array, lazy) else np.asarray(array[rows]) for array in self.all]
        return Encoded.of(taken, len(self.arrays))

    def read(self) -> Encoded:
        """The same rows, with nothing lazy."""
        return replace(self, arrays=tuple(np.asarray(array) for array in self.arrays))

    @classmethod
    def joined(cls, *parts: Encoded) -> Encoded:
        """The rows of several, one after the other."""
        columns = zip(*(part.all for part in parts), strict=True)
        return cls.of([_joined(same) for same in columns], len(parts[0].arrays))


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], TokenRows):
        return TokenRows.joined(parts)
    return LazyRows.joined(parts) if any(isinstance(part, LazyRows) for part in parts) else np.concatenate(parts)


@dataclass(frozen=True)
class Schema:
    """The columns that models read, in order."""

    columns: tuple[Column, ...]

    @property
    def numeric(self) -> tuple[Column, ...]:
        """Numbers, booleans and dates: what becomes `Encoded.numbers`."""
        return tuple(column for column in self.columns if column.is_number)

    @property
    def categorical(self) -> tuple[Column, ...]:
        """What becomes `Encoded.codes`."""
        return tuple(column for column in self.columns if column.kind == "category")

    @property
    def arrays(self) -> tuple[Column, ...]:
        """What becomes `Encoded.arrays`."""
        return tuple(column for column in self.columns if column.kind == ARRAY)

    @property
    def texts(self) -> tuple[Column, ...]:
        """What becomes `Encoded.texts`."""
        return tuple(column for column in self.columns if column.kind in TEXTS)

    @property
    def text_columns(self) -> tuple[TextColumn, ...]:
        """What folds are to know of the texts."""
        return tuple(
            TextColumn(
                column.name, len(column.levels), LONGEST_TERM[TEXTS[column.kind]], column.shape[0], column.most_read
            )
            for column in self.texts
        )

    @property
    def scaled_by(self) -> tuple[int, ...]:
        """Per array column, the position in `categorical` of the column that it is scaled by; -1 for none."""
        names = [column.name for column in self.categorical]
        return tuple(names.index(column.by) if column.by else -1 for column in self.arrays)

    @property
    def number_features(self) -> tuple[str, ...]:
        """The D names of the columns of `Encoded.numbers`."""
        return tuple(feature for column in self.numeric for feature in column.features)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Per category column, how many codes there are: missing, the levels, unseen."""
        return tuple(len(column.levels) + 2 for column in self.categorical)

    def with_levels(self, typed: Mapping[str, Any], rows: npt.NDArray[np.int64] | None = None) -> Schema:
        """The same columns; a category has the sorted texts that these rows hold as its levels, a text its words.

        Args:
            typed: columns, as `typed` returns them.
            rows: positions of the rows; all if left out.
        """
        learning = (*TEXTS, "category")

        def learnt(column: Column) -> Column:
            if column.kind not in learning:
                return column
            values = typed[column.name]
            return _with_levels(column, values if rows is None else values[rows])

        return Schema(tuple(learnt(column) for column in self.columns))

    def typed(self, rows: Any) -> dict[str, npt.NDArray[Any]]:
        """Typed arrays of the schema's columns; other columns are ignored.

        Args:
            rows: a DataFrame, a dict of columns or a list of dicts.

        Raises:
            DataError: a column is absent, or a value does not fit its column's kind.
        """
        raw, _ = raw_columns(rows)
        absent = [column.name for column in self.columns if column.name not in raw]
        if absent:
            raise DataError(
                f"{len(absent)} column(s) are missing: {', '.join(absent)}; expected every column that the models "
                "were trained on (a value may be missing, a column may not)"
            )
        return {
            column.name: array_column(raw[column.name], column.shape, column.dtype, column.name)
            if column.kind == ARRAY
            else typed_column(raw[column.name], column.kind, column.name)
            for column in self.columns
        }

    def encode(self, typed: Mapping[str, npt.NDArray[Any]]) -> Encoded:
        """Encode typed columns, as `typed` returns them."""
        rows = len(next(iter(typed.values()))) if typed else 0
        numbers = np.empty((rows, len(self.number_features)), dtype=np.float64)
        position = 0
        for column in self.numeric:
            given = typed[column.name]
            for part in date_parts(given, column.parts, np.floor, np.sin) if column.kind == "date" else [given]:
                numbers[:, position] = part
                position += 1
        codes = np.empty((rows, len(self.categorical)), dtype=np.int32)
        for position, column in enumerate(self.categorical):
            codes[:, position] = _codes(typed[column.name], column.levels)
        texts = tuple(column.vocabulary.rows(typed[column.name]) for column in self.texts)
        return Encoded(numbers, codes, tuple(typed[column.name] for column in self.arrays), texts)


def calendar(seconds: Number, floor: Callable[[Any], Any]) -> list[Number]:
    """The six `CALENDAR` parts of seconds since 1970, by arithmetic and `floor` alone.

    Written without numpy calls so that the exporter can run the same formulas on graph nodes. NaN gives NaN.
    Civil dates from day numbers: https://howardhinnant.github.io/date_algorithms.html#civil_from_days

    >>> [int(part) for part in calendar(np.array(1717158600.0), np.floor)]  # 2024-05-31 12:30, a Friday
    [19874, 2024, 5, 31, 4, 12]
    """
    time: Any = seconds
    days = floor(time / 86400.0)
    hour = floor((time - days * 86400.0) / 3600.0)
    weekday = (days + 3.0) - floor((days + 3.0) / 7.0) * 7.0  # 1970-01-01 was a Thursday; Monday is 0
    shifted = days + 719468.0
    era = floor(shifted / 146097.0)
    day_of_era = shifted - era * 146097.0
    leap_days = floor(day_of_era / 1460.0) - floor(day_of_era / 36524.0) + floor(day_of_era / 146096.0)
    year_of_era = floor((day_of_era - leap_days) / 365.0)
    day_of_year = day_of_era - (year_of_era * 365.0 + floor(year_of_era / 4.0) - floor(year_of_era / 100.0))
    month_from_march = floor((day_of_year * 5.0 + 2.0) / 153.0)
    day = day_of_year - floor((month_from_march * 153.0 + 2.0) / 5.0) + 1.0
    next_year = floor(month_from_march / 10.0)  # 1 for January and February
    month = month_from_march + 3.0 - next_year * 12.0
    year = year_of_era + era * 400.0 + next_year
    return [days, year, month, day, weekday, hour]


def _with_levels(column: Column, values: npt.NDArray[Any]) -> Column:
    if column.kind == "category":
        return replace(column, levels=tuple(sorted(set(values) - {""})))
    if column.kind in TEXTS:
        words, length = learn_words(values, TEXTS[column.kind])
        return replace(column, levels=words, shape=column.shape or (length,))
    return column


def date_parts(
    seconds: Number, parts: tuple[str, ...], floor: Callable[[Any], Any], sin: Callable[[Any], Any]
) -> list[Number]:
    """Parts of seconds since 1970, as a `Column` names them, for numpy and for graph nodes alike.

    >>> [round(float(part), 6) for part in date_parts(np.array(21600.0), ("day_sin", "day_cos"), np.floor, np.sin)]
    [1.0, 0.0]
    """
    known: dict[str, Number] = {}
    if set(parts) & set(CALENDAR):
        known.update(zip(CALENDAR, calendar(seconds, floor), strict=True))
    for name, length in CYCLES.items():
        if f"{name}_sin" in parts or f"{name}_cos" in parts:
            # A week begins on Monday, as 1970-01-05 was; a cosine is the sine a quarter later.
            turns: Any = (seconds - 345_600.0) / length if name == "week" else seconds / length  # type: ignore[operator]
            for wave, ahead in (("sin", 0.0), ("cos", 0.25)):
                exact = sin((turns + ahead - floor(turns + ahead)) * (2.0 * np.pi))
                known[f"{name}_{wave}"] = floor(exact * FINEST + 0.5) / FINEST
    return [known[part] for part in parts]


def _codes(texts: npt.NDArray[Any], levels: tuple[str, ...]) -> npt.NDArray[np.int32]:
    positions = pd.Index(levels, dtype=object).get_indexer(pd.Index(texts, dtype=object)).astype(np.int32)
    unseen = np.int32(len(levels) + 1)
    return np.where(positions >= 0, positions + 1, np.where(texts == "", np.int32(MISSING), unseen)).astype(np.int32)
