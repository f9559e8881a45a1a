"""How the values of a category were held in training, so that a file's cells are spelt alike, each on its own.

pandas takes a column of a CSV file for numbers if all of its cells look so, in the file or the part that it reads: a
cell's spelling would depend on its neighbours. `007` is the category "007" among texts and "7" among numbers.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from tunekit.bundle.columns import category_text

TEXT, INTEGER, NUMBER, BOOLEAN = "text", "integer", "number", "boolean"

_HELD = {
    "string": TEXT,
    "mixed-integer": TEXT,
    "integer": INTEGER,
    "floating": NUMBER,
    "mixed-integer-float": NUMBER,
    "boolean": BOOLEAN,
}
"""By what pandas calls the values."""

_BOOLEANS = {"True": "True", "TRUE": "True", "true": "True", "False": "False", "FALSE": "False", "false": "False"}

WHOLE = r"\s*[+-]?[0-9]{1,40}\s*"
"""How a whole number is written."""

_WHOLE = re.compile(WHOLE)
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


def held_as(column: pd.Series[Any]) -> str:
    """What a raw column's values are: "text", "integer", "number" or "boolean"; "" for what is none of these.

    >>> held_as(pd.Series(["007", "A12"])), held_as(pd.Series([7, 12])), held_as(pd.Series([7.0, None]))
    ('text', 'integer', 'number')
    """
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return _HELD.get(pd.api.types.infer_dtype(values, skipna=True), "")


def spelt_as_held(cells: pd.Series[str], held: str) -> pd.Series[str]:
    """The cells of a CSV file as categories that were held so in training are spelt; missing ones stay so.

    >>> spelt_as_held(pd.Series(["007", "7.0", "A12"]), "integer").tolist()
    ['7', '7', 'A12']
    """
    if held == TEXT:
        return cells
    spelt = {cell: _spelt(cell, held) for cell in cells.dropna().unique()}
    return cells.map(spelt).astype(cells.dtype)


def _spelt(cell: str, held: str) -> str:
    if held == BOOLEAN:
        return _BOOLEANS.get(cell, cell)
    if held == INTEGER and _WHOLE.fullmatch(cell):
        return str(int(cell))
    return category_text(float(cell)) if _NUMBER.fullmatch(cell) else cell
