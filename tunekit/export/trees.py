"""Tree ensembles as graph nodes: the operator TreeEnsemble of ai.onnx.ml 5.

Comparisons give the same side as in the library that trained the trees: features are float32, and a float64
threshold has a float32 neighbour that divides all float32 numbers the same way. Leaves are float32 too, as XGBoost's
are. Those that fill one output are summed by the operator. Where each leaf holds one value per class, the operator
only finds the leaf of each tree, and its values are looked up: so that the nodes are stored once, not once per class,
and so are values that leaves share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from tunekit.errors import ExportError
from tunekit.export.graph import Graph, Value
from tunekit.families.tree_arrays import NOWHERE, TreeArrays

_BELOW_OR_EQUAL, _BELOW, _MEMBER = 0, 1, 6  # nodes_modes
_SUM = 1  # aggregate_function

_MOST_PLACES = 2**24
"""Whole numbers up to here are exact in float32."""

Ints = npt.NDArray[np.int64]


def add_trees(graph: Graph, features: str, trees: TreeArrays) -> str | None:
    """Add an ensemble.

    Args:
        graph: to add to.
        features: float32 (n, F).
        trees: the ensemble.

    Returns:
        Float64 (n, outputs), before the link; None if no tree has a split, so that `bare_base` is all there is.
    """
    split = trees.left[trees.roots] != NOWHERE
    if not split.any():
        return None
    layout, targets = _Layout.of(trees, trees.roots[split]), trees.target[split]
    base = bare_base(trees)
    if trees.width == 1:
        values, center = _centered(trees.value[layout.leaves, 0])
        np.add.at(base, targets, trees.scale * center)
        sums = _ensemble(graph, features, trees, layout, targets[layout.owner], values, trees.outputs)
    else:
        sums = _looked_up(graph, features, trees, layout, targets)
    return (Value(graph, graph.cast(sums, "double")) * trees.scale + Value(graph, graph.constant(base))).name


def bare_base(trees: TreeArrays) -> npt.NDArray[np.float64]:
    """What is added to every row: the base, and the trees that are a single leaf."""
    base = trees.base.astype(np.float64).copy()
    for tree in np.flatnonzero(trees.left[trees.roots] == NOWHERE):
        start = trees.target[tree]
        base[start : start + trees.width] += trees.scale * trees.value[trees.roots[tree]]
    return base


@dataclass(frozen=True)
class _Layout:
    """Nodes of an ensemble in the operator's order: splits and leaves apart, each tree's together.

    Args:
        splits: (I,) nodes of `TreeArrays`.
        leaves: (L,) nodes of `TreeArrays`.
        place: (N,) position of each node among the splits, or among the leaves.
        roots: (T,) positions of the roots among the splits.
        owner: (L,) which tree each leaf belongs to.
    """

    splits: Ints
    leaves: Ints
    place: Ints
    roots: Ints
    owner: Ints

    @classmethod
    def of(cls, trees: TreeArrays, roots: Ints) -> _Layout:
        owner = np.full(len(trees.left), NOWHERE, dtype=np.int64)
        owner[roots] = np.arange(len(roots))
        level = roots
        while len(level):  # hand each tree's number down, one level at a time
            level = level[trees.left[level] != NOWHERE]
            for child in (trees.left[level], trees.right[level]):
                owner[child] = owner[level]
            level = np.concatenate([trees.left[level], trees.right[level]])
        inside = owner != NOWHERE
        leaf = trees.left == NOWHERE
        splits, leaves = np.flatnonzero(inside & ~leaf), np.flatnonzero(inside & leaf)
        place = np.zeros(len(leaf), dtype=np.int64)
        place[splits] = np.arange(len(splits))
        place[leaves] = np.arange(len(leaves))
        return cls(splits, leaves, place, place[roots], owner[leaves])


def _centered(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], float]:
    """Values as float32, and what was taken from each: nothing if float32 holds them, else their median.

    So that a forest of large numbers that differ little, such as years, loses no digits that matter.
    """
    if np.array_equal(values.astype(np.float32), values):
        return values.astype(np.float32), 0.0
    center = float(np.median(values))
    return (values - center).astype(np.float32), center


def _looked_up(graph: Graph, features: str, trees: TreeArrays, layout: _Layout, targets: Ints) -> str:
    """Float32 (n, outputs): the operator gives the place of each tree's values, (n, T); they are looked up and summed.

    Most leaves of a forest hold rows of one class, so that few values differ from all others: they are stored once.
    """
    values = np.zeros((len(layout.leaves), trees.outputs), dtype=np.float32)
    columns = targets[layout.owner][:, None] + np.arange(trees.width)
    np.put_along_axis(values, columns, trees.value[layout.leaves], axis=1)
    distinct, places = _distinct(values)
    if len(distinct) > _MOST_PLACES:
        raise ExportError(
            f"a forest has leaves of {len(distinct)} different values; expected at most {_MOST_PLACES}: fit fewer or "
            "smaller trees, or leave it out of the blend"
        )
    place = _ensemble(graph, features, trees, layout, layout.owner, places.astype(np.float32), len(layout.roots))
    found = graph.node("Gather", graph.constant(distinct), graph.cast(place, "int64"), axis=0)  # (n, T, outputs)
    return graph.node("ReduceSum", found, graph.constant(np.array([1], dtype=np.int64)), keepdims=0)


def _distinct(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], Ints]:
    """The rows that differ, and the position of each row among them."""
    values = np.ascontiguousarray(values)
    whole = values.view(np.dtype((np.void, values.itemsize * values.shape[1])))[:, 0]
    _, first, places = np.unique(whole, return_index=True, return_inverse=True)
    return values[first], places


def _ensemble(
    graph: Graph,
    features: str,
    trees: TreeArrays,
    layout: _Layout,
    leaf_targets: Ints,
    leaf_weights: npt.NDArray[np.float32],
    targets: int,
) -> str:
    """Float32 (n, targets): one TreeEnsemble. Its true branch is left for a numeric split, right for a category set."""
    numbers, tensors = _attributes(trees, layout, leaf_targets, leaf_weights)
    output = graph.fresh("TreeEnsemble")
    node = helper.make_node(
        "TreeEnsemble",
        [features],
        [output],
        name=output,
        domain="ai.onnx.ml",
        aggregate_function=_SUM,
        n_targets=targets,
        post_transform=0,
        **{name: numpy_helper.from_array(array, name) for name, array in tensors.items()},
    )
    for name, values in numbers.items():  # make_node takes ten times as long for long lists of numbers
        attribute = node.attribute.add()
        attribute.name = name
        attribute.type = attribute.INTS
        attribute.ints.extend(values.tolist())
    graph.add(node)
    return output


def _attributes(
    trees: TreeArrays, layout: _Layout, leaf_targets: Ints, leaf_weights: npt.NDArray[np.float32]
) -> tuple[dict[str, Ints], dict[str, npt.NDArray[Any]]]:
    """The operator's attributes: those that are lists of whole numbers, and those that are tensors."""
    splits = layout.splits
    member = trees.set_size[splits] > 0
    true = np.where(member, trees.right[splits], trees.left[splits])
    false = np.where(member, trees.left[splits], trees.right[splits])
    modes = np.where(member, _MEMBER, _BELOW_OR_EQUAL if trees.inclusive else _BELOW)
    tensors: dict[str, npt.NDArray[Any]] = {
        "nodes_modes": modes.astype(np.uint8),
        "nodes_splits": float32_thresholds(trees.threshold[splits], inclusive=trees.inclusive),
        "leaf_weights": leaf_weights,
    }
    if member.any():
        tensors["membership_values"] = _memberships(trees, splits[member])
    numbers = {
        "tree_roots": layout.roots,
        "nodes_featureids": trees.feature[splits],
        "nodes_truenodeids": layout.place[true],
        "nodes_falsenodeids": layout.place[false],
        "nodes_trueleafs": (trees.left[true] == NOWHERE).astype(np.int64),
        "nodes_falseleafs": (trees.left[false] == NOWHERE).astype(np.int64),
        "leaf_targetids": leaf_targets,
    }
    missing_true = trees.missing_left[splits] != member
    if missing_true.any():  # where it's left out, missing values take the false branch
        numbers["nodes_missing_value_tracks_true"] = missing_true.astype(np.int64)
    return numbers, tensors


def float32_thresholds(thresholds: npt.NDArray[np.float64], *, inclusive: bool) -> npt.NDArray[np.float32]:
    """Thresholds in float32 that send every float32 number to the side where the float64 ones send it.

    x <= t is x <= the largest float32 that is not above t; x < t is x < the smallest that is not below t.

    >>> float32_thresholds(np.array([0.1]), inclusive=True).item() <= 0.1
    True
    """
    with np.errstate(over="ignore"):  # LightGBM's largest one, 1e300, is beyond float32
        near = thresholds.astype(np.float32)
        if inclusive:
            return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
        return np.where(near < thresholds, np.nextafter(near, np.float32(np.inf)), near)


def _memberships(trees: TreeArrays, splits: Ints) -> npt.NDArray[np.float32]:
    """The sets of these splits one after the other, each ended by NaN."""
    ended = []
    for start, size in zip(trees.set_start[splits], trees.set_size[splits], strict=True):
        ended += [trees.sets[start : start + size].astype(np.float32), np.array([np.nan], dtype=np.float32)]
    return np.concatenate(ended)
