"""Writes tables to files, part by part."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from tunekit.data.reading import PARQUET
from tunekit.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")


def write_chunks(frames: Iterable[pd.DataFrame], path: Path) -> int:
    """Write frames of the same columns one after the other, of which one at a time is in memory; the number of rows.

    The file is there once it is whole, so it may replace the one that the frames are read from.

    Args:
        frames: at least one; it may be empty.
        path: a CSV file, or Parquet by its suffix; one that is there is replaced.

    Raises:
        DataError: the file would be compressed.
    """
    if path.suffix.lower() in COMPRESSED:
        raise DataError(f"the output is {str(path)!r}; expected a CSV or Parquet file: compress it afterwards")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.draft"
    if path.exists() and not path.is_file():  # such as /dev/stdout
        draft = path
    writer = _parquet_writer if path.suffix.lower() in PARQUET else _csv_writer
    count = 0
    try:
        with writer(draft) as write:
            for frame in frames:
                write(frame)
                count += len(frame)
        if draft != path:
            draft.replace(path)
    finally:
        if draft != path:
            draft.unlink(missing_ok=True)
    return count


@contextmanager
def _csv_writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield lambda frame: frame.to_csv(file, index=False, header=not file.tell())


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    from pyarrow import Table, parquet

    writers: list[Any] = []

    def write(frame: pd.DataFrame) -> None:
        table = Table.from_pandas(frame, preserve_index=False)
        if not writers:
            writers.append(parquet.ParquetWriter(path, table.schema))
        writers[0].write_table(table)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
