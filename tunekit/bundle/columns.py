"""Turns a raw column, however a caller holds it, into one typed array.

Training and serving both come through here, so a value means the same in both. Only numpy is needed;
pandas objects are accepted because they convert to numpy.

Kinds and their arrays:

=========  ==================  ==========================================
kind       array               missing
=========  ==================  ==========================================
number     float64             NaN
boolean    float64, 0 or 1     NaN
date       float64, seconds    NaN (seconds since 1970-01-01, UTC)
category   object, str         "" (None, NaN, NaT and pandas.NA become "")
text       object, str         "", which has no words; models read numbers of
                               words, see `tunekit.bundle.texts`
characters as text             a text whose characters are its words
array      uint8, int32 or     not allowed: every cell is an array of the
           float32             column's shape, such as an image, or the path
                               of a picture's file; int32 are codes, such as
                               the numbers of words
=========  ==================  ==========================================
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.pictures import picture_cell
from tunekit.errors import DataError

TEXTS = {"text": "words", "characters": "characters"}
"""Kinds of text, and what its tokens are."""

KINDS = ("number", "boolean", "date", "category", *TEXTS)
"""Kinds of a table's columns."""

ARRAY = "array"
"""The kind of a column whose cells are arrays."""

ARRAY_TYPES = ("uint8", "int32", "float32")

_EXPECTED = {
    "uint8": "whole numbers from 0 to 255",
    "int32": "whole numbers of up to 32 bits, as codes are",
    "float32": "finite numbers",
}

LARGEST = float(np.finfo(np.float32).max)
"""Of a column's numbers."""

_DATE = re.compile(r"\d{4}(-\d\d){0,2}([T ]|$)", re.ASCII)
"""How a date begins. NumPy would read "today", too, and "20240531" as a year."""

_OFFSET = re.compile(r"\d[+-]\d\d:?\d\d$", re.ASCII)

_TRUE = {"true", "t", "yes", "y", "1", "1.0"}
_FALSE = {"false", "f", "no", "n", "0", "0.0"}


