"""Epochs inside one graph: `model.fit` without its cost per step.

For data in memory, most of `fit`'s time on small batches goes to its input pipeline and to Python between steps. Here a
whole epoch is one compiled loop: batches are gathered from tensors, and the model's own `train_step` is called on each.
With the same batch order the weights are those that `fit` gives.

Tracing that loop takes longer than many an epoch. A `TracedModel` is traced once and then takes over the variables of
other models of the same build: the folds of one trial.
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
CHUNK = 4096
"""Rows per step where no gradients are needed."""

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class TracedModel:
    """A compiled model with the graphs that run it.

    Args:
        model: built and compiled.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._epochs: dict[int, Any] = {}
        self._forward: Any = None

    def predict(self, x: Arrays, rows: int) -> npt.NDArray[Any]:
        """The model's outputs in inference, in chunks; traced once for every number of rows."""
        import tensorflow as tf

        if self._forward is None:
            self._forward = tf.function(
                lambda x: self.model(x, training=False), input_signature=[_any_rows(x)], autograph=False
            )
        parts = [self._forward(_slice(x, start, start + CHUNK)) for start in range(0, max(rows, 1), CHUNK)]
        return np.concatenate([np.asarray(part) for part in parts])

    def run_epoch(self, order: npt.NDArray[np.int64], tensors: Any, batch_size: int) -> dict[str, float]:
        """One epoch over tensors with equal first dimension, in the given order of rows; what `fit` would log."""
        import tensorflow as tf

        if batch_size not in self._epochs:
            signature = [tf.TensorSpec([None], tf.int32), _any_rows(tensors)]
            self._epochs[batch_size] = tf.function(
                self._epoch_of(batch_size), input_signature=signature, autograph=False
            )
        logs = self._epochs[batch_size](tf.constant(order, dtype=tf.int32), tensors)
        model: Any = self.model
        logs = model.get_metrics_result() if logs is None else model._get_metrics_result_or_logs(logs)
        return {name: float(value) for name, value in logs.items()}

    def take_over(self, fresh: keras.Model) -> bool:
        """Take over the values of every variable of another model, its optimizer's included.

        Returns:
            False, having changed nothing, if it is not a model of the same build.
        """
        if type(fresh) is not type(self.model) or type(fresh.optimizer) is not type(self.model.optimizer):
            return False
        build_optimizer(fresh)
        pairs = [
            (self.model.variables, fresh.variables),
            (self.model.optimizer.variables, fresh.optimizer.variables),
        ]
        if any(_shapes(own) != _shapes(other) for own, other in pairs):
            return False
        for owns, others in pairs:
            for own, other in zip(owns, others, strict=True):
                own.assign(other)
        return True

    def _epoch_of(self, batch_size: int) -> Callable[[Any, Any], Any]:
        import keras
        import tensorflow as tf

        own = type(self.model).train_step is not keras.Model.train_step  # its last step's logs may be its own, too

        def run(order: Any, tensors: Any) -> Any:
            def step(number: Any) -> Any:
                rows = order[number * batch_size : (number + 1) * batch_size]
                return self.model.train_step(tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors))

            def next_step(number: Any) -> Any:
                step(number)
                return number + 1

            looped = (tf.shape(order)[0] + batch_size - 1) // batch_size - int(own)
            tf.while_loop(lambda number: number < looped, next_step, (tf.constant(0),), parallel_iterations=1)
            return step(looped) if own else None

        return run


def fit(
    traced: TracedModel,
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
        traced: its model is compiled.
        x: an array (n, ...), or arrays by input name.
        y: the target (n, ...).
        batch_size: rows per step; the last step takes what is left.
        epochs: at most this many; a callback may set `model.stop_training`.
        callbacks: Keras callbacks.
        sample_weight: (n,) or None.
        order: from the epoch's number, from 0, to the order of its rows.
    """
    reason = needs_plain_fit(traced.model, callbacks)
    if reason:
        logger.info("model.fit is used: %s", reason)
        return _plain_fit(traced.model, x, y, batch_size, epochs, callbacks, sample_weight, order)
    return _graph_fit(traced, x, y, batch_size, epochs, callbacks, sample_weight, order)


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
            self.rows = np.arange(len(y))

        def __len__(self) -> int:
            return math.ceil(len(y) / batch_size)

        def __getitem__(self, step: int) -> tuple[Any, ...]:
            rows = self.rows[step * batch_size : (step + 1) * batch_size]
            weights = () if sample_weight is None else (sample_weight[rows],)
            return (_take(x, rows), y[rows], *weights)

    class NextOrder(keras.callbacks.Callback):  # type: ignore[misc]
        """Asks for one order an epoch; `PyDataset.on_epoch_end` would be called more often."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            data.rows = order(epoch)

    data = Reordered()
    return model.fit(data, epochs=epochs, callbacks=[NextOrder(), *callbacks], verbose=0, shuffle=False)


def _graph_fit(
    traced: TracedModel,
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

    model = traced.model
    data = (x, y) if sample_weight is None else (x, y, sample_weight)
    tensors = tf.nest.map_structure(tf.convert_to_tensor, data)
    _build(model, tensors)
    steps = math.ceil(len(y) / batch_size)
    listeners = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=False, verbose=0, epochs=epochs, steps=steps, model=model
    )
    model.stop_training = False
    listeners.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(epochs):
        model.reset_metrics()
        listeners.on_epoch_begin(epoch)
        logs = traced.run_epoch(order(epoch), tensors, batch_size)
        listeners.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    listeners.on_train_end(logs)
    return model.history


def _build(model: keras.Model, tensors: Any) -> None:
    """Create every variable before tracing: of layers, losses, metrics and the optimizer. `fit` does the same."""
    import tensorflow as tf

    model._symbolic_build(data_batch=tf.nest.map_structure(lambda tensor: tensor[:2], tensors))
    build_optimizer(model)


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's variables."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _shapes(variables: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(tuple(variable.shape), variable.dtype) for variable in variables]


def _any_rows(data: Any) -> Any:
    """The specification of arrays like these, with any number of rows."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), data)


def _slice(x: Arrays, start: int, end: int) -> Arrays:
    return {name: array[start:end] for name, array in x.items()} if isinstance(x, dict) else x[start:end]


def _take(x: Arrays, rows: npt.NDArray[np.int64]) -> Arrays:
    return {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]
