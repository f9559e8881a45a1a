"""The nearest of a model's rows as graph nodes: what `Neighborhood.predict` does, some rows at a time.

Distances to 20,000 rows are much more than what they are made of and than what is kept of them, so that a Scan makes
them for `AT_ONCE` rows, however many the graph is given.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from tunekit.export.graph import TYPES, Graph, Value
from tunekit.families.neighbors import ALIKE, AT_ONCE, FURTHEST, Neighborhood


def add_neighbors(graph: Graph, features: str, model: Neighborhood) -> str:
    """Add a model.

    Args:
        graph: to add to.
        features: float32 (n, F).
        model: its rows, and how they vote.

    Returns:
        Float64 (n, outputs).
    """
    places, squared = _nearest(graph, _on_grid(graph, features, model), model)
    neighbours, last = (graph.constant(np.array([axis], dtype=np.int64)) for axis in (1, 2))
    votes = graph.node("Unsqueeze", graph.node("Gather", graph.constant(model.target), places), last)
    if len(model.prior):
        votes = graph.cast(graph.node("Equal", votes, graph.constant(model.classes.astype(np.float64))), "double")
    weights = [graph.node("Gather", graph.constant(model.weight), places)] if len(model.weight) else []
    if model.by_distance:
        weights.append(_nearness(graph, squared, neighbours))
    if weights:
        weight = weights[0] if len(weights) == 1 else graph.node("Mul", *weights)
        counted = graph.node("Mul", votes, graph.node("Unsqueeze", weight, last))
        total = Value(graph, graph.node("ReduceSum", weight, neighbours))
        mean = Value(graph, graph.node("ReduceSum", counted, neighbours, keepdims=0)) / total
    else:
        mean = Value(graph, graph.node("ReduceMean", votes, neighbours, keepdims=0))
    if len(model.prior):
        mean = (mean * model.count + Value(graph, graph.constant(model.prior))) / (model.count + 1)
    return mean.name


def _nearness(graph: Graph, squared: str, neighbours: str) -> str:
    """What neighbours count by their squared distances, (n, count)."""
    apart = Value(graph, graph.node("Sqrt", squared))
    nearest, last = (Value(graph, graph.node(end, apart.name, neighbours)) for end in ("ReduceMin", "ReduceMax"))
    return ((last - apart + ALIKE) / (last - nearest + ALIKE)).name


def _on_grid(graph: Graph, features: str, model: Neighborhood) -> str:
    """Float64 (n, F) whole numbers."""
    steps = graph.node("Round", graph.node("Mul", features, graph.constant(model.scale)))
    ends = [graph.constant(np.float32(end)) for end in (-FURTHEST, FURTHEST)]
    return graph.cast(graph.node("Clip", steps, *ends), "double")


def _nearest(graph: Graph, points: str, model: Neighborhood) -> tuple[str, str]:
    """Int64 positions of the nearest rows, and the squares of their float64 distances: (n, count) each."""
    width, zero, one = model.rows.shape[1], graph.constant(np.zeros(1, np.int64)), graph.constant(np.ones(1, np.int64))
    rows = graph.node("Shape", points, end=1)
    size = graph.node("Max", one, graph.node("Min", rows, graph.constant(np.array([AT_ONCE], dtype=np.int64))))
    parts = graph.node("Max", one, graph.node("Div", graph.node("Sub", graph.node("Add", rows, size), one), size))
    more = graph.node("Sub", graph.node("Mul", parts, size), rows)
    padded = graph.node("Pad", points, graph.concat([zero, zero, more, zero], axis=0))
    shape = graph.concat([parts, size, graph.constant(np.array([width], dtype=np.int64))], axis=0)
    found = _scan(graph, graph.node("Reshape", padded, shape), model)
    kept = graph.constant(np.array([-1, model.count], dtype=np.int64))
    far, places = (graph.node("Slice", graph.node("Reshape", one_of, kept), zero, rows, zero) for one_of in found)
    length = graph.node("ReduceSumSquare", points, one)
    return places, graph.node("Add", far, length)


def _scan(graph: Graph, parts: str, model: Neighborhood) -> tuple[str, str]:
    """(parts, size, count) of points (parts, size, F): squared distances less those of the points to the middle; rows.

    TopK takes the first ones of rows that are as far.
    """
    columns = graph.cast(graph.constant(np.ascontiguousarray(model.rows.T)), "double")
    squares, count = graph.constant(model.squares), graph.constant(np.array([model.count], dtype=np.int64))
    part, twice, product, far, near, where = (graph.fresh("near") for _ in range(6))
    nodes = [
        helper.make_node("Mul", [part, graph.constant(np.float64(-2.0))], [twice], name=twice),
        helper.make_node("MatMul", [twice, columns], [product], name=product),
        helper.make_node("Add", [product, squares], [far], name=far),
        helper.make_node("TopK", [far, count], [near, where], name=near, axis=1, largest=0),
    ]
    given = helper.make_tensor_value_info(part, TYPES["double"], [None, model.rows.shape[1]])
    results = [
        helper.make_tensor_value_info(name, TYPES[kind], [None, model.count])
        for name, kind in ((near, "double"), (where, "int64"))
    ]
    body = helper.make_graph(nodes, graph.fresh("nearest"), [given], results)
    squared, places = graph.fresh("Scan"), graph.fresh("Scan")
    graph.add(helper.make_node("Scan", [parts], [squared, places], name=squared, body=body, num_scan_inputs=1))
    return squared, places
