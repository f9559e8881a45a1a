"""`Batches`: rows that a generator makes, or that memory doesn't hold."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.columns import ARRAY
from tunekit.data.codes import CODES, amounts, check_codes
from tunekit.data.dataset import Dataset
from tunekit.data.drawn import Drawn, Writer
from tunekit.data.pixels import are_pictures
from tunekit.data.roles import checked_kind, groups_of, in_order, row_times, row_weights, typed_y, weights_by_class
from tunekit.data.schema import Column, Schema
from tunekit.data.targets import named_targets, told_one_hot
from tunekit.errors import DataError

TARGET = "y"
"""Name of the target."""

NAMES = {"arrays": "array", "images": "image"}
"""What may be said of the rows, and the name of their input where a batch has but one."""

ENDLESS = -1
"""What `tf.data` calls the number of batches of a data set that has no end."""


class Batches:
    """Rows in batches, from a `keras.utils.PyDataset`, a `tf.data.Dataset` or a generator.

    The source is read once, and each batch is written to disk as it comes. Everything after that reads rows from
    there: the split, out-of-fold predictions, the blend and the judgement are the same as for any data. If the rows
    are more than memory should hold, nets are trained by `model.fit`, batch by batch; models that need all rows at
    once learn from a sample.

    As a row is drawn only once, random augmentation belongs into the model, as layers such as
    `keras.layers.RandomFlip`: there it is drawn anew in each epoch.

    A batch is (x, y) or (x, y, weight). x is an array, or a dict of named arrays: (m, ...) with cells of the same
    shape in every batch, or (m,) for numbers. y holds m numbers or classes, (m,) or (m, 1), or one-hot rows;
    or several targets: a dict of such, or a matrix (m, targets). A matrix with one 1 in each row of all batches, and
    else 0, is one-hot; a dict of columns (m,) is several targets.

    Args:
        source: a data set; or a function that returns one, or an iterator of batches. If it is a function, that is not
            called, and what it imports not loaded, where `folder` has the rows.
        steps: so many batches are drawn; needed where the source has no end.
        folder: keeps the rows, and where it has them, the source isn't read again: delete it to draw them anew. Left
            out, they are in a temporary folder and drawn anew by each command, which then must draw the same.
        suits: "arrays" or "images": the families that are searched by default. Of images whose numbers are bytes, of
            any type, the bundle reads files, too.
        time: when each row is, see `Arrays`: the name of an input of numbers, such as seconds, which comes with the
            batches and which models then don't read; or dates or numbers for all rows, in the order of the batches.
        group: rows that belong together, see `Arrays`: named or given likewise.
        classes: the classes in order; of two, the second is the positive one. Default: sorted. Texts for a target of
            whole numbers, or of one-hot rows, are the names of 0, 1, ...; a source's own `class_names`, which
            `keras.utils.image_dataset_from_directory` gives, need not be said.
        ordered: whether they have an order; see `Table`.
        class_weight: what rows of each class weigh in training; see `Table`.
        kinds: {"words": "codes"} for an input of whole numbers that are names; see `Arrays`.
        kind: of `y`: "category" or "number"; what it looks like if left out: few whole numbers are classes.

    Raises:
        DataError: on `load`, where a batch can't be used; it is named by its number, from 0.

    >>> def draw():
    ...     for number in range(3):
    ...         yield np.full((4, 8, 8, 1), number), np.array([0, 1, 0, 1])
    >>> data = Batches(draw).load()
    >>> len(data), data.classes, data.schema.columns[0].shape
    (12, (0, 1), (8, 8, 1))
    """

    def __init__(
        self,
        source: Any,
        *,
        steps: int | None = None,
        folder: str | Path | None = None,
        suits: str = "arrays",
        time: Any = None,
        group: Any = None,
        classes: tuple[Any, ...] | list[Any] | None = None,
        ordered: bool = False,
        class_weight: Mapping[Any, Any] | str | None = None,
        kind: str | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        if wrong := [one for one in (kinds or {}).values() if one != CODES]:
            raise DataError(f"the kind {wrong[0]!r} is none of an input of batches; expected {CODES!r}")
        if suits not in NAMES:
            raise DataError(f"suits is {suits!r}; expected one of {', '.join(map(repr, NAMES))}")
        if steps is not None and steps < 1:
            raise DataError(f"steps is {steps}; expected at least one batch")
        self.source = source
        self.steps = steps
        self.folder = None if folder is None else Path(folder)
        self.suits = suits
        self.time = time
        self.group = group
        self.classes = tuple(classes or ())
        self.ordered = ordered
        self.class_weight = class_weight
        self.kind = checked_kind(kind)
        self.kinds = dict(kinds or {})
        self._drawn: Drawn | None = None

    def load(self) -> Dataset:
        """Draw the rows, unless that was done before, and check their target."""
        notices = []
        drawn = self._drawn or (None if self.folder is None else Drawn.found(self.folder))
        if drawn is None:
            drawn = self._draw()
            notices = [
                f"{drawn.rows} rows in {drawn.batches} batches were drawn and written to "
                f"{'a temporary folder' if self.folder is None else str(self.folder)!r} ({drawn.nbytes / 1e6:,.0f} MB)"
            ]
        self._drawn = drawn
        check_codes(self.kinds, [one["name"] for one in drawn.inputs])
        if stale := [one["name"] for one in drawn.inputs if (one["dtype"] == "int32") != (one["name"] in self.kinds)]:
            raise DataError(f"{str(self.folder)!r} has input {stale[0]!r} of another kind; delete it to draw it anew")
        time, group = _of_rows("time", self.time, drawn), _of_rows("group", self.group, drawn)
        inputs = self._inputs(drawn)
        if self.suits == "arrays":
            notices += [amounts(one["name"]) for one in inputs if one.get("whole")]
        else:
            notices += [_no_files(column.name) for column in map(self._column, inputs) if _reads_no_file(column)]
        notices += told_one_hot(drawn.targets, TARGET, self.kind)
        wanted = named_targets(drawn.targets, TARGET, self.kind, drawn.classes or self.classes)
        wanted, order = self._named(wanted, drawn.classes)
        target, classes, targets = typed_y(wanted, self.kind, order)
        return Dataset(
            schema=Schema(tuple(self._column(one) for one in inputs)),
            columns={one["name"]: drawn.column(one) for one in inputs},
            target=target,
            classes=classes,
            ids=np.arange(drawn.rows),
            time=None if time is None else row_times(time, "time", "time"),
            group=None if group is None else groups_of(group, "group"),
            weight=None if drawn.weight is None else row_weights(drawn.weight, "weight"),
            notices=tuple(notices),
            targets=targets,
            ordered=in_order(classes, self.ordered),
            class_weight=weights_by_class(self.class_weight, classes, targets),
            given_as="Batches",
        )

    def _named(self, targets: dict[str, Any], told: tuple[str, ...]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The targets, with names for classes that came as the positions of these, and the order of the classes."""
        names: tuple[Any, ...] = told or self.classes
        [target, given] = next(iter(targets.items()))
        values = np.asarray(given)
        if told and len(targets) == 1 and set(values.tolist()) <= set(told):  # one-hot rows have their names already
            return targets, self.classes or tuple(name for name in told if name in set(values.tolist()))
        places = values.dtype.kind in "biuf" and bool(np.isin(values, np.arange(len(names))).all())
        texts = all(isinstance(one, str) for one in self.classes)
        if not places or not texts or len(targets) > 1 or self.kind == "number":
            return targets, self.classes
        numbers = values.astype(int)
        found = tuple(names[number] for number in np.unique(numbers))
        return {target: np.array(names, dtype=object)[numbers]}, self.classes or found

    def _inputs(self, drawn: Drawn) -> list[dict[str, Any]]:
        """The inputs that models read."""
        named = [one for one in (self.time, self.group) if isinstance(one, str)]
        inputs = [one for one in drawn.inputs if one["name"] not in named]
        if not inputs:
            raise DataError(f"no input is left to learn from beside {', '.join(named)}; expected at least one")
        return inputs

    def _column(self, given: dict[str, Any]) -> Column:
        if not given["shape"]:
            return Column(given["name"], "number")
        return Column(given["name"], ARRAY, shape=tuple(given["shape"]), dtype=given["dtype"])

    def _draw(self) -> Drawn:
        folder = self.folder
        if folder is None:
            temporary = tempfile.mkdtemp(prefix="tunekit-rows-")
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
            folder = Path(temporary) / "rows"
        made = self._made()
        with Writer(folder, pictures=self.suits == "images", codes=self.kinds) as writer:
            for number, batch in enumerate(self._batches(made)):
                try:
                    writer.add(*_parts(batch, NAMES[self.suits]))
                except DataError as error:
                    raise DataError(f"batch {number}: {error}") from error
            return writer.finish(tuple(map(str, getattr(made, "class_names", None) or ())))

    def _made(self) -> Any:
        """The data set, or the iterator."""
        source = self.source
        if not callable(source) and hasattr(source, "__next__"):
            raise DataError(
                f"the source is a {type(source).__name__}, which can be read once only; expected the function that "
                "makes it, or a PyDataset or tf.data.Dataset"
            )
        return source() if callable(source) else source

    def _batches(self, made: Any) -> Iterator[Any]:
        batches, count = _of_data_set(made)
        if count == ENDLESS and self.steps is None:
            raise DataError(
                f"the {type(made).__name__} has no end; expected steps=N: so many batches are drawn, once, and all "
                "epochs train on them"
            )
        return islice(batches, self.steps)


