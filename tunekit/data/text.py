"""`Text`: rows that are texts, with a table beside them or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tunekit.bundle.columns import TEXTS, is_missing
from tunekit.data.dataset import Dataset
from tunekit.data.table import Table
from tunekit.data.targets import named_targets, told_one_hot
from tunekit.errors import DataError

TARGET = "y"
"""Name of the target."""

BESIDE = {"weight", "group", "time"}
"""Options with a value for each row."""

OPTIONS = {"classes", "ordered", "class_weight"}
"""Options that are those of `Table`."""

Texts = Sequence[str | None] | Mapping[str, Sequence[str | None]]


class Text:
    """Texts in memory, one for each row, or several by name.

    Words are numbered by the rows that aren't test rows, and each fold knows those of its training rows. Bags of words
    have all of a text; nets read its first words, as `length` says. A column of a `Table` may be text too:
    `kinds={"review": "text"}`.

    Args:
        x: n texts, or a dict of such lists; or a function that returns (x, y).
        y: n classes or numbers, one-hot rows, or several targets; see `Arrays`.
        tokens: "words", or "characters" to read letter by letter.
        length: how many words (characters) of a text nets read; or a dict, text to that; see `Table`.
        table: n rows of numbers, dates and categories that models read too; see `Table`.
        more: `weight=`, `group=` and `time=`, n values each, which models don't read; `classes=`, `ordered=` and
            `class_weight=`, see `Table`.
        kind: of `y`: "category" or "number"; what it looks like if left out.
        kinds: of the table's columns, where they aren't what they look like; see `Table`.

    Raises:
        DataError: on `load`, where the rows can't be used.

    >>> data = Text(["good tea", "stale", "good", "stale tea"], ["yes", "no", "yes", "no"]).load()
    >>> data.task, data.schema.columns[0].kind, data.schema.columns[0].name
    ('binary', 'text', 'text')
    """

    suits = "text"

    def __init__(
        self,
        x: Texts | Callable[[], tuple[Texts, Any]],
        y: Any = None,
        *,
        tokens: str = "words",
        length: int | Mapping[str, int] | None = None,
        table: pd.DataFrame | None = None,
        kind: str | None = None,
        kinds: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        named = {name: column for column, name in TEXTS.items()}
        if tokens not in named:
            raise DataError(f"tokens is {tokens!r}; expected one of {', '.join(named)}")
        if unknown := sorted(set(more) - BESIDE - OPTIONS):
            raise DataError(f"Text has no {unknown[0]!r}; expected one of {', '.join(sorted(BESIDE | OPTIONS))}")
        self.x = x
        self.y = y
        self.table = table
        self._column_kind = named[tokens]
        self._beside = {name: values for name, values in more.items() if name in BESIDE and values is not None}
        self._options = {name: value for name, value in more.items() if name in OPTIONS} | {"length": length}
        self._kind = kind
        self._kinds = dict(kinds or {})

    def load(self) -> Dataset:
        """Check and type the rows."""
        x, y = self.x() if callable(self.x) else (self.x, self.y)
        if y is None:
            raise DataError("y is None; expected a class or a number for each text")
        texts = {str(name): list(column) for name, column in (x if isinstance(x, Mapping) else {"text": x}).items()}
        for name, column in texts.items():
            _check(column, name)
        classes = tuple(self._options.get("classes") or ())
        targets = {name: list(values) for name, values in named_targets(y, TARGET, self._kind, classes).items()}
        columns = texts | self._beside | targets
        lengths = {name: len(column) for name, column in columns.items()}
        lengths |= {} if self.table is None else {"table": len(self.table)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the rows differ in number: {lengths}; expected one of each for every row")
        frame = pd.DataFrame({name: list(column) for name, column in columns.items()})
        if self.table is not None:
            if taken := sorted(set(map(str, self.table.columns)) & set(columns)):
                raise DataError(f"the table has a column named {taken[0]!r}, as others are; expected another name")
            frame = pd.concat([self.table.reset_index(drop=True), frame], axis=1)
        kinds = {"time": "drop"} if "time" in self._beside else {}  # models don't read it, as from `Arrays`
        kinds |= self._kinds | dict.fromkeys(texts, self._column_kind)
        kinds |= {} if self._kind is None else dict.fromkeys(targets, self._kind)
        roles: dict[str, Any] = {name: name for name in self._beside}
        loaded = Table(frame, target=list(targets), kinds=kinds, **self._options, **roles).load()
        notices = (*loaded.notices, *told_one_hot(y, TARGET, self._kind))
        return replace(loaded, given_as=type(self).__name__, notices=notices)


def _check(texts: Sequence[Any], name: str) -> None:
    for row, text in enumerate(texts):
        if not isinstance(text, str) and not is_missing(text):
            raise DataError(
                f"text {name!r}, row {row}: received {text!r} ({type(text).__name__}), expected a text, or None for an "
                "empty one"
            )
