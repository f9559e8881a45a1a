"""Reads tables from files, in the same way for training and for predicting."""

from __future__ import annotations

import csv
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tunekit.data.spelling import WHOLE, spelt_as_held
from tunekit.errors import DataError

GAPS = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)
"""What stands for a missing value in a CSV file: pandas' own list."""

PARQUET = (".parquet", ".pq")
"""Endings of Parquet files."""

BUFFER = 2**20
"""Bytes of each column of a Parquet file that are read ahead."""

EXACT = 2**53
"""Whole numbers from here on are not told from their neighbours once they are float64."""

IN_NO_TEXT = "\x1f"
"""A character that separates a line's cells in no CSV file, so that the line is one cell."""

BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading a compressed file raises that isn't one, or not all of it; or an `OSError` without a number."""

SEPARATORS = ",;\t|"
"""Of these, the one that stands most often in a CSV file's header line separates its columns."""


def read_frame(source: Any) -> pd.DataFrame:
    """A DataFrame from a DataFrame, or from the path of a CSV or Parquet file.

    Raises:
        DataError: there is no such file, or it can't be read.
    """
    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, (str, Path)):
        raise DataError(
            f"the source is a {type(source).__name__}; expected a path, a DataFrame or a function that returns one"
        )
    return pd.concat(read_chunks(source), ignore_index=True)


def read_chunks(
    path: str | Path,
    rows: int | None = None,
    *,
    not_gaps: Mapping[str, list[str]] | None = None,
    held: Mapping[str, str] | None = None,
) -> Iterator[pd.DataFrame]:
    """The rows of a file in frames of at most `rows` rows, of which one at a time is in memory.

    Args:
        path: a CSV file, which may be compressed (`.csv.gz`), or a Parquet file.
        rows: per frame; None for one frame.
        not_gaps: texts that look like a missing value but are categories, by column.
        held: what the values of categories and texts were in training, by column, see `tunekit.data.spelling`: each
            cell is spelt alike, whatever stands in other rows.

    Raises:
        DataError: there is no such file, or it can't be read.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"there is no file {str(path)!r}; expected a CSV or Parquet file (relative to {Path.cwd()})")
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder; expected a CSV or Parquet file")
    if not path.is_file():
        raise DataError(f"{str(path)!r} is a pipe or a device, which can be read once only; expected a file")
    if path.suffix.lower() in PARQUET:
        yield from _parquet_chunks(path, rows)
        return
    with _understandable(path):
        separator = _separator(path)
        names = _header(path, separator)
        known = not_gaps or {}
        spelt = {name: held[name] for name in names if name in held} if held else {}
        options: dict[str, Any] = {
            "sep": separator,
            "na_values": {
                **{name: sorted(GAPS.difference(known.get(name, ()))) for name in names},
                len(names): [""],  # the position of what follows a separator at the end of each line
            },
            "keep_default_na": False,
            "skip_blank_lines": len(names) > 1,  # of one column, an empty line is a row with nothing in it
            "index_col": False,  # of lines that end in a separator, pandas would take the first cell for an index
            "low_memory": False,  # a column's type is judged by all of it
            "dtype": dict.fromkeys(spelt, str),
        }
        if rows is None:
            yield _spelt(_exact_csv(path, options), spelt)
            return
        with pd.read_csv(path, chunksize=rows, **options) as chunks:
            while (chunk := _whole(partial(next, chunks, None))) is not None:
                yield _spelt(chunk, spelt)


def _whole(read: Callable[[], Any]) -> Any:
    """What is read, of which pandas may not leave out cells with a warning only."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return read()


def _spelt(frame: pd.DataFrame, held: Mapping[str, str]) -> pd.DataFrame:
    for name, values in held.items():
        frame[name] = spelt_as_held(frame[name], values)
    return frame


def _exact_csv(path: Path, options: dict[str, Any]) -> pd.DataFrame:
    """A CSV file, of which whole numbers beside gaps are exact, too: such ids would become others as float64."""
    frame: pd.DataFrame = _whole(partial(pd.read_csv, path, **options))
    large = [name for name in frame.select_dtypes("float64") if _may_be_inexact(frame[name])]
    if large:
        cells = pd.read_csv(path, **options | {"usecols": large, "dtype": str})
        for name in large:
            if cells[name].dropna().str.fullmatch(WHOLE).all():
                frame[name] = _objects(None if pd.isna(cell) else int(cell) for cell in cells[name])
    return frame


def _may_be_inexact(column: pd.Series[float]) -> bool:
    return bool(column.isna().any() and (column.abs() >= EXACT).any())


def _objects(values: Iterable[Any]) -> pd.Series[Any]:
    return pd.Series(list(values), dtype=object)


def column_names(path: str | Path) -> list[str]:
    """The names of a CSV or Parquet file's columns, of which no row is read; none of what `read_chunks` refuses."""
    path = Path(path)
    if not path.is_file():
        return []
    if path.suffix.lower() in PARQUET:
        from pyarrow import parquet

        with understandable_parquet(path):
            return list(parquet.read_schema(path).names)
    with _understandable(path):
        return _header(path, _separator(path))


def _parquet_chunks(path: Path, rows: int | None) -> Iterator[pd.DataFrame]:
    from pyarrow import Table, parquet

    with understandable_parquet(path):
        if rows is None:
            yield exact_frame(parquet.read_table(path))
            return
        # Through a buffer, as a file may have all of its rows in one group, whose columns would be read whole.
        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield exact_frame(Table.from_batches([batch]))
            if not file.metadata.num_rows:
                yield exact_frame(file.schema_arrow.empty_table())


def exact_frame(table: Any) -> pd.DataFrame:
    """The rows of a table of pyarrow, of which whole numbers beside gaps are exact, too."""
    from pyarrow import types

    frame: pd.DataFrame = table.to_pandas().reset_index(drop=True)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if types.is_integer(column.type) and column.null_count and name in frame and _may_be_inexact(frame[name]):
            frame[name] = _objects(column.to_pylist())
    return frame


@contextmanager
def understandable_parquet(path: Path) -> Iterator[None]:
    """Says in words that a file can't be read.

    Raises:
        DataError: it can't.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} could not be read as Parquet: {error}; expected a Parquet file") from None


@contextmanager
def _understandable(path: Path) -> Iterator[None]:
    try:
        yield
    except pd.errors.EmptyDataError:
        raise DataError(f"{str(path)!r} is empty; expected a header line and rows") from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{str(path)!r} has lines with more cells than its header has names; expected as many: name every column"
        ) from None
    except (UnicodeDecodeError, pd.errors.ParserError, *BROKEN, OSError) as error:
        if getattr(error, "errno", None) is not None:  # such as of a file that may not be read
            raise
        raise DataError(f"{str(path)!r} could not be read as CSV: {error}; expected UTF-8 text with a header") from None


def _separator(path: Path) -> str:
    options: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}
    first = str(pd.read_csv(path, sep=IN_NO_TEXT, nrows=1, **options).iloc[0, 0])
    return max(SEPARATORS, key=first.count)


def _header(path: Path, separator: str) -> list[str]:
    """The column names, which pandas would make unique: a doubled target would become a column to learn from."""
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    doubled = header[header.duplicated() & (header != "")].unique()
    if len(doubled):
        raise DataError(f"{str(path)!r} has more than one column named {', '.join(doubled)}; expected unique names")
    return [str(name) for name in header]