def comes_in_batches(made: Any) -> bool:
    """Whether something is a data set, a generator or another iterator, and not rows that can be looked at in place."""
    in_place = hasattr(made, "__len__") and hasattr(made, "__getitem__")
    return (
        hasattr(made, "as_numpy_iterator")
        or hasattr(made, "num_batches")
        or (hasattr(made, "__iter__") and not in_place)
    )


def _no_files(name: str) -> str:
    """What is said of pictures of which a bundle reads no files."""
    return (
        f"the bundle will take pictures of input {name!r} as arrays, not as files: their numbers are not, as those of "
        "files, whole, from 0 to 255 and some of them above 127. If resizing made them so, round them, as in "
        "dataset.map(lambda x, y: (tf.cast(tf.round(x), 'uint8'), y)); if they are scaled, leave that to the nets"
    )


def _reads_no_file(column: Column) -> bool:
    return column.kind == ARRAY and column.dtype == "float32" and are_pictures(column.shape)


def _of_data_set(made: Any) -> tuple[Iterator[Any], int | None]:
    """The batches of a data set or iterator, and how many there are: `ENDLESS`, or None if that can't be told."""
    if hasattr(made, "as_numpy_iterator"):
        return made.as_numpy_iterator(), int(made.cardinality())
    if hasattr(made, "__getitem__") and hasattr(made, "__len__"):
        count = getattr(made, "num_batches", len(made))
        endless = count is None or count == float("inf")
        numbers: Any = iter(int, 1) if endless else range(int(count))  # the first never gives the 1 that would end it
        return (made[number] for number, _ in enumerate(numbers)), ENDLESS if endless else int(count)
    if hasattr(made, "__iter__"):
        return iter(made), None
    raise DataError(
        f"the source is a {type(made).__name__}; expected a keras.utils.PyDataset, a tf.data.Dataset, or a function "
        "that returns one of these or an iterator of batches (x, y)"
    )


