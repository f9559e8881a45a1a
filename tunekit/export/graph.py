"""Builds an ONNX graph node by node, with arithmetic on its values.

Values are named as they are made; constants that are equal are stored once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import compose, helper, numpy_helper

from tunekit.errors import ExportError

OPSETS = {"": 21, "ai.onnx.ml": 5}
"""What the graphs are written for: onnxruntime 1.23 and later run it; TreeEnsemble needs version 5."""

IR_VERSION = 10

SMALL = 64
"""Constants of at most so many values may say how large others are."""

ROWS = "rows"
"""Name of the dynamic dimension: the number of rows."""

TYPES = {
    "double": onnx.TensorProto.DOUBLE,
    "float": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "string": onnx.TensorProto.STRING,
    "uint8": onnx.TensorProto.UINT8,
    "float32": onnx.TensorProto.FLOAT,
}

_PLAIN = {TYPES[name] for name in ("double", "float", "int32", "int64", "uint8")}


@dataclass(frozen=True)
class Value:
    """A float64 value of a graph; arithmetic on it adds nodes. Other operations: `Graph.node`."""

    graph: Graph
    name: str

    def __add__(self, other: Value | float) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._with("Div", other)

    def floor(self) -> Value:
        """The largest whole number that is not larger."""
        return Value(self.graph, self.graph.node("Floor", self.name))

    def sin(self) -> Value:
        """The sine, of radians."""
        return Value(self.graph, self.graph.node("Sin", self.name))

    def _with(self, operation: str, other: Value | float) -> Value:
        right = other.name if isinstance(other, Value) else self.graph.constant(np.float64(other))
        return Value(self.graph, self.graph.node(operation, self.name, right))


class Graph:
    """An ONNX graph in the making.

    Args:
        columns: (name, type, shape) of the inputs, the shape being that of a row's value; types as in `TYPES`. In
            place of a size that may be any stands its name.
    """

    def __init__(self, columns: Sequence[tuple[str, str, tuple[int | str, ...]]]) -> None:
        self._taken = {name for name, _, _ in columns}
        if len(self._taken) < len(columns) or "" in self._taken:
            raise ExportError("the columns need names, each its own, to be inputs of a graph; rename them in the table")
        self._inputs = [
            helper.make_tensor_value_info(name, TYPES[kind], [ROWS, *shape]) for name, kind, shape in columns
        ]
        self._outputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, str] = {}
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        self._counter = 0

    def node(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        output = self.fresh(operation)
        self.add(helper.make_node(operation, list(inputs), [output], name=output, domain=domain, **attributes))
        return output

    def add(self, node: onnx.NodeProto) -> None:
        """Add a node that names its own outputs; take these from `fresh`."""
        self._nodes.append(node)
        self._producers |= dict.fromkeys(node.output, node)

    def producer(self, value: str) -> onnx.NodeProto | None:
        """The node that makes a value; None of columns and constants."""
        return self._producers.get(value)

    def constant(self, value: npt.ArrayLike) -> str:
        """Store an array, once however often it is asked for, and return its name."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        key = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
        if key not in self._constants:
            name = self._constants[key] = self.fresh("constant")
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._constants[key]

    def array(self, value: str) -> npt.NDArray[Any] | None:
        """A constant's array; None of a value that is computed."""
        stored = self._initializers.get(value)
        return None if stored is None else numpy_helper.to_array(stored)

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The sizes of the values whose number of axes is known by ONNX's rules, None where a size varies."""
        small = [one for one in self._initializers.values() if math.prod(one.dims) <= SMALL]
        large = [
            helper.make_tensor_value_info(one.name, one.data_type, one.dims)
            for one in self._initializers.values()
            if math.prod(one.dims) > SMALL
        ]
        graph = helper.make_graph(self._nodes, "draft", [*self._inputs, *large], self._outputs, initializer=small)
        inferred = onnx.shape_inference.infer_shapes(_model(graph), data_prop=True).graph
        known = {one.name: tuple(one.dims) for one in self._initializers.values()}
        for value in [*inferred.input, *inferred.value_info]:
            kind = value.type.tensor_type
            if kind.HasField("shape"):
                known[value.name] = tuple(
                    one.dim_value if one.HasField("dim_value") else None for one in kind.shape.dim
                )
        return known

    def cast(self, value: str, kind: str | int) -> str:
        """Convert a value to one of `TYPES`, or to a type of ONNX by its number."""
        return self.node("Cast", value, to=TYPES[kind] if isinstance(kind, str) else kind)

    def concat(self, values: Sequence[str], axis: int) -> str:
        """Join values; a single one stays as it is."""
        return values[0] if len(values) == 1 else self.node("Concat", *values, axis=axis)

    def splice(self, model: onnx.ModelProto, bindings: Mapping[str, str]) -> list[str]:
        """Add a whole model.

        Args:
            model: of the same opset; its names may be any.
            bindings: its inputs' names, each to the value that it reads.

        Returns:
            The values that its outputs became.
        """
        prefix = self.fresh("net") + "/"
        spliced = compose.add_prefix(model, prefix)
        foreign = {node.domain for node in spliced.graph.node} - {"ai.onnx", *OPSETS}
        versions = {opset.domain: opset.version for opset in model.opset_import}
        if foreign or versions.get("") != OPSETS[""]:
            raise ExportError(
                f"a net came for opset {versions.get('')} with operators of {sorted(foreign) or 'no other'} domain; "
                f"expected opset {OPSETS['']} and ONNX's own operators, as `net_to_onnx` makes them"
            )
        for name, value in bindings.items():
            self.add(helper.make_node("Identity", [value], [prefix + name], name=prefix + name))
        shared = {one.name: self._shared(one) for one in spliced.graph.initializer}
        _rename_inputs(spliced.graph, {old: new for old, new in shared.items() if old != new})
        for node in spliced.graph.node:
            self.add(node)
        return [shared.get(output.name, output.name) for output in spliced.graph.output]

    def _shared(self, initializer: onnx.TensorProto) -> str:
        """Store an initializer, and return its name: folds on one frozen base have most of them in common."""
        if initializer.data_type not in _PLAIN:
            self._initializers[initializer.name] = initializer
            return str(initializer.name)
        return self.constant(numpy_helper.to_array(initializer))

    def fresh(self, hint: str) -> str:
        """A name that nothing in the graph has."""
        while True:
            self._counter += 1
            name = f"{hint}.{self._counter}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def output(self, name: str, value: str, dimensions: Sequence[int | str]) -> str:
        """Make a float64 value an output, under the given name or, if a column has it, the name with underscores."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self.add(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, TYPES["double"], list(dimensions)))
        return name

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model, of what its outputs need, checked against ONNX's rules."""
        needed = {output.name for output in self._outputs}
        nodes = []
        for node in reversed(self._nodes):  # each comes after those that it reads
            if needed.intersection(node.output):
                nodes.append(node)
                needed |= _read(node)
        initializers = [one for key, one in self._initializers.items() if key in needed]
        model = _model(helper.make_graph(nodes[::-1], name, self._inputs, self._outputs, initializer=initializers))
        onnx.checker.check_model(model)
        return model


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, producer_name="tunekit", ir_version=IR_VERSION)


def _read(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, and those that the graphs within it do."""
    inner = [graph for attribute in node.attribute for graph in [attribute.g, *attribute.graphs]]
    return {*node.input, *(name for graph in inner for each in graph.node for name in _read(each))}


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let every node read values by other names, in the graphs within nodes too."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _rename_inputs(inner, names)
