"""Rows that are read or made when they are asked for, so that memory never holds all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

CHUNK = 1024
"""Rows that are looked at together, at most."""

CHUNK_BYTES = 16 * 2**20
"""Bytes of them, at most."""


MOST_WRITTEN = 65_536
"""Rows that are written together, at most."""


class LazyRows:
    """An array (n, *shape) of which only the rows that are asked for exist. It is read, never written.

    Indexing by a slice or by row positions gives a NumPy array; `take`, `mapped` and `joined` give lazy rows again.

    Args:
        read: from row positions, (m,), to their cells, (m, *shape).
        shape: (n, *shape).
        dtype: of the cells.

    >>> rows = LazyRows(lambda places: np.sqrt(places)[:, None], (10**12, 1), np.dtype(float))
    >>> rows.take(np.array([4, 9, 16])).mapped(lambda cells: -cells, rows.dtype)[1:]
    array([[-3.],
           [-4.]])
    """

    def __init__(self, read: Callable[[Places], Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._read = read
        self.shape = shape
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Axes, that of the rows included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Values in all rows."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: int | slice | Places) -> npt.NDArray[Any]:
        if isinstance(key, (int, np.integer)):
            return np.asarray(self[np.array([key])][0])
        places = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key)
        return np.asarray(self._read(places), dtype=self.dtype).reshape(len(places), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("lazy rows become an array by a copy only")
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, places: Places) -> LazyRows:
        """The rows at these positions."""
        return LazyRows(lambda some: self._read(places[some]), (len(places), *self.shape[1:]), self.dtype)

    def mapped(self, function: Callable[[Any], Any], dtype: Any, shape: tuple[int, ...] | None = None) -> LazyRows:
        """What a function makes of the rows, row by row.

        Args:
            function: from cells (m, *shape) to others.
            dtype: of those.
            shape: of one of those; as it is if left out.
        """
        cell = self.shape[1:] if shape is None else shape
        return LazyRows(lambda some: function(self[some]), (len(self), *cell), np.dtype(dtype))

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        """All rows in order, some at a time."""
        step = rows_at_once(self, MOST_WRITTEN)
        return (self[start : start + step] for start in range(0, len(self), step))

    @classmethod
    def joined(cls, parts: Sequence[Any]) -> LazyRows:
        """The rows of several arrays, lazy or not, one after the other."""
        ends = np.cumsum([len(part) for part in parts])
        first = parts[0]

        def read(places: Places) -> Any:
            cells = np.empty((len(places), *first.shape[1:]), dtype=first.dtype)
            which = np.searchsorted(ends, places, side="right")
            for number, part in enumerate(parts):
                here = which == number
                cells[here] = part[places[here] - (ends[number] - len(part))]
            return cells

        return cls(read, (int(ends[-1]), *first.shape[1:]), first.dtype)


class FileRows(LazyRows):
    """Rows of a `.npy` file.

    Args:
        path: of the file; it must stay as it is.
        places: the rows' positions in it; all of them if left out.
        cells: the file, mapped, if it is so already.
    """

    def __init__(self, path: Path, places: Places | None = None, cells: Any = None) -> None:
        self.path = path
        cells = np.load(path, mmap_mode="r", allow_pickle=False) if cells is None else cells
        self._cells = cells
        where = self.places = np.arange(len(cells)) if places is None else places
        super().__init__(lambda some: cells[where[some]], (len(where), *cells.shape[1:]), cells.dtype)

    def take(self, places: Places) -> FileRows:
        """The rows at these positions."""
        return FileRows(self.path, self.places[places], self._cells)


def rows_at_once(array: Any, most: int = CHUNK) -> int:
    """So many rows of an array are looked at together: `most`, or fewer if they are large; at least one."""
    row = int(np.prod(array.shape[1:], dtype=np.int64)) * max(array.dtype.itemsize, 4)
    return max(1, min(most, int(CHUNK_BYTES // max(row, 1))))


def side_by_side(parts: Sequence[Any], dtype: Any) -> LazyRows:
    """The values of several arrays of as many rows, lazy or not: (n, sum of their values in a row)."""
    widths = [int(np.prod(part.shape[1:], dtype=np.int64)) for part in parts]

    def read(places: Places) -> Any:
        cells = [np.asarray(part[places], dtype=dtype) for part in parts]
        return np.concatenate([cell.reshape(len(places), width) for cell, width in zip(cells, widths, strict=True)], 1)

    return LazyRows(read, (len(parts[0]), sum(widths)), np.dtype(dtype))


def write_npy(path: Path, array: Any) -> None:
    """Write an array, lazy or not, as a `.npy` file; of a lazy one some rows at a time."""
    if not isinstance(array, LazyRows):
        np.save(path, np.ascontiguousarray(array))
        return
    with path.open("wb") as file:
        write_header(file, array.dtype, array.shape)
        for cells in array.chunks():
            np.ascontiguousarray(cells).tofile(file)


def write_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write a `.npy` file's header, whose length is the same for any number of rows.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
