"""Between a `Dimension` and what Optuna stores for it.

Most values are stored as they are. Where Optuna has no such distribution, the stored value is a position: the index
into the grid (log sampling with a step), or the probability (reverse_log).
"""

from __future__ import annotations

import math
from typing import Any

import optuna

from tunekit.space import Dimension, Value


def suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    """Ask an Optuna trial for a value of the dimension."""
    key = dimension.key
    if dimension.kind not in ("int", "float"):
        return from_stored(dimension, trial.suggest_categorical(key, dimension.choices))
    low, high = dimension.bounds
    if dimension.sampling == "reverse_log":
        return from_stored(dimension, trial.suggest_float(key, 0.0, 1.0))
    if dimension.sampling == "log" and dimension.step is not None:
        return from_stored(dimension, trial.suggest_int(key, 0, len(dimension.grid or ()) - 1))
    log = dimension.sampling == "log"
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        top = int(low) + (int(high) - int(low)) // step * step
        return from_stored(dimension, trial.suggest_int(key, int(low), top, step=step, log=log))
    if dimension.step is not None:
        highest = low + math.floor((high - low) / dimension.step + 1e-9) * dimension.step
        return from_stored(dimension, trial.suggest_float(key, low, highest, step=dimension.step))
    return from_stored(dimension, trial.suggest_float(key, low, high, log=log))


def from_stored(dimension: Dimension, stored: Any) -> Value:
    """The value that a stored one stands for, as a plain Python type."""
    if dimension.kind not in ("int", "float"):
        return dimension.choices[dimension.choices.index(stored)]
    grid = [float(one) for one in dimension.grid or ()] if dimension.step is not None else []
    value = float(stored)
    if dimension.sampling == "reverse_log":
        low, high = dimension.bounds
        value = high + low - low * (high / low) ** (1.0 - value)
        value = min(grid, key=lambda one: abs(one - value)) if grid else value
    elif dimension.sampling == "log" and grid:
        value = grid[int(stored)]
    return round(value) if dimension.kind == "int" else value


def to_stored(dimension: Dimension, value: Value) -> Any:
    """What Optuna stores for a value; the inverse of `from_stored`, up to the nearest value of a grid."""
    if dimension.kind not in ("int", "float"):
        return value
    number = float(value)
    if dimension.sampling == "reverse_log":
        low, high = dimension.bounds
        return 1.0 - math.log((high + low - number) / low) / math.log(high / low) if high > low else 0.0
    grid = dimension.grid if dimension.step is not None else None
    if dimension.sampling == "log" and grid is not None:
        return min(range(len(grid)), key=lambda position: abs(math.log(float(grid[position]) / number)))
    if grid is not None:
        number = float(min(grid, key=lambda one: abs(float(one) - number)))
    return round(number) if dimension.kind == "int" else number
