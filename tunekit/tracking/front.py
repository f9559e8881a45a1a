"""The Pareto front of a summary, as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunekit.objectives import COSTS
from tunekit.tracking.standings import score_text, trial_name


def front_rows(summary: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The headings of its costs, and for each trial, the best score first, its name, its score and its costs."""
    costs = [name for name in summary.get("also_minimize") or () if name in COSTS]
    trials = {trial.get("number"): trial for trial in summary.get("trials") or () if isinstance(trial, Mapping)}
    rows = []
    for number in summary.get("front") or ():
        trial = trials.get(number) or {}
        own = trial.get("costs") or {}
        cells = [score_text(trial.get("score")), *(score_text(own.get(name)) for name in costs)]
        rows.append((trial_name({"trial": number, **trial}), *cells))
    return [f"{name}, {COSTS[name]}" for name in costs], rows
