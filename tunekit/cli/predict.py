"""Predicts a file with a bundle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from tunekit.bundle import Bundle
from tunekit.data import read_chunks, write_chunks
from tunekit.errors import DataError

CHUNK = 50_000
"""Rows read, predicted and written at a time."""

CELLS = 2**22
"""Cells that the models read up to which so many rows are; else they are fewer."""

ARRAYS_AT_ONCE = 2**27
"""Numbers of array columns, such as pictures, up to which so many rows are; else they are fewer."""


def predict_file(bundle: Path, rows: Path, output: Path) -> int:
    """Predict a CSV or Parquet file into another, in row order; the number of rows.

    Args:
        bundle: a folder that `tunekit export` wrote.
        rows: a CSV or Parquet file, of any size: a part of it at a time is in memory. An image is the path of its file,
            relative to the working directory.
        output: a CSV file, or Parquet by its suffix; it is there once it is whole.
    """
    model = Bundle.load(bundle)
    # A category that is spelled like a gap ("None") stays a category where the models know it as one.
    not_gaps = model.manifest["facts"].get("texts_like_gaps", {})
    return write_chunks(_predicted(model, read_chunks(rows, _chunk(model), not_gaps)), output)


def _predicted(model: Bundle, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The predictions of a file's parts.

    Raises:
        DataError: a row can't be predicted; rows are counted within the part, and where that begins is told.
    """
    start = 0
    for frame in frames:
        try:
            yield pd.DataFrame(model.predict_columns(frame))
        except DataError as error:
            where = f" (rows are counted from row {start} of the file on)" if start else ""
            raise DataError(f"{error}{where}") from error
        start += len(frame)


def _chunk(model: Bundle) -> int:
    numbers = sum(math.prod(column.get("shape") or (0,)) for column in model.manifest["columns"])
    return max(1, min(CHUNK, CELLS // len(model.columns), ARRAYS_AT_ONCE // max(numbers, 1)))
