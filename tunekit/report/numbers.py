"""How far predictions of a number are off."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from tunekit.report.material import Part
from tunekit.report.section import Drawing
from tunekit.report.style import ACCENT, GREY, OTHER, figure, number, sample_told, sampled

BINS = 40
PARTS = 8
"""Of the predictions, in each of which the middle and the spread of the residuals are looked at."""

SHOWN = 0.995
"""Of the residuals, so many are in the histogram; the others stand in its last bars."""

UNEVEN = 2.0
"""The spread in one part may be so many times that in another before it is called uneven."""


def number_drawings(part: Part) -> tuple[list[str], list[Drawing]]:
    """What is seen of a number, and its figures: residuals against predictions, and their histogram."""
    predicted = part.predictions[:, 0]
    residuals = part.truth - predicted
    told = [_told(part, residuals), _spread_told(predicted, residuals) + sample_told(len(residuals))]
    return told, [_scatter(part, predicted, residuals, told[1]), _histogram(part, residuals, told[0])]


def _told(part: Part, residuals: np.ndarray) -> str:
    low, middle, high = np.quantile(residuals, [0.05, 0.5, 0.95])
    explained = 1.0 - float(np.mean(residuals**2)) / float(part.truth.var()) if part.truth.var() else float("nan")
    bias = float(residuals.mean())
    error = float(residuals.std()) / np.sqrt(len(residuals))
    leaning = "too low" if bias > 0 else "too high"
    lean = f"predictions are {number(abs(bias))} {leaning} on average" if abs(bias) > 2 * error else "no lean is seen"
    return (
        f"The predictions explain {explained:.1%} of the variance (R²); half of them are off by less than "
        f"{number(np.median(np.abs(residuals)))}, nine of ten by {number(low)} to {number(high)} (median "
        f"{number(middle)}); {lean}."
    )


def _parts(predicted: np.ndarray) -> list[np.ndarray]:
    """Positions of the rows in parts of equal size, by what is predicted."""
    return [part for part in np.array_split(np.argsort(predicted, kind="stable"), PARTS) if len(part) >= 5]


def _spread_told(predicted: np.ndarray, residuals: np.ndarray) -> str:
    widths = [float(np.subtract(*np.quantile(residuals[part], [0.75, 0.25]))) for part in _parts(predicted)]
    if len(widths) < 2 or min(widths) <= 0:
        return "Residual is the true value less the predicted one: points above zero were predicted too low."
    ratio = max(widths) / min(widths)
    if ratio < UNEVEN:
        return "The residuals spread about as far for low as for high predictions."
    where = "high" if np.argmax(widths) >= len(widths) / 2 else "low"
    return (
        f"The residuals spread {ratio:.1f} times as far where they spread most, at {where} predictions, as where they "
        "spread least: errors there are larger, and a logarithm or a relative metric may fit the target better."
    )


def _scatter(part: Part, predicted: np.ndarray, residuals: np.ndarray, told: str) -> Drawing:
    kept, parts = sampled(len(residuals)), _parts(predicted)
    traces = [
        go.Scatter(
            x=predicted[kept],
            y=residuals[kept],
            mode="markers",
            marker={"color": ACCENT, "size": 6, "opacity": 0.45},
            name="rows",
            hovertemplate="predicted %{x:.6g}, off by %{y:.6g}<extra></extra>",
        )
    ]
    x = [float(np.median(predicted[one])) for one in parts]
    for share, name, dash in ((0.5, "median", "solid"), (0.1, "10% and 90%", "dot"), (0.9, "10% and 90%", "dot")):
        traces.append(
            go.Scatter(
                x=x,
                y=[float(np.quantile(residuals[one], share)) for one in parts],
                mode="lines",
                line={"color": OTHER, "width": 2, "dash": dash},
                name=name,
                legendgroup=name,
                showlegend=share != 0.9,
                hoverinfo="skip",
            )
        )
    made = figure(*traces, height=430, xaxis_title="predicted", yaxis_title="true less predicted")
    made.add_hline(y=0, line={"color": GREY, "width": 1})
    return Drawing(
        f"residuals{part.label}", made, f"Residuals against predictions. {told}", "Residuals by prediction", half=True
    )


def _histogram(part: Part, residuals: np.ndarray, told: str) -> Drawing:
    low, high = np.quantile(residuals, [1 - SHOWN, SHOWN])
    counts, edges = np.histogram(np.clip(residuals, low, high), BINS if len(residuals) >= 200 else 15)
    made = figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            marker={"color": ACCENT, "line": {"width": 0.5, "color": "rgba(255,255,255,0.6)"}},
            hovertemplate="about %{x:.6g}: %{y} rows<extra></extra>",
            showlegend=False,
        ),
        height=430,
        xaxis_title="true less predicted",
        yaxis_title="rows",
    )
    made.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"})
    return Drawing(
        f"residual_histogram{part.label}", made, f"Histogram of residuals. {told}", "How far they are off", half=True
    )
