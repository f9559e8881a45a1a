"""What a frozen base makes of pictures: computed once for all folds and trials of a study, and kept beside its rows."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.data.lazy import rows_at_once
from tunekit.data.store import FROZEN, Store

if TYPE_CHECKING:
    import keras

Features = npt.NDArray[np.float32]

VALUES_AT_ONCE = 2**22
"""Of pictures that go through the base together: some 30 of 224 x 224 pixels. What it makes on the way is larger."""


class Frozen:
    """A frozen base, and what it makes of pictures.

    Of a study's rows, development and test alike, all is computed when the first trial asks, into a file beside them
    that others map: a base that doesn't change, and reads pixels as they are, makes the same of a row in every fold.
    Rows are known by the bytes of their pictures. Two processes that are first at once both compute; the files are
    the same, and each appears whole.

    Args:
        model: from pixels, float32 (batch, *shape), to features (batch, width).
        position: of its array column in the rows' arrays.
        store: folder of the study's rows; None to keep features in this object only.
    """

    def __init__(self, model: keras.Model, position: int, store: Path | None) -> None:
        self.digest = digest_of(model)
        self._model = model
        self._position = position
        self._store = store
        self._graph: Any = None
        self._table: Features | None = None
        self._places: dict[bytes, int] = {}

    def of(self, cells: Any) -> Features:
        """The features of pictures, (n, *shape), lazy or not, as (n, width)."""
        if self._store is None:
            return self._computed(cells)
        table, places = self._mapped(self._store)
        found = [places.get(key, -1) for key in keys_of(cells)]
        return self._computed(cells) if -1 in found else np.asarray(table[found])

    def at(self, places: npt.NDArray[np.int64]) -> Features:
        """The features of development rows of the store, by their positions."""
        assert self._store is not None
        return np.asarray(self._mapped(self._store)[0][places])

    def _mapped(self, folder: Path) -> tuple[Features, dict[bytes, int]]:
        """Features of all rows of the store from their file, which is made if it isn't there, and each row's place."""
        if self._table is None:
            features, keys = (folder / f"{FROZEN}{self.digest}-{part}.npy" for part in ("features", "keys"))
            if not features.exists():
                self._make(Store(folder), features, keys)
            self._table = np.load(features, mmap_mode="r", allow_pickle=False)
            self._places = {key.tobytes(): place for place, key in enumerate(np.load(keys, allow_pickle=False))}
        return self._table, self._places

    def _make(self, store: Store, features: Path, keys: Path) -> None:
        parts = [rows.arrays[self._position] for rows in (store.rows, store.unlabelled)]
        known = b"".join(key for part in parts for key in keys_of(part))
        with _whole(keys) as path, path.open("wb") as file:
            np.save(file, np.frombuffer(known, dtype="V16"), allow_pickle=False)
        with _whole(features) as path:
            shape = (sum(map(len, parts)), *self._model.outputs[0].shape[1:])
            table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            start = 0
            for part in parts:
                for some in self._computed_by_chunks(part):
                    table[start : start + len(some)] = some
                    start += len(some)
            table.flush()

    def _computed(self, cells: Any) -> Features:
        nothing = np.empty((0, *self._model.outputs[0].shape[1:]), dtype=np.float32)
        return np.concatenate([nothing, *self._computed_by_chunks(cells)])

    def _computed_by_chunks(self, cells: Any) -> Iterator[Features]:
        import tensorflow as tf

        model = self._model
        if self._graph is None:
            spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
            self._graph = tf.function(lambda x: model(x, training=False), input_signature=[spec], autograph=False)
            self._graph._omit_frequent_tracing_warning = True  # each fold of each trial may have a base of its own
        step = max(1, VALUES_AT_ONCE // max(1, math.prod(cells.shape[1:])))
        for start in range(0, len(cells), step):
            yield np.asarray(self._graph(np.asarray(cells[start : start + step], dtype=np.float32)))


def digest_of(model: keras.Model) -> str:
    """Equal for models whose layers with weights are the same, weights included."""
    digest = hashlib.sha256(repr((model.inputs[0].shape, model.outputs[0].shape)).encode())
    for layer in model._flatten_layers():
        digest.update(type(layer).__name__.encode() if layer.weights else b"")
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:32]


def keys_of(cells: Any) -> Iterator[bytes]:
    """16 bytes for each picture, by its content."""
    step = rows_at_once(cells)
    for start in range(0, len(cells), step):
        for cell in cells[start : start + step]:
            yield hashlib.blake2b(np.ascontiguousarray(cell).tobytes(), digest_size=16).digest()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write a file that is to appear whole or not at all."""
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:12]}.partial")
    yield partial
    partial.replace(path)
