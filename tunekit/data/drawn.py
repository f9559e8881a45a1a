"""Rows that were drawn batch by batch, in files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.columns import array_column, typed_column
from tunekit.data.lazy import FileRows, LazyRows, write_header, write_npy
from tunekit.data.pixels import EIGHT_BITS, are_bytes, are_pictures
from tunekit.data.schema import COLUMN_INPUTS
from tunekit.errors import DataError

FACTS = "rows.json"
"""Written last: a folder without it is not complete."""

SHARE_OF_DISK = 0.9
"""Of the free space, that the rows may take."""


@dataclass(frozen=True)
class Drawn:
    """The folder of the rows.

    Args:
        folder: holds `input_<k>.npy`, `target_<k>.npy`, perhaps `weight.npy`, and `rows.json`.
        inputs: name, shape and dtype of each input, and whether amounts came as whole numbers; the shape of numbers is
            empty.
        names: of the targets.
        rows: how many.
        batches: that they came in.
        classes: the names of the classes in the order of their numbers, where the source told them.
    """

    folder: Path
    inputs: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    rows: int
    batches: int
    classes: tuple[str, ...] = ()

    @classmethod
    def found(cls, folder: Path) -> Drawn | None:
        """What a folder holds; None if it is not there, or not complete."""
        if not (folder / FACTS).exists():
            return None
        facts = json.loads((folder / FACTS).read_text())
        classes = tuple(facts.get("classes", ()))
        return cls(folder, tuple(facts["inputs"]), tuple(facts["names"]), facts["rows"], facts["batches"], classes)

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    @property
    def targets(self) -> dict[str, npt.NDArray[Any]]:
        """Each target by its name as it came: (n,) or (n, columns)."""
        paths = [self.folder / f"target_{number}.npy" for number in range(len(self.names))]
        return {name: np.load(path, allow_pickle=False) for name, path in zip(self.names, paths, strict=True)}

    @property
    def weight(self) -> npt.NDArray[np.float64] | None:
        """(n,) or None."""
        path = self.folder / "weight.npy"
        return np.asarray(np.load(path, allow_pickle=False)) if path.exists() else None

    def column(self, given: dict[str, Any]) -> Any:
        """An input's cells: lazy rows, or numbers (n,)."""
        rows = FileRows(self.folder / f"input_{self.inputs.index(given)}.npy")
        return rows if given["shape"] else rows[:]


