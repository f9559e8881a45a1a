"""TensorFlow's operations that tf2onnx doesn't know, made of ONNX's.

A handler is called with tf2onnx's graph, the node that it replaces, that node's name, and arguments that it ignores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """1 - Erf(x): exact GELU has it."""
    one = _constant(graph, name, np.float32(1.0))
    _replace(graph, node, name, "Sub", [one, _made(graph, "Erf", [node.input[0]])])


def _expm1(graph: Any, node: Any, name: str, _: Any) -> None:
    """Exp(x) - 1: CELU has it."""
    one = _constant(graph, name, np.float32(1.0))
    _replace(graph, node, name, "Sub", [_made(graph, "Exp", [node.input[0]]), one])


def _bucketize(graph: Any, node: Any, name: str, _: Any) -> None:
    """How many boundaries are not above x: Keras' Discretization."""
    boundaries = _constant(graph, name, np.array(node.get_attr_value("boundaries"), dtype=np.float32))
    last = _constant(graph, f"{name}_axis", np.array([-1], dtype=np.int64))
    column = _made(graph, "Unsqueeze", [node.input[0], last])
    reached = _made(graph, "GreaterOrEqual", [column, boundaries])
    counted = _made(graph, "Cast", [reached], attr={"to": TensorProto.INT32})
    _replace(graph, node, name, "ReduceSum", [counted, last], attr={"keepdims": 0})


HANDLERS = {"Erfc": _erfc, "Expm1": _expm1, "Bucketize": _bucketize}


def _constant(graph: Any, name: str, value: npt.ArrayLike) -> str:
    return str(graph.make_const(f"{name}_constant", np.asarray(value)).output[0])


def _made(graph: Any, operation: str, inputs: list[str], **attributes: Any) -> str:
    return str(graph.make_node(operation, inputs, **attributes).output[0])


def _replace(graph: Any, node: Any, name: str, operation: str, inputs: list[str], **attributes: Any) -> None:
    """Put an operation in the node's place, with its output's name, shape and type."""
    output = node.output[0]
    shapes, dtypes = [graph.get_shape(output)], [graph.get_dtype(output)]
    graph.remove_node(name)
    graph.make_node(operation, inputs, outputs=[output], shapes=shapes, dtypes=dtypes, name=name, **attributes)
