"""What rows have beside the columns that models read: targets, weights, times, groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunekit.bundle.columns import category_text, is_missing, typed_column
from tunekit.data.dataset import BALANCED, ClassWeights
from tunekit.data.kinds import MOST_CLASSES, infer_kind
from tunekit.data.targets import Target
from tunekit.errors import DataError


def row_times(values: Any, name: str, told: str) -> npt.NDArray[np.float64]:
    """When each row is, checked: (n,) numbers as they are, dates in seconds.

    Args:
        values: dates or numbers in any form.
        name: of the column.
        told: what it is called where it is refused as a whole.

    Raises:
        DataError: they can't be moments.
    """
    column = values if isinstance(values, pd.Series) else pd.Series(list(values))
    kind = infer_kind(column, name)
    if kind not in ("date", "number"):
        raise DataError(f"{told} holds {kind or 'nothing'}; expected dates or numbers")
    time = typed_column(column, kind, name)
    if np.isnan(time).any():
        raise DataError(
            f"{told} is missing in {int(np.isnan(time).sum())} row(s), the first of them row "
            f"{int(np.flatnonzero(np.isnan(time))[0])}; fill or drop them"
        )
    return time


def row_weights(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Row weights, checked.

    Raises:
        DataError: they can't be weights.
    """
    weight = typed_column(values, "number", name)
    wrong = np.flatnonzero(~(weight >= 0))
    if len(wrong):
        raise DataError(
            f"{name} holds {weight[wrong[0]]:g} in row {wrong[0]}; expected a number of 0 or more in every row"
        )
    if not weight.any():
        raise DataError(f"{name} is 0 in every row; expected some rows that weigh more")
    return weight


def groups_of(values: Any, name: str) -> npt.NDArray[np.int64]:
    """(n,): a number for each group.

    Raises:
        DataError: a row has none: nothing tells with which rows it belongs.
    """
    codes = pd.factorize(np.asarray(values))[0].astype(np.int64)
    if len(bad := np.flatnonzero(codes < 0)):
        raise DataError(
            f"{len(bad)} row(s) have no group ({name!r}), the first of them row {bad[0]}; expected one for each: leave "
            "these rows out, or give each a group of its own"
        )
    return codes


def in_order(classes: tuple[Any, ...], ordered: bool) -> bool:
    """Whether classes have an order.

    Raises:
        DataError: there are no classes that could.
    """
    if ordered and not classes:
        raise DataError("ordered=True, but the target has no classes; expected a single target with classes")
    return ordered


def weights_by_class(
    given: Mapping[Any, Any] | str | None, classes: tuple[Any, ...], targets: tuple[Target, ...] = ()
) -> ClassWeights | tuple[ClassWeights, ...]:
    """Class weights in the order of the classes, or "balanced"; of several targets, those of each.

    Args:
        given: as `Table` takes them.
        classes: of a single target.
        targets: if there are several.

    Raises:
        DataError: they don't fit the classes.
    """
    if given is None or not targets:
        return _weights_of_one(given, classes, "class_weight")
    able = [target.name for target in targets if target.classes]
    each = dict.fromkeys(able, BALANCED) if given == BALANCED else given
    if not isinstance(each, Mapping) or not each or set(each) - set(able):
        raise DataError(
            f"class_weight={given!r}, and the targets with classes are {able}; expected 'balanced' for all of them, or "
            f"a dict by target, such as {{{(able or ['label'])[0]!r}: 'balanced'}}; weight= is for weights of rows"
        )
    return tuple(
        _weights_of_one(each.get(target.name), target.classes, f"class_weight[{target.name!r}]") for target in targets
    )


def _weights_of_one(given: Any, classes: tuple[Any, ...], called: str) -> ClassWeights:
    if given is None or (given == BALANCED and classes):
        return given if given is None else BALANCED
    weights = dict(given) if isinstance(given, Mapping) else {}
    if not classes or set(weights) != set(classes) or not all(0 < weight < math.inf for weight in weights.values()):
        raise DataError(
            f"{called}={given!r}, and the classes are {list(classes)}; expected 'balanced', or a positive number for "
            "each class"
        )
    return tuple(float(weights[one]) for one in classes)


