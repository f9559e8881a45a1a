"""`Arrays` and `Images`: rows whose cells are arrays, such as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import ARRAY, array_column
from tunekit.bundle.pictures import read_picture
from tunekit.data.batches import comes_in_batches
from tunekit.data.codes import CODES, amounts, check_codes
from tunekit.data.dataset import Dataset
from tunekit.data.drawn import on_disk
from tunekit.data.lazy import LazyRows, Places
from tunekit.data.pixels import are_pictures, need_bytes
from tunekit.data.roles import (
    checked_kind,
    groups_of,
    in_order,
    row_times,
    row_weights,
    typed_y,
    weights_by_class,
)
from tunekit.data.schema import COLUMN_INPUTS, Column, Schema
from tunekit.data.store import MOST_IN_MEMORY
from tunekit.data.table import Table
from tunekit.data.targets import named_targets, told_one_hot
from tunekit.errors import DataError

Cells = npt.NDArray[Any] | Sequence[Any]
Given = tuple[Any, Any] | Callable[[], tuple[Any, Any]]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""Of the files that `Images` reads from a folder."""


TARGET = "y"
"""Name of the target."""


def left_in(folder: Path, files: Sequence[Path]) -> list[str]:
    """What is said of files and folders by class that give no picture."""
    others = sorted({path for path in folder.rglob("*") if path.is_file()} - set(files))
    empty = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path not in {one.parent for one in files}
    )
    notices = []
    if others:
        notices.append(
            f"{len(others)} file(s) are left out, such as {str(others[0].relative_to(folder))!r}: pictures stand in "
            f"the folder of their class and end with {', '.join(ENDINGS)}"
        )
    if empty:
        notices.append(f"{len(empty)} folder(s) without pictures are no class: {', '.join(empty)}")
    return notices


