"""What MLflow is told about a study and its trials, as plain data within MLflow's limits."""

from __future__ import annotations

import math
import numbers
import posixpath
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunekit.objectives import COSTS
from tunekit.tracking.advice import advice_lines, importances
from tunekit.tracking.front import front_rows
from tunekit.tracking.observer import StudyFacts
from tunekit.tracking.standings import Standings, facts_text, score_text, seconds_text, spread, spread_text, trial_name
from tunekit.tracking.summary import combination_lines, interval_text, out_of_fold
from tunekit.trial import State, Trial

STATUS = {
    State.COMPLETE: "FINISHED",
    State.FAILED: "FAILED",
    State.STOPPED: "KILLED",
    State.INTERRUPTED: "KILLED",
    State.RUNNING: "RUNNING",
}
"""A trial's state as MLflow's status."""

KEY_LIMIT, PARAM_LIMIT, TAG_LIMIT = 250, 500, 5000
"""Characters. MLflow 3 takes 250, 6,000 and 8,000; older servers take less."""

KIND = "tunekit.kind"
"""The tag that tells runs of a search, of its trials and of their folds: "search", "trial", "fold"."""

OF_TRIALS = ("mlflow.note.content", "tunekit.index", "tunekit.retry_of", "tunekit.error")
"""Tags that a trial's folds don't share."""

LEADERS = ADVICE_LINES = 10
OWN_METRICS = {
    "score",
    "fold_score",
    "fold_score_std",
    "best_epoch",
    "seconds",
    "fit_seconds",
    "proposal_seconds",
    "memory_mb",
}


@dataclass(frozen=True)
class Point:
    """One value of a metric: when, in milliseconds since 1970, and at what step."""

    key: str
    value: float
    timestamp: int
    step: int = 0


@dataclass
class Record:
    """What one call to MLflow carries."""

    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: Any, timestamp: int, step: int = 0) -> None:
        """Add a metric's value, unless it is none or not a number in kind."""
        if isinstance(value, numbers.Real):
            self.points.append(Point(metric_key(name), float(value), timestamp, step))


def metric_key(name: str) -> str:
    """A name that MLflow takes for a metric or parameter: others' characters become "_".

    >>> [metric_key(name) for name in ("block_0/units", "lr (log)", "../x", "a//b", "")]
    ['block_0/units', 'lr _log_', '.._x', 'a__b', '_']
    """
    key = re.sub(r"[^/\w.\- ]", "_", name)
    normal = posixpath.normpath(key)
    if normal != key or normal.startswith(("..", "/")) or normal == ".":
        key = key.replace("/", "_") if "/" in key else f"_{key.strip('.')}"
    return key[:KEY_LIMIT]


def span(trial: Trial) -> tuple[int, int]:
    """Start and end of a trial in milliseconds since 1970."""
    start = trial.started or time.time() - trial.seconds
    return int(start * 1000), int((start + trial.seconds) * 1000)


def fold_span(trial: Trial, fold: int) -> tuple[int, int]:
    """Start and end of a fold in milliseconds since 1970; the first holds the start of the trial's process, too.

    One that did not end lasted as long as the trial. Where it isn't known when folds ended, each took an equal share.
    """
    start, end = span(trial)
    if len(trial.fold_ends) == len(trial.fold_scores):
        bounds = [start, *(min(end, start + int(1000 * seconds)) for seconds in trial.fold_ends), end]
        return bounds[fold], bounds[fold + 1]
    folds = max([len(trial.fold_scores), *(point.fold + 1 for point in trial.curve[-1:])])
    return start + (end - start) * fold // folds, start + (end - start) * (fold + 1) // folds


