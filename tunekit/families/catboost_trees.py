"""Trees of CatBoost, read from the JSON that it writes of a model: every split of a level is the same one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.errors import ExportError
from tunekit.families.tree_arrays import NOWHERE, PARSED, OneTree, TreeArrays, assembled

_LINKS = {"RMSE": "identity", "Logloss": "sigmoid", "MultiClass": "softmax"}
"""CatBoost's losses whose prediction is one of our links of the sum of leaves."""

_ALL = float(np.finfo(np.float32).max)
"""No code is above."""

Floats = npt.NDArray[np.float64]


def from_catboost(
    model: Any, pool: Any, numeric: Sequence[int], hot: Sequence[int], outputs: int, link: str
) -> TreeArrays:
    """Read a trained model, all of its trees.

    A category split asks for one code, which then goes right. A gap is a category of its own there; in numbers it is
    below all others.

    Args:
        model: a `catboost.CatBoost` of symmetric trees without target statistics.
        pool: its training rows; their categories are codes as texts, a gap is any other text.
        numeric: position among our features of each number that it reads.
        hot: position among our features of each category.
        outputs: columns of a prediction.
        link: "identity", "sigmoid" or "softmax", as the model's loss has it.

    Raises:
        ExportError: a kind of model whose prediction is not a link of a sum of such trees.
    """
    settings = model.get_all_params()
    name, policy = settings["loss_function"], settings.get("grow_policy", "SymmetricTree")
    if policy != "SymmetricTree":
        raise ExportError(f"a CatBoost model with grow_policy {policy!r} came; expected 'SymmetricTree'")
    if _LINKS.get(name) != link:
        fitting = ", ".join(known for known, its in _LINKS.items() if its == link)
        raise ExportError(f"a CatBoost model with loss {name!r} came for link {link!r}; expected {fitting or 'none'}")
    parts: list[OneTree] = []
    scale, base = 1.0, np.zeros(outputs)
    for text in _texts(model, pool):
        codes = _codes(text)
        below = [one["nan_value_treatment"] != "AsTrue" for one in text["features_info"].get("float_features") or []]
        if not parts:
            scale, bias = text["scale_and_bias"]
            base += np.array(bias)
        for tree in text["oblivious_trees"]:
            splits = [_split(one, numeric, hot, codes, below) for one in tree.get("splits") or []]
            leaves = np.array(tree["leaf_values"], dtype=np.float64).reshape(2 ** len(splits), outputs)
            parts.append(_unfolded(splits, leaves))
    targets = np.zeros(len(parts), dtype=np.int64)
    return assembled(parts, targets, scale=float(scale), base=base, inclusive=True, link=link, width=outputs)


def _texts(model: Any, pool: Any) -> Iterator[dict[str, Any]]:
    """The model's JSON, some rounds at a time: thousands of deep trees, once parsed, take a gigabyte."""
    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        for start in range(0, model.tree_count_, PARSED):
            some = model.copy()
            some.shrink(ntree_end=min(start + PARSED, model.tree_count_), ntree_start=start)
            file = Path(folder) / "model.json"
            some.save_model(str(file), format="json", pool=pool)
            yield json.loads(file.read_text())


def _codes(text: dict[str, Any]) -> dict[int, str]:
    """The categories' texts by their hashes, which CatBoost writes without a sign here, and with one in splits."""
    known = text["features_info"].get("cat_features_hash") or []
    return {int(np.uint32(one["hash"]).astype(np.int32)): one["value"] for one in known}


def _split(
    split: dict[str, Any], numeric: Sequence[int], hot: Sequence[int], codes: dict[int, str], below: Sequence[bool]
) -> tuple[int, float, bool, int]:
    """A split: feature, threshold, whether a gap goes left, and the code that goes right; -1 for none."""
    if split["split_type"] == "FloatFeature":
        number = split["float_feature_index"]
        return numeric[number], float(np.float32(split["border"])), below[number], NOWHERE
    if split["split_type"] != "OneHotFeature":
        raise ExportError(
            f"a CatBoost model with a split of type {split['split_type']!r} came; expected numbers, and categories "
            "up to one_hot_max_size"
        )
    feature, code = hot[split["cat_feature_index"]], codes[split["value"]]
    return (feature, 0.0, True, int(code)) if code.isdecimal() else (feature, _ALL, False, NOWHERE)


def _unfolded(splits: Sequence[tuple[int, float, bool, int]], leaves: Floats) -> OneTree:
    """A symmetric tree as nodes: where all leaves below are equal, as those that no row reached, there is one.

    Split k decides on bit k of a leaf's position, so the last one stands at the root.
    """
    values, ends = [leaves], [np.ones(len(leaves), dtype=np.bool_)]
    for _ in splits:  # from the leaves up
        left, right = values[0][0::2], values[0][1::2]
        ends.insert(0, ends[0][0::2] & ends[0][1::2] & (left == right).all(axis=1))
        values.insert(0, left)
    here, count = np.zeros(1, dtype=np.int64), 1
    levels: list[npt.NDArray[np.float64]] = []
    for level, (value, end) in enumerate(zip(values, ends, strict=True)):  # from the root down
        end_here = end[here]
        inside = np.cumsum(~end_here) - 1
        left = np.where(end_here, NOWHERE, count + 2 * inside)
        split = splits[len(splits) - 1 - level] if level < len(splits) else (NOWHERE, 0.0, False, NOWHERE)
        rows = [np.where(end_here, NOWHERE, split[0]), left, np.where(end_here, NOWHERE, left + 1)]
        rows += [
            np.where(end_here, default, part) for default, part in zip((0.0, False, NOWHERE), split[1:], strict=True)
        ]
        levels.append(np.column_stack([*rows, np.where(end_here[:, None], value[here], 0.0)]))
        here = (2 * here[~end_here][:, None] + np.arange(2)).ravel()
        count += len(here)
    nodes = np.concatenate(levels)
    feature, left, right, threshold, missing_left, code = nodes[:, :6].T
    member = code != NOWHERE
    return OneTree(
        feature=feature.astype(np.int64),
        threshold=threshold,
        left=left.astype(np.int64),
        right=right.astype(np.int64),
        missing_left=missing_left.astype(np.bool_),
        set_start=np.where(member, np.cumsum(member) - 1, 0),
        set_size=member.astype(np.int64),
        sets=code[member].astype(np.int64),
        value=nodes[:, 6:],
    )
