"""Predicts a file with a bundle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from tunekit.bundle import Bundle
from tunekit.data import read_chunks
from tunekit.errors import DataError

CHUNK = 50_000
"""Rows read, predicted and written at a time."""

ARRAYS_AT_ONCE = 2**27
"""Numbers of array columns, such as pictures, up to which so many rows are; else they are fewer."""


def predict_file(bundle: Path, rows: Path, output: Path) -> int:
    """Predict a CSV or Parquet file into another, in row order; the number of rows.

    Args:
        bundle: a folder that `tunekit export` wrote.
        rows: a CSV file is read in chunks, a Parquet file at once. An image is the path of its file, relative to the
            working directory.
        output: a CSV file, or Parquet by its suffix.
    """
    model = Bundle.load(bundle)
    # A category that is spelled like a gap ("None") stays a category where the models know it as one.
    not_gaps = model.manifest["facts"].get("texts_like_gaps", {})
    frames = _predicted(model, read_chunks(rows, _chunk(model), not_gaps))
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() in (".parquet", ".pq"):
        whole = pd.concat(list(frames), ignore_index=True)
        whole.to_parquet(output, index=False)
        return len(whole)
    count = 0
    for frame in frames:
        frame.to_csv(output, index=False, mode="a" if count else "w", header=not count)
        count += len(frame)
    return count


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
    return max(1, min(CHUNK, ARRAYS_AT_ONCE // max(numbers, 1)))
