"""Which raw columns the blend needs: permutation importance (Breiman 2001), with its uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from tunekit.errors import MetricError
from tunekit.metrics import Metric
from tunekit.report.material import Absent, ColumnImportance, Floats, Material
from tunekit.report.section import Drawing, Section
from tunekit.report.style import ACCENT, GREY, counted, distinct, figure, listed, number, plain

MOST_ROWS = 500
FEWEST_ROWS = 100
ROUNDS, LEAST_ROUNDS = 5, 3
BOOTSTRAPS = 20
"""Of the rows, for each round: an interval holds the luck of the shuffling and that of the rows."""

SECONDS = 20.0
MOST_BARS = 25

Predict = Callable[[Mapping[str, Any]], Floats]
"""From raw columns, (n,) each, to predictions as the metric takes them: (n, outputs)."""


def importance(
    columns: Mapping[str, Any],
    pieces: Mapping[str, tuple[str, int | None]],
    target: Floats,
    weight: Floats | None,
    metric: Metric,
    predict: Predict,
    seconds: float = SECONDS,
) -> ColumnImportance:
    """Shuffle one column after the other, again and again, and see by how much the score gets worse.

    Where a prediction takes long, fewer rows are taken, so that all columns have their turns.

    Args:
        columns: raw columns of n rows, in any order.
        pieces: what is shuffled, by its name: a column, or a channel (last axis) of an array column.
        target: (n,) or (n, targets).
        weight: (n,) or None.
        metric: of the study.
        predict: from raw columns to predictions.
        seconds: after which no further round over all columns is begun; the first is always ended.

    Raises:
        MetricError: the metric can't be computed on these rows.
    """
    random = np.random.default_rng(0)
    begun = time.monotonic()
    base = predict(columns)
    metric.score(target, base, weight)
    affordable = seconds / (LEAST_ROUNDS * len(pieces) * max(time.monotonic() - begun, 1e-6))
    rows = min(len(target), max(FEWEST_ROWS, int(affordable * len(target))))
    columns = {name: values[:rows] for name, values in columns.items()}
    base, target, weight = base[:rows], target[:rows], None if weight is None else weight[:rows]
    found: dict[str, list[float]] = {name: [] for name in pieces}
    rounds = 0
    while rounds < ROUNDS and (not rounds or time.monotonic() - begun < seconds):
        for name, (column, channel) in pieces.items():
            changed = {**columns, column: _shuffled(columns[column], channel, random.permutation(rows))}
            found[name] += _worse(metric, target, weight, base, predict(changed), np.random.default_rng(rounds))
        rounds += 1
    draws = min(map(len, found.values()))
    losses = np.array([values[:draws] for values in found.values()]).reshape(len(found), draws)
    return ColumnImportance(tuple(found), losses, rows, rounds)


def _worse(
    metric: Metric, target: Floats, weight: Floats | None, base: Floats, shuffled: Floats, random: np.random.Generator
) -> list[float]:
    """By how much the score is worse, for each of some bootstrap samples of the rows."""
    found = []
    for _ in range(BOOTSTRAPS):
        drawn = random.integers(0, len(target), len(target))
        share = None if weight is None else weight[drawn]
        try:
            before, after = (metric.score(target[drawn], one[drawn], share) for one in (base, shuffled))
        except MetricError:  # a sample without one of the classes
            continue
        found.append(metric.sign * (after - before))
    return found


def columns_section(material: Material) -> Section:
    """The columns that the blend needs most."""
    found = material.columns
    title = "Which columns the predictions need"
    if isinstance(found, Absent):
        return Section("columns", title, left_out=[f"{found.why[0].upper()}{found.why[1:]}."])
    if not found.losses.size:
        return Section("columns", title, left_out=["The score can't be computed on samples of so few test rows."])
    means = found.losses.mean(axis=1)
    low, high = np.quantile(found.losses, [0.025, 0.975], axis=1)
    order = np.argsort(-means)
    shown = order[:MOST_BARS]
    told = [_told(material, found, means, low, order)]
    names = distinct([found.names[at] for at in shown])
    made = figure(
        go.Bar(
            y=names[::-1],
            x=means[shown][::-1],
            orientation="h",
            marker_color=[ACCENT if low[at] > 0 else GREY for at in shown[::-1]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (high - means)[shown][::-1],
                "arrayminus": (means - low)[shown][::-1],
                "thickness": 1.4,
            },
            hovertemplate="%{y}: %{x:.5g}<extra></extra>",
        ),
        height=100 + 25 * len(shown),
        xaxis_title=plain(material.metric),
    )
    more = f" (the first {MOST_BARS} of {len(order)})" if len(order) > MOST_BARS else ""
    title_above = f"By how much {material.metric} gets worse when a column is shuffled{more}"
    drawing = Drawing("columns", made, f"Permutation importance of columns. {told[0]}", title_above)
    return Section("columns", title, told, [drawing])


def _told(material: Material, found: ColumnImportance, means: Floats, low: Floats, order: Any) -> str:
    sure = [at for at in order if low[at] > 0]
    how = f"Each was shuffled {counted(found.rounds, 'time')} in {counted(found.rows, 'row')}; bars have 95% intervals."
    if not sure:
        return f"No column is needed by more than chance explains: where one is shuffled, others stand in. {how}"
    first = [f"{found.names[at]} ({number(means[at])})" for at in sure[:3]]
    rest = len(order) - len(sure)
    idle = f" For {counted(rest, 'column')} (grey) it may be chance." if rest else ""
    return f"Without {listed(first)} the {material.metric} gets worse most.{idle} {how}"


def _shuffled(values: Any, channel: int | None, order: Any) -> Any:
    """A column, or a channel of it, in another order."""
    if channel is None:
        return values[order]
    changed = np.array(values)
    changed[..., channel] = changed[order][..., channel]
    return changed
