"""`Arrays` and `Images`: rows whose cells are arrays, such as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import ARRAY, array_column
from tunekit.bundle.pictures import read_picture
from tunekit.data.codes import CODES, amounts, check_codes
from tunekit.data.dataset import Dataset
from tunekit.data.schema import COLUMN_INPUTS, Column, Schema
from tunekit.data.table import Table, checked_kind, groups_of, in_order, row_weights, typed_y, weights_by_class
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
        group: n values: rows of one group never stand on both sides of a split.
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
        beside = {"weight": self.weight, "group": self.group}
        lengths |= {name: len(values) for name, values in beside.items() if values is not None}
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
            group=None if self.group is None else groups_of(self.group, "group"),
            weight=None if self.weight is None else row_weights(self.weight, "weight"),
            notices=(*notices, *(() if others is None else others.notices)),
            targets=targets,
            ordered=in_order(classes, self.ordered),
            class_weight=weights_by_class(self.class_weight, classes, targets),
        )

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
        return self.x() if callable(self.x) else (self.x, self.y)

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

    def column(self, name: str, cells: Any) -> tuple[Column, npt.NDArray[Any]]:
        """See `Arrays.column`; paths of files become pictures."""
        listed = cells if isinstance(cells, np.ndarray) else list(cells)
        if len(listed) and isinstance(listed[0], (str, Path)):
            listed = self._read(list(listed))
        return super().column(name, listed)

    def shape_of(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Height, width and channels; a picture without an axis of channels has one."""
        if len(shape) not in (2, 3):
            raise DataError(f"input {name!r} has cells of shape {shape}; expected (height, width) or with channels")
        return shape if len(shape) == 3 else (*shape, 1)

    def _of_folder(self) -> tuple[npt.NDArray[np.uint8], list[str]]:
        assert self._folder is not None
        files = [path for path in sorted(self._folder.glob("*/*")) if path.suffix.lower() in ENDINGS]
        if not files:
            raise DataError(
                f"{str(self._folder)!r} has no pictures in folders by class ({', '.join(ENDINGS)}); expected files "
                "such as cat/001.png"
            )
        self._notices += left_in(self._folder, files)
        return self._read(files), [path.parent.name for path in files]

    def _read(self, files: Sequence[str | Path]) -> npt.NDArray[np.uint8]:
        """Pictures of files, all brought to one size."""
        cells: list[npt.NDArray[np.uint8]] = []
        for row, path in enumerate(files):
            if not isinstance(path, (str, Path)):
                raise DataError(f"row {row} has no picture: received {path!r}, expected the path of a file")
            size = self._size or (cells[0].shape[:2] if cells else None)
            cells.append(read_picture(path, 1 if self._gray else 3, size))
        return np.stack(cells)