def _of_rows(role: str, given: Any, drawn: Drawn) -> Any:
    """(n,): what is said of each row, by the name of an input or as it is; None if nothing is."""
    if given is None:
        return None
    if isinstance(given, str):
        numbers = {one["name"]: one for one in drawn.inputs if not one["shape"]}
        if given not in numbers:
            raise DataError(
                f"{role}={given!r} is no input of numbers, (rows,), but {', '.join(numbers) or 'none'} is; expected "
                "x of each batch to be a dict that holds it, or a value for each row"
            )
        return drawn.column(numbers[given])
    if len(given) != drawn.rows:
        raise DataError(
            f"{role} has {len(given)} values, and {drawn.rows} rows were drawn; expected one for each, in their order"
        )
    return given


def _parts(batch: Any, name: str) -> tuple[dict[str, Any], dict[str, Any], npt.NDArray[Any] | None]:
    """The inputs by name, the targets by name and the weights of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        told = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise DataError(f"it came as {told}; expected (x, y) or (x, y, weight)")
    x, y, weight = (*batch, None)[:3]
    if isinstance(x, (tuple, list)):
        raise DataError(f"its x is a {type(x).__name__}; expected an array, or a dict of named arrays")
    inputs = {str(key): np.asarray(value) for key, value in x.items()} if hasattr(x, "items") else {name: np.asarray(x)}
    targets = {str(key): value for key, value in y.items()} if hasattr(y, "items") else {TARGET: y}
    made = {key: _target(np.asarray(value)) for key, value in targets.items()}
    return inputs, made, None if weight is None else np.asarray(weight).reshape(-1)


def _target(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(m,) or (m, columns)."""
    if y.ndim not in (1, 2):
        raise DataError(f"its y has shape {y.shape}; expected one number or class per row, or a row of them")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    bytes_only = y.dtype.kind in "SO" and y.size and isinstance(y.flat[0], bytes)  # texts, as TensorFlow has them
    return np.vectorize(bytes.decode)(y) if bytes_only else y
