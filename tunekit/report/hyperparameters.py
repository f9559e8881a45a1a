"""Which hyperparameters mattered, and where the good values were: by family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from tunekit.advice.evidence import Evidence, Judged, gather, judge, position
from tunekit.advice.importance import LEAST, Importance, importances
from tunekit.report.leaderboard import best_of_family
from tunekit.report.material import Material
from tunekit.report.section import Drawing, Section
from tunekit.report.style import GOOD_TO_BAD, Look, counted, distinct, figure, listed, looks, panels, plain, sampled
from tunekit.space import Dimension, Value
from tunekit.tracking.advice import advice_lines
from tunekit.tracking.standings import BASELINE

MOST_BARS = 6
"""Hyperparameters of each family in the figure of importances."""

MOST_SLICES = 6
MOST_AXES = 9
"""Of parallel coordinates: more can't be followed."""

LEAST_TRIALS = 5
"""Of a family, to draw its hyperparameters."""

MOST_LINES = 500
AXIS_WIDTH = 105
"""Pixels that an axis of parallel coordinates needs, with its labels."""

TICKS = 5


def hyperparameters(material: Material) -> Section:
    """Importance by family, and slices of each family's most important hyperparameters."""
    judged = judged_by_family(material)
    weighed = {family: importances(gather(own)) for family, own in judged.items()}
    picked = {family: _picked(gather(own), weighed[family], MOST_SLICES) for family, own in judged.items()}
    picked.pop(BASELINE, None)
    told: list[str] = []
    left_out: list[str] = []
    drawings: list[Drawing] = []
    if any(weighed.values()):
        drawings.append(_importance(material, weighed))
        told.append(_importance_told(weighed))
    few = [f"{family} has {len(own)}" for family, own in judged.items() if picked.get(family) and not weighed[family]]
    if few:
        left_out.append(f"Importance needs {LEAST} judged trials of a family: {listed(few)}.")
    told += advice_lines(material.summary)
    look = looks(material.all_families)
    for family, ones in picked.items():
        own = judged[family]
        if len(own) >= LEAST_TRIALS and ones:
            drawings.append(_slices(material, family, own, ones, look[family], first=len(drawings) < 2))
    if not judged:
        left_out.append("No trial has been judged yet, so nothing is known of hyperparameters.")
    elif not drawings:
        left_out.append(f"Slices need {LEAST_TRIALS} judged trials of a family that has hyperparameters.")
    return Section("hyperparameters", "Hyperparameters", told, drawings, left_out=left_out)


def parallel(material: Material) -> Section:
    """Parallel coordinates of each family: a line for each trial, from value to value to its score."""
    drawings: list[Drawing] = []
    for family, own in judged_by_family(material).items():
        found = gather(own)
        weighed = importances(found)
        axes = _picked([one for one in found if len(one.judged) == len(own)], weighed, MOST_AXES)
        if len(own) >= LEAST_TRIALS and len(axes) > 1:
            drawings.append(_parallel(material, family, own, axes, first=not drawings))
    if not drawings:
        why = f"Parallel coordinates need {LEAST_TRIALS} judged trials of a family with two hyperparameters or more."
        return Section("parallel", "Parallel coordinates", left_out=[why])
    told = [
        "Each line is a trial, blue for the best and orange for the worst; drag along an axis to pick some. "
        f"Hyperparameters that only some of a family's trials had, and all beyond the {MOST_AXES} most important, are "
        "left out."
    ]
    return Section("parallel", "Parallel coordinates", told, drawings)


def judged_by_family(material: Material) -> dict[str, list[Judged]]:
    """The trials that tell something of hyperparameters, the family with the best trial first."""
    order = [*best_of_family(material), *material.all_families]
    found: dict[str, list[Judged]] = {family: [] for family in dict.fromkeys(order)}
    for one in judge(material.trials, str(material.summary["direction"])):
        found[one.trial.family].append(one)
    return {family: own for family, own in found.items() if own}


def _picked(found: Sequence[Evidence], weighed: Sequence[Importance], most: int) -> list[Evidence]:
    """The most important, or where that is unknown those that most trials had."""
    share = {one.evidence.dimension.key: one.share for one in weighed}
    order = sorted(found, key=lambda one: (-share.get(one.dimension.key, 0.0), -len(one.judged)))
    return order[:most]


def _importance(material: Material, weighed: dict[str, list[Importance]]) -> Drawing:
    look, traces, names = looks(material.all_families), [], []
    for family, own in weighed.items():
        ranked = sorted(own, key=lambda one: -one.share)[:MOST_BARS]
        if not ranked:
            continue
        labels = distinct([f"{family} · {one.evidence.dimension.key}" for one in ranked])
        names += labels
        traces.append(
            go.Bar(
                x=[one.share for one in ranked],
                y=labels,
                orientation="h",
                name=plain(family),
                marker={
                    "color": look[family].colour,
                    "opacity": [1.0 if one.matters else 0.45 for one in ranked],
                    "pattern": {"shape": ["" if one.matters else "/" for one in ranked]},
                },
                hovertemplate="%{y}: %{x:.0%}<extra></extra>",
            )
        )
    made = figure(*traces, height=110 + 24 * len(names), xaxis_title="share of the scores' variance", bargap=0.25)
    made.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    made.update_xaxes(tickformat=".0%")
    alt = f"Importance of hyperparameters by family. {_importance_told(weighed)}"
    return Drawing("importance", made, alt, "Importance (fANOVA), by family")


