"""A tree ensemble as flat arrays: what boosted trees and forests save, and what the exporter reads.

One form for all libraries, read without any of them once it is saved. `TreeArrays.predict` is the reference for what
the arrays mean. XGBoost's and scikit-learn's trees are read here, the others' in files of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import MANY_CLASSES
from tunekit.errors import ExportError
from tunekit.families.base import Predictions, link

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NOWHERE = -1
"""Child of a leaf, and the feature that a leaf reads."""

_VISITS = 1_000_000
"""How many (row, tree) pairs `predict` follows at once: bounds its memory to some tens of megabytes."""

PARSED = 100
"""Rounds of a boosted model that are parsed at once."""

_LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
}
"""XGBoost's objectives whose prediction is one of our links of the sum of leaves."""


@dataclass(frozen=True)
class TreeArrays:
    """T trees of N nodes in all: prediction = link(scale * sum of leaf values + base).

    Args:
        roots: (T,) node of each tree's root.
        target: (T,) the first output column to which the tree adds.
        feature: (N,) the feature that a split reads, -1 at a leaf.
        threshold: (N,) of a numeric split.
        left: (N,) node on the left, -1 at a leaf.
        right: (N,) node on the right, -1 at a leaf.
        missing_left: (N,) whether NaN goes left.
        set_start: (N,) where a category split's set starts in `sets`.
        set_size: (N,) members of that set; 0 makes the split numeric.
        sets: (S,) category codes; a code in the set goes right, any other one left.
        value: (N, W) leaf values, added to W output columns from `target` on.
        scale: applied to the sum of leaves: 1 for boosting, 1 / T for forests.
        base: (outputs,) added after scaling, before the link.
        inclusive: a numeric split sends x left if x <= threshold; otherwise if x < threshold.
        link: "identity", "sigmoid" or "softmax".
    """

    roots: Ints
    target: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    set_start: Ints
    set_size: Ints
    sets: Ints
    value: Floats
    scale: float
    base: Floats
    inclusive: bool
    link: str

    @property
    def width(self) -> int:
        """Output columns to which one leaf adds."""
        return int(self.value.shape[1])

    @property
    def outputs(self) -> int:
        """Columns of a prediction."""
        return len(self.base)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for `numpy.savez`; none needs pickle."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Any) -> TreeArrays:
        """The inverse of `to_arrays`; also reads what `numpy.load` returns."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        for name, kind in (("scale", float), ("inclusive", bool), ("link", str)):
            values[name] = kind(values[name])
        return cls(**values)

    def predict(self, features: npt.NDArray[np.float32]) -> Predictions:
        """Predictions (n, outputs) of features float32 (n, F), as the original library makes them."""
        features = np.asarray(features, dtype=np.float32)
        rows = max(1, _VISITS // max(1, len(self.roots)))
        sums = [self._sums(features[start : start + rows]) for start in range(0, len(features), rows)]
        raw = np.concatenate([np.empty((0, self.outputs)), *sums])
        return link(raw * self.scale + self.base, self.link)

    def _sums(self, features: npt.NDArray[np.float32]) -> Floats:
        leaves = self.value[self._leaves(features)]  # (n, T, W)
        columns = self.target[:, None] + np.arange(self.width)
        spread = np.zeros((len(self.roots), self.width, self.outputs))
        np.put_along_axis(spread, columns[:, :, None], 1.0, axis=2)
        return np.asarray(np.tensordot(leaves, spread, axes=([1, 2], [0, 1])))

    def _leaves(self, features: npt.NDArray[np.float32]) -> Ints:
        """The leaf that each row reaches in each tree, (n, T): one step down for all of them at a time."""
        at = np.repeat(self.roots[None, :], len(features), axis=0)
        row, tree = np.nonzero(self.left[at] != NOWHERE)
        members = self._members()
        while len(row):
            node = at[row, tree]
            goes_left = self._goes_left(node, features[row, self.feature[node]], members)
            at[row, tree] = np.where(goes_left, self.left[node], self.right[node])
            inside = self.left[at[row, tree]] != NOWHERE
            row, tree = row[inside], tree[inside]
        return at

    def _goes_left(self, node: Ints, x: npt.NDArray[np.float32], members: tuple[Ints, int]) -> Bools:
        threshold = self.threshold[node]  # float64: comparing with it leaves float32 features as they are
        below = (x <= threshold) if self.inclusive else (x < threshold)
        category = np.flatnonzero(self.set_size[node] > 0)
        if len(category):
            keys, width = members
            code = np.nan_to_num(x[category], nan=-1.0).astype(np.int64)
            known = (code >= 0) & (code < width)
            below[category] = ~(known & np.isin(node[category] * width + code, keys))
        return np.where(np.isnan(x), self.missing_left[node], below)

    def _members(self) -> tuple[Ints, int]:
        """Every (node, category in its set) pair as one integer, node * width + category; and that width."""
        width = int(self.sets.max(initial=-1)) + 1
        node = np.repeat(np.arange(len(self.set_size)), self.set_size)
        within = np.arange(len(node)) - np.repeat(np.cumsum(self.set_size) - self.set_size, self.set_size)
        return np.asarray(node * width + self.sets[self.set_start[node] + within]), width


def from_xgboost(booster: Any, outputs: int, link: str) -> TreeArrays:
    """Read a trained booster, all of its rounds; slice it first (`booster[:n]`) to keep the best ones.

    Args:
        booster: an `xgboost.Booster` of trees (gbtree or dart), trained on arrays with category codes.
        outputs: columns of a prediction.
        link: "identity", "sigmoid" or "softmax", as the booster's objective has it.

    Raises:
        ExportError: a kind of booster whose prediction is not a link of a sum of single-output trees.
    """
    parts: list[OneTree] = []
    of_trees: list[Ints] = []
    base = np.zeros(outputs)
    for some in _sliced(booster):
        learner = json.loads(bytes(some.save_raw("json")))["learner"]
        name = learner["objective"]["name"]
        if _LINKS.get(name) != link:
            fitting = ", ".join(known for known, its in _LINKS.items() if its == link)
            raise ExportError(
                f"an XGBoost model with objective {name!r} came for link {link!r}; expected one of {fitting or 'none'}"
            )
        model, weights = _boosted_trees(learner["gradient_booster"])
        base = _base_score(learner["learner_model_param"]["base_score"], outputs, link)
        of_trees.append(np.asarray(model["tree_info"], dtype=np.int64))
        parts += [_boosted_tree(tree, weight) for tree, weight in zip(model["trees"], weights, strict=True)]
    targets = np.concatenate(of_trees)
    if targets.max(initial=0) >= outputs:
        raise ExportError(f"an XGBoost model has {targets.max() + 1} outputs; expected {outputs}")
    return assembled(parts, targets, scale=1.0, base=base, inclusive=False, link=link, width=1)


def _sliced(booster: Any) -> Iterator[Any]:
    """The booster's rounds, some at a time: a text of thousands of deep trees, once parsed, takes a gigabyte."""
    rounds = booster.num_boosted_rounds()
    kind = json.loads(booster.save_config())["learner"]["learner_train_param"]["booster"]
    if rounds <= PARSED or kind != "gbtree":
        yield booster
        return
    for start in range(0, rounds, PARSED):
        yield booster[start : min(start + PARSED, rounds)]


