"""Columns of a table by name, read one at a time where the source allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import typed_column
from tunekit.data.reading import PARQUET, exact_frame, read_frame, understandable_parquet


class Columns:
    """A table's columns. Of a Parquet file, a column is read when it is asked for, and the last one is kept.

    Args:
        read: a column by its name.
        columns: all names.
        rows: how many there are in the source.
        kept: (rows,) which of them are the table's; all if left out.
    """

    def __init__(
        self, read: Callable[[str], Any], columns: list[str], rows: int, kept: npt.NDArray[np.bool_] | None = None
    ) -> None:
        self.columns = pd.Index(columns, dtype=object)
        self._read = read
        self._rows = rows
        self._kept = kept
        self._last: tuple[str, Any] | None = None

    @classmethod
    def of(cls, source: Any) -> Columns:
        """Those of a DataFrame, or of a file.

        Raises:
            DataError: there is no such file, or it can't be read.
        """
        if isinstance(source, (str, Path)) and Path(source).suffix.lower() in PARQUET and Path(source).is_file():
            return cls._of_parquet(Path(source))
        frame = read_frame(source)
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
        return cls(frame.__getitem__, list(frame.columns), len(frame))

    @classmethod
    def _of_parquet(cls, path: Path) -> Columns:
        from pyarrow import parquet

        with understandable_parquet(path):
            facts, schema = parquet.read_metadata(path), parquet.read_schema(path)
        index = {str(name) for name in (schema.pandas_metadata or {}).get("index_columns", ())}

        def read(name: str) -> Any:
            with understandable_parquet(path):
                return exact_frame(parquet.read_table(path, columns=[name]))[name]

        return cls(read, [name for name in schema.names if name not in index], facts.num_rows)

    def __len__(self) -> int:
        return self._rows if self._kept is None else int(self._kept.sum())

    def __getitem__(self, name: str) -> Any:
        if self._last is None or self._last[0] != name:
            column = self._read(name)
            self._last = name, column if self._kept is None else column[self._kept].reset_index(drop=True)
        return self._last[1]

    def where(self, kept: npt.NDArray[np.bool_]) -> Columns:
        """The same columns, of some of its rows."""
        if kept.all():
            return self
        if self._kept is not None:
            both = self._kept.copy()
            both[both] = kept
            kept = both
        return Columns(self._read, list(self.columns), self._rows, kept)


def typed_compactly(column: Any, kind: str, name: str) -> npt.NDArray[Any]:
    """What `typed_column` makes of a pandas Series, where equal texts of a category are one object.

    Five million rows of a thousand texts are then five million references, 8 bytes each.
    """
    if kind != "category":
        return typed_column(column, kind, name)
    plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf"
    if plain or isinstance(column.dtype, (pd.StringDtype, pd.CategoricalDtype)):
        codes, values = pd.factorize(column)
        texts = typed_column(pd.Series(values), kind, name)
        return np.append(texts, np.array([""], dtype=object))[codes]  # of a missing value, the code is -1
    known: dict[str, str] = {}
    texts = typed_column(column, kind, name)
    texts[:] = [known.setdefault(text, text) for text in texts]
    return texts
