"""Keras models as ONNX models, in a process that has TensorFlow.

A net is traced as a function of its inputs *and its weights*. The folds of a trial are one net with different weights:
where their traces are the same, operation by operation, one conversion serves them all.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper, version_converter

from tunekit.data.preparation import BY_NAME
from tunekit.errors import ExportError
from tunekit.export.graph import OPSETS
from tunekit.export.operations import HANDLERS

if TYPE_CHECKING:
    import keras

_TF2ONNX_OPSET = 18  # the highest that it knows; onnx's converter does the rest

_KEEPS_WEIGHTS_CONSTANT = ("Conv", "Depthwise")
"""Operations that tf2onnx converts best with constant weights, as it does loops."""


def net_to_onnx(model: keras.Model, layout: str) -> onnx.ModelProto:
    """Convert one net.

    Args:
        model: built, with its weights loaded; one output.
        layout: "columns" if its inputs are named as the parts of that layout, else it has one input, whatever its name.

    Returns:
        A model for onnxruntime, with the net's input names and any number of rows.

    Raises:
        ExportError: its inputs or outputs don't fit, or it has operations that ONNX has none for.
    """
    return next(nets_to_onnx([model], layout))


def nets_to_onnx(models: Iterable[keras.Model], layout: str) -> Iterator[onnx.ModelProto]:
    """Convert nets one after the other, sharing the work among those that differ in their weights only.

    Args:
        models: as in `net_to_onnx`; may be a generator that builds each when it is asked for.
        layout: as in `net_to_onnx`.
    """
    converted: dict[str, onnx.ModelProto] = {}
    for model in models:
        traced = _trace(model, layout)
        if traced.fingerprint is None:
            yield _convert(traced, frozen=True)
            continue
        if traced.fingerprint not in converted:
            converted[traced.fingerprint] = _convert(traced, frozen=False)
        yield _with_weights(converted[traced.fingerprint], model)


@dataclass(frozen=True)
class _Trace:
    """A net as a TensorFlow function.

    Args:
        function: of the inputs and the weights; of the inputs alone if its fingerprint is None.
        names: TensorFlow's names of the function's inputs, to ours.
        fingerprint: equal for nets that differ in their weights only; None where weights must be constants.
    """

    function: Any
    names: dict[str, str]
    fingerprint: str | None


def _trace(model: keras.Model, layout: str) -> _Trace:
    import keras
    import tensorflow as tf

    inputs = input_specs(model)
    flat = keras.tree.flatten(inputs)
    _check_inputs([spec.name for spec in flat], layout)
    trainable = len(model.trainable_variables)
    weights = [
        tf.TensorSpec(variable.shape, variable.dtype, name=_weight(position))
        for position, variable in enumerate(_variables(model))
    ]

    def call(given: Any, values: list[Any]) -> Any:
        return model.stateless_call(values[:trainable], values[trainable:], given, training=False)[0]

    with _without_compiled_parts():
        function = tf.function(call).get_concrete_function(inputs, weights)
        names = [spec.name for spec in [*flat, *weights]]
        fingerprint = _fingerprint(function)
        if fingerprint is None:
            function = tf.function(lambda given: model(given, training=False)).get_concrete_function(inputs)
            names = [spec.name for spec in flat]
    if len(function.outputs) != 1 or function.outputs[0].shape.rank != 2:
        shapes = [tuple(output.shape) for output in function.outputs]
        raise ExportError(f"a net has outputs of shapes {shapes}; expected one output of shape (rows, outputs)")
    given = [tensor.name for tensor in function.inputs]  # what it was called with, then what it captured
    return _Trace(function, dict(zip(given, names, strict=False)), fingerprint)


@contextmanager
def _without_compiled_parts() -> Iterator[None]:
    """Trace what Keras compiles by itself as part of the whole: grouped convolutions, which ONNX can hold only so."""
    import tensorflow as tf

    usual = tf.function

    def plain(*given: Any, **options: Any) -> Any:
        options.pop("jit_compile", None)
        return usual(*given, **options)

    tf.function = plain
    try:
        yield
    finally:
        tf.function = usual


def input_specs(model: keras.Model) -> Any:
    """What the net is called with, as TensorFlow's specifications; any number of rows."""
    import keras
    import tensorflow as tf

    def spec(tensor: Any) -> Any:
        return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name)

    if isinstance(model, keras.Sequential) and model.built:
        return spec(model.inputs[0])
    if getattr(model, "inputs", None):
        return keras.tree.map_structure(spec, model.input)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape or not all(isinstance(size, int) for size in shape[1:]):
        raise ExportError(
            f"the net {model.name!r} has no known inputs; expected a functional model, or one "
            "that was called on one matrix"
        )
    return tf.TensorSpec((None, *shape[1:]), "float32", name="features")


