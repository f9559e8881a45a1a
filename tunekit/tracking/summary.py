"""The judgement of a search as it is shown on a console: leaderboard, blend, test score and verdict."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunekit.tracking.advice import advice_lines
from tunekit.tracking.front import front_rows
from tunekit.tracking.standings import counts_text, score_text, seconds_text, spread_text, trial_name
from tunekit.trial import State

STYLES = {
    State.RUNNING: "cyan",
    State.COMPLETE: "green",
    State.STOPPED: "yellow",
    State.FAILED: "red",
    State.INTERRUPTED: "magenta",
}
LEADERS = 10


def summary_renderable(summary: Mapping[str, Any], *, leaders: int = LEADERS) -> RenderableType:
    """A summary, as `tunekit show --json` prints it, for people.

    Args:
        summary: as `tunekit.study.result.summarise` makes it; whatever is missing or odd in it is shown as "-".
        leaders: how many trials to list.

    Returns:
        What a rich console prints.
    """
    metric = str(summary.get("metric") or "score")
    trials = [trial for trial in summary.get("trials") or () if isinstance(trial, Mapping)]
    counts = Counter(
        State.INTERRUPTED if trial.get("interrupted") else State(trial["state"])
        for trial in trials
        if trial.get("state") in set(State)
    )
    smaller = summary.get("direction") == "minimize"
    sense = "smaller" if smaller else "larger"
    title = Text.assemble(
        (str(summary.get("study") or "study"), "bold"), f": {metric}, {sense} is better; trials: {counts_text(counts)}"
    )
    parts: list[RenderableType] = [title]
    ranked = rank(trials, smaller=smaller)
    if ranked:
        parts.append(_leaderboard(ranked[:leaders], metric))
    ensemble = summary.get("ensemble")
    if isinstance(ensemble, Mapping):
        parts += _blend(ensemble, summary.get("baseline"), metric)
    else:
        parts.append(Text(f"baseline {metric} {score_text(summary.get('baseline'))}; no blend was made"))
    costs, front = front_rows(summary)
    if front:
        table = score_table(metric, *costs)
        table.columns[0].header = "Pareto front"
        for cells in front:
            table.add_row(*map(Text, cells))
        parts.append(table)
    if advice := advice_lines(summary):
        parts.append(Text.assemble(("advice", "bold"), *(f"\n- {line}" for line in advice)))
    overhead = summary.get("overhead")
    if isinstance(overhead, Mapping) and overhead:
        words = ", ".join(f"{str(name).replace('_', ' ')} {_cost(name, value)}" for name, value in overhead.items())
        parts.append(Text(f"the search's own cost: {words}", style="dim"))
    return Group(*(line for part in parts for line in (part, Text(""))))


def rank(trials: list[Mapping[str, Any]], *, smaller: bool) -> list[Mapping[str, Any]]:
    """The complete trials that have a score, best first."""
    scored = [
        trial
        for trial in trials
        if trial.get("state") == State.COMPLETE
        and isinstance(trial.get("score"), (int, float))
        and math.isfinite(trial["score"])
    ]
    return sorted(scored, key=lambda trial: trial["score"] if smaller else -trial["score"])


def score_table(metric: str, *more: str) -> Table:
    """A table whose first columns are the trial and its score, and the others numbers too."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("trial", no_wrap=True, overflow="ellipsis")
    table.add_column(metric, justify="right", no_wrap=True)
    for name in more:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _leaderboard(trials: list[Mapping[str, Any]], metric: str) -> Table:
    table = score_table(metric, "", "folds", "time")
    for position, trial in enumerate(trials):
        folds = trial.get("fold_scores") or ()
        cells = (
            score_text(trial.get("score")),
            spread_text(folds),
            str(len(folds)),
            seconds_text(trial.get("seconds")),
        )
        table.add_row(Text(trial_name(trial, "number")), *map(Text, cells), style="bold" if position == 0 else None)
    return table


def _blend(ensemble: Mapping[str, Any], baseline: Any, metric: str) -> list[RenderableType]:
    members = score_table(metric, "weight")
    members.columns[0].header = "in the blend"
    for member in ensemble.get("members") or ():
        weight = member.get("weight")
        share = f"{weight:.0%}" if isinstance(weight, (int, float)) and math.isfinite(weight) else "-"
        members.add_row(Text(trial_name(member)), Text(score_text(member.get("score"))), Text(share))
    single = ensemble.get("best_single") or {}
    judged = score_table("test rows", "out of fold", "95% interval")
    judged.columns[0].header = metric
    judged.add_row(
        Text("blend"),
        Text(score_text(ensemble.get("test_score"))),
        Text(score_text(ensemble.get("oof_score"))),
        Text(interval_text(ensemble.get("test_interval"))),
        style="bold",
    )
    judged.add_row(Text(f"best single: {trial_name(single)}"), *map(Text, _judged(single)))
    if cheap := ensemble.get("cheap"):
        judged.add_row(Text(f"cheap reference: {trial_name(cheap)}"), *map(Text, _judged(cheap)))
    alone = score_text(ensemble["test_baseline"]) if "test_baseline" in ensemble else ""
    bounds = interval_text(ensemble.get("test_baseline_interval"))
    judged.add_row(Text("baseline"), *map(Text, (alone, score_text(baseline), bounds)))
    how = [Text(line) for line in combination_lines(ensemble)]
    return [members, *how, judged, Text(str(ensemble.get("verdict") or "no verdict"), style="bold")]


def _judged(model: Mapping[str, Any]) -> tuple[str, str, str]:
    """The scores of a single model: on the test rows, out of fold, and the interval of the first."""
    return (
        score_text(model.get("test_score")),
        score_text(out_of_fold(model)),
        interval_text(model.get("test_interval")),
    )


def interval_text(bounds: Any) -> str:
    """An interval to read; "-" where there is none, as in results of earlier versions.

    >>> interval_text([0.85, 0.9]), interval_text(None)
    ('0.8500 to 0.9000', '-')
    """
    return " to ".join(score_text(bound) for bound in bounds or ()) or "-"


def out_of_fold(model: Mapping[str, Any]) -> Any:
    """The score to be set beside the blend's: on the same rows, all at once, where these are apart.

    A trial's own score is the mean over its folds, which differs from it for most metrics.
    """
    same_rows = model.get("oof_score")
    return model.get("score") if same_rows is None else same_rows


def combination_lines(ensemble: Mapping[str, Any]) -> list[str]:
    """How the members are combined, and why."""
    combination = ensemble.get("combination")
    if not isinstance(combination, Mapping):
        return []
    return [f"combined by {combination.get('told')}", f"chosen: {combination.get('why')}"]


def _cost(name: Any, value: Any) -> str:
    if "seconds" in str(name):
        return seconds_text(value)
    if isinstance(value, float) and ("share" in str(name) or "fraction" in str(name)):
        return f"{value:.1%}"
    return score_text(value)


def summary_text(summary: Mapping[str, Any]) -> str:
    """The same as plain text, for `print`."""
    with io.StringIO() as file:
        Console(file=file, width=110).print(summary_renderable(summary))
        return file.getvalue()
