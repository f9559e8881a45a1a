"""A compiled model with the graphs that run it: epochs, predictions and losses, each traced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.data.lazy import LazyRows, rows_at_once

if TYPE_CHECKING:
    import keras

Rows = npt.NDArray[np.integer[Any]]

CHUNK = 4096
"""Rows per step where no gradients are needed."""


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
        if needs_eager(self.model):
            if not is_lazy(x):
                return self.model.predict(x, batch_size=CHUNK, verbose=0)
            step = _rows_at_once(x)
            return _joined([self.model.predict_on_batch(_chunk(x, start, step)) for start in range(0, rows, step)])
        forward = self._graph("predict", [_any_rows(x)], lambda: lambda x: self.model(x, training=False))
        step = _rows_at_once(x)
        return _joined([forward(_chunk(x, start, step)) for start in range(0, max(rows, 1), step)])

    def validate(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, float]:
        """The model's outputs in inference and its loss, from one pass: `predict`, and `evaluate` without metrics.

        Args:
            x: arrays, as the model takes them.
            y: arrays, as its loss takes them.
            sample_weight: likewise.
        """
        model: Any = self.model
        rows = count_rows(y)
        if needs_eager(model):
            outputs = self.predict(x, rows)
            return outputs, float(model._compute_loss(x, y, outputs, sample_weight, training=False))

        def outputs_and_loss(x: Any, y: Any, weight: Any = None) -> Any:
            outputs = model(x, training=False)
            return outputs, model._compute_loss(x, y, outputs, weight, training=False)

        data = (x, y) if sample_weight is None else (x, y, sample_weight)
        graph = self._graph("validate", [_any_rows(part) for part in data], lambda: outputs_and_loss)
        step = _rows_at_once(x)
        starts = range(0, rows, step)
        outputs, losses = zip(*[graph(*_chunk(data, start, step)) for start in starts], strict=True)
        sizes = [min(step, rows - start) for start in starts]
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
        own = is_own(model, name) or is_own(model, "compute_metrics")  # then the last step's logs may be its own, too
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


def needs_eager(model: keras.Model) -> str | None:
    """Why a model can't run in a graph; None if it can."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return f"the Keras backend is {keras.backend.backend()}"
    import tensorflow as tf

    if model.run_eagerly or tf.config.functions_run_eagerly():
        return "the model runs eagerly (run_eagerly=True)"
    return None


def is_own(thing: Any, method: str) -> bool:
    """Whether a model or callback overrides a method of Keras, in its class or in itself (as `LambdaCallback` does)."""
    import keras

    base = keras.Model if isinstance(thing, keras.Model) else keras.callbacks.Callback
    found = getattr(thing, method, None)
    return getattr(found, "__func__", found) is not getattr(base, method)


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


def count_rows(data: Any) -> int:
    """Rows of arrays in any structure."""
    import keras

    return int(keras.tree.flatten(data)[0].shape[0])


def _chunk(data: Any, start: int, rows: int) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: array[start : start + rows], data)


def is_lazy(data: Any) -> bool:
    """Whether some of these arrays, in any structure, are `LazyRows`."""
    import keras

    return any(isinstance(array, LazyRows) for array in keras.tree.flatten(data))


def _rows_at_once(x: Any) -> int:
    """So many rows go through a model together where no gradients are needed: fewer, if they are large and streamed."""
    import keras

    lazy = [array for array in keras.tree.flatten(x) if isinstance(array, LazyRows)]
    return min([CHUNK, *(rows_at_once(array, CHUNK) for array in lazy)])


def _joined(parts: Sequence[Any]) -> Any:
    """Chunks of outputs as one array, or as arrays in the outputs' structure."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda *some: np.concatenate([np.asarray(part) for part in some]), *parts)
