"""Folds that do the same with other numbers do it in one node, and predict what they predict alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from tunekit.export.graph import Graph
from tunekit.export.side_by_side import RULES, SideBySide

pytestmark = pytest.mark.usefixtures("kept_servers")

FOLDS, ROWS = 3, 7
RANDOM = np.random.default_rng(0)
START = RANDOM.bit_generator.state

Fold = Callable[[Graph, str], str]
"""What a fold makes of x, (n, 4) float64; called once for each fold, with other random numbers."""


def number(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.asarray(RANDOM.uniform(0.2, 0.9, shape), dtype=dtype)


def axes(*given: int) -> np.ndarray:
    return np.array(given, dtype=np.int64)


def scaled(graph: Graph, x: str) -> str:
    return graph.node("Mul", x, graph.constant(number(4)))


def two(graph: Graph, x: str) -> str:
    """(n, 2) of anything (n, 4)."""
    return graph.node("MatMul", x, graph.constant(number(4, 2)))


def elementwise(operation: str) -> Fold:
    return lambda graph, x: two(graph, graph.node(operation, scaled(graph, x)))


def pair(operation: str) -> Fold:
    return lambda graph, x: two(graph, graph.node(operation, scaled(graph, x), graph.constant(number(4))))


def choice(operation: str) -> Fold:
    """A comparison, and what is taken by it."""

    def fold(graph: Graph, x: str) -> str:
        above = graph.node(operation, scaled(graph, x), graph.constant(number(1, 4)))
        neither = graph.node("Not", graph.node("Or", above, graph.node("And", above, above)))
        return two(graph, graph.node("Where", neither, x, graph.constant(number(4))))

    return fold


def cube(graph: Graph, x: str) -> str:
    """(n, 2, 2), through most of what moves values about."""
    value = graph.node("Reshape", scaled(graph, x), graph.constant(axes(-1, 2, 2)))
    return graph.node("Transpose", value, perm=[0, 2, 1])


def along(operation: str, axis: int) -> Fold:
    return lambda graph, x: graph.node(operation, cube(graph, x), graph.constant(axes(axis)), keepdims=0)


def looked_up(table_of_all: bool, codes_of_all: bool) -> Fold:
    """Rows of a table, of each fold's or of one for all."""
    table, step = number(6, 2), number(1)

    def fold(graph: Graph, x: str) -> str:
        codes = graph.cast(graph.node("Abs", x if codes_of_all else scaled(graph, x)), "int64")
        code = graph.node("Gather", codes, graph.constant(np.int64(1)), axis=1)
        rows = graph.node("Gather", graph.constant(table if table_of_all else number(6, 2)), code, axis=0)
        return graph.node("Mul", rows, graph.constant(number(1) if table_of_all else step))

    return fold


def beside(graph: Graph, x: str) -> str:
    """(n, 8): what is the same for all folds, and what isn't."""
    return graph.concat([x, scaled(graph, x)], 1)


def sized(graph: Graph, x: str) -> str:
    """A shape that is computed, as nets with an unknown number of rows have it."""
    value = scaled(graph, x)
    rows = graph.node("Shape", value, end=1)
    target = graph.node("Concat", rows, graph.constant(axes(2, 2)), axis=0)
    return graph.node("ReduceSum", graph.node("Reshape", value, target), graph.constant(axes(-1)), keepdims=0)


def expanded(graph: Graph, x: str) -> str:
    row = graph.constant(number(1, 2))
    count = graph.node("Shape", x, end=1)
    shape = graph.node("Concat", count, graph.constant(axes(2)), axis=0)
    return graph.node("Expand", graph.node("Add", row, graph.constant(np.float64(1.0))), shape)


def members(graph: Graph, x: str) -> str:
    """A net of several members that share their rows, (n, 3, 4), and weights of each or of all."""
    rows = graph.node(
        "Tile", graph.node("Unsqueeze", scaled(graph, x), graph.constant(axes(1))), graph.constant(axes(1, 3, 1))
    )
    hidden = graph.node("MatMul", rows, graph.constant(number(4, 4)))
    hidden = graph.node("Einsum", hidden, graph.constant(number(3, 4, 2)), equation="nkf,kfo->nko")
    return graph.node("ReduceMean", hidden, graph.constant(axes(1)), keepdims=0)


