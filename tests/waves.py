"""Small series made by hand, and folds of them."""

from typing import Any

import numpy as np
import pandas as pd
from folds import fold_of  # type: ignore[import-not-found]

import tunekit as tk
from tunekit.data import Dataset
from tunekit.families import Fold
from tunekit.study.prepared import prepare


def hours(rows: int, start: str = "2024-01-01") -> Any:
    return pd.date_range(start, periods=rows, freq="h")


def series(frame: Any, **more: Any) -> tk.Series:
    given = {"target": "count", "time": "when", "series": "place", "lookback": 6, "delay": 3, "step": 2}
    return tk.Series(frame, **{**given, **more})


def noisy(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two series of very different size, each a daily wave with noise."""
    random = np.random.default_rng(seed)
    wave = np.sin(np.arange(rows) * 2 * np.pi / 24)
    parts = []
    for name, center, size in (("small", 0.0, 1.0), ("large", 5000.0, 100.0)):
        count = center + size * (wave + 0.3 * random.normal(size=rows))
        other = random.normal(3.0 * size, size, rows)
        parts.append(pd.DataFrame({"when": hours(rows), "place": name, "count": count, "other": other}))
    return pd.concat(parts, ignore_index=True)


def ready_fold(frame: pd.DataFrame, number: int = 0, **more: Any) -> tuple[Dataset, Fold]:
    ready = prepare(series(frame, lookback=24, step=1, delay=6, **more).load(), tk.TimeSplit(2), "mae", 0)
    return ready.data, fold_of(ready, number, weight=ready.data.weight)