def trial_record(trial: Trial, facts: StudyFacts) -> Record:
    """All that the run of one ended trial holds.

    Its curves are those of its first fold, so that trials compare in one chart; other folds' are in runs of their own.
    Epochs aren't timed one by one: their timestamps spread evenly over their fold.
    """
    _, end = span(trial)
    params = {"family": trial.family, "seed": str(trial.seed)}
    params.update({metric_key(name): str(value)[:PARAM_LIMIT] for name, value in trial.values.items()})
    record = Record(params=params, tags=trial_tags(trial, facts))
    _add_curve(record, trial, 0)
    for fold, score in enumerate(trial.fold_scores):
        record.add("fold_score", score, fold_span(trial, fold)[1], fold)
    for fold, epoch in enumerate(trial.best_epochs):
        record.add("best_epoch", epoch, end, fold)
    record.add("score", trial.score, end)
    for name, cost in trial.costs.items():
        record.add(f"{name}_{COSTS[name].lower()}", cost, end)
    record.add("fold_score_std", spread(trial.fold_scores), end)
    record.add("seconds", trial.seconds, end)
    record.add("fit_seconds", trial.fit_seconds, end)
    record.add("proposal_seconds", trial.proposal_seconds, end)
    record.add("memory_mb", None if trial.memory is None else trial.memory / 2**20, end)
    return record


