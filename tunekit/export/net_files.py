"""Writes a trial's nets as Keras's own files and reads them back, in a process that has TensorFlow."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.data.preparation import Preparation
from tunekit.data.schema import Encoded
from tunekit.data.targets import Target
from tunekit.errors import ExportError
from tunekit.executors import Place
from tunekit.export.nets import input_specs
from tunekit.families import NetFamily
from tunekit.families.base import load_facts
from tunekit.space import Value
from tunekit.training.fitted import net_inputs
from tunekit.training.nets import rebuild

if TYPE_CHECKING:
    import keras

KERAS, SAVED = "net.keras", "net"
"""Names of a net in the folder of its fold: a file; a SavedModel's folder."""

_PYTHON = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
"""Operations that are Python functions of the process that saved them."""


def write_nets(
    place: Place,
    family: NetFamily,
    values: dict[str, Value],
    folders: list[Path],
    shape: tuple[str, int, tuple[int, ...]],
    rows: int,
    targets: tuple[Target, ...],
    written: tuple[str, list[Path], Encoded],
) -> bool:
    """Write a net into each fold's folder, and send what they predict, or the reason why that failed.

    Args:
        place: its channel takes the answer: (n, outputs) the mean over folds, or a text.
        family: of the trial.
        values: the trial's.
        folders: of its folds, as the search wrote them.
        shape: task, outputs and cardinalities.
        rows: training rows.
        targets: what they are, if there are several.
        written: "keras" or "saved-model"; the folders to write into; and the rows to predict.
    """
    kind, places, given = written
    try:
        found = []
        for source, folder in zip(folders, places, strict=True):
            model = rebuild(family, values, source, shape, rows, targets)
            with np.load(folder / "preparation.npz") as arrays:
                preparation = Preparation.from_arrays(arrays)
            facts = load_facts(folder)
            prepared = net_inputs(model, preparation.apply(given.read(), facts["layout"]), facts["layout"])
            raw = _kept_as_keras(model, folder / KERAS, prepared) if kind == "keras" else None
            raw = _kept_as_saved_model(model, folder / SAVED, prepared) if raw is None else raw
            found.append(_finished(raw, folder, preparation, (shape[0], facts.get("columns", 1), given)))
        place.channel.send(np.mean(found, axis=0))
    except Exception as error:
        traceback.print_exc()
        place.channel.send(f"{type(error).__name__}: {error}")
    return False


def _finished(
    raw: npt.NDArray[Any], folder: Path, preparation: Preparation, about: tuple[str, int, Encoded]
) -> npt.NDArray[np.float64]:
    """Predictions of a net's outputs, as its `Fitted` makes them."""
    task, columns, rows = about
    raw = np.asarray(raw, dtype=np.float64)
    if (folder / "model.npz").exists():  # of several targets
        with np.load(folder / "model.npz") as arrays:
            return np.asarray(raw * arrays["scale"] + arrays["center"])
    if task == "regression":
        return preparation.in_units(raw, rows)
    return raw[:, 1:] if task == "binary" and columns == 2 else raw


def _kept_as_keras(model: keras.Model, path: Path, given: Any) -> npt.NDArray[Any]:
    """Save, load in safe mode, predict."""
    if optimizer := getattr(model, "optimizer", None):
        optimizer.build(model.trainable_variables)  # or Keras finds less of it in the file than it expects
    model.save(path)
    return np.asarray(load_net(path).predict(given, verbose=0))


def load_net(path: Path) -> keras.Model:
    """A `.keras` file as a model, in Keras's safe mode, which runs no code of a file.

    Raises:
        ExportError: it needs such code, as a Lambda layer does, or can't be read.
    """
    import keras

    import tunekit.families.ordered  # noqa: F401  # its layer is known by name then

    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises errors of many kinds
        raise ExportError(
            f"{path.name} can't be loaded in Keras's safe mode: {error}; expected layers of Keras's own, or classes "
            "that keras.saving.register_keras_serializable knows, and no Lambda: use keras.ops in the factory instead, "
            "or export with --format saved-model"
        ) from error


def _kept_as_saved_model(model: keras.Model, folder: Path, given: Any) -> npt.NDArray[Any]:
    """Save, load, predict."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = input_specs(model)
    archive.add_endpoint("serve", lambda x: model(x, training=False), [specs])
    archive.write_out(str(folder), verbose=False)
    loaded = tf.saved_model.load(str(folder))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    if found := sorted({node.op for node in nodes} & _PYTHON):
        raise ExportError(
            f"the net calls Python while it predicts ({', '.join(found)}), which no file can hold; expected "
            "TensorFlow's operations or keras.ops in place of tf.py_function and tf.numpy_function"
        )

    def tensor(spec: Any) -> Any:
        return tf.constant(given[spec.name] if isinstance(given, dict) else given, spec.dtype)

    return np.asarray(loaded.serve(keras.tree.map_structure(tensor, specs)))
