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
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.integer[Any]]
Order = Callable[[int], Rows]
CHUNK = 4096
"""Rows per step where no gradients are needed."""

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")
TRAINING = ("fit", "make_train_function")
TESTING = ("evaluate", "make_test_function")


class TracedModel:
    """A compiled model with the graphs that run it; it must not be compiled again.

    Args:
        model: compiled.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._graphs: dict[Any, Any] = {}

    def predict(self, x: Any, rows: int) -> Any:
        """The model's outputs in inference, in chunks; traced once for every number of rows."""
        if _needs_eager(self.model):
            return self.model.predict(x, batch_size=CHUNK, verbose=0)
        forward = self._graph("predict", [_any_rows(x)], lambda: lambda x: self.model(x, training=False))
        return _joined([forward(_chunk(x, start)) for start in range(0, max(rows, 1), CHUNK)])

    def validate(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, float]:
        """The model's outputs in inference and its loss, from one pass: `predict`, and `evaluate` without metrics.

        Args:
            x: arrays, as the model takes them.
            y: arrays, as its loss takes them.
            sample_weight: likewise.
        """
        model: Any = self.model
        rows = _count(y)
        if _needs_eager(model):
            outputs = self.predict(x, rows)
            return outputs, float(model._compute_loss(x, y, outputs, sample_weight, training=False))

        def outputs_and_loss(x: Any, y: Any, weight: Any = None) -> Any:
            outputs = model(x, training=False)
            return outputs, model._compute_loss(x, y, outputs, weight, training=False)

        data = (x, y) if sample_weight is None else (x, y, sample_weight)
        graph = self._graph("validate", [_any_rows(part) for part in data], lambda: outputs_and_loss)
        starts = range(0, rows, CHUNK)
        outputs, losses = zip(*[graph(*_chunk(data, start)) for start in starts], strict=True)
        sizes = [min(CHUNK, rows - start) for start in starts]
        return _joined(outputs), float(np.average([float(loss) for loss in losses], weights=sizes))

    def run_epoch(self, step: str, order: Rows, tensors: Any, batch_size: int) -> Any:
        """Run `train_step` or `test_step` over batches of tensors.

        Args:
            step: the method's name.
            order: of the rows.
            tensors: what the method takes, for all rows.
            batch_size: rows per step; the last step takes what is left.

        Returns:
            What `fit` would log.
        """
        import tensorflow as tf

        spec = _any_rows(tensors)
        signature = [tf.TensorSpec([None], tf.int32), spec]
        graph = self._graph((step, batch_size), signature, lambda: self._loop_of(step, batch_size, spec))
        logs = graph(tf.constant(order, dtype=tf.int32), tensors)
        model: Any = self.model
        return model.get_metrics_result() if logs is None else model._get_metrics_result_or_logs(logs)

    def take_over(self, fresh: keras.Model) -> bool:
        """Take over the values of every variable of another model, its optimizer's included.

        Returns:
            False, having changed nothing, if it is not a model of the same build, or if the graphs use variables that
            neither the model nor its optimizer knows of: those would keep what they have learnt.
        """
        if type(fresh) is not type(self.model) or type(fresh.optimizer) is not type(self.model.optimizer):
            return False
        build_optimizer(fresh)
        owns, others = _variables(self.model), _variables(fresh)
        if _shapes(owns) != _shapes(others) or self._uses_unknown_variables():
            return False
        for own, other in zip(owns, others, strict=True):
            own.assign(other)
        return True

    def _graph(self, key: Any, signature: list[Any], make: Callable[[], Callable[..., Any]]) -> Any:
        """The graph of this key, traced again only for data of other types."""
        graph = self._graphs.get(key)
        if graph is None or graph.input_signature != tuple(signature):
            graph = self._graphs[key] = _graph_of(make(), signature)
        return graph

    def _loop_of(self, name: str, batch_size: int, spec: Any) -> Callable[[Any, Any], Any]:
        import tensorflow as tf

        model: Any = self.model
        step = getattr(model, name)
        own = _is_own(model, name) or _is_own(model, "compute_metrics")  # then the last step's logs may be its own, too
        if own or model.jit_compile:
            # A function apart, as in `fit`: it may create variables, is used twice, or is for XLA to compile.
            step = _graph_of(step, [spec], model.jit_compile)
            step.get_concrete_function()
        else:
            _create_variables(model, spec)

        def run(order: Any, tensors: Any) -> Any:
            def at(number: Any) -> Any:
                rows = order[number * batch_size : (number + 1) * batch_size]
                return step(tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors))

            def next_step(number: Any) -> Any:
                at(number)
                return number + 1

            looped = (tf.shape(order)[0] + batch_size - 1) // batch_size - int(own)
            tf.while_loop(lambda number: number < looped, next_step, (tf.constant(0),), parallel_iterations=1)
            return at(looped) if own else None

        return run

    def _uses_unknown_variables(self) -> bool:
        known = {id(variable.value) for variable in [*_variables(self.model), *self.model.metrics_variables]}
        used = [graph.get_concrete_function().graph.variables for graph in self._graphs.values()]
        return any(id(variable) not in known for variables in used for variable in variables)


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
        x: an array (n, ...), or a dict, list or tuple of arrays. Whatever else `fit` takes (a `tf.data.Dataset`, a
            `PyDataset`, a generator, sparse arrays) comes in its own order.
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

    reason = _needs_eager(model)
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
        if any(_is_own(callback, hook) for hook in (BATCH_HOOKS + TEST_HOOKS if validates else BATCH_HOOKS)):
            return f"callback {type(callback).__name__} watches batches"
    return None