def _add_curve(record: Record, trial: Trial, fold: int) -> None:
    """Add what was logged at the epochs of a fold."""
    points = [point for point in trial.curve if point.fold == fold]
    start, end = fold_span(trial, fold)
    for place, point in enumerate(points, start=1):
        for name, value in point.logs.items():
            key = name if name not in OWN_METRICS else f"epoch/{name}"
            record.add(key, value, start + (end - start) * place // len(points), point.epoch)


def fold_name(trial: Trial, fold: int) -> str:
    """How people read a fold's run: "017 wide_deep fold 3"."""
    return f"{trial.name} fold {fold}"


def fold_record(trial: Trial, fold: int, facts: StudyFacts) -> Record:
    """What the run of one fold of a trial holds: its curve under plain names, score, best epoch and seconds."""
    whole = trial_record(trial, facts)
    tags = {**whole.tags, "tunekit.fold": str(fold)}
    record = Record(params=whole.params, tags={name: tag for name, tag in tags.items() if name not in OF_TRIALS})
    start, end = fold_span(trial, fold)
    _add_curve(record, trial, fold)
    record.add("score", trial.fold_scores[fold], end)
    record.add("seconds", (end - start) / 1000, end)
    if fold < len(trial.best_epochs):
        record.add("best_epoch", trial.best_epochs[fold], end)
    return record


def trial_tags(trial: Trial, facts: StudyFacts) -> dict[str, str]:
    """What a trial's run can be found by."""
    tags = {
        "tunekit.family": trial.family,
        "tunekit.state": str(trial.state),
        "tunekit.driver": facts.driver,
        "tunekit.index": str(trial.index),
    }
    if trial.retry_of is not None:
        tags["tunekit.retry_of"] = str(trial.retry_of)
    if trial.same_as is not None:
        tags["tunekit.same_as"] = str(trial.same_as)
    if trial.error:
        tags["tunekit.error"] = trial.error[:TAG_LIMIT]
        tags["mlflow.note.content"] = f"**{trial.state}**: {trial.error[:TAG_LIMIT]}"
    return tags


def study_params(facts: StudyFacts) -> dict[str, str]:
    """The facts of a study as parameters of the parent run."""
    known = {**vars(facts), "families": ", ".join(facts.families)}
    known["also_minimize"] = ", ".join(facts.also_minimize) or None
    for name in ("name", "kinds", "folder", "program"):
        del known[name]
    return {name: str(value)[:PARAM_LIMIT] for name, value in known.items() if value is not None}


def progress_record(standings: Standings, timestamp: int) -> Record:
    """Where a search stands after a trial: metrics of the parent run, one step for each trial that ended."""
    record = Record()
    record.add("best_score", standings.best, timestamp, standings.ended)
    record.add("baseline_score", standings.baseline, timestamp, standings.ended)
    for state, count in standings.counts.items():
        record.add(f"trials_{state}", count, timestamp, standings.ended)
    return record


def summary_record(summary: Mapping[str, Any], timestamp: int) -> Record:
    """What the judgement adds to the parent run."""
    record = Record()
    ensemble = summary.get("ensemble") or {}
    record.tags["verdict"] = str(ensemble.get("verdict") or "no blend was made")[:TAG_LIMIT]
    record.add("baseline_score", summary.get("baseline"), timestamp)
    for name in ("oof_score", "test_score"):
        record.add(name, ensemble.get(name), timestamp)
    for name, bound in zip(("test_score_low", "test_score_high"), ensemble.get("test_interval") or (), strict=False):
        record.add(name, bound, timestamp)
    record.add("best_single_test_score", (ensemble.get("best_single") or {}).get("test_score"), timestamp)
    for name, value in (summary.get("overhead") or {}).items():
        record.add(f"overhead/{name}", value, timestamp)
    record.tags["advice"] = "\n".join(advice_lines(summary, most=ADVICE_LINES))[:TAG_LIMIT] or "none"
    for name, value in importances(summary).items():
        record.add(f"importance/{name}", value, timestamp)
    return record


def note(standings: Standings, summary: Mapping[str, Any] | None = None) -> str:
    """What a person reads first on the parent run's page, in Markdown.

    Args:
        standings: the trials so far.
        summary: the judgement, once there is one.
    """
    lines = [f"{facts_text(standings.facts)}.", ""]
    if summary is None:
        lines += [f"Searching: {standings.ended} trials ended ({standings.counts_text()})."]
    else:
        lines += _judgement(standings, summary)
        lines += _front_note(standings.facts.metric, summary)
        lines += advice_note(summary)
    leaders = standings.leaders(LEADERS)
    if leaders:
        rows = [
            (t.name, f"{score_text(t.score)} {spread_text(t.fold_scores)}", len(t.fold_scores), seconds_text(t.seconds))
            for t in leaders
        ]
        lines += ["", "### Best trials", *_table(("trial", standings.facts.metric, "folds", "time"), rows)]
    return "\n".join(lines)[:TAG_LIMIT]


def advice_note(summary: Mapping[str, Any]) -> list[str]:
    """The advice in Markdown: a heading and a list; nothing where there is none."""
    lines = advice_lines(summary, most=ADVICE_LINES)
    return ["", "### Advice", *(f"- {line}" for line in lines)] if lines else []


def _front_note(metric: str, summary: Mapping[str, Any]) -> list[str]:
    """The Pareto front in Markdown; nothing where there is one objective."""
    costs, rows = front_rows(summary)
    if not rows:
        return []
    return ["", "### Pareto front", *_table(("trial", metric, *costs), rows)]


def _judgement(standings: Standings, summary: Mapping[str, Any]) -> list[str]:
    counted = f"{standings.ended} trials: {standings.counts_text()}."
    ensemble = summary.get("ensemble")
    if not ensemble:
        return [f"**No blend was made.** {counted}"]
    single, cheap = ensemble.get("best_single") or {}, ensemble.get("cheap")
    best = trial_name(single) if single else "best single"
    rows = [
        (
            "**blend**",
            f"**{score_text(ensemble.get('test_score'))}**",
            interval_text(ensemble.get("test_interval")),
            score_text(ensemble.get("oof_score")),
        ),
        (best, *_judged(single)),
        *([(f"{trial_name(cheap)} (the cheap reference)", *_judged(cheap))] if cheap else []),
        (
            "baseline",
            score_text(ensemble.get("test_baseline")),
            interval_text(ensemble.get("test_baseline_interval")),
            score_text(summary.get("baseline")),
        ),
    ]
    lines = [f"**{ensemble.get('verdict') or 'No verdict.'}** {counted}", ""]
    lines += _table(("", f"{standings.facts.metric}, test rows", "95% interval", "out of fold"), rows)
    members = [
        (trial_name(member), _weight_text(member.get("weight")), score_text(member.get("score")))
        for member in ensemble.get("members") or ()
    ]
    lines += ["", "### The blend", *_table(("trial", "weight", standings.facts.metric), members)]
    return [*lines, *(part for line in combination_lines(ensemble) for part in ("", line))]


def _judged(model: Mapping[str, Any]) -> tuple[str, str, str]:
    """The scores of a single model: on the test rows, the interval of that, and out of fold."""
    interval = interval_text(model.get("test_interval"))
    return score_text(model.get("test_score")), interval, score_text(out_of_fold(model))


def _weight_text(weight: Any) -> str:
    return f"{weight:.0%}" if isinstance(weight, (int, float)) and math.isfinite(weight) else "-"


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    lines = [header, ("---",) * len(header), *rows]
    return ["| " + " | ".join(str(cell).strip().replace("|", "/") for cell in line) + " |" for line in lines]
