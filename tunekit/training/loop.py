"""Epochs inside one graph: `model.fit` without its cost per step.

For data in memory, most of `fit`'s time on small batches goes to its input pipeline and to Python between steps. Here a
whole epoch is one compiled loop: batches are gathered from tensors, and the model's own `train_step` is called on each.
With the same batch order, weights and history are those that `fit` gives. What one graph can't serve goes through `fit`
itself, and the log says why.

Tracing that loop takes longer than many an epoch. A `TracedModel` is traced once and then takes over the variables of
other models of the same build: the folds of one trial.

Arrays go through the functions that `fit` itself uses, in `keras.src` though they are: a copy would not stay equal.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.training.traced import Rows, TracedModel, build_optimizer, count_rows, is_lazy, is_own, needs_eager

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

Order = Callable[[int], Rows]

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")
TRAINING = ("fit", "make_train_function")
TESTING = ("evaluate", "make_test_function")


@dataclass(frozen=True)
class _Task:
    """What `fit` is asked for."""

    batch_size: int
    epochs: int
    callbacks: list[Any]
    class_weight: dict[int, float] | None
    validation_data: Any
    order: Order | None

    def rows(self, epoch: int, count: int) -> Rows:
        return self.order(epoch) if self.order else np.arange(count)


def fit(
    traced: TracedModel,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    callbacks: Sequence[Any] = (),
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    validation_data: Any = None,
    order: Order | None = None,
) -> keras.callbacks.History:
    """Train like `model.fit(shuffle=False)` on rows reordered before each epoch.

    Where one graph can't serve (see `needs_plain_fit`), `model.fit` itself is called, and the log says why.

    Args:
        traced: its model is compiled.
        x: an array (n, ...), or a dict, list or tuple of arrays, some of which may be `LazyRows`: they are read batch
            by batch. Whatever else `fit` takes (a `tf.data.Dataset`, a `PyDataset`, a generator, sparse arrays) comes
            in its own order.
        y: the target (n, ...), or one per output in a dict, list or tuple.
        batch_size: rows per step; the last step takes what is left.
        epochs: at most this many; a callback may set `model.stop_training`.
        callbacks: Keras callbacks.
        sample_weight: (n,), or one array per output.
        class_weight: from class to weight, for one output; Keras wants no `sample_weight` beside it.
        validation_data: (x, y) or (x, y, sample_weight), to be evaluated after each epoch in batches of the same size.
        order: from the epoch's number, from 0, to the order of its rows; without it they stay as they are.
    """
    import keras

    task = _Task(batch_size, epochs, keras.tree.flatten(list(callbacks)), class_weight, validation_data, order)
    reason = needs_plain_fit(traced.model, task.callbacks, validates=validation_data is not None)
    if is_lazy(x):
        reason = "the rows are streamed"
    if reason is None:
        train, valid = _plain_arrays((x, y, sample_weight), class_weight), None
        if validation_data is not None:
            valid = _plain_arrays(keras.utils.unpack_x_y_sample_weight(validation_data))
        if train is not None and (valid is None) == (validation_data is None):
            return _graph_fit(traced, train, valid, task)
        reason = "the data are a stream, or more than plain arrays"
    logger.info("model.fit is used: %s", reason)
    return _plain_fit(traced.model, (x, y, sample_weight), task)


def needs_plain_fit(model: keras.Model, callbacks: Sequence[Any], *, validates: bool = False) -> str | None:
    """Why an epoch can't be one graph, or None if it can.

    Args:
        model: compiled.
        callbacks: for its training.
        validates: whether it is also to be validated after each epoch.
    """
    import keras

    reason = needs_eager(model)
    if reason:
        return reason
    if not model.compiled:
        return "the model is not compiled"
    import tensorflow as tf

    if tf.distribute.has_strategy() or model._distribute_strategy is not None:
        return "the model is trained under a distribution strategy"
    if keras.config.max_epochs() or keras.config.max_steps_per_epoch():
        return "Keras is configured to cut epochs short"
    for name in TRAINING + TESTING if validates else TRAINING:  # in its class: what stands in the model may call this
        if getattr(type(model), name) is not getattr(keras.Model, name):
            return f"the model has its own {name}"
    if model.train_function and not model.train_function.__module__.startswith("keras."):
        return "the model has its own train_function"
    for callback in callbacks:
        if any(is_own(callback, hook) for hook in (BATCH_HOOKS + TEST_HOOKS if validates else BATCH_HOOKS)):
            return f"callback {type(callback).__name__} watches batches"
    return None


def _plain_arrays(data: tuple[Any, Any, Any], class_weight: dict[int, float] | None = None) -> Any:
    """What a step takes, for all rows: checked, packed and cast as by `fit`; None if that is more than plain arrays."""
    import keras
    import tensorflow as tf
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter, can_convert_arrays
    from keras.src.trainers.data_adapters.array_slicing import convert_to_sliceable

    if not can_convert_arrays(data):
        return None
    x, y, sample_weight = data
    packed = ArrayDataAdapter(x, y, sample_weight, class_weight=class_weight)._inputs  # class weights became weights
    arrays = keras.tree.lists_to_tuples(convert_to_sliceable(packed, target_backend="tensorflow"))
    return arrays if all(isinstance(array, np.ndarray | tf.Tensor) for array in tf.nest.flatten(arrays)) else None


def _plain_fit(model: keras.Model, data: tuple[Any, Any, Any], task: _Task) -> keras.callbacks.History:
    import keras

    x, y, sample_weight = data
    callbacks, class_weight = task.callbacks, task.class_weight
    arrays: Any = None
    if is_lazy(x):
        floats = keras.tree.map_structure(lambda array: np.asarray(array, dtype=np.float32), sample_weight)
        arrays = (x, y) if sample_weight is None else (x, y, floats)
    elif task.order:
        arrays = _plain_arrays(data, class_weight)
        arrays = arrays if arrays is None else keras.tree.map_structure(np.asarray, arrays)
        class_weight = class_weight if arrays is None else None  # it is among the arrays
    if arrays is not None:
        x, next_order = _reordered(arrays, task)
        y = sample_weight = None
        callbacks = [next_order, *callbacks]
    return type(model).fit(
        model,
        x,
        y,
        batch_size=task.batch_size,
        epochs=task.epochs,
        verbose=0,
        callbacks=callbacks,
        validation_data=task.validation_data,
        shuffle=False,
        class_weight=class_weight,
        sample_weight=sample_weight,
        validation_batch_size=task.batch_size,
    )


def _reordered(arrays: Any, task: _Task) -> tuple[Any, Any]:
    """The rows as batches in the order of each epoch, and the callback that asks for it."""
    import keras

    count, batch_size = count_rows(arrays), task.batch_size

    class Reordered(keras.utils.PyDataset):  # type: ignore[misc]
        rows: Rows = np.arange(count)

        def __len__(self) -> int:
            return math.ceil(count / batch_size)

        def __getitem__(self, step: int) -> Any:
            rows = self.rows[step * batch_size : (step + 1) * batch_size]
            return keras.tree.map_structure(lambda part: part[rows], arrays)

    class NextOrder(keras.callbacks.Callback):  # type: ignore[misc]
        """Asks for one order an epoch; `PyDataset.on_epoch_end` would be called more often."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            batches.rows = task.rows(epoch, count)

    batches = Reordered()
    return batches, NextOrder()


