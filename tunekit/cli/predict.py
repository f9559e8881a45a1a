"""Predicts a file with a bundle."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import typer

from tunekit.bundle import Bundle
from tunekit.data import Series, column_names, read_chunks, write_chunks
from tunekit.data.series import WINDOW
from tunekit.errors import DataError

CHUNK = 50_000
"""Rows read, predicted and written at a time."""

CELLS = 2**22
"""Cells that the models read up to which so many rows are; else they are fewer."""

ARRAYS_AT_ONCE = 2**27
"""Numbers of array columns, such as pictures, up to which so many rows are; else they are fewer."""


def predict_file(bundle: Path, rows: Path, output: Path | None) -> int:
    """Predict a CSV or Parquet file into another, in row order; the number of rows.

    Args:
        bundle: a folder that `tunekit export` wrote.
        rows: a CSV or Parquet file, or a pipe with CSV, of any size: a part of it at a time is in memory. An image is
            the path of its file, relative to the working directory; an array, such as a window, is lists of numbers:
            "[[1, 2], [3, 4]]". Instead of windows the history of series may be given, as a study of series has it:
            each is forecast from its last row on.
        output: a CSV file, or Parquet by its suffix; it is there once it is whole. None to print CSV.
    """
    model = Bundle.load(bundle)
    # A category that is spelled like a gap ("None") stays a category where the models know it as one.
    not_gaps = model.manifest["facts"].get("texts_like_gaps", {})
    # Nor does it depend on other rows, as what pandas makes of a column does; bundles of before don't say what it was.
    held = {column["name"]: column["held"] for column in model.manifest["columns"] if "held" in column}
    with _file_of(rows) as file:
        history = _is_history(model, file)
        chunks = read_chunks(file, None if history else _chunk(model), not_gaps=not_gaps, held=held)
        frames = _forecast(model, chunks) if history else _predicted(model, chunks)
        return _print(frames) if output is None else write_chunks(frames, output)


@contextmanager
def _file_of(rows: Path) -> Iterator[Path]:
    """The file itself; what comes through a pipe, which can be read once only, as a file."""
    if not (rows.is_fifo() or rows.is_char_device()):
        yield rows
        return
    with tempfile.NamedTemporaryFile(suffix=rows.suffix) as file, rows.open("rb") as pipe:
        shutil.copyfileobj(pipe, file)
        file.flush()
        yield Path(file.name)


def _print(frames: Iterable[pd.DataFrame]) -> int:
    """Print frames of the same columns as one CSV file; the number of rows."""
    count = 0
    for place, frame in enumerate(frames):
        typer.echo(frame.to_csv(index=False, header=place == 0), nl=False)
        count += len(frame)
    return count


def _is_history(model: Bundle, rows: Path) -> bool:
    """Whether a file has the moments and channels of series, of which windows are still to be cut."""
    told = model.manifest["facts"].get("window") or {}
    if "grid" not in told:
        return False
    names = set(column_names(rows))
    return WINDOW not in names and {told["time"], *told["channels"]} <= names


def _forecast(model: Bundle, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """For each series of a history its name, the moment that is forecast where that is read, and the forecast."""
    latest = Series.recalled(model.manifest["facts"]["window"]).latest(pd.concat(list(frames), ignore_index=True))
    names = pd.DataFrame({name: values for name, values in latest.items() if name != WINDOW})
    yield pd.concat([names, pd.DataFrame({"prediction": model.predict(latest)})], axis=1)


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
