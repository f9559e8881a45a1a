"""A result as a notebook shows it: leaderboard, verdict and curves in a few kilobytes of HTML, without a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunekit.report.curves import courses
from tunekit.report.history import best_so_far
from tunekit.report.page import environment
from tunekit.report.style import ACCENT, OTHER, sampled
from tunekit.tracking.standings import counts_text, score_text, seconds_text, spread_text
from tunekit.tracking.summary import rank
from tunekit.trial import State, Trial

LEADERS = 8
CURVES = 2
MOST_POINTS = 120
WIDTH, TOP, HEIGHT = 320.0, 20.0, 96.0
"""Of a chart, in the units of its drawing."""


@dataclass(frozen=True)
class Line:
    """Of a chart: its points as SVG reads them."""

    points: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A small chart, and what it shows in words."""

    told: str
    lines: Sequence[Line]


def notebook_html(summary: Mapping[str, Any], trials: Sequence[Trial]) -> str:
    """The result as HTML.

    Args:
        summary: what `tunekit show --json` prints.
        trials: with their curves.
    """
    ensemble = summary.get("ensemble") or {}
    weights = {one["trial"]: one["weight"] for one in ensemble.get("members", ())}
    smaller = summary["direction"] == "minimize"
    ranked = [one for one in rank(list(summary["trials"]), smaller=smaller) if one["same_as"] is None]
    rows = [
        {
            "name": f"{one['number']:03d} {one['family']}",
            "score": score_text(one["score"]),
            "spread": spread_text(one["fold_scores"]),
            "time": seconds_text(one["seconds"]),
            "weight": f"{weights[one['number']]:.0%}" if one["number"] in weights else "",
        }
        for one in ranked[:LEADERS]
    ]
    return (
        environment()
        .get_template("notebook.html")
        .render(
            name=summary["study"],
            metric=summary["metric"],
            sense="smaller" if smaller else "larger",
            counts=counts_text(Counter(trial.state for trial in trials)),
            verdict=ensemble.get("verdict"),
            rows=rows,
            charts=_charts(summary, trials, [one["number"] for one in ranked], smaller=smaller),
        )
    )


def _charts(
    summary: Mapping[str, Any], trials: Sequence[Trial], ranked: Sequence[int], *, smaller: bool
) -> list[Chart]:
    complete = [one for one in trials if one.state is State.COMPLETE and one.same_as is None and one.score is not None]
    complete.sort(key=lambda one: one.started + one.seconds)
    charts = []
    if len(complete) > 1:
        scores = np.array([one.score for one in complete], dtype=float)
        best = best_so_far(scores, np.ones(len(scores), dtype=bool), smaller=smaller)
        told = f"best {summary['metric']} so far, by trial: {score_text(best[-1])}"
        charts.append(Chart(told, _lines([(best, ACCENT, False)])))
    by_number = {one.number: one for one in complete}
    able = [(by_number[number], found) for number in ranked if (found := courses(by_number[number].curve))]
    for trial, found in able[:CURVES]:
        first = found[0]
        losses = [(first.validation, ACCENT, False), (first.training, OTHER, True)]
        charts.append(Chart(f"{trial.name}: validation and (dashed) training loss", _lines(losses)))
    return charts


def _lines(series: Sequence[tuple[np.ndarray, str, bool]]) -> list[Line]:
    """Lines in one scale, which leaves out what is far above most."""
    together = np.concatenate([values[np.isfinite(values)] for values, _, _ in series])
    low, high = float(together.min()), float(np.quantile(together, 0.95))
    length = max(high - low, 1e-12)
    lines = []
    for values, colour, dashed in series:
        kept = sampled(len(values), MOST_POINTS)
        x = kept / max(len(values) - 1, 1) * WIDTH
        y = TOP + HEIGHT * (1 - np.clip((values[kept] - low) / length, 0, 1))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if np.isfinite(b))
        lines.append(Line(points, colour, dashed))
    return lines