def _graph_fit(traced: TracedModel, train: Any, valid: Any, task: _Task) -> keras.callbacks.History:
    import keras
    import tensorflow as tf

    model = traced.model
    if model.built:
        build_optimizer(model)
    count, batch_size = count_rows(train), task.batch_size
    train, valid = tf.nest.map_structure(
        lambda part: part if part is None else tf.convert_to_tensor(part), (train, valid)
    )
    steps = math.ceil(count / batch_size)
    listeners = keras.callbacks.CallbackList(
        task.callbacks, add_history=True, verbose=0, epochs=task.epochs, steps=steps, model=model
    )
    model.stop_training = False
    listeners.on_train_begin()
    logs: dict[str, Any] | None = None
    for epoch in range(task.epochs):
        model.reset_metrics()
        listeners.on_epoch_begin(epoch)
        rows = task.rows(epoch, count)
        if model.stop_training:  # `fit` looks after each execution
            rows = rows[: batch_size * model.steps_per_execution]
        logs = dict(traced.run_epoch("train_step", rows, train, batch_size))
        if valid is not None:
            scores = _evaluate(traced, valid, batch_size, listeners)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        listeners.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if task.epochs and isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_weights)
    listeners.on_train_end(logs)
    return model.history


def _evaluate(traced: TracedModel, valid: Any, batch_size: int, listeners: Any) -> dict[str, Any]:
    """As `model.evaluate` between epochs: its metrics are the model's, begun anew."""
    listeners.on_test_begin()
    traced.model.reset_metrics()
    logs: dict[str, Any] = traced.run_epoch("test_step", np.arange(count_rows(valid)), valid, batch_size)
    listeners.on_test_end(logs)
    return logs


def seed_all(seed: int, *, keep_graphs: bool) -> None:
    """Seed Python, NumPy, Keras and TensorFlow, as `keras.utils.set_random_seed` does.

    When TensorFlow is seeded it drops every kernel in its cache, with the state of its own random operations, and each
    graph has to be prepared anew on its next run: 0.1 s for that of an epoch. Keras's random numbers need none of that.

    Args:
        seed: not used before in this process, if graphs are kept.
        keep_graphs: leave the cache alone.
    """
    import keras
    from tensorflow.python.eager import context

    eager = context.context()
    handle = eager._context_handle
    try:
        eager._context_handle = None if keep_graphs else handle  # without it there is no cache to clear
        keras.utils.set_random_seed(seed)
    finally:
        eager._context_handle = handle