def typed_targets(
    columns: Mapping[str, pd.Series[Any]], kinds: Mapping[str, str], classes: tuple[Any, ...] = ()
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...], tuple[Target, ...]]:
    """What is to be predicted, as a `Dataset` holds it: target, classes and, if there are several, targets.

    Args:
        columns: by name, one or several.
        kinds: "category" for classes, "number" for numbers, by name; left out for what a column looks like.
        classes: of a single target, in order; empty for those that are found.

    Raises:
        DataError: it can't be predicted.
    """
    for name, column in columns.items():
        if column.isna().any():
            row = int(np.flatnonzero(column.isna())[0])
            raise DataError(f"target {name!r} is missing in row {row}; expected a value")
    found = {
        name: _target(column, name, kinds.get(name), classes if len(columns) == 1 else ())
        for name, column in columns.items()
    }
    if len(found) == 1:
        return *next(iter(found.values())), ()
    if classes or not found:
        raise DataError(f"classes={classes!r} came with targets {list(columns)}; expected them with a single target")
    tasks = {0: "regression", 2: "binary"}
    targets = tuple(Target(name, tasks.get(len(own), "multiclass"), own) for name, (_, own) in found.items())
    return np.stack([values for values, _ in found.values()], axis=1), (), targets


def typed_y(
    columns: Mapping[str, Any], kind: str | None, classes: tuple[Any, ...], kinds: Mapping[str, str] | None = None
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...], tuple[Target, ...]]:
    """`typed_targets` of columns in any form, all of one kind, or those of `kinds`."""
    wanted = {name: pd.Series(list(values)) for name, values in columns.items()}
    return typed_targets(wanted, ({} if kind is None else dict.fromkeys(wanted, kind)) | dict(kinds or {}), classes)


def checked_kind(kind: str | None) -> str | None:
    """What a target is said to be, if that can be said.

    Raises:
        DataError: it can't.
    """
    if kind not in (None, "category", "number"):
        raise DataError(f"kind is {kind!r}; expected 'category' or 'number'")
    return kind


def _target(
    column: pd.Series[Any], name: str, kind: str | None, classes: tuple[Any, ...]
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...]]:
    wanted, kind = kind, kind or infer_kind(column, name)
    if column.nunique() == 1:
        raise DataError(
            f"target {name!r} is {plain_class(column.iloc[0])!r} in every row; expected at least two different values"
        )
    if kind == "date":
        raise DataError(f"target {name!r} holds dates; expected numbers or classes (turn it into a number of days)")
    if classes or kind in ("category", "boolean"):
        return _classes(column, name, classes)
    number = typed_column(column, "number", name)
    return _classes(column, name, classes) if wanted is None and _are_classes(number) else (number, ())


def _are_classes(values: npt.NDArray[np.float64]) -> bool:
    """Whether numbers look like classes: two of them, or a few whole ones, each of which could be learnt and judged."""
    found, counts = np.unique(values, return_counts=True)
    return len(found) == 2 or bool((found % 1 == 0).all() and len(found) <= MOST_CLASSES and counts.min() > 1)


def _classes(
    column: pd.Series[Any], name: str, classes: tuple[Any, ...]
) -> tuple[npt.NDArray[np.float64], tuple[Any, ...]]:
    values = [plain_class(value) for value in column]
    found = sorted(set(values), key=lambda value: (str(type(value)), value))
    if classes and set(classes) != set(found):
        raise DataError(f"classes={classes!r}, but target {name!r} holds {listed(found)}; expected each exactly once")
    if len(found) > len(values) / 2 and len(found) > 2:
        raise DataError(
            f"target {name!r} has {len(found)} different texts in {len(values)} rows; expected a number to predict, or "
            "classes with several rows each"
        )
    order = {value: position for position, value in enumerate(classes or found)}
    return np.array([order[value] for value in values], dtype=np.float64), tuple(classes or found)


def plain_class(value: Any) -> Any:
    """A class as JSON can hold it: a text, an int or a bool."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, float, np.number)) and not is_missing(value) and float(value).is_integer():
        return int(value)
    return float(value) if isinstance(value, (float, np.floating)) else category_text(value)


def listed(names: list[Any], most: int = 12) -> str:
    """Some names in words."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
