"""What every system of the benchmark is given, and what it leaves: plain files, as each has an environment of its own.

A folder holds `task.json`; the system reads the rows that it names, and writes `predictions.npz` and `facts.json`
there. This file is imported by the systems in their environments: it needs numpy and pandas, and nothing of tunekit.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LATENCIES = 30
"""Single rows that are predicted to tell the latency."""

LONGEST_LATENCIES = 20.0
"""Seconds after which no more rows are predicted for that."""


@dataclass
class Contest:
    """What a system is to do.

    Args:
        folder: for all that it writes.
        target: the column to predict.
        kind: "binary", "multiclass" or "regression".
        metric: "rmse", "roc_auc", "average_precision" or "logloss".
        seconds: the budget of the fit.
        cores: to be used.
        seed: to be used.
        train: rows to learn from.
        test: the others, without their target.
        facts: what `facts.json` will hold.
    """

    folder: Path
    target: str
    kind: str
    metric: str
    seconds: float
    cores: int
    seed: int
    train: pd.DataFrame
    test: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls) -> "Contest":
        """The task of the folder that the command line names; this process and its children keep to its cores."""
        folder = Path(sys.argv[1])
        task = json.loads((folder / "task.json").read_text())
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["cores"]])
        train, test = (pd.read_parquet(task.pop(name)) for name in ("train", "test"))
        return cls(folder, train=train, test=test, **task)

    @property
    def x(self) -> pd.DataFrame:
        """The columns of the rows to learn from."""
        return self.train.drop(columns=self.target)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long something took."""
        begun = time.monotonic()
        yield
        self.facts[name] = time.monotonic() - begun

    def end(self, predict: Callable[[pd.DataFrame], Any], classes: Any, size: int) -> None:
        """Predict the test rows, measure, and write all of it.

        Args:
            predict: of rows, values (n,) or the probabilities of all classes (n, K).
            classes: in the order of the probabilities; empty for numbers.
            size: bytes of the model on disk.
        """
        with self.timed("predict_seconds"):
            predicted = np.asarray(predict(self.test), dtype=np.float64)
        took: list[float] = []
        for row in range(min(LATENCIES, len(self.test))):
            begun = time.perf_counter()
            predict(self.test.iloc[[row]])
            took.append(time.perf_counter() - begun)
            if sum(took) > LONGEST_LATENCIES:
                break
        self.facts |= {"latency_ms": 1000 * statistics.median(took), "size_bytes": int(size)}
        names = np.array([str(one) for one in classes], dtype=np.str_)
        np.savez(self.folder / "predictions.npz", allow_pickle=False, predictions=predicted, classes=names)
        (self.folder / "facts.json").write_text(json.dumps(self.facts, indent=1))


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
