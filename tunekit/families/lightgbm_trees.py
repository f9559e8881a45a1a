"""Trees of LightGBM, read from the text that it writes of a model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.errors import ExportError
from tunekit.families.tree_arrays import NOWHERE, OneTree, TreeArrays, assembled

_LINKS = {"regression": "identity", "binary": "sigmoid", "multiclass": "softmax"}
"""LightGBM's objectives whose prediction is one of our links of the sum of leaves."""

_CATEGORY, _DEFAULT_LEFT, _MISSING, _ZERO, _NAN = 1, 2, 12, 4, 8
"""Bits of a node's decision type: its kind, where missing values go, and what counts as missing."""


def from_lightgbm(booster: Any, rounds: int, outputs: int, link: str) -> TreeArrays:
    """Read a trained booster.

    LightGBM compares float64 thresholds; those divide float32 features as `TreeArrays` does. Where no training row had
    a gap in a feature, it takes a gap for 0. A category that is not in a split's set goes right, and so does a gap.

    Args:
        booster: a `lightgbm.Booster`, trained on arrays with category codes.
        rounds: how many of its first rounds to keep.
        outputs: columns of a prediction.
        link: "identity", "sigmoid" or "softmax", as the booster's objective has it.

    Raises:
        ExportError: a kind of booster whose prediction is not a link of a sum of constant leaves.
    """
    head, *blocks = booster.model_to_string(num_iteration=rounds).partition("\nend of trees")[0].split("\nTree=")
    _check(_fields(head), link, outputs)
    parts = [_tree(_fields(block)) for block in blocks]
    targets = np.arange(len(parts)) % outputs
    base = np.zeros(outputs)
    for first in range(min(outputs, len(parts))):  # LightGBM adds the mean to the leaves of the first round
        leaves = parts[first].left == NOWHERE
        base[first] = np.median(parts[first].value[leaves])
        parts[first].value[leaves] -= base[first]
    return assembled(parts, targets, scale=1.0, base=base, inclusive=True, link=link, width=1)


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value for name, sign, value in lines if sign or name == "average_output"}


def _check(head: dict[str, str], link: str, outputs: int) -> None:
    name, *more = head.get("objective", "none").split()
    if _LINKS.get(name) != link or "average_output" in head or (name == "binary" and more != ["sigmoid:1"]):
        fitting = ", ".join(known for known, its in _LINKS.items() if its == link)
        raise ExportError(
            f"a LightGBM model with objective {head.get('objective')!r} came for link {link!r}; expected {fitting}, "
            "boosted, without settings of its own"
        )
    if int(head["num_tree_per_iteration"]) != outputs:
        raise ExportError(f"a LightGBM model has {head['num_tree_per_iteration']} outputs; expected {outputs}")


def _tree(text: dict[str, str]) -> OneTree:
    """One tree: its splits first, then its leaves. LightGBM writes leaf k as child -1 - k."""
    if text.get("is_linear", "0") != "0":
        raise ExportError("a LightGBM model with linear_tree=True came; expected constant leaves")
    value = _numbers(text, "leaf_value")
    splits = len(value) - 1
    if splits == 0:
        return _joined(np.empty((2, 0), int), np.empty((3, 0)), value, np.empty((2, 0), int), np.empty(0, int))
    children = np.array([_numbers(text, "left_child"), _numbers(text, "right_child")]).astype(np.int64)
    children = np.where(children < 0, splits - 1 - children, children)
    kind = _numbers(text, "decision_type").astype(np.int64)
    category = (kind & _CATEGORY) > 0
    if (kind & _MISSING == _ZERO).any():
        raise ExportError("a LightGBM model with zero_as_missing=True came; expected missing values as NaN")
    threshold = _numbers(text, "threshold")
    gaps_left = np.where(kind & _MISSING == _NAN, (kind & _DEFAULT_LEFT) > 0, threshold >= 0)
    sets, found = np.zeros((2, splits), dtype=np.int64), np.empty(0, dtype=np.int64)
    if category.any():
        members = _sets(text)
        found = np.concatenate(members)
        sizes = np.array([len(one) for one in members])
        number = threshold[category].astype(np.int64)
        sets[:, category] = (np.cumsum(sizes) - sizes)[number], sizes[number]
        children[:, category] = children[::-1, category]  # members of a set go left there, right here
        gaps_left[category] = True
    feature = _numbers(text, "split_feature")
    return _joined(children, np.array([feature, np.where(category, 0.0, threshold), gaps_left]), value, sets, found)


def _joined(
    children: npt.NDArray[np.int64],
    splits: npt.NDArray[np.float64],
    leaves: npt.NDArray[np.float64],
    sets: npt.NDArray[np.int64],
    members: npt.NDArray[np.int64],
) -> OneTree:
    """A tree of splits and leaves.

    Args:
        children: (2, I) on the left and the right.
        splits: (3, I) feature, threshold, and whether missing values go left.
        leaves: (L,) values.
        sets: (2, I) start and size of the set of categories.
        members: of all sets.
    """
    nothing = np.zeros(len(leaves), dtype=np.int64)
    nowhere = nothing + NOWHERE
    return OneTree(
        feature=np.append(splits[0].astype(np.int64), nowhere),
        threshold=np.append(splits[1], nothing),
        left=np.append(children[0], nowhere),
        right=np.append(children[1], nowhere),
        missing_left=np.append(splits[2], nothing).astype(np.bool_),
        set_start=np.append(sets[0], nothing),
        set_size=np.append(sets[1], nothing),
        sets=members,
        value=np.append(np.zeros(len(splits[0])), leaves)[:, None],
    )


def _numbers(text: dict[str, str], name: str) -> npt.NDArray[np.float64]:
    return np.array(text[name].split(), dtype=np.float64)


def _sets(text: dict[str, str]) -> list[npt.NDArray[np.int64]]:
    """The sets of categories of a tree, which are written as bits of 32-bit words."""
    words = np.array(text["cat_threshold"].split(), dtype="<u4")
    between = pairwise(_numbers(text, "cat_boundaries").astype(np.int64))
    return [np.flatnonzero(np.unpackbits(words[a:b].view(np.uint8), bitorder="little")) for a, b in between]