def _needs_eager(model: keras.Model) -> str | None:
    import keras

    if keras.backend.backend() != "tensorflow":
        return f"the Keras backend is {keras.backend.backend()}"
    import tensorflow as tf

    if model.run_eagerly or tf.config.functions_run_eagerly():
        return "the model runs eagerly (run_eagerly=True)"
    return None


def _is_own(thing: Any, method: str) -> bool:
    """Whether a model or callback overrides a method of Keras, in its class or in itself (as `LambdaCallback` does)."""
    import keras

    base = keras.Model if isinstance(thing, keras.Model) else keras.callbacks.Callback
    found = getattr(thing, method, None)
    return getattr(found, "__func__", found) is not getattr(base, method)


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
    x, y, sample_weight = data
    callbacks, class_weight = task.callbacks, task.class_weight
    arrays = _plain_arrays(data, class_weight) if task.order else None
    if arrays is not None:
        x, next_order = _reordered(arrays, task)
        y = sample_weight = class_weight = None
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

    parts, count, batch_size = keras.tree.map_structure(np.asarray, arrays), _count(arrays), task.batch_size

    class Reordered(keras.utils.PyDataset):  # type: ignore[misc]
        rows: Rows = np.arange(count)

        def __len__(self) -> int:
            return math.ceil(count / batch_size)

        def __getitem__(self, step: int) -> Any:
            rows = self.rows[step * batch_size : (step + 1) * batch_size]
            return keras.tree.map_structure(lambda part: part[rows], parts)

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
    count, batch_size = _count(train), task.batch_size
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
    logs: dict[str, Any] = traced.run_epoch("test_step", np.arange(_count(valid)), valid, batch_size)
    listeners.on_test_end(logs)
    return logs


def _create_variables(model: Any, spec: Any) -> None:
    """Create what a step of Keras's own uses. If tracing had to create it, TensorFlow would trace twice.

    Args:
        model: compiled.
        spec: of what the step takes.
    """
    import keras

    _, y, _ = keras.utils.unpack_x_y_sample_weight(spec)
    outputs = None
    if type(model).__module__.startswith("keras."):  # a graph of layers knows its outputs
        outputs = getattr(getattr(model, "_functional", model), "_outputs_struct", None)
    if outputs is None or keras.tree.is_nested(outputs) or keras.tree.is_nested(y):
        model._symbolic_build(data_batch=spec)  # which calls the model, its metrics and its loss
    else:
        for part in (model._compile_metrics, model._compile_loss):
            if part is not None and not part.built:
                part.build(y, outputs)
    build_optimizer(model)


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


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's variables."""
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *(model.optimizer.variables if model.optimizer is not None else ())]


def _shapes(variables: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(tuple(variable.shape), variable.dtype) for variable in variables]


def _graph_of(function: Callable[..., Any], signature: list[Any], jit_compile: bool | None = None) -> Any:
    import tensorflow as tf

    graph = tf.function(function, input_signature=signature, autograph=False, jit_compile=jit_compile)
    graph._omit_frequent_tracing_warning = True  # a process may run many trials, each with graphs of its own
    return graph


def _any_rows(data: Any) -> Any:
    """The specification of arrays like these, with any number of rows."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), data)


def _count(data: Any) -> int:
    import keras

    return int(keras.tree.flatten(data)[0].shape[0])


def _chunk(data: Any, start: int) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: array[start : start + CHUNK], data)


def _joined(parts: Sequence[Any]) -> Any:
    """Chunks of outputs as one array, or as arrays in the outputs' structure."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda *some: np.concatenate([np.asarray(part) for part in some]), *parts)
