"""The typed columns of a table, and the one encoding of rows that everything after it reads.

Encoding is storage, not learning: numbers stay numbers, dates become calendar parts by arithmetic, and a category
becomes the position of its text in the column's list of levels. Nothing here depends on which rows train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import ARRAY, array_column, raw_columns, typed_column
from tunekit.errors import DataError

MISSING = 0
"""Code of a missing category. Levels have codes 1..L, and a text that is no level has L + 1."""

CALENDAR = ("days", "year", "month", "day", "weekday", "hour")
"""What a date column becomes, in this order: six numbers."""

Number = TypeVar("Number")


@dataclass(frozen=True)
class Column:
    """One raw column that models read.

    Args:
        name: as in the table.
        kind: "number", "boolean", "date", "category" or "array".
        levels: for a category, its texts in sorted order; a level's code is its position plus one.
        shape: of an array's cells; the last axis is that of the channels.
        dtype: of an array: "uint8" or "float32".
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers that this column becomes; none for a category or an array."""
        if self.kind in ("category", ARRAY):
            return ()
        return tuple(f"{self.name}:{part}" for part in CALENDAR) if self.kind == "date" else (self.name,)


@dataclass(frozen=True)
class Encoded:
    """Rows as arrays: `numbers` float64 (n, D), NaN for missing; `codes` int32 (n, C); `arrays`, each (n, *shape)."""

    numbers: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]

    arrays: tuple[npt.NDArray[Any], ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def all(self) -> tuple[npt.NDArray[Any], ...]:
        """Numbers, codes, and each array column."""
        return self.numbers, self.codes, *self.arrays

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(array.nbytes for array in self.all)

    def take(self, rows: npt.NDArray[np.int64]) -> Encoded:
        """The same columns for the given row positions."""
        numbers, codes, *arrays = (np.asarray(array[rows]) for array in self.all)
        return Encoded(numbers, codes, tuple(arrays))

    @classmethod
    def joined(cls, *parts: Encoded) -> Encoded:
        """The rows of several, one after the other."""
        arrays = tuple(np.concatenate(same) for same in zip(*(part.arrays for part in parts), strict=True))
        numbers, codes = ([getattr(part, name) for part in parts] for name in ("numbers", "codes"))
        return cls(np.concatenate(numbers), np.concatenate(codes), arrays)


@dataclass(frozen=True)
class Schema:
    """The columns that models read, in order."""

    columns: tuple[Column, ...]

    @property
    def numeric(self) -> tuple[Column, ...]:
        """Numbers, booleans and dates: what becomes `Encoded.numbers`."""
        return tuple(column for column in self.columns if column.kind not in ("category", ARRAY))

    @property
    def categorical(self) -> tuple[Column, ...]:
        """What becomes `Encoded.codes`."""
        return tuple(column for column in self.columns if column.kind == "category")

    @property
    def arrays(self) -> tuple[Column, ...]:
        """What becomes `Encoded.arrays`."""
        return tuple(column for column in self.columns if column.kind == ARRAY)

    @property
    def number_features(self) -> tuple[str, ...]:
        """The D names of the columns of `Encoded.numbers`."""
        return tuple(feature for column in self.numeric for feature in column.features)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Per category column, how many codes there are: missing, the levels, unseen."""
        return tuple(len(column.levels) + 2 for column in self.categorical)

    def with_levels(self, typed: Mapping[str, npt.NDArray[Any]]) -> Schema:
        """The same columns, each category with the sorted texts that occur in these rows as its levels."""
        columns = [
            replace(column, levels=tuple(sorted(set(typed[column.name]) - {""})))
            if column.kind == "category"
            else column
            for column in self.columns
        ]
        return Schema(tuple(columns))

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
            parts = calendar(typed[column.name], np.floor) if column.kind == "date" else [typed[column.name]]
            for part in parts:
                numbers[:, position] = part
                position += 1
        codes = np.empty((rows, len(self.categorical)), dtype=np.int32)
        for position, column in enumerate(self.categorical):
            codes[:, position] = _codes(typed[column.name], column.levels)
        return Encoded(numbers, codes, tuple(typed[column.name] for column in self.arrays))


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


def _codes(texts: npt.NDArray[Any], levels: tuple[str, ...]) -> npt.NDArray[np.int32]:
    positions = pd.Index(levels, dtype=object).get_indexer(pd.Index(texts, dtype=object)).astype(np.int32)
    unseen = np.int32(len(levels) + 1)
    return np.where(positions >= 0, positions + 1, np.where(texts == "", np.int32(MISSING), unseen)).astype(np.int32)