class Arrays:
    """Rows of arrays in memory: one input, or several by name.

    Every input is an array of n rows whose cells have one shape: (height, width, channels) for images, (steps,
    channels) for sequences. Each channel, the last axis, is scaled to mean 0 and deviation 1 by the training rows.

    Args:
        x: an array, or a dict of arrays; or a function that returns (x, y).
        y: n classes or numbers, or one-hot rows (n, classes); or several targets: a matrix (n, targets), a DataFrame or
            a dict of columns. A matrix with one 1 in each row, and else 0, is one-hot; a DataFrame never is.
        table: n rows of numbers, dates and categories that models read too; see `Table`.
        weight: n non-negative row weights.
        time: n dates or numbers: rows are ordered by it, and judged on later ones than they train on. Models don't read
            it. Of windows of history it is the moment of the target; where that is some time after the window's end,
            `TimeSplit(gap=)` says how long, so that no training target is later than the first judged forecast.
        group: n values: rows of one group never stand on both sides of a split, unless it is in time.
        classes: the classes in order; of two, the second is the positive one. Of one-hot rows, the names of their
            columns. Default: sorted.
        ordered: whether they have an order; see `Table`.
        class_weight: what rows of each class weigh in training; see `Table`.
        kind: of `y`: "category" or "number"; what it looks like if left out: few whole numbers are classes.
        kinds: of the table's columns, where they aren't what they look like, such as {"said": "text"}; see `Table`. Of
            targets, where there are several: "category" or "number". {"words": "codes"} for an input of whole numbers
            that are names, not amounts, such as those of words: they are not scaled, and a net of your own may look
            them up in an `Embedding`.

    Raises:
        DataError: on `load`, where the rows can't be used; it names the row.

    >>> data = Arrays(np.zeros((4, 8, 8, 1)), ["cat", "dog", "cat", "dog"]).load()
    >>> data.task, data.classes, data.schema.columns[0].shape
    ('binary', ('cat', 'dog'), (8, 8, 1))
    """

    suits = "arrays"
    input_name = "array"

    def __init__(
        self,
        x: Cells | Mapping[str, Cells] | Callable[[], tuple[Any, Any]],
        y: Any = None,
        *,
        table: pd.DataFrame | None = None,
        weight: Any = None,
        time: Any = None,
        group: Any = None,
        classes: tuple[Any, ...] | list[Any] | None = None,
        ordered: bool = False,
        class_weight: Mapping[Any, Any] | str | None = None,
        kind: str | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = checked_kind(kind)
        self.kinds = dict(kinds or {})
        self._codes = {name for name, one in self.kinds.items() if one == CODES}
        self.x = x
        self.y = y
        self.table = table
        self.weight = weight
        self.time = time
        self.group = group
        self.classes = tuple(classes or ())
        self.ordered = ordered
        self.class_weight = class_weight
        self._notices: list[str] = []

    def load(self) -> Dataset:
        """Check and type the rows."""
        notices = self._notices = []
        x, y = self.rows()
        if y is None:
            raise DataError("y is None; expected a class or a number for each row")
        inputs = dict(x) if isinstance(x, Mapping) else {self.input_name: x}
        if taken := sorted(COLUMN_INPUTS & set(map(str, inputs))):
            raise DataError(f"an input is named {taken[0]!r}, as that of a table's columns is; expected another name")
        check_codes(self._codes, inputs)
        columns, typed = [], {}
        for name, cells in inputs.items():
            column, typed[str(name)] = self.column(str(name), cells)
            columns.append(column)
            if self.suits == "arrays" and column.dtype == "float32" and np.asarray(cells[0]).dtype.kind in "iu":
                notices.append(amounts(str(name)))
        others = None if self.table is None else self._beside(typed, y)
        wanted = named_targets(y, TARGET, self.kind, self.classes)
        notices += told_one_hot(y, TARGET, self.kind)
        known = {*wanted, *self._codes, *([] if self.table is None else map(str, self.table.columns))}
        if wrong := sorted(set(self.kinds) - known):
            raise DataError(
                f"kinds names {wrong[0]!r}, which is no target, no input of codes and no column of a table; expected "
                f"one of {', '.join(sorted(known))}"
            )
        kinds = {name: one for name, one in self.kinds.items() if name in wanted}
        target, classes, targets = typed_y(wanted, self.kind, self.classes, kinds)
        lengths = {name: len(cells) for name, cells in typed.items()} | {TARGET: len(target)}
        lengths |= {name: len(values) for name, values in self._of_rows().items()}
        if others is not None:
            columns, typed = [*others.schema.columns, *columns], others.columns | typed
        if len(set(lengths.values())) > 1:
            raise DataError(f"the rows differ in number: {lengths}; expected one of each for every row")
        return Dataset(
            schema=Schema(tuple(columns)),
            columns=typed,
            target=target,
            classes=classes,
            ids=np.arange(len(target)),
            time=None if self.time is None else row_times(self.time, "time", "time"),
            group=None if self.group is None else groups_of(self.group, "group"),
            weight=None if self.weight is None else row_weights(self.weight, "weight"),
            notices=(*notices, *(() if others is None else others.notices)),
            targets=targets,
            ordered=in_order(classes, self.ordered),
            class_weight=weights_by_class(self.class_weight, classes, targets),
            given_as=type(self).__name__,
        )

    def _of_rows(self) -> dict[str, Any]:
        """What was given for each row and models don't read."""
        given = {"weight": self.weight, "time": self.time, "group": self.group}
        found = {name: values for name, values in given.items() if values is not None}
        for name, values in found.items():
            if isinstance(values, str):
                raise DataError(
                    f"{name}={values!r}; expected a value for each row, such as a column: frame[{values!r}]"
                )
        return found

    def _beside(self, arrays: Mapping[str, Any], y: Any) -> Dataset:
        """The table's columns."""
        assert self.table is not None
        table = self.table.reset_index(drop=True)
        name, values = next(iter(named_targets(y, TARGET).items()))
        taken = set(map(str, table.columns)) & {*arrays, name}
        if taken or len(table) != len(values):
            told = f"{len(table)} rows" if not taken else f"columns named {', '.join(sorted(taken))}, as an input is"
            raise DataError(f"the table has {told}; expected {len(values)} rows, and names of its own for its columns")
        kinds = {column: one for column, one in self.kinds.items() if column in table.columns}
        return Table(table.assign(**{name: list(values)}), target=name, kinds=kinds).load()

    def rows(self) -> tuple[Any, Any]:
        """(x, y) as they were given."""
        made: Any = self.x() if callable(self.x) else (self.x, self.y)
        pair = isinstance(made, (tuple, list)) and len(made) == 2
        told = made[0] if pair else made
        if comes_in_batches(told):
            source, suits = "function" if callable(self.x) else "data", ", suits='images'" * (self.suits == "images")
            raise DataError(
                f"{'the function returned' if callable(self.x) else 'x is'} a {type(told).__name__}, whose rows come "
                f"in batches; expected arrays: use tk.Batches({source}{suits}), which draws them once"
            )
        if not pair:
            count = f" of {len(made)} parts" if isinstance(made, (tuple, list)) else ""
            raise DataError(f"the function returned a {type(made).__name__}{count}; expected (x, y)")
        return made[0], made[1]

    def column(self, name: str, cells: Any) -> tuple[Column, npt.NDArray[Any]]:
        """The column of an input, and its cells with a type."""
        first = np.asarray(cells[0]) if len(cells) else np.empty(0)
        if not first.ndim or first.dtype == object:
            raise DataError(
                f"input {name!r} has cells of shape {first.shape}; expected arrays of numbers of equal shape"
            )
        shape = self.shape_of(name, first.shape)
        small = isinstance(cells, np.ndarray) and cells.dtype == np.uint8
        dtype = "int32" if name in self._codes else "uint8" if small else "float32"
        column = Column(name, ARRAY, shape=shape, dtype=dtype)
        return column, array_column(cells, shape, column.dtype, name)

    def shape_of(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a column by that of its first cell."""
        del name
        return shape


class Images(Arrays):
    """Pictures in memory, or in a folder that has a folder of files for each class.

    Args:
        x: (n, height, width) or (n, height, width, channels); n paths of files; a function that returns (x, y); or a
            folder.
        y: n classes or numbers; of a folder, the names of its folders.
        size: (height, width) that files are brought to; that of the first one if left out.
        gray: read files as shades of gray, one channel instead of three.
        more: see `Arrays`.

    Raises:
        DataError: on `load`; a file that is no picture is named.
    """

    suits = "images"
    input_name = "image"

    def __init__(
        self,
        x: Cells | Callable[[], tuple[Any, Any]] | str | Path,
        y: Any = None,
        *,
        size: tuple[int, int] | None = None,
        gray: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(self._of_folder if isinstance(x, (str, Path)) else x, y, **more)
        self._folder = Path(x) if isinstance(x, (str, Path)) else None
        self._size = size
        self._gray = gray

    def column(self, name: str, cells: Any) -> tuple[Column, Any]:
        """See `Arrays.column`; paths of files become pictures, and so do whole numbers that are bytes."""
        listed = cells if isinstance(cells, np.ndarray) else list(cells)
        if len(listed) and isinstance(listed[0], (str, Path)):
            pictures = self._read(list(listed))
            return Column(name, ARRAY, shape=pictures.shape[1:], dtype="uint8"), pictures
        column, typed = super().column(name, listed)
        whole = column.dtype == "float32" and np.asarray(listed[0]).dtype.kind in "iu"
        if whole and are_pictures(column.shape) and need_bytes(typed):
            return replace(column, dtype="uint8"), typed.astype(np.uint8)
        return column, typed

    def shape_of(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Height, width and channels; a picture without an axis of channels has one."""
        if len(shape) not in (2, 3):
            raise DataError(f"input {name!r} has cells of shape {shape}; expected (height, width) or with channels")
        return shape if len(shape) == 3 else (*shape, 1)

    def _of_folder(self) -> tuple[list[Path], list[str]]:
        assert self._folder is not None
        files = [path for path in sorted(self._folder.glob("*/*")) if path.suffix.lower() in ENDINGS]
        if not files:
            raise DataError(
                f"{str(self._folder)!r} has no pictures in folders by class ({', '.join(ENDINGS)}); expected files "
                "such as cat/001.png"
            )
        self._notices += left_in(self._folder, files)
        return files, [path.parent.name for path in files]

    def _read(self, files: Sequence[str | Path]) -> Any:
        """Pictures of files, all brought to one size: in memory, or on disk if trials won't hold them either."""
        for row, path in enumerate(files):
            if not isinstance(path, (str, Path)):
                raise DataError(f"row {row} has no picture: received {path!r}, expected the path of a file")
        channels = 1 if self._gray else 3
        shape = read_picture(files[0], channels, self._size).shape

        def read(places: Places) -> npt.NDArray[np.uint8]:
            cells = np.empty((len(places), *shape), dtype=np.uint8)
            for at, place in enumerate(places):
                cells[at] = read_picture(files[place], channels, shape[:2])
            return cells

        rows = LazyRows(read, (len(files), *shape), np.dtype(np.uint8))
        if 4 * rows.size <= MOST_IN_MEMORY:
            return rows[:]
        self._notices.append(
            f"{len(files)} pictures were read into a temporary file ({rows.nbytes / 1e6:,.0f} MB), not into memory"
        )
        return on_disk(rows)
