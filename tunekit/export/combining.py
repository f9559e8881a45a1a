"""How members become one prediction, as nodes of the graph: what `Combination.apply` does with numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunekit.ensemble.calibration import CLIP, Calibration
from tunekit.ensemble.combination import Combination
from tunekit.export.graph import Graph, Value
from tunekit.export.trees import add_trees
from tunekit.families.base import link_for


def add_combination(graph: Graph, members: str, combination: Combination) -> str:
    """Add the nodes.

    Args:
        graph: to add to.
        members: float64 (rows, members, outputs).
        combination: of these members.

    Returns:
        Float64 (rows, outputs).
    """
    return _Combining(graph, combination).add(members)


@dataclass(frozen=True)
class _Combining:
    graph: Graph
    combination: Combination

    def add(self, members: str) -> str:
        """See `add_combination`."""
        combined = self._combined(members)
        calibration, least = self.combination.calibration, self.combination.least
        if calibration is not None:
            isotonic = calibration.kind == "isotonic"
            combined = self._isotonic(combined, calibration) if isotonic else self._cooled(combined)
        return combined if least is None else self.graph.node("Max", combined, self.graph.constant(least))

    def _combined(self, members: str) -> str:
        combination = self.combination
        if combination.kind == "logits":
            return self._linked(self._mean(self._log_odds(members)))
        mean = self._mean(members)
        trees = combination.trees
        if trees is None:
            return mean
        width = len(combination.weights) * len(combination.bias)
        shape = self.graph.constant(np.array([-1, width], dtype=np.int64))
        features = self.graph.cast(self.graph.node("Reshape", members, shape), "float")
        correction = add_trees(self.graph, features, trees)
        if correction is None:
            return mean
        if combination.task == "regression":
            return self._plus(mean, correction)
        return self._linked(self._plus(self._log_odds(mean), correction))

    def _mean(self, members: str) -> str:
        """The weighted sum over members, and the bias."""
        graph, combination = self.graph, self.combination
        weighted = Value(graph, members) * Value(graph, graph.constant(combination.weights[:, None]))
        total = graph.node("ReduceSum", weighted.name, graph.constant(np.array([1], dtype=np.int64)), keepdims=0)
        return self._plus(total, graph.constant(combination.bias)) if combination.bias.any() else total

    def _plus(self, one: str, other: str) -> str:
        return (Value(self.graph, one) + Value(self.graph, other)).name

    def _log_odds(self, shares: str) -> str:
        graph = self.graph
        bounds = [graph.constant(np.float64(bound)) for bound in (CLIP, 1.0 - CLIP)]
        near = graph.node("Clip", shares, *bounds)
        if len(self.combination.bias) > 1:
            return graph.node("Log", near)
        rest = graph.node("Sub", graph.constant(np.float64(1.0)), near)
        return graph.node("Log", (Value(graph, near) / Value(graph, rest)).name)

    def _linked(self, raw: str) -> str:
        if link_for(self.combination.task) == "sigmoid":
            return self.graph.node("Sigmoid", raw)
        return self.graph.node("Softmax", raw, axis=1)

    def _cooled(self, shares: str) -> str:
        assert self.combination.calibration is not None
        return self._linked((Value(self.graph, self._log_odds(shares)) / self.combination.calibration.temperature).name)

    def _isotonic(self, shares: str, calibration: Calibration) -> str:
        """Straight lines between knots: each knot adds its slope times how far the probability is past it."""
        assert calibration.x is not None
        assert calibration.y is not None
        graph, x, y = self.graph, calibration.x, calibration.y
        start = graph.constant(y[:1])
        if len(x) == 1:
            zero = (Value(graph, shares) * 0.0).name
            return self._plus(zero, start)
        past = (Value(graph, shares) - Value(graph, graph.constant(x[:-1]))).name
        widths = np.diff(x)
        within = graph.node("Min", graph.node("Max", past, graph.constant(np.float64(0.0))), graph.constant(widths))
        slopes = graph.constant((np.diff(y) / widths)[:, None])
        return self._plus(graph.node("MatMul", within, slopes), start)
