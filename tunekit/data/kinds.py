"""What the values of a raw column are, by how they look."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tunekit.bundle.columns import typed_column
from tunekit.errors import DataError

MOST_CLASSES = 20
"""An integer target with at most this many different values is a class, if no value is there once only."""

ID_SHARE = 0.9
"""A text column with more different values than this share of its rows names its rows; models can't learn from it."""

SENTENCE = 5
"""Words from which on, on average, a text is read word by word."""


def infer_kind(column: pd.Series[Any], name: str) -> str | None:
    """The kind of a raw column, or None if it holds nothing.

    Raises:
        DataError: the values are of mixed types.
    """
    present = column.dropna()
    if present.empty:
        return None
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(present):
        return "boolean"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    return _kind_of_objects(present, name)


def _kind_of_objects(present: pd.Series[Any], name: str) -> str:
    if isinstance(present.dtype, pd.StringDtype):
        return _kind_of_texts(present, name)
    kinds = present.map(_value_kind)
    counts = kinds.value_counts()
    if len(counts) > 1:
        examples = {kind: present[kinds == kind].iloc[0] for kind in counts.index}
        told = ", ".join(f"{counts[kind]} {kind} value(s) such as {examples[kind]!r}" for kind in counts.index)
        raise DataError(
            f"column {name!r} mixes types: {told}; expected one type. Clean the odd values, make them missing, or say "
            f"kinds={{{name!r}: 'category'}} to take every value as a text"
        )
    kind = counts.index[0]
    return _kind_of_texts(present, name) if kind == "text" else str(kind)


def _kind_of_texts(present: pd.Series[Any], name: str) -> str:
    if not pd.to_numeric(present.drop_duplicates(), errors="coerce").isna().all():
        _refuse_mixed_text(present, name)
        return "category"
    return "date" if _are_dates(present) else "category"


def _value_kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.number)):
        return "number"
    if isinstance(value, str):
        return "text"
    if hasattr(value, "year") and hasattr(value, "month"):
        return "date"
    return "number" if type(value).__name__ == "Decimal" else type(value).__name__


def _refuse_mixed_text(present: pd.Series[Any], name: str) -> None:
    """Text that is mostly numbers was meant as numbers: a few odd values would turn all of it into categories."""
    odd = present[pd.to_numeric(present, errors="coerce").isna()]
    if 0 < len(odd) < len(present) / 2:
        raise DataError(
            f"column {name!r} mixes types: {len(present) - len(odd)} of its values are numbers and {len(odd)} are "
            f"not, such as {odd.iloc[0]!r} in row {odd.index[0]}; expected one type. Clean the odd values, make them "
            f"missing, or say kinds={{{name!r}: 'category'}} to take every value as a text"
        )


def _are_dates(present: pd.Series[Any]) -> bool:
    sample = present.iloc[:: max(1, len(present) // 200)]
    if not sample.str.match(r"^\s*\d{4}[-/]\d{2}[-/]\d{2}([ T]\d{2}:\d{2}|\s*$)").all():
        return False
    try:
        typed_column(present, "date", str(present.name))
    except DataError:
        return False
    return True


def numbers_rows(column: pd.Series[Any]) -> bool:
    """Whether a column holds consecutive whole numbers, each once: it tells where a row stands, not what it is."""
    if len(column) <= MOST_CLASSES or not column.is_unique or column.isna().any():
        return False
    return bool(column.max() - column.min() == len(column) - 1 and (column % 1 == 0).all())


def names_rows(column: pd.Series[Any]) -> bool:
    """Whether hardly two values of a column are alike."""
    return len(column) > MOST_CLASSES and column.nunique() > ID_SHARE * len(column)


def is_text(column: pd.Series[Any]) -> bool:
    """Whether a column of texts, hardly two alike, holds sentences rather than names."""
    if not names_rows(column):
        return False
    words = [len(str(value).split()) for value in column.dropna()]
    return bool(np.mean(words) >= SENTENCE)
