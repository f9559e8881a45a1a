"""Epochs inside one graph: `model.fit` without its cost per step.

For data in memory, most of `fit`'s time on small batches goes to its input pipeline and to Python between steps. Here a
whole epoch is one compiled loop: batches are gathered from tensors, and the model's own `train_step` is called on each.
With the same batch order the weights are those that `fit` gives.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]] | npt.NDArray[Any]
BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


def fit(
    model: keras.Model,
    x: Arrays,
    y: npt.NDArray[Any],
    *,
    batch_size: int,
    epochs: int,
    callbacks: Sequence[Any] = (),
    sample_weight: npt.NDArray[Any] | None = None,
    order: Callable[[int], npt.NDArray[np.int64]],
) -> keras.callbacks.History:
    """Train like `model.fit(shuffle=False)` on rows reordered before each epoch.

    Where one graph can't serve (see `needs_plain_fit`), `model.fit` itself is called, and the log says why.

    Args:
        model: compiled.
        x: an array (n, ...), or arrays by input name.
        y: the target (n, ...).
        batch_size: rows per step; the last step takes what is left.
        epochs: at most this many; a callback may set `model.stop_training`.
        callbacks: Keras callbacks.
        sample_weight: (n,) or None.
        order: from the epoch's number, from 0, to the order of its rows.
    """
    reason = needs_plain_fit(model, callbacks)
    if reason:
        logger.info("model.fit is used: %s", reason)
        return _plain_fit(model, x, y, batch_size, epochs, callbacks, sample_weight, order)
    return _graph_fit(model, x, y, batch_size, epochs, callbacks, sample_weight, order)


def needs_plain_fit(model: keras.Model, callbacks: Sequence[Any]) -> str | None:
    """Why an epoch can't be one graph, or None if it can."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return f"the Keras backend is {keras.backend.backend()}"
    if model.run_eagerly:
        return "the model was compiled with run_eagerly=True"
    for callback in callbacks:
        base = keras.callbacks.Callback
        if isinstance(callback, base) and any(getattr(type(callback), h) is not getattr(base, h) for h in BATCH_HOOKS):
            return f"callback {type(callback).__name__} watches batches"
    return None


def _plain_fit(
    model: keras.Model,
    x: Arrays,
    y: npt.NDArray[Any],
    batch_size: int,
    epochs: int,
    callbacks: Sequence[Any],
    sample_weight: npt.NDArray[Any] | None,
    order: Callable[[int], npt.NDArray[np.int64]],
) -> keras.callbacks.History:
    import keras

    class Reordered(keras.utils.PyDataset):  # type: ignore[misc]
        """The rows in the order of each epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.epoch = 0
            self.rows = order(0)

        def __len__(self) -> int:
            return math.ceil(len(y) / batch_size)

        def __getitem__(self, step: int) -> tuple[Any, ...]:
            rows = self.rows[step * batch_size : (step + 1) * batch_size]
            weights = () if sample_weight is None else (sample_weight[rows],)
            return (_take(x, rows), y[rows], *weights)

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self.rows = order(self.epoch)

    return model.fit(Reordered(), epochs=epochs, callbacks=list(callbacks), verbose=0, shuffle=False)


def _graph_fit(
    model: keras.Model,
    x: Arrays,
    y: npt.NDArray[Any],
    batch_size: int,
    epochs: int,
    callbacks: Sequence[Any],
    sample_weight: npt.NDArray[Any] | None,
    order: Callable[[int], npt.NDArray[np.int64]],
) -> keras.callbacks.History:
    import keras
    import tensorflow as tf

    data = (x, y) if sample_weight is None else (x, y, sample_weight)
    tensors = tf.nest.map_structure(tf.convert_to_tensor, data)
    _build(model, tensors)
    steps = math.ceil(len(y) / batch_size)
    listeners = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=False, verbose=0, epochs=epochs, steps=steps, model=model
    )
    run_epoch = _epoch_function(model, tensors, batch_size, steps)
    model.stop_training = False
    listeners.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(epochs):
        model.reset_metrics()
        listeners.on_epoch_begin(epoch)
        run_epoch(tf.constant(order(epoch), dtype=tf.int32))
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        listeners.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    listeners.on_train_end(logs)
    return model.history


def _epoch_function(model: keras.Model, tensors: Any, batch_size: int, steps: int) -> Any:
    import tensorflow as tf

    def step(number: Any, order: Any) -> tuple[Any, Any]:
        rows = order[number * batch_size : (number + 1) * batch_size]
        model.train_step(tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors))
        return number + 1, order

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def run_epoch(order: Any) -> None:
        tf.while_loop(lambda number, _: number < steps, step, (tf.constant(0), order), parallel_iterations=1)

    return run_epoch


def _build(model: keras.Model, tensors: Any) -> None:
    """Create every variable before tracing: of layers, losses, metrics and the optimizer. `fit` does the same."""
    import tensorflow as tf

    model._symbolic_build(data_batch=tf.nest.map_structure(lambda tensor: tensor[:2], tensors))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _take(x: Arrays, rows: npt.NDArray[np.int64]) -> Arrays:
    return {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]