CASES: dict[str, Fold] = {
    **{name: elementwise(name) for name in ("Ceil", "Cos", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Relu")},
    **{name: elementwise(name) for name in ("Identity", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Tanh")},
    **{name: pair(name) for name in ("Add", "Div", "Max", "Min", "Pow", "Sub", "Sum")},
    **{name: choice(name) for name in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")},
    **{f"{name} {axis}": along(name, axis) for name in ("ReduceMax", "ReduceMin", "ReduceSum") for axis in (1, -1)},
    **{name: along(name, 2) for name in ("ReduceL2", "ReduceMean", "ReduceProd", "ReduceSumSquare")},
    "Abs, Cast and Gather of each fold's table": looked_up(table_of_all=False, codes_of_all=True),
    "Gather of each fold's table by each fold's codes": looked_up(table_of_all=False, codes_of_all=False),
    "Gather of one table by each fold's codes": looked_up(table_of_all=True, codes_of_all=False),
    "Clip": lambda graph, x: two(
        graph, graph.node("Clip", scaled(graph, x), graph.constant(number()), graph.constant(1 + number()))
    ),
    "Clip below": lambda graph, x: two(graph, graph.node("Clip", scaled(graph, x), graph.constant(number()))),
    "Concat": lambda graph, x: graph.node("MatMul", beside(graph, x), graph.constant(number(8, 2))),
    "Flatten": lambda graph, x: two(graph, graph.node("Flatten", cube(graph, x), axis=1)),
    "Gemm": lambda graph, x: graph.node(
        "Gemm", graph.node("Tanh", scaled(graph, x)), graph.constant(number(2, 4)), graph.constant(number(2)), transB=1
    ),
    "IsNaN": lambda graph, x: two(graph, graph.cast(graph.node("IsNaN", scaled(graph, x)), "double")),
    "LogSoftmax": lambda graph, x: two(graph, graph.node("LogSoftmax", scaled(graph, x), axis=1)),
    "Softmax": lambda graph, x: two(graph, graph.node("Softmax", scaled(graph, x), axis=-1)),
    "Slice": lambda graph, x: graph.node("Slice", scaled(graph, x), *(graph.constant(axes(one)) for one in (1, 3, 1))),
    "Squeeze": lambda graph, x: graph.node(
        "Squeeze", graph.node("Unsqueeze", two(graph, x), graph.constant(axes(1))), graph.constant(axes(1))
    ),
    "Reshape by a computed Shape": sized,
    "Expand": expanded,
    "Tile, MatMul and Einsum of members": members,
}


def both_ways(folds: Callable[[Graph], list[str]]) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """The mean of the folds side by side and one by one, and how often each operation is in the former's graph."""
    found = []
    operations: Counter[str] = Counter()
    for together in (True, False):
        RANDOM.bit_generator.state = START  # the same numbers
        graph = Graph([("x", "double", (4,))])
        values = folds(graph)
        alone = graph.node("Div", graph.node("Sum", *values), graph.constant(float(FOLDS)))
        mean = SideBySide(graph).mean(values) if together else alone
        graph.output("mean", mean, ["rows", 2])
        model = graph.model("folds")
        if together:
            operations = Counter(node.op_type for node in model.graph.node)
        x = np.random.default_rng(1).uniform(0.1, 2, (ROWS, 4))
        x[0, 0] = np.nan if "IsNaN" in {node.op_type for node in model.graph.node} else 0.5
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found.append(session.run(["mean"], {"x": x})[0])
    return found[0], found[1], operations


@pytest.mark.parametrize("case", CASES)
def test_folds_predict_side_by_side_what_they_predict_alone(case) -> None:
    together, alone, operations = both_ways(lambda graph: [CASES[case](graph, "x") for _ in range(FOLDS)])
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # float64, in another order of additions
    assert together.shape == (ROWS, 2)
    for name in case.replace(",", "").split():
        if name in RULES and name not in ("Clip", "Gemm", "Flatten"):  # these become others
            # once for all folds; MatMul, Tile, Unsqueeze and Reshape also prepare what another node reads
            assert 1 <= operations[name] < FOLDS, operations


def test_every_rule_is_tried() -> None:
    tried = {name for case in CASES for name in case.replace(",", "").split()}
    # Those of `choice`, `scaled`, `cube` and `members` are tried, too; the others are by element as those are.
    silent = {"And", "Mul", "Not", "Or", "Transpose", "Unsqueeze", "Where"}
    untried = set(RULES) - tried - silent
    assert {RULES[name] for name in untried} == {RULES["Add"]}
    assert len(untried) < 16


def test_what_has_no_rule_is_done_fold_by_fold_and_stacked() -> None:
    def folds(graph: Graph) -> list[str]:
        hidden = [graph.node("CumSum", scaled(graph, "x"), graph.constant(np.int64(1))) for _ in range(FOLDS)]
        return [two(graph, graph.node("Tanh", value)) for value in hidden]

    together, alone, operations = both_ways(folds)
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # as above
    assert operations["CumSum"] == FOLDS
    assert operations["Tanh"] == operations["MatMul"] == 1


def test_folds_of_other_widths_meet_where_they_are_as_wide() -> None:
    """Each fold has 0/1 columns of its own levels."""

    def folds(graph: Graph) -> list[str]:
        widths = [graph.node("Gather", "x", graph.constant(np.arange(wide)), axis=1) for wide in (1, 2, 4)]
        products = [
            graph.node("MatMul", value, graph.constant(number(wide, 4)))
            for value, wide in zip(widths, (1, 2, 4), strict=True)
        ]
        return [two(graph, graph.node("Relu", value)) for value in products]

    together, alone, operations = both_ways(folds)
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # as above
    assert operations["Relu"] == 1
    assert operations["MatMul"] == FOLDS + 1


def test_folds_of_other_operations_are_their_mean() -> None:
    def folds(graph: Graph) -> list[str]:
        return [two(graph, graph.node(name, "x")) for name in ("Tanh", "Relu", "Sin")]

    together, alone, operations = both_ways(folds)
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # as above
    assert operations["MatMul"] == 1  # their results are stacked


def test_equal_folds_are_one() -> None:
    def folds(graph: Graph) -> list[str]:
        weights = graph.constant(np.ones((4, 2)))
        return [graph.node("MatMul", graph.node("Tanh", "x"), weights) for _ in range(FOLDS)]

    together, alone, operations = both_ways(folds)
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # as above
    assert operations == {"Tanh": 1, "MatMul": 1, "Identity": 1}