def from_forest(estimator: Any, task: str) -> TreeArrays:
    """Read a fitted scikit-learn RandomForest or ExtraTrees, classifier or regressor.

    scikit-learn compares float32 features with float64 thresholds, and so does `TreeArrays`.

    Args:
        estimator: the fitted ensemble, with one target.
        task: "binary" (keeps the probability of the second class), "multiclass" or "regression".

    Raises:
        ExportError: several targets, or a number of classes that does not fit the task.
    """
    trees = [fitted.tree_ for fitted in estimator.estimators_]
    classes = 1 if task == "regression" else int(trees[0].value.shape[2])
    if estimator.n_outputs_ != 1 or (task == "binary" and classes != 2):
        raise ExportError(
            f"a forest with {estimator.n_outputs_} target(s) and {classes} class(es) came for task {task!r}; "
            "expected one target, and two classes for a binary task"
        )
    columns = slice(1, 2) if task == "binary" else slice(None)
    width = classes if task in MANY_CLASSES else 1
    parts = [_forest_tree(tree, columns) for tree in trees]
    targets = np.zeros(len(trees), dtype=np.int64)
    return assembled(
        parts,
        targets,
        scale=1.0 / len(trees),
        base=np.zeros(width),
        inclusive=True,
        link="identity",
        width=width,
    )


@dataclass(frozen=True)
class OneTree:
    """One tree, with children and sets counted from its own start."""

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    set_start: Ints
    set_size: Ints
    sets: Ints
    value: Floats


