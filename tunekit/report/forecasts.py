"""Forecasts beside what came, and how far they are off by time and by the hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from tunekit.report.material import Part, Shown
from tunekit.report.section import Drawing
from tunekit.report.style import ACCENT, GREY, OTHER, counted, figure, number

MOST_MOMENTS = 400
"""Of a line: the last ones."""

MOST_SERIES = 3
SPANS = 30
"""Of time, in each of which the errors are averaged."""

DAY = 86_400.0


def forecast_drawings(shown: Shown, part: Part, lookup: Mapping[str, str]) -> tuple[list[str], list[Drawing]]:
    """What is seen of forecasts, and their figures."""
    time = np.asarray(shown.data.time)[shown.rows]
    names = _series(shown, lookup)
    errors = np.abs(part.truth - part.predictions[:, 0])
    simple = _simple(shown)
    told: list[str] = []
    drawings: list[Drawing] = []
    horizon = _length(shown.data.horizon or 0.0)
    words = f"Forecasts are made {horizon} ahead and are off by {number(errors.mean())} on average"
    if simple is not None:
        naive = np.abs(part.truth - simple)
        better = 1.0 - errors.mean() / naive.mean() if naive.mean() else 0.0
        compared = f"{abs(better):.0%} {'less' if better > 0 else 'more'} than" if abs(better) >= 0.005 else "as far as"
        words += f", {compared} the simple one ({number(naive.mean())})"
    told.append(f"{words}.")
    kinds = sorted(set(names))
    for name in kinds[:MOST_SERIES]:
        drawings.append(_line(part, time, names == name, name, first=not drawings, several=len(kinds) > 1))
    if len(kinds) > MOST_SERIES:
        told.append(f"The first {MOST_SERIES} of {counted(len(kinds), 'series', 'series')} are drawn.")
    drawings.append(_by_time(part, time, errors, None if simple is None else np.abs(part.truth - simple)))
    hours, distinct = (time % DAY) // 3600.0, len(np.unique((time % DAY) // 3600.0))
    if distinct > 3 and _dated(time):
        means = {hour: float(errors[hours == hour].mean()) for hour in np.unique(hours)}
        worst = max(means, key=lambda hour: means[hour])
        told.append(f"By the hour that is forecast, errors are largest at {worst:.0f}:00 ({number(means[worst])}).")
        drawings.append(_by_hour(means, told[-1]))
    return told, drawings


def moments(seconds: np.ndarray) -> Any:
    """Moments as a figure's axis takes them: dates, or numbers where they are none."""
    return (seconds * 1e3).astype("datetime64[ms]") if _dated(seconds) else seconds


def _dated(seconds: np.ndarray) -> bool:
    """Whether numbers look like seconds since 1970: those of periods are smaller."""
    return bool(np.median(np.abs(seconds)) > 1e7)


def _series(shown: Shown, lookup: Mapping[str, str]) -> np.ndarray:
    name = lookup.get("series")
    if not name or name not in shown.data.columns:
        return np.full(len(shown.rows), "", dtype=object)
    return np.asarray(shown.data.columns[name][shown.rows], dtype=object)


def _simple(shown: Shown) -> np.ndarray | None:
    """(n,): the simplest forecast, the value a season before the target or the last one; None where it isn't known."""
    place = next(iter(shown.data.naive.values()), None)
    arrays = shown.data.schema.arrays
    if place is None or len(arrays) != 1:
        return None
    windows = np.asarray(shown.data.columns[arrays[0].name][shown.rows])
    return np.asarray(windows.reshape(len(windows), -1)[:, place], dtype=float)


def _line(part: Part, time: np.ndarray, own: np.ndarray, name: str, *, first: bool, several: bool) -> Drawing:
    order = np.flatnonzero(own)[np.argsort(time[own], kind="stable")][-MOST_MOMENTS:]
    x = moments(time[order])
    made = figure(
        go.Scatter(x=x, y=part.truth[order], mode="lines", line={"color": GREY, "width": 2}, name="what came"),
        go.Scatter(
            x=x, y=part.predictions[order, 0], mode="lines", line={"color": ACCENT, "width": 2}, name="forecast"
        ),
        height=380,
        yaxis_title="value",
        hovermode="x unified",
    )
    last = "" if own.sum() <= MOST_MOMENTS else f", the last {MOST_MOMENTS} of {int(own.sum()):,}"
    title = f"Forecast and what came{f': {name}' if several else ''}{last}"
    alt = f"Forecasts and true values over time{f' of {name}' if several else ''}"
    key = "".join(letter if letter.isalnum() else "_" for letter in name)
    return Drawing(f"forecast_{key}" if several else "forecast", made, alt, title, folded=not first)


def _by_time(part: Part, time: np.ndarray, errors: np.ndarray, naive: np.ndarray | None) -> Drawing:
    order = np.argsort(time, kind="stable")
    spans = [span for span in np.array_split(order, min(SPANS, len(order))) if len(span)]
    x = moments(np.array([time[span].mean() for span in spans]))
    traces = [(errors, "forecast", ACCENT, "solid")]
    if naive is not None:
        traces.append((naive, "simple forecast", OTHER, "dash"))
    lines = [
        go.Scatter(
            x=x,
            y=[float(values[span].mean()) for span in spans],
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            name=name,
        )
        for values, name, colour, dash in traces
    ]
    made = figure(*lines, height=340, yaxis_title="mean absolute error")
    made.update_yaxes(rangemode="tozero")
    return Drawing(
        f"error_by_time{part.label}", made, "Mean absolute error over time", "How far off, by time", half=True
    )


def _by_hour(means: Mapping[float, float], told: str) -> Drawing:
    bars = go.Bar(x=[*means], y=[*means.values()], marker_color=ACCENT, showlegend=False)
    made = figure(bars, height=340, xaxis_title="hour of the day that is forecast", yaxis_title="mean absolute error")
    return Drawing("error_by_hour", made, told, "How far off, by hour", half=True)


def _length(seconds: float) -> str:
    """A length of time in words.

    >>> _length(86400), _length(5400), _length(4)
    ('1 day', '1.5 hours', '4 periods')
    """
    for unit, length in (("day", DAY), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= length:
            count = seconds / length
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} period{'' if seconds == 1 else 's'}"
