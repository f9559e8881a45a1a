"""The folds of a member side by side: where they do the same with other numbers, one node does it for all of them.

A node of a graph costs microseconds, however few rows there are, and five folds of a net are five times its nodes.
Here their values are stacked along a new first axis: (n, F) of each of K folds become (K, n, F), their constants too.
What can't be done so stays as it is, fold by fold, and its results are stacked: trees, convolutions, loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from tunekit.export.graph import Graph, Value

BY_ELEMENT = (
    "Abs Add And Cast Ceil Celu Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish "
    "Identity IsNaN LeakyRelu Less LessOrEqual Log Max Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round "
    "Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where"
)
"""Operations on each value by itself, that stretch inputs of fewer axes from the last axis on."""

ALONG = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Squeeze Unsqueeze"
"""Operations along the axes that their second input names."""

FEW_AXES = 2
"""Results of at most so many axes are stacked: copying pictures would cost more than it saves."""

Folds = tuple[str, ...]
"""The names of a value, fold by fold."""


@dataclass(frozen=True)
class Together:
    """A value of all folds.

    Args:
        rank: how many axes a fold's value has.
        name: the value's; None of constants, which are stored with as many axes as a node needs.
        stacked: whether there is an axis of folds in front; else the value is the same for all of them.
        constants: (folds, *shape) if each fold has a constant.
    """

    rank: int
    name: str | None = None
    stacked: bool = True
    constants: npt.NDArray[Any] | None = None


class SideBySide:
    """Finds what the folds of members have in common, and adds nodes that do it for all folds.

    The nodes that these stand for stay in the graph; the finished model leaves out what nothing reads.

    Args:
        graph: in the making.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._made: dict[Folds, Together | None] = {}
        self._shapes: dict[str, tuple[int | None, ...]] = {}

    def mean(self, folds: Sequence[str]) -> str:
        """The mean of values, (n, outputs) and float64 each."""
        if len(folds) == 1:
            return folds[0]
        self._shapes = self.graph.shapes()
        together = self._together(tuple(folds))
        if together is None:
            return (Value(self.graph, self.graph.node("Sum", *folds)) / float(len(folds))).name
        if not together.stacked:
            return folds[0]
        return self.graph.node("ReduceMean", self.name(together, 2), self.axes([0]), keepdims=0)

    def name(self, value: Together, rank: int) -> str:
        """A value's name, with so many axes, beside that of the folds, that it stretches over others of that rank."""
        more = rank - value.rank
        if value.constants is not None:
            folds, *shape = value.constants.shape
            return self.graph.constant(value.constants.reshape([folds, *[1] * more, *shape]))
        assert value.name is not None
        if not value.stacked or more <= 0:
            return value.name
        return self.graph.node("Unsqueeze", value.name, self.axes(range(1, more + 1)))

    def axes(self, numbers: Sequence[int]) -> str:
        """Whole numbers as a constant."""
        return self.graph.constant(np.array(numbers, dtype=np.int64))

    def joined(self, first: int, rest: Together) -> str | None:
        """A shape with one more size in front, of a shape that is the same for all folds."""
        if rest.stacked or rest.name is None:
            return None
        known = self.graph.array(rest.name)
        return (
            self.axes([first, *known]) if known is not None else self.graph.concat([self.axes([first]), rest.name], 0)
        )

    def shifted(self, numbers: Together) -> str | None:
        """Known axes of a fold's value, counted in the stacked one."""
        known = None if numbers.stacked or not numbers.name else self.graph.array(numbers.name)
        return None if known is None else self.axes([_shifted(int(axis)) for axis in known.ravel()])

    def _together(self, values: Folds) -> Together | None:
        """What a value is in all folds, without a call within a call: nets are deep."""
        waiting = [values]
        while waiting:
            here = waiting[-1]
            before = [] if here in self._made else [one for one in self._inputs(here) if one not in self._made]
            if before:
                waiting.extend(before)
                continue
            if here not in self._made:
                self._made[here] = self._make(here)
            waiting.pop()
        return self._made[values]

    def _inputs(self, values: Folds) -> list[Folds]:
        """What must be known before."""
        nodes = None if len(set(values)) == 1 else self._nodes(values)
        return list(zip(*(node.input for node in nodes), strict=True)) if nodes else []

    def _nodes(self, values: Folds) -> list[onnx.NodeProto] | None:
        """The nodes that make a value, if they do the same in every fold, and it is known how to do it for all."""
        nodes = [node for value in values if (node := self.graph.producer(value)) is not None]
        if len(nodes) < len(values) or nodes[0].op_type not in RULES or len({_told(node) for node in nodes}) > 1:
            return None
        return nodes

    def _make(self, values: Folds) -> Together | None:
        first = values[0]
        if len(set(values)) == 1:
            return self._same(first)
        constants = [array for value in values if (array := self.graph.array(value)) is not None]
        if len(constants) == len(values):
            alike = len({(one.shape, one.dtype) for one in constants}) == 1
            return Together(constants[0].ndim, constants=np.stack(constants)) if alike else None
        nodes = self._nodes(values)
        if nodes and first in self._shapes:
            inputs = [one for names in self._inputs(values) if (one := self._made[names]) is not None]
            if len(inputs) == len(nodes[0].input):
                if not any(one.stacked for one in inputs):
                    return self._same(first)
                made = RULES[nodes[0].op_type](self, Done(nodes[0], self._shapes[first], len(values)), inputs)
                if made is not None:
                    return made
        return self._stack(values)

    def _same(self, value: str) -> Together | None:
        """A value that all folds read; "" stands for an input that a node goes without."""
        if not value:
            return Together(0, value, stacked=False)
        return Together(len(self._shapes[value]), value, stacked=False) if value in self._shapes else None

    def _stack(self, values: Folds) -> Together | None:
        """Results that are made fold by fold."""
        shapes = {self._shapes.get(value) for value in values}
        shape = shapes.pop()
        if shapes or not shape or len(shape) > FEW_AXES or None in shape[1:]:
            return None
        joined = self.graph.node("Concat", *values, axis=0)
        sizes = [len(values), -1, *(size or 0 for size in shape[1:])]
        return Together(len(shape), self.graph.node("Reshape", joined, self.axes(sizes)))


