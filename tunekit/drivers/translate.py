"""Between a `Dimension` and what Optuna stores for it.

Most values are stored as they are. Where Optuna has no such distribution, the stored value is a position: the index
into the grid (log sampling with a step), or the probability (reverse_log).
"""

from __future__ import annotations

import math
import re
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tunekit.space import Dimension, Value

MOST_VERSIONS = 100
"""So often may a dimension change its kind or choices within one study."""


def suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    """Ask an Optuna trial for a value of the dimension.

    In an Optuna study a name keeps its kind and its choices. A factory may change them, between two runs or between
    two trials; then the name gets a version, such as "units #2".
    """
    version = 1
    while True:
        try:
            return _suggest(trial, dimension, dimension.key if version == 1 else f"{dimension.key} #{version}")
        except ValueError:
            version += 1
            if version > MOST_VERSIONS:
                raise


def key_of(name: str) -> str:
    """The dimension's key of a name in Optuna: without its version."""
    return re.sub(r" #\d+$", "", name)


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """The distribution of its stored values."""
    if dimension.kind not in ("int", "float"):
        return CategoricalDistribution(dimension.choices)
    low, high = dimension.bounds
    if dimension.sampling == "reverse_log":
        return FloatDistribution(0.0, 1.0)
    if dimension.sampling == "log" and dimension.step is not None:
        return IntDistribution(0, int(dimension.count) - 1)
    log = dimension.sampling == "log"
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        top = int(low) + (int(high) - int(low)) // step * step
        return IntDistribution(int(low), top, log=log, step=step)
    if dimension.step is not None:
        return FloatDistribution(low, dimension.top, step=dimension.step)
    return FloatDistribution(low, high, log=log)


def _suggest(trial: optuna.Trial, dimension: Dimension, key: str) -> Value:
    match distribution_of(dimension):
        case CategoricalDistribution(choices=choices):
            return from_stored(dimension, trial.suggest_categorical(key, choices))
        case IntDistribution(low=low, high=high, log=log, step=step):
            return from_stored(dimension, trial.suggest_int(key, low, high, step=step, log=log))
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return from_stored(dimension, trial.suggest_float(key, low, high, step=step, log=log))
        case other:
            raise TypeError(f"{dimension.name!r} is stored as {other!r}, which Optuna has no question for")


def from_stored(dimension: Dimension, stored: Any) -> Value:
    """The value that a stored one stands for, as a plain Python type."""
    if dimension.kind not in ("int", "float"):
        return dimension.choices[dimension.choices.index(stored)]
    if dimension.sampling == "log" and dimension.step is not None:
        return dimension.value_at(range(int(dimension.count))[int(stored)])
    value = float(stored)
    if dimension.sampling == "reverse_log":
        low, high = dimension.bounds
        value = min(max(high + low - low * (high / low) ** (1.0 - value), low), high)
    if dimension.step is not None:
        return dimension.value_at(dimension.index_near(value))
    return round(value) if dimension.kind == "int" else value


def is_stored(dimension: Dimension, stored: Any) -> bool:
    """Whether a stored value stands for one that the dimension can take: its factory may have been changed since."""
    try:
        return dimension.contains(from_stored(dimension, stored))
    except (IndexError, TypeError, ValueError):
        return False


def to_stored(dimension: Dimension, value: Value) -> Any:
    """What Optuna stores for a value; the inverse of `from_stored`, up to the nearest value of a grid."""
    if dimension.kind not in ("int", "float"):
        return value
    number = float(value)
    if dimension.sampling == "reverse_log":
        low, high = dimension.bounds
        return 1.0 - math.log((high + low - number) / low) / math.log(high / low) if high > low else 0.0
    if dimension.step is not None:
        index = dimension.index_near(number)
        return index if dimension.sampling == "log" else dimension.value_at(index)
    return round(number) if dimension.kind == "int" else number
