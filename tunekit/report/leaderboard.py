"""Every trial, in a table that its reader can sort."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from tunekit.report.material import Material
from tunekit.report.section import Cell, Section, Table
from tunekit.report.style import counted, number
from tunekit.tracking.standings import counts_text, seconds_text, spread
from tunekit.trial import State, Trial

HEAD = ("trial", "score", "±", "epochs or rounds", "time", "values", "state", "fold scores")


def leaderboard(material: Material) -> Section:
    """The trials, the best first, then those that were not judged whole."""
    ranked = ranked_trials(material)
    if not ranked:
        return Section("leaderboard", "Leaderboard", left_out=["No trial has ended yet."])
    counts = Counter(trial.state for trial in material.trials)
    told = [f"{counted(len(ranked), 'trial')}: {counts_text(counts)}."]
    best = ranked[0]
    if best.state is State.COMPLETE:
        text = f"{best.name} is the best single one out of fold, with {material.metric} {number(best.score)}"
        width, close = spread(best.fold_scores), 0
        if width is not None and best.score is not None:
            within = [one for one in ranked[1:] if one.state is State.COMPLETE and one.same_as is None]
            close = sum(
                abs((one.score or 0.0) - best.score) <= width / math.sqrt(len(best.fold_scores)) for one in within
            )
            text += f" ± {number(width)} over {counted(len(best.fold_scores), 'fold')}"
        told.append(
            f"{text}. {counted(close, 'other trial is', 'other trials are')} within a standard error of it: among "
            "these the order may be chance."
            if close
            else f"{text}."
        )
    failed = [trial for trial in ranked if trial.state is State.FAILED]
    if failed:
        why = Counter(_first_line(trial.error) for trial in failed).most_common(1)[0]
        told.append(f"{counted(len(failed), 'trial')} failed; the most frequent reason ({why[1]}): {why[0]}")
    rows, long = [_cells(trial) for trial in ranked], frozenset({HEAD.index("values")})
    table = Table("Trials by score", HEAD, rows, frozenset({1, 2, 3, 4}), sortable=True, long=long)
    return Section("leaderboard", "Leaderboard", told, tables=[table])


def ranked_trials(material: Material) -> list[Trial]:
    """Complete trials by score, then the others by number."""
    sign = 1.0 if material.smaller else -1.0

    def key(trial: Trial) -> tuple[bool, float, int]:
        complete = trial.state is State.COMPLETE and trial.score is not None and math.isfinite(trial.score)
        return not complete, sign * (trial.score or 0.0) if complete else 0.0, trial.number

    return sorted(material.trials, key=key)


def best_of_family(material: Material) -> dict[str, Trial]:
    """The best complete trial of each family that has one, the best family first."""
    found: dict[str, Trial] = {}
    for trial in ranked_trials(material):
        if trial.state is State.COMPLETE:
            found.setdefault(trial.family, trial)
    return found


def _cells(trial: Trial) -> list[Cell]:
    complete = trial.state is State.COMPLETE
    folds = ", ".join(map(number, trial.fold_scores)) or "-"
    epochs = statistics.median(trial.best_epochs) if trial.best_epochs else None
    worst = math.inf
    state = str(trial.state)
    if trial.same_as is not None:
        state += f": as trial {trial.same_as}"
    elif trial.error and not complete:
        reason = _first_line(trial.error)
        state = reason if reason.startswith(state) else f"{state}: {reason}"
    values = ", ".join(f"{name}={_value(value)}" for name, value in trial.values.items())
    return [
        Cell(trial.name, trial.number, family=trial.family),
        Cell(number(trial.score), trial.score if complete and trial.score is not None else worst),
        Cell(number(spread(trial.fold_scores)), spread(trial.fold_scores) or worst),
        Cell("-" if epochs is None else f"{epochs:g}", worst if epochs is None else epochs),
        Cell(seconds_text(trial.seconds) if trial.seconds else "-", trial.seconds),
        Cell(values or "-"),
        Cell(state, note=trial.error or ""),
        Cell(folds),
    ]


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _first_line(error: str | None) -> str:
    lines = [line.strip() for line in (error or "no reason was recorded").splitlines() if line.strip()]
    return lines[-1] if lines and lines[0].startswith("Traceback") else (lines or ["no reason was recorded"])[0]