@dataclass(frozen=True)
class Done:
    """What each of some folds does: the node of the first, and the sizes of its result, None where they vary."""

    node: onnx.NodeProto
    shape: tuple[int | None, ...]
    folds: int

    @property
    def rank(self) -> int:
        """How many axes the result has."""
        return len(self.shape)

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the node, by name."""
        return {one.name: helper.get_attribute_value(one) for one in self.node.attribute}


Rule = Callable[[SideBySide, Done, list[Together]], Together | None]
"""How to do for all folds what a node does for one; None if that can't be done with these inputs."""


def _by_element(side: SideBySide, done: Done, inputs: list[Together]) -> Together:
    """Inputs of fewer axes are stretched from the last axis on."""
    names = [side.name(one, done.rank) for one in inputs]
    return Together(done.rank, side.graph.node(done.node.op_type, *names, **done.attributes))


def _clip(side: SideBySide, done: Done, inputs: list[Together]) -> Together:
    """Its bounds must be single numbers; those of Max and Min need not."""
    value, *bounds = inputs
    name = side.name(value, done.rank)
    for operation, bound in zip(("Max", "Min"), bounds, strict=False):
        if bound.name != "":
            name = side.graph.node(operation, name, side.name(bound, done.rank))
    return Together(done.rank, name)


