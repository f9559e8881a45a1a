"""The target, and whether the metric judges what matters about it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunekit.coach.finding import Finding
from tunekit.coach.sight import Sight

IMBALANCED, VERY_IMBALANCED = 0.8, 0.9
"""Share of the most frequent class from which on accuracy says little, and from which on it says nothing."""

FEW, MOST = 0.01, 0.5
"""If so few of the rows have more than half of all squared deviations, these rows decide what is best."""

FEWEST = 200
"""Rows from which on the tail of a target is looked at."""

SQUARED = ("rmse", "mse", "r2", "neg_root_mean_squared_error", "neg_mean_squared_error")


def imbalance(sight: Sight) -> Iterator[Finding]:
    """Accuracy where one class has most of the rows."""
    data, metric = sight.prepared.data, sight.prepared.metric
    if not data.classes or metric.scorer != "accuracy":
        return
    rows = sight.prepared.folds.development
    shares = np.bincount(data.target[rows].astype(int), minlength=len(data.classes)) / len(rows)
    most = int(shares.argmax())
    if shares[most] < IMBALANCED:
        return
    better = "average_precision" if len(data.classes) == 2 else "f1_macro"
    text = (
        f"{shares[most]:.1%} of the rows are {data.classes[most]!r}: always to say so has an accuracy of "
        f"{shares[most]:.3f}, and what is found of the others hardly counts."
    )
    if better == "average_precision" and most == 1:
        text += f" (The rarer class should then be the second one: classes=[{data.classes[1]!r}, {data.classes[0]!r}].)"
    level = "problem" if shares[most] >= VERY_IMBALANCED else "hint"
    yield Finding(level, "imbalance", "accuracy of imbalanced classes", text, f'metric="{better}",')  # type: ignore[arg-type]


def tail(sight: Sight) -> Iterator[Finding]:
    """Squared errors where a few rows have most of them."""
    data, metric = sight.prepared.data, sight.prepared.metric
    rows = sight.prepared.folds.development
    if data.task != "regression" or len(rows) < FEWEST or metric.name not in SQUARED:
        return
    values = data.target[rows]
    squares = np.sort((values - values.mean()) ** 2)[::-1]
    few = max(1, int(FEW * len(squares)))
    share = float(squares[:few].sum() / squares.sum())
    if share < MOST:
        return
    text = (
        f"{few:,} of {len(rows):,} rows ({FEW:.0%}) have {share:.0%} of the target's squared deviations: {metric.name} "
        f"is decided by them. The target's median is {np.median(values):.4g}, its largest value {values.max():.4g}."
    )
    better = "rmsle" if values.min() > 0 else "mae"
    yield Finding("hint", "tail", "a few rows decide the score", text, f'metric="{better}",')