def is_missing(value: Any) -> bool:
    """Whether one raw value stands for nothing: None, NaN, NaT, pandas.NA or blank text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    if isinstance(value, (str, bytes)):
        return False
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def category_text(value: Any) -> str:
    """The one spelling of a category: whole numbers lose their ".0", missing becomes "".

    >>> category_text(3.0), category_text(True), category_text(None), category_text(" a ")
    ('3', 'True', '', ' a ')
    """
    if isinstance(value, str):
        return str(value) if value.strip() else ""
    if is_missing(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    return str(value)


def typed_column(values: Any, kind: str, name: str) -> npt.NDArray[Any]:
    """Convert one raw column.

    Args:
        values: a sequence, numpy array or pandas Series of n values.
        kind: one of `KINDS`.
        name: the column's name, for messages.

    Returns:
        An array of shape (n,), typed as the module's table says.

    Raises:
        DataError: a value does not fit the kind, or a number is infinite.
    """
    raw = _as_array(values)
    if kind == "number":
        return _numbers(raw, name)
    if kind == "boolean":
        return _booleans(raw, name)
    if kind == "date":
        return _dates(raw, name)
    if kind == "category" or kind in TEXTS:
        return _texts(raw)
    raise DataError(f"column {name!r}: kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")


def array_column(values: Any, shape: tuple[int, ...], dtype: str, name: str, *, files: bool = True) -> npt.NDArray[Any]:
    """Convert a raw column of arrays.

    Args:
        values: an array (n, *shape), or a sequence of n arrays, nested lists, such lists as a text ("[[1, 2], [3, 4]]",
            as a CSV file has them), or paths of pictures' files.
        shape: of a cell. One channel may be left out: (28, 28) stands for (28, 28, 1).
        dtype: one of `ARRAY_TYPES`.
        name: the column's name, for messages.
        files: whether paths are read: not, where values come from other machines.

    Returns:
        (n, *shape) of that type.

    Raises:
        DataError: a cell has another shape, is not made of finite numbers, or does not fit the type; or a file can't
            be read.
    """
    paths = isinstance(values, np.ndarray) and values.dtype.kind == "U" and values.ndim == 1
    if isinstance(values, np.ndarray) and values.dtype != object and not paths:
        return _cells(values, shape, dtype, name, 0)
    made = np.empty((len(values), *shape), dtype=dtype)
    for row, value in enumerate(values):
        if isinstance(value, str) and value.lstrip().startswith("["):
            made[row] = _cells(_array(_listed(value, name, row), name, row)[None], shape, dtype, name, row)[0]
        elif isinstance(value, (str, os.PathLike)) and files:
            made[row] = picture_cell(value, shape, dtype, name, row)
        else:
            made[row] = _cells(_array(value, name, row)[None], shape, dtype, name, row)[0]
    return made


def _array(value: Any, name: str, row: int) -> npt.NDArray[Any]:
    try:
        if _holds_text(value):  # NumPy would make every number a text as long as this one
            raise ValueError
        array = np.asarray(_nested(value))
        if array.dtype == object:
            raise ValueError
    except ValueError:
        raise DataError(
            f"column {name!r}, row {row}: received {_short(value)}, expected an array of numbers, its rows equally long"
        ) from None
    return array


def _holds_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_text(one) for one in value)
    return isinstance(value, (str, bytes))


def _nested(value: Any) -> Any:
    """Arrays of arrays, as a Parquet file has them, as lists of arrays."""
    nested = isinstance(value, np.ndarray) and value.dtype == object
    return [_nested(one) for one in value] if nested else value


def _listed(text: str, name: str, row: int) -> Any:
    """The lists that a text spells as JSON does."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(
            f"column {name!r}, row {row}: received the text {_short(text)}, expected lists of numbers such as "
            f"[[1, 2], [3, 4]] ({error})"
        ) from None


