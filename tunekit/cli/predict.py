"""Predicts a file with a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tunekit.bundle import Bundle
from tunekit.data import GAPS
from tunekit.errors import DataError

CHUNK = 50_000
"""Rows read, predicted and written at a time."""


def predict_file(bundle: Path, rows: Path, output: Path) -> int:
    """Predict a CSV or Parquet file into another, in row order; the number of rows.

    Args:
        bundle: a folder that `tunekit export` wrote.
        rows: a CSV file is read in chunks, a Parquet file at once.
        output: a CSV file, or Parquet by its suffix.
    """
    model = Bundle.load(bundle)
    frames = (_predictions(model, frame) for frame in _frames(model, rows))
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


def _frames(model: Bundle, rows: Path) -> Iterator[pd.DataFrame]:
    if rows.suffix.lower() in (".parquet", ".pq"):
        yield pd.read_parquet(rows)
        return
    # A category that is spelled like a gap ("None") stays a category where the models know it as one.
    known: dict[str, list[str]] = model.manifest["facts"].get("texts_like_gaps", {})
    gaps = {name: sorted(GAPS - set(known.get(name, ()))) for name, _ in model.columns}
    try:
        header = pd.read_csv(rows, nrows=0).columns
        gaps = {name: values for name, values in gaps.items() if name in header}
        yield from pd.read_csv(rows, chunksize=CHUNK, na_values=gaps, keep_default_na=False, low_memory=False)
    except pd.errors.EmptyDataError:
        raise DataError(f"{str(rows)!r} is empty; expected a header line and rows") from None
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{str(rows)!r} could not be read as CSV: {error}; expected UTF-8 text with a header") from None


def _predictions(model: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    if model.task == "regression":
        return pd.DataFrame({"prediction": model.predict(frame)})
    shares: Any = model.predict_proba(frame)
    columns = {f"proba_{name}": shares[:, position] for position, name in enumerate(model.classes)}
    return pd.DataFrame({"prediction": model.predict(frame), **columns})