def _check_inputs(names: list[str], layout: str) -> None:
    if layout not in BY_NAME and len(names) != 1:
        raise ExportError(f"a net with inputs {', '.join(names)} came for layout {layout!r}; expected one input")


def _fingerprint(function: Any) -> str | None:
    """A digest of every operation and how they are connected, without the names that Keras counts up."""
    graph = function.graph.as_graph_def()
    if graph.library.function or function.captured_inputs:
        return None
    place = {node.name: str(position) for position, node in enumerate(graph.node)}
    digest = hashlib.sha256()
    for node in graph.node:
        if node.op.startswith(_KEEPS_WEIGHTS_CONSTANT):
            return None
        digest.update(node.op.encode())
        for name in node.input:
            source, _, output = name.lstrip("^").partition(":")
            digest.update(f"{place[source]}:{output}{name[0] == '^'};".encode())
        for key in sorted(node.attr):
            if not key.startswith("_"):  # those are notes: where to run it, how to differentiate it
                digest.update(key.encode() + node.attr[key].SerializeToString(deterministic=True))
    return digest.hexdigest()


def _convert(traced: _Trace, *, frozen: bool) -> onnx.ModelProto:
    """The traced function as an ONNX model; its weights stay inputs unless they are frozen into constants."""
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx

    function = traced.function
    inputs, outputs = list(traced.names), [tensor.name for tensor in function.outputs]
    with _quiet(), tf.device("/cpu:0"):
        if frozen:
            graph = tf_loader.from_function(function, inputs, outputs)
        else:
            with tf.Graph().as_default():
                graph = tf_loader.tf_optimize(inputs, outputs, function.graph.as_graph_def(add_shapes=True))
        try:
            with tf.Graph().as_default() as imported:
                tf.import_graph_def(graph, name="")
                converted = tfonnx.process_tf_graph(
                    imported,
                    opset=_TF2ONNX_OPSET,
                    input_names=inputs,
                    output_names=outputs,
                    custom_op_handlers={name: (handler, []) for name, handler in HANDLERS.items()},
                    tensors_to_rename=traced.names | {outputs[0]: "prediction"},
                )
            model = optimizer.optimize_graph(converted).make_model("net")
            model = version_converter.convert_version(model, OPSETS[""])
            onnx.checker.check_model(model)
        except Exception as error:  # three libraries, each with errors of its own
            operations = ", ".join(sorted({node.op for node in graph.node}))
            raise ExportError(
                f"a net can't be written as ONNX: {error}; expected operations that ONNX has, and "
                f"received {operations}. Build it from other layers; or export another trial (tunekit export STUDY "
                "--trial N), or take its family out of the study, whose blend is then made without it"
            ) from error
    return model


def _with_weights(model: onnx.ModelProto, net: keras.Model) -> onnx.ModelProto:
    """A copy of a converted net whose weights are the given net's constants."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    used = {name for node in bound.graph.node for name in node.input}
    values = {_weight(position): variable for position, variable in enumerate(_variables(net))}
    inputs = [given for given in bound.graph.input if given.name not in values]
    del bound.graph.input[:]
    bound.graph.input.extend(inputs)
    for name, variable in values.items():
        if name in used:
            bound.graph.initializer.append(numpy_helper.from_array(variable.numpy(), name))
    return bound


def _variables(model: keras.Model) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables]


def _weight(position: int) -> str:
    return f"tunekit_weight_{position}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress messages from tf2onnx; what goes wrong is raised."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