def _matmul(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    left, right = inputs
    if min(left.rank, right.rank) < 2:
        return None
    if right.rank > 2 or left.rank == 2:
        return Together(done.rank, side.graph.node("MatMul", *(side.name(one, done.rank) for one in inputs)))
    if None in done.shape[1:] or not left.stacked or right.constants is None:
        return None
    # One large product for each fold, not one for each row of it.
    flat, whole = [done.folds, -1, right.constants.shape[1]], [done.folds, -1, *(size or 0 for size in done.shape[1:])]
    rows = side.graph.node("Reshape", side.name(left, left.rank), side.axes(flat))
    product = side.graph.node("MatMul", rows, side.name(right, 2))
    return Together(done.rank, side.graph.node("Reshape", product, side.axes(whole)))


def _gemm(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    """A product and a sum; a transposed constant is turned beforehand."""
    given = done.attributes
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        return None
    left, right, *bias = inputs
    if given.get("transB", 0):
        if right.constants is None:
            return None
        right = Together(2, constants=np.ascontiguousarray(right.constants.transpose(0, 2, 1)))
    name = side.graph.node("MatMul", side.name(left, 2), side.name(right, 2))
    for one in bias:
        name = side.graph.node("Add", name, side.name(one, 2))
    return Together(2, name)


def _einsum(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    equation = done.attributes["equation"].decode().replace(" ", "")
    if "..." in equation or "->" not in equation or "Z" in equation:
        return None
    given, result = equation.split("->")
    letters = [("Z" if one.stacked else "") + axes for one, axes in zip(inputs, given.split(","), strict=True)]
    names = [side.name(one, one.rank) for one in inputs]
    return Together(done.rank, side.graph.node("Einsum", *names, equation=f"{','.join(letters)}->Z{result}"))


def _concat(side: SideBySide, done: Done, inputs: list[Together]) -> Together:
    names = [side.name(one, one.rank) if one.stacked else _repeated(side, one, done.folds) for one in inputs]
    return Together(done.rank, side.graph.node("Concat", *names, axis=_shifted(done.attributes["axis"])))


def _repeated(side: SideBySide, value: Together, folds: int) -> str:
    """What is the same for all folds, once for each."""
    assert value.name is not None
    once = side.graph.node("Unsqueeze", value.name, side.axes([0]))
    return side.graph.node("Tile", once, side.axes([folds, *[1] * value.rank]))


def _gather(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    """Rows of a table for each fold: of one table, by the same places, or of all tables, one below the other."""
    table, places = inputs
    axis = done.attributes.get("axis", 0) % max(table.rank, 1)
    if not places.stacked:
        assert places.name is not None
        return Together(done.rank, side.graph.node("Gather", side.name(table, table.rank), places.name, axis=axis + 1))
    if axis:
        return None
    where = side.name(places, places.rank)
    if not table.stacked:
        assert table.name is not None
        return Together(done.rank, side.graph.node("Gather", table.name, where, axis=0))
    if table.constants is None:
        return None
    folds, rows, *shape = table.constants.shape
    first = side.graph.constant((np.arange(folds, dtype=np.int64) * rows).reshape([folds, *[1] * places.rank]))
    below = side.graph.node("Add", side.graph.cast(where, "int64"), first)
    tables = side.graph.constant(table.constants.reshape([folds * rows, *shape]))
    return Together(done.rank, side.graph.node("Gather", tables, below, axis=0))


def _reshape(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    value, sizes = inputs
    target = side.joined(done.folds, sizes)
    if target is None or done.attributes.get("allowzero", 0):
        return None
    return Together(done.rank, side.graph.node("Reshape", side.name(value, value.rank), target))


def _flatten(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    if done.attributes.get("axis", 1) != 1:
        return None
    return Together(2, side.graph.node("Reshape", side.name(inputs[0], inputs[0].rank), side.axes([0, 0, -1])))


def _transpose(side: SideBySide, done: Done, inputs: list[Together]) -> Together:
    order = done.attributes.get("perm", range(done.rank)[::-1])
    perm = [0, *(axis + 1 for axis in order)]
    return Together(done.rank, side.graph.node("Transpose", side.name(inputs[0], done.rank), perm=perm))


def _along(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    """Operations along the axes that a second input names."""
    axes = side.shifted(inputs[1]) if len(inputs) == 2 else None
    if axes is None:
        return None
    value = side.name(inputs[0], inputs[0].rank)
    return Together(done.rank, side.graph.node(done.node.op_type, value, axes, **done.attributes))


def _along_one(side: SideBySide, done: Done, inputs: list[Together]) -> Together:
    axis = _shifted(done.attributes.get("axis", -1))
    return Together(done.rank, side.graph.node(done.node.op_type, side.name(inputs[0], done.rank), axis=axis))


def _slice(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    value, start, end, *more = inputs
    axes = side.shifted(more[0]) if more else None
    if axes is None or any(one.stacked or one.name is None for one in (start, end, *more)):
        return None
    rest = [str(start.name), str(end.name), axes, *(str(one.name) for one in more[1:])]
    return Together(done.rank, side.graph.node("Slice", side.name(value, value.rank), *rest))


def _repeat(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    """Tile and Expand: once along the axis of folds."""
    value, sizes = inputs
    target = side.joined(1, sizes)
    if target is None:
        return None
    return Together(done.rank, side.graph.node(done.node.op_type, side.name(value, done.rank), target))


def _shape(side: SideBySide, done: Done, inputs: list[Together]) -> Together | None:
    """Folds differ in their numbers, not in their shapes."""
    start, end = done.attributes.get("start", 0), done.attributes.get("end")
    if start < 0 or (end is not None and end < 0):
        return None
    span = {"start": start + 1} | ({} if end is None else {"end": end + 1})
    return Together(1, side.graph.node("Shape", side.name(inputs[0], inputs[0].rank), **span), stacked=False)


def _shifted(axis: int) -> int:
    """An axis of a fold's value in the stacked one; those that are counted from the last stay."""
    return axis + 1 if axis >= 0 else axis


RULES: dict[str, Rule] = {
    **dict.fromkeys(BY_ELEMENT.split(), _by_element),
    **dict.fromkeys(ALONG.split(), _along),
    **dict.fromkeys(["LogSoftmax", "Softmax"], _along_one),
    **dict.fromkeys(["Expand", "Tile"], _repeat),
    "Clip": _clip,
    "Concat": _concat,
    "Einsum": _einsum,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Transpose": _transpose,
}


def _told(node: onnx.NodeProto) -> tuple[Any, ...]:
    """What a node does, but not with which values."""
    attributes = sorted((one.name, one.SerializeToString(deterministic=True)) for one in node.attribute)
    return node.op_type, node.domain, len(node.input), len(node.output), tuple(attributes)