class Writer:
    """Writes batches into a folder, which is there in the end if all went well.

    Pictures whose numbers are bytes, whatever their type, are written as such: they take a quarter of the room, and
    models of them can read files. They are taken for bytes until a batch, or all of them together, shows otherwise.

    Args:
        folder: of the rows; an incomplete one is replaced.
        pictures: whether cells are pictures; without an axis of channels, they are given one.
        codes: names of inputs whose whole numbers are names, and are not scaled.
    """

    def __init__(self, folder: Path, *, pictures: bool, codes: Collection[str] = ()) -> None:
        self._codes = codes
        self._folder = folder
        self._pictures = pictures
        self._largest: dict[int, float] = {}  # by the place of an input that may have to be widened
        self._draft = folder.with_name(f"{folder.name}.part")
        self._inputs: list[dict[str, Any]] = []
        self._targets: list[dict[str, npt.NDArray[Any]]] = []
        self._weights: list[npt.NDArray[Any]] = []
        self._rows = 0
        self._written = 0
        self._most = 0.0
        self._open = ExitStack()

    def __enter__(self) -> Writer:
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        self._most = SHARE_OF_DISK * shutil.disk_usage(self._draft).free
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def add(
        self,
        inputs: dict[str, npt.NDArray[Any]],
        targets: dict[str, npt.NDArray[Any]],
        weight: npt.NDArray[Any] | None,
    ) -> None:
        """Write the rows of a batch.

        Raises:
            DataError: it isn't like the batches before.
        """
        if not self._targets:
            self._begin(inputs)
        names = [one["name"] for one in self._inputs]
        weighted = bool(self._weights) if self._targets else weight is not None
        if sorted(inputs) != sorted(names) or (weight is not None) != weighted:
            raise DataError(
                f"it has the inputs {', '.join(map(repr, inputs))}{'' if weight is None else ' and weights'}; expected "
                f"what the first batch has: {', '.join(map(repr, names))}{' and weights' if weighted else ''}"
            )
        shapes = {name: values.shape[1:] for name, values in targets.items()}
        if self._targets and shapes != (first := {name: one.shape[1:] for name, one in self._targets[0].items()}):
            raise DataError(f"its y has the targets {shapes}; expected what the first batch has: {first}")
        lengths = {name: len(cells) for name, cells in (inputs | targets).items()}
        lengths |= {} if weight is None else {"weight": len(weight)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"its parts differ in their number of rows: {lengths}; expected one of each for every row")
        for place, one in enumerate(self._inputs):
            given = inputs[one["name"]]
            if place in self._largest:
                self._look(place, given)
            cells = _typed(given, one)
            np.ascontiguousarray(cells).tofile(self._files[place])
            self._written += cells.nbytes
        if self._written > self._most:
            raise DataError(
                f"{self._written / 1e9:,.1f} GB of rows were drawn, and the disk has no room for more; expected an "
                "end: say steps=, or give folder= on a larger disk"
            )
        self._targets.append(targets)
        self._weights += [] if weight is None else [weight]
        self._rows += len(next(iter(targets.values())))

    def finish(self, classes: Sequence[str] = ()) -> Drawn:
        """Put the folder into its place.

        Args:
            classes: the names of the classes in the order of their numbers, if they are known.

        Raises:
            DataError: there was no row.
        """
        if not self._rows:
            raise DataError("the source has no rows; expected batches (x, y)")
        for place in [place for place, most in self._largest.items() if most < EIGHT_BITS]:
            self._widen(place)
        for one, file in zip(self._inputs, self._files, strict=True):
            file.seek(0)
            self._header(file, one)
        self._open.close()
        names = tuple(self._targets[0])
        for number, name in enumerate(names):
            values = _plain(np.concatenate([some[name] for some in self._targets]))
            np.save(self._draft / f"target_{number}.npy", values, allow_pickle=False)
        if self._weights:
            np.save(self._draft / "weight.npy", np.concatenate(self._weights).astype(np.float64))
        drawn = Drawn(self._folder, tuple(self._inputs), names, self._rows, len(self._targets), tuple(classes))
        facts = {name: value for name, value in asdict(drawn).items() if name != "folder"}
        (self._draft / FACTS).write_text(json.dumps(facts, indent=1))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._draft.rename(self._folder)
        return drawn

    def _begin(self, inputs: dict[str, npt.NDArray[Any]]) -> None:
        if taken := sorted(COLUMN_INPUTS & set(inputs)):
            raise DataError(f"an input is named {taken[0]!r}, as that of a table's columns is; expected another name")
        for name, cells in inputs.items():
            if cells.dtype.kind not in "buif" or not cells.ndim:
                raise DataError(
                    f"input {name!r} came as {cells.dtype} of shape {cells.shape}; expected numbers, (rows,) or (rows, "
                    "...): give texts as the numbers of their words, which kinds={name: 'codes'} keeps as they are, "
                    "and classes as their numbers"
                )
            shape = (*cells.shape[1:], 1) if self._pictures and cells.ndim == 3 else cells.shape[1:]
            small = "uint8" if cells.dtype == np.uint8 else "float32"
            dtype = "float64" if not shape else "int32" if name in self._codes else small
            if self._pictures and dtype == "float32" and are_pictures(shape) and are_bytes(cells):
                self._largest[len(self._inputs)] = 0.0
                dtype = "uint8"
            whole = {"whole": True} if dtype == "float32" and cells.dtype.kind in "iu" else {}
            self._inputs.append({"name": name, "shape": list(shape), "dtype": dtype, **whole})
        self._files: list[Any] = [
            self._open.enter_context(self._path(place).open("wb")) for place in range(len(inputs))
        ]
        for one, file in zip(self._inputs, self._files, strict=True):
            self._header(file, one)

    def _path(self, place: int) -> Path:
        return self._draft / f"input_{place}.npy"

    def _look(self, place: int, cells: npt.NDArray[Any]) -> None:
        """Whether an input that was written as bytes can go on so."""
        if are_bytes(cells):
            self._largest[place] = max(self._largest[place], float(cells.max(initial=0)))
        else:
            self._widen(place)

    def _widen(self, place: int) -> None:
        """Let the file of an input that was written as bytes hold any numbers."""
        del self._largest[place]
        given, file, path = self._inputs[place], self._files[place], self._path(place)
        file.seek(0)
        self._header(file, given)
        file.close()
        given["dtype"] = "float32"
        rows = FileRows(path)
        wide = path.with_suffix(".wide")
        write_npy(wide, rows.mapped(lambda cells: cells, np.float32))
        wide.replace(path)
        self._written += 3 * rows.nbytes
        self._files[place] = self._open.enter_context(path.open("r+b"))
        self._files[place].seek(0, os.SEEK_END)

    def _header(self, file: Any, given: dict[str, Any]) -> None:
        write_header(file, np.dtype(given["dtype"]), (self._rows, *given["shape"]))


def on_disk(rows: LazyRows) -> FileRows:
    """Rows that are made once, some at a time, and written to a temporary file, which goes when they do.

    Raises:
        DataError: the disk has no room for them.
    """
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if rows.nbytes > SHARE_OF_DISK * free:
        raise DataError(
            f"the rows take {rows.nbytes / 1e9:,.1f} GB, and the disk of {place!r} has {free / 1e9:,.1f} GB left; "
            "expected room for them in a temporary file: make them smaller, or set TMPDIR to a folder on a larger disk"
        )
    folder = Path(tempfile.mkdtemp(prefix="tunekit-rows-"))
    try:
        write_npy(folder / "rows.npy", rows)
        made = FileRows(folder / "rows.npy")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made


def _typed(cells: npt.NDArray[Any], given: dict[str, Any]) -> npt.NDArray[Any]:
    if not given["shape"]:
        return typed_column(cells, "number", given["name"])
    return array_column(cells, tuple(given["shape"]), given["dtype"], given["name"])


def _plain(target: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The target without objects, which a file without pickle can't hold."""
    return target.astype(str) if target.dtype == object else target