def assembled(
    parts: list[OneTree], target: Ints, *, scale: float, base: Floats, inclusive: bool, link: str, width: int
) -> TreeArrays:
    """Trees one after the other; the arguments are those of `TreeArrays`."""
    nodes = _starts([len(part.feature) for part in parts])
    members = _starts([len(part.sets) for part in parts])

    def joined(name: str, dtype: Any, starts: Ints | None = None) -> npt.NDArray[Any]:
        pieces = [np.asarray(getattr(part, name), dtype=dtype) for part in parts]
        if starts is not None:
            moved = zip(pieces, starts, strict=True)
            pieces = [np.where(piece == NOWHERE, NOWHERE, piece + start) for piece, start in moved]
        return np.concatenate([np.empty(0, dtype=dtype), *pieces])

    return TreeArrays(
        roots=nodes,
        target=target,
        feature=joined("feature", np.int64),
        threshold=joined("threshold", np.float64),
        left=joined("left", np.int64, nodes),
        right=joined("right", np.int64, nodes),
        missing_left=joined("missing_left", np.bool_),
        set_start=joined("set_start", np.int64, members),
        set_size=joined("set_size", np.int64),
        sets=joined("sets", np.int64),
        value=np.concatenate([np.empty((0, width)), *(part.value for part in parts)]),
        scale=scale,
        base=base,
        inclusive=inclusive,
        link=link,
    )


def _starts(lengths: list[int]) -> Ints:
    return np.cumsum([0, *lengths], dtype=np.int64)[:-1]


def _boosted_trees(booster: dict[str, Any]) -> tuple[dict[str, Any], Iterator[float] | list[float]]:
    """The trees of a gbtree or dart booster, and what each is multiplied with."""
    name = booster["name"]
    if name == "gbtree":
        return booster["model"], [1.0] * len(booster["model"]["trees"])
    if name == "dart":
        return booster["gbtree"]["model"], [float(weight) for weight in booster["weight_drop"]]
    raise ExportError(f"an XGBoost model with booster {name!r} came; expected trees: booster='gbtree' or 'dart'")


def _base_score(text: str, outputs: int, link: str) -> Floats:
    """XGBoost's intercept before the link; logistic objectives store it as a probability.

    >>> _base_score("[3.5E-1]", 1, "identity"), _base_score("5E-1", 1, "sigmoid")
    (array([0.35]), array([0.]))
    """
    scores = np.array([float(score) for score in text.strip("[]").split(",")])
    if link == "sigmoid":
        scores = np.log(scores) - np.log1p(-scores)
    if len(scores) not in (1, outputs):
        raise ExportError(f"an XGBoost model has {len(scores)} intercepts; expected {outputs}, one per output")
    return np.asarray(np.broadcast_to(scores, (outputs,)).copy())


def _boosted_tree(tree: dict[str, Any], weight: float) -> OneTree:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise ExportError(
            "an XGBoost model with vector leaves (multi_strategy='multi_output_tree') came; "
            "expected one tree per output: multi_strategy='one_output_per_tree'"
        )
    # XGBoost works in float32 and writes JSON numbers that only give the same float32.
    condition = np.asarray(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    left = np.asarray(tree["left_children"], dtype=np.int64)
    leaf = left == NOWHERE
    set_start = np.zeros(len(left), dtype=np.int64)
    set_size = np.zeros(len(left), dtype=np.int64)
    set_start[tree["categories_nodes"]] = tree["categories_segments"]
    set_size[tree["categories_nodes"]] = tree["categories_sizes"]
    _refuse_empty_sets(tree, leaf, set_size)
    return OneTree(
        feature=np.where(leaf, NOWHERE, tree["split_indices"]),
        threshold=np.where(leaf | (set_size > 0), 0.0, condition),
        left=left,
        right=np.asarray(tree["right_children"], dtype=np.int64),
        missing_left=np.asarray(tree["default_left"], dtype=np.bool_),
        set_start=set_start,
        set_size=set_size,
        sets=np.asarray(tree["categories"], dtype=np.int64),
        value=np.where(leaf, condition * weight, 0.0)[:, None],
    )


def _refuse_empty_sets(tree: dict[str, Any], leaf: Bools, set_size: Ints) -> None:
    """A category split always has a set; without one it would be taken for a numeric split."""
    category = np.asarray(tree["split_type"], dtype=np.bool_) & ~leaf
    if np.any(category & (set_size == 0)):
        raise ExportError(
            f"tree {tree['id']} of an XGBoost model has a category split without categories; "
            "expected a set for each: the model is damaged or written by an unknown version"
        )


def _forest_tree(tree: Any, columns: slice) -> OneTree:
    left = np.asarray(tree.children_left, dtype=np.int64)
    leaf = left == NOWHERE
    nothing = np.zeros(len(left), dtype=np.int64)
    return OneTree(
        feature=np.where(leaf, NOWHERE, tree.feature),
        threshold=np.where(leaf, 0.0, tree.threshold),
        left=left,
        right=np.asarray(tree.children_right, dtype=np.int64),
        missing_left=np.asarray(tree.missing_go_to_left, dtype=np.bool_),
        set_start=nothing,
        set_size=nothing,
        sets=nothing[:0],
        value=np.where(leaf[:, None], tree.value[:, 0, columns], 0.0),
    )