def _importance_told(weighed: dict[str, list[Importance]]) -> str:
    sure = [(family, one) for family, own in weighed.items() for one in own if one.matters]
    known = counted(sum(bool(own) for own in weighed.values()), "family", "families")
    if not sure:
        return f"Of {known} with enough trials, no hyperparameter matters by more than chance may do (hatched bars)."
    top = sorted(sure, key=lambda one: -one[1].share)[:3]
    words = [f"{one.evidence.dimension.key} of {family} ({one.share:.0%})" for family, one in top]
    return (
        f"What mattered most, beyond chance, by its share of the variance of the family's scores: {listed(words)}. "
        "Hatched bars may be chance."
    )


def _slices(
    material: Material, family: str, own: Sequence[Judged], picked: Sequence[Evidence], look: Look, *, first: bool
) -> Drawing:
    """A panel for each hyperparameter: its values against the scores."""
    made, places = panels(len(picked), 230)
    scores = [one.trial.score for one in own if one.trial.score is not None and one.complete] or [0.0]
    low, high = np.quantile(scores, [0.0, 0.9] if material.smaller else [0.1, 1.0])
    margin = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    for (row, column), one in zip(places, picked, strict=True):
        kept = sampled(len(one.judged), MOST_LINES)
        opacity = [0.9 if one.judged[at].complete else 0.35 for at in kept]
        texts = [plain(one.judged[at].trial.name) for at in kept]
        numeric = one.dimension.kind in ("int", "float")
        made.add_scatter(
            x=[one.values[at] if numeric else plain(one.values[at]) for at in kept],
            y=[one.judged[at].trial.score for at in kept],
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 7, "opacity": opacity},
            text=texts,
            hovertemplate="%{text}<br>%{x}: %{y:.6g}<extra></extra>",
            showlegend=False,
            row=row,
            col=column,
        )
        log = numeric and one.dimension.sampling == "log"
        made.update_xaxes(title_text=plain(one.dimension.key, 28), type=_axis_type(one, log=log), row=row, col=column)
        made.update_xaxes(nticks=6, row=row, col=column)
        made.update_yaxes(range=[low - margin, high + margin], nticks=6, row=row, col=column)
    made.update_yaxes(title_text=plain(material.metric), col=1)
    alt = f"Scores of {counted(len(own), 'trial')} of {family} against {listed([one.dimension.key for one in picked])}."
    title = f"{family}: values against scores ({counted(len(own), 'trial')})"
    return Drawing(f"slices_{family}", made, alt, title, stacks=True, folded=not first)


def _axis_type(one: Evidence, *, log: bool) -> str:
    if one.dimension.kind not in ("int", "float"):
        return "category"
    return "log" if log else "linear"


def _parallel(
    material: Material, family: str, own: Sequence[Judged], axes: Sequence[Evidence], *, first: bool
) -> Drawing:
    kept = sampled(len(own), MOST_LINES)
    scores = np.array([own[at].trial.score for at in kept], dtype=float)
    low, high = np.quantile(scores, [0.0, 0.9] if material.smaller else [0.1, 1.0])
    dimensions = [_axis(one.dimension, [one.values[at] for at in kept]) for one in axes]
    clipped = np.clip(scores, low, high) if low < high else scores
    dimensions.append({"label": plain(material.metric, 20), "values": clipped})
    made = figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": clipped,
                "colorscale": GOOD_TO_BAD,
                "reversescale": not material.smaller,
                "showscale": False,
            },
            labelangle=-20,
            labelside="top",
            tickfont={"size": 11},
        ),
        height=400,
        margin={"l": 60, "r": 50, "t": 90, "b": 24},
    )
    names = listed([one.dimension.key for one in axes])
    alt = f"Parallel coordinates of {counted(len(kept), 'trial')} of {family}: {names}, and the score."
    title = f"{family} ({counted(len(kept), 'trial')})"
    return Drawing(f"parallel_{family}", made, alt, title, width=AXIS_WIDTH * (len(axes) + 1), folded=not first)


def _axis(dimension: Dimension, values: Sequence[Value]) -> dict[str, Any]:
    """An axis on the dimension's own scale, with its values as labels."""
    places = np.array([position(dimension, value) for value in values])
    if dimension.kind not in ("int", "float"):
        marks = np.arange(len(dimension.choices))
        words, high = [plain(choice, 14) for choice in dimension.choices], max(len(marks) - 1, 1)
    else:
        order = np.argsort(places)
        shown = order[np.unique(np.linspace(0, len(order) - 1, TICKS).round().astype(int))]
        marks, words, high = places[shown], [f"{float(values[at]):.3g}" for at in shown], 1
    label = plain(dimension.key, 20)
    return {"label": label, "values": places, "range": [0, high], "tickvals": marks, "ticktext": words}