def _cells(cells: npt.NDArray[Any], shape: tuple[int, ...], dtype: str, name: str, first: int) -> npt.NDArray[Any]:
    if cells.shape[1:] == shape[:-1] and shape[-1:] == (1,):
        cells = cells[..., None]
    if cells.shape[1:] != shape:
        raise DataError(f"column {name!r}, row {first}: received an array of shape {cells.shape[1:]}, expected {shape}")
    if cells.dtype.kind not in "buif":
        raise DataError(f"column {name!r}, row {first}: received an array of {cells.dtype}, expected numbers")
    with np.errstate(invalid="ignore"):  # what is no whole number is told below
        typed = cells.astype(dtype, copy=False)
    axes = tuple(range(1, cells.ndim))
    wrong = ~np.isfinite(typed) if dtype == "float32" else typed != cells
    if len(bad := np.flatnonzero(wrong.any(axis=axes))):
        expected = _EXPECTED[dtype]
        value = cells[bad[0]][wrong[bad[0]]].flat[0]
        raise DataError(f"column {name!r}, row {first + bad[0]}: its array holds {value}, expected {expected} only")
    return typed


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def raw_columns(rows: Any) -> tuple[Mapping[str, Any], int]:
    """Columns by name, and the number of rows, of a DataFrame, a dict of columns or a list of dicts.

    A key that only some of the dicts in a list have is missing (None) in the others.
    """
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        return {str(name): rows[name] for name in rows.columns}, len(rows)
    if isinstance(rows, Mapping):
        lengths = {str(name): _length(column, str(name)) for name, column in rows.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the columns have different lengths: {lengths}; expected one value per row in each")
        return {str(name): column for name, column in rows.items()}, next(iter(lengths.values()), 0)
    if isinstance(rows, Sequence) and not isinstance(rows, (str, bytes)):
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise DataError(f"row {position} is a {type(row).__name__}; expected a dict of column name to value")
        return _ColumnsOfRows(rows), len(rows)
    raise DataError(f"rows came as {type(rows).__name__}; expected a DataFrame, a list of dicts, or a dict of columns")


class _ColumnsOfRows(Mapping[str, Any]):
    """The columns of a list of dicts, each made when it is asked for: names that nobody wants may be very many."""

    def __init__(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        self._rows = rows
        self._names = dict.fromkeys(str(name) for row in rows for name in row)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise KeyError(name)
        return [row.get(name) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _length(column: Any, name: str) -> int:
    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
        raise DataError(f"column {name!r} came as one {type(column).__name__}; expected a list with a value per row")
    return len(column)


def _as_array(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "dtype") and hasattr(values, "to_numpy"):
        dtype = str(values.dtype)
        if dtype.startswith("datetime64") and values.dt.tz is not None:
            values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        plain = isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM"
        return np.asarray(values.to_numpy() if plain else values.to_numpy(dtype=object))
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _numbers(raw: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    if raw.dtype.kind in "biuf":
        numbers = raw.astype(np.float64)
    else:
        numbers = np.array([_number(value, name, row) for row, value in enumerate(raw)], dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise DataError(
            f"column {name!r} has {len(infinite)} infinite value(s), the first in row {infinite[0]}; expected finite "
            "numbers or missing ones: replace them, for example with df.replace([np.inf, -np.inf], np.nan)"
        )
    beyond = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(beyond):
        raise DataError(
            f"column {name!r}, row {beyond[0]}: received {numbers[beyond[0]]:.6g}, expected numbers of up to "
            f"{LARGEST:.6g}, as models calculate with 32 bits, or missing ones: replace it, or divide the column"
        )
    return numbers


def _number(value: Any, name: str, row: int) -> float:
    if is_missing(value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"column {name!r}, row {row}: received {_short(value)} ({type(value).__name__}), expected a number or "
            "nothing"
        ) from None


def _booleans(raw: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    if raw.dtype.kind == "b":
        return raw.astype(np.float64)
    numbers = np.full(len(raw), np.nan)
    for row, value in enumerate(raw):
        if is_missing(value):
            continue
        text = str(value).strip().lower()
        if text not in _TRUE and text not in _FALSE:
            raise DataError(
                f"column {name!r}, row {row}: received {value!r}, expected true or false (or yes/no, 1/0) or nothing"
            )
        numbers[row] = float(text in _TRUE)
    return numbers


def _dates(raw: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    if raw.dtype.kind == "M":
        stamps = raw.astype("datetime64[us]")
    else:
        stamps = np.array([_date(value, name, row) for row, value in enumerate(raw)], dtype="datetime64[us]")
    seconds = stamps.astype(np.int64) / 1e6
    return np.where(np.isnat(stamps), np.nan, seconds)


def _date(value: Any, name: str, row: int) -> np.datetime64:
    if is_missing(value):
        return np.datetime64("NaT", "us")
    try:
        if isinstance(value, str):
            value = _date_text(value)
        elif isinstance(value, (Real, np.number, np.bool_)):  # NumPy would take them for microseconds since 1970
            raise ValueError
        if getattr(value, "tzinfo", None) is not None:  # datetime and pandas.Timestamp alike
            value = value.astimezone(UTC).replace(tzinfo=None)
        return np.datetime64(value, "us")
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"column {name!r}, row {row}: received {_short(value)}, expected a date such as 2024-05-31, "
            "2024-05-31T12:30:00 or 2024-05-31T12:30:00+02:00, or nothing"
        ) from None


def _date_text(text: str) -> str | datetime:
    """As NumPy reads it, or with its offset from UTC."""
    text = text.strip().replace("/", "-").removesuffix("Z")
    if _DATE.match(text) is None:
        raise ValueError
    return datetime.fromisoformat(text) if _OFFSET.search(text) else text


def _texts(raw: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    texts = np.empty(len(raw), dtype=object)
    texts[:] = [category_text(value) for value in raw]
    return texts
