"""The course of the search, and what each family cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from tunekit.report.leaderboard import best_of_family
from tunekit.report.material import Material
from tunekit.report.section import Cell, Drawing, Section, Table
from tunekit.report.style import Look, counted, figure, looks, number, plain
from tunekit.tracking.standings import seconds_text
from tunekit.trial import State, Trial

LATE = 0.25
"""The last quarter of the time: what was found there tells whether more time would help."""

BEYOND_NOISE = 2.0
"""Standard errors that a gain must have to be more than noise."""

FEWEST_FOLDS = 3
"""Folds from which on their differences tell how much noise there is."""

FENCE = 3.0
"""Scores farther from the middle half than so many times its width are not zoomed to."""


def history(material: Material) -> Section:
    """The score of each trial by the time it ended, and the best so far."""
    trials = scored(material)
    if not trials:
        return Section("history", "Course of the search", left_out=["No trial has a score yet."])
    hours = ended_at(trials)
    scores = np.array([trial.score for trial in trials], dtype=float)
    complete = np.array([trial.state is State.COMPLETE for trial in trials])
    unit, length = _unit(hours.max())
    best = best_so_far(scores, complete, smaller=material.smaller)
    look = looks(material.all_families)
    traces = [*_points(trials, hours / length, scores, look)]
    line = {"color": "#7d8590", "width": 2, "shape": "hv"}
    traces.append(go.Scatter(x=hours / length, y=best, mode="lines", line=line, name="best so far", hoverinfo="skip"))
    made = figure(*traces, height=430, xaxis={"title": unit, "rangemode": "tozero"}, yaxis_title=plain(material.metric))
    zoomed = _zoom(scores)
    if zoomed is not None:
        made.update_yaxes(range=list(zoomed))
    told = _told(material, trials, hours, best)
    if zoomed is not None:
        outside = int(((scores < zoomed[0]) | (scores > zoomed[1])).sum())
        told.append(
            f"{counted(outside, 'score lies', 'scores lie')} far off, outside the figure; double-click it to see all."
        )
    alt = f"Score of {counted(len(trials), 'trial')} by the time at which each ended, with the best so far. {told[0]}"
    return Section("history", "Course of the search", told, [Drawing("history", made, alt)])


def costs(material: Material) -> Section:
    """What each family took of the time, and what it found."""
    families: dict[str, list[Trial]] = {}
    for trial in material.trials:
        families.setdefault(trial.family, []).append(trial)
    total = sum(trial.seconds for trial in material.trials)
    if not total:
        return Section("costs", "Cost by family", left_out=["No trial has ended yet, so nothing was spent."])
    best = best_of_family(material)
    order = sorted(families, key=lambda family: -sum(trial.seconds for trial in families[family]))
    seconds = {family: sum(trial.seconds for trial in families[family]) for family in order}
    look = looks(material.all_families)
    rows = []
    for family in order:
        found, failed = best.get(family), sum(trial.state is State.FAILED for trial in families[family])
        each = seconds[family] / len(families[family])
        score = None if found is None else found.score
        never = -math.inf if not material.smaller else math.inf
        rows.append(
            [
                Cell(family, family=family),
                Cell(str(len(families[family])), len(families[family])),
                Cell(str(failed), failed),
                Cell(seconds_text(seconds[family]), seconds[family]),
                Cell(f"{seconds[family] / total:.0%}", seconds[family]),
                Cell(seconds_text(each), each),
                Cell(number(score), never if score is None else score),
            ]
        )
    head = ("family", "trials", "failed", "time", "share", "per trial", f"best {material.metric}")
    bars = [
        go.Bar(
            y=[plain(family)],
            x=[seconds[family] / total],
            orientation="h",
            marker_color=look[family].colour,
            text=[f"{seconds[family] / total:.0%}"],
            textposition="auto",
            hovertemplate=f"{plain(family)}: {seconds_text(seconds[family])}<extra></extra>",
            showlegend=False,
        )
        for family in reversed(order)
    ]
    made = figure(*bars, height=90 + 30 * len(bars), xaxis_title="share of all trials' time", xaxis_tickformat=".0%")
    told = [f"Trials took {seconds_text(total)} in all; {order[0]} took {seconds[order[0]] / total:.0%} of it."]
    leader = next(iter(best), None)
    if leader is not None:
        told[0] += f" The best single trial is of {leader}, which took {seconds[leader] / total:.0%}."
    barren = [family for family in order if family not in best]
    if barren:
        told.append(f"Nothing was fitted on every fold of {', '.join(barren)}.")
    table = Table("What families cost", head, rows, frozenset(range(1, 7)), sortable=True)
    drawing = Drawing("costs", made, f"Share of the time by family. {told[0]}")
    return Section("costs", "Cost by family", told, [drawing], [table])


def scored(material: Material) -> list[Trial]:
    """The trials that ran and have a score, in the order in which they ended."""
    ran = [
        trial
        for trial in material.trials
        if trial.same_as is None and trial.score is not None and math.isfinite(trial.score) and trial.started
        if trial.state in (State.COMPLETE, State.STOPPED)
    ]
    return sorted(ran, key=lambda trial: trial.started + trial.seconds)


def ended_at(trials: Sequence[Trial]) -> np.ndarray:
    """(n,) seconds of searching at which each ended: pauses between two runs are left out."""
    ends = np.array([trial.started + trial.seconds for trial in trials])
    begun = np.array([trial.started for trial in trials])
    idle, known = np.zeros(len(trials)), begun.min()
    order = np.argsort(begun)
    lost = 0.0
    for place in order:
        lost += max(0.0, begun[place] - known)
        known = max(known, ends[place])
        idle[place] = lost
    return np.asarray(ends - begun.min() - idle)


def best_so_far(scores: np.ndarray, complete: np.ndarray, *, smaller: bool) -> np.ndarray:
    """(n,): the best of the complete ones until then; nan before the first."""
    worst = np.inf if smaller else -np.inf
    counted_in = np.where(complete, scores, worst)
    best = np.minimum.accumulate(counted_in) if smaller else np.maximum.accumulate(counted_in)
    return np.where(np.isfinite(best), best, np.nan)


def _points(trials: Sequence[Trial], x: np.ndarray, y: np.ndarray, look: dict[str, Look]) -> list[go.Scatter]:
    traces = []
    for family in dict.fromkeys(trial.family for trial in trials):
        own = [place for place, trial in enumerate(trials) if trial.family == family]
        stopped = [trials[place].state is State.STOPPED for place in own]
        marker = {"color": look[family].colour, "symbol": look[family].symbol, "size": 9}
        marker["opacity"] = [0.35 if one else 0.95 for one in stopped]
        text = [
            f"{plain(trials[place].name)}{' (stopped)' if trials[place].state is State.STOPPED else ''}"
            for place in own
        ]
        traces.append(
            go.Scatter(
                x=x[own],
                y=y[own],
                mode="markers",
                marker=marker,
                name=plain(family),
                text=text,
                hovertemplate="%{text}: %{y:.6g}<extra></extra>",
            )
        )
    return traces


def _told(material: Material, trials: Sequence[Trial], ends: np.ndarray, best: np.ndarray) -> list[str]:
    known = np.flatnonzero(np.isfinite(best))
    if not len(known):
        return ["No trial was fitted on every fold: faint points were stopped before."]
    last = known[np.flatnonzero(np.diff(best[known], prepend=np.nan))[-1]]
    share = ends[last] / ends.max() if ends.max() > 0 else 1.0
    told = [f"The best score so far, {material.metric} {number(best[last])}, was found by {trials[last].name} after "]
    told[0] += f"{seconds_text(float(ends[last]))} of {seconds_text(float(ends.max()))} of searching ({share:.0%})."
    early = known[ends[known] <= (1 - LATE) * ends.max()]
    if len(early) and len(known) > 4:
        before, after = best[early[-1]], best[known[-1]]
        gain = abs(after - before) / abs(before) if before else 0.0
        if after == before:
            said = "brought nothing better: more time alone is unlikely to help much"
        elif _within_noise(_first_with(trials, before), _first_with(trials, after)):
            said = f"improved the best score by {gain:.2%}, within the noise of its folds: more time alone is unlikely "
            said += "to help much"
        else:
            said = f"improved the best score by {gain:.2%}: more time may help"
        told.append(f"The last quarter of the time {said}.")
    if any(trial.state is State.STOPPED for trial in trials):
        told.append("Faint points are trials that were stopped early; their scores are of fewer folds or epochs.")
    return told


def _first_with(trials: Sequence[Trial], score: float) -> Trial:
    return next(trial for trial in trials if trial.state is State.COMPLETE and trial.score == score)


def _within_noise(one: Trial, other: Trial) -> bool:
    """Whether two trials differ by less than noise, judged by their differences fold by fold.

    Folds share training rows, which makes the true standard error some 1.5 times as large as this one (Nadeau and
    Bengio 2003): what the coach calls noise is noise here, too.
    """
    folds = len(one.fold_scores)
    if folds < FEWEST_FOLDS or folds != len(other.fold_scores):
        return False
    gains = np.array(one.fold_scores) - np.array(other.fold_scores)
    return bool(abs(gains.mean()) < BEYOND_NOISE * gains.std(ddof=1) / math.sqrt(folds))


def _zoom(scores: np.ndarray) -> tuple[float, float] | None:
    """The range of the axis where few scores are so far off that they would flatten the others."""
    low, high = np.quantile(scores, [0.25, 0.75])
    width = FENCE * (high - low)
    inside = scores[(scores >= low - width) & (scores <= high + width)]
    if len(inside) == len(scores) or len(inside) < 4 or width == 0:
        return None
    margin = 0.08 * float(np.ptp(inside)) or 1e-9
    return float(inside.min() - margin), float(inside.max() + margin)


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 300:
        return "seconds of searching", 1.0
    return ("minutes of searching", 60.0) if seconds < 3 * 3600 else ("hours of searching", 3600.0)
