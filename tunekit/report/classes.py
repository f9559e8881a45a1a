"""How well classes are told apart: confusion, ROC, precision and recall, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from tunekit.bundle.tasks import EVEN, ORDINAL, middle_class
from tunekit.report.material import Floats, Part, Rows
from tunekit.report.section import Drawing
from tunekit.report.style import ACCENT, DASHES, GREY, OTHER, PALETTE, distinct, figure, plain

MOST_CLASSES = 7
"""With a curve of their own."""

MOST_CELLS = 30
"""Classes in a confusion matrix: the most frequent."""

MOST_CURVE_POINTS = 300
BINS = 10
LEAST_IN_BIN = 5
LINE = {"color": GREY, "dash": "dash", "width": 1.5}


def class_drawings(part: Part) -> tuple[list[str], list[Drawing]]:
    """What is seen of one target with classes, and its figures."""
    decided = decisions(part)
    told = [_confusion_told(part, decided)]
    drawings = [_confusion(part, decided, told[0])]
    curves = _curves(part)
    if curves:
        told.append(_curves_told(part))
        drawings += curves
    words, calibration = _calibration(part)
    return [*told, words], [*drawings, *calibration]


def decisions(part: Part) -> Rows:
    """(n,): the position of the class that is predicted."""
    if part.binary:
        return (part.predictions[:, 0] >= part.threshold).astype(np.int64)
    if part.target.task == ORDINAL:
        return middle_class(part.predictions)
    return np.asarray(part.predictions.argmax(axis=1))


# Confusion.


def _confusion(part: Part, decided: Any, told: str) -> Drawing:
    counts = _counts(part, decided)
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:MOST_CELLS])
    counts = counts[np.ix_(kept, kept)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = distinct([part.target.classes[at] for at in kept])
    made = figure(
        go.Heatmap(
            z=shares.round(4),
            x=names,
            y=names,
            text=[[f"{count:,}" for count in row] for row in counts],
            zmin=0,
            zmax=1,
            colorscale="Blues",
            texttemplate="%{text}<br>%{z:.0%}" if len(kept) <= 8 else None,
            hovertemplate="true %{y}, predicted %{x}: %{text} rows (%{z:.1%})<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0, "tickformat": ".0%"},
        ),
        height=max(420, min(640, 170 + 40 * len(kept))),
        xaxis_title="predicted",
        yaxis_title="true",
    )
    made.update_xaxes(type="category")
    made.update_yaxes(type="category", autorange="reversed")
    title = "Confusion: shares of each true class"
    if part.binary:
        title += f" (threshold {part.threshold:.3g})"
    return Drawing(f"confusion{part.label}", made, f"Confusion matrix. {told}", title, half=True)


def _counts(part: Part, decided: Any) -> Any:
    size = len(part.target.classes)
    return np.bincount(part.truth.astype(int) * size + decided, minlength=size * size).reshape(size, size)


def _confusion_told(part: Part, decided: Any) -> str:
    counts, classes = _counts(part, decided), part.target.classes
    right = f"{np.trace(counts) / counts.sum():.1%} of the rows get their true class"
    if part.binary:
        found, true = counts[1, 1] / max(counts[1].sum(), 1), counts[1, 1] / max(counts[:, 1].sum(), 1)
        tuned = "tuned for the metric" if part.threshold != EVEN else "the usual one"
        return (
            f"With the threshold {part.threshold:.3g} ({tuned}), {right}; of those that are {classes[1]!r}, "
            f"{found:.0%} are found (recall), and of those called {classes[1]!r}, {true:.0%} are (precision)."
        )
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return f"{right}."
    true, called = np.unravel_index(wrong.argmax(), wrong.shape)
    return (
        f"{right}; what is confused most is {classes[true]!r}, called {classes[called]!r} in "
        f"{wrong[true, called]} of {counts[true].sum()} rows."
    )


# Curves.


def _one_against_rest(part: Part) -> list[tuple[str, Floats, Floats]]:
    """Name, truth and probability of each class that gets a curve, the most frequent first; of two the second."""
    shares, truth = part.shares, part.truth.astype(int)
    counts = np.bincount(truth, minlength=len(part.target.classes))
    places = [1] if part.binary else list(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    found = [(str(part.target.classes[at]), (truth == at).astype(float), shares[:, at]) for at in places]
    return [one for one in found if 0 < one[1].sum() < len(truth)]


def _curves(part: Part) -> list[Drawing]:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    able = _one_against_rest(part)
    if not able:
        return []
    roc, recall = [], []
    for place, (name, truth, share) in enumerate(able):
        style: dict[str, Any] = {
            "mode": "lines",
            "line": {"color": PALETTE[place], "dash": DASHES[place // 3], "width": 2},
        }
        rate, hit, _ = roc_curve(truth, share)
        kept = _thinned(len(rate))
        area = roc_auc_score(truth, share)
        roc.append(go.Scatter(x=rate[kept], y=hit[kept], name=f"{plain(name, 20)}: {area:.3f}", **style))
        precision, found, _ = precision_recall_curve(truth, share)
        kept = _thinned(len(found))
        area = average_precision_score(truth, share)
        named = f"{plain(name, 20)}: {area:.3f}"
        recall.append(go.Scatter(x=found[kept], y=precision[kept], name=named, **style))
    if part.binary:
        roc.append(_roc_point(part))
        recall.append(_recall_point(part))
        rate = float(able[0][1].mean())
        recall.append(go.Scatter(x=[0, 1], y=[rate, rate], mode="lines", line=LINE, name="chance", hoverinfo="skip"))
    roc.append(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="chance", hoverinfo="skip"))
    axes = {"range": [-0.02, 1.02]}
    made_roc = figure(*roc, height=420, xaxis_title="false positive rate", yaxis_title="true positive rate")
    made_recall = figure(*recall, height=420, xaxis_title="recall", yaxis_title="precision")
    for made in (made_roc, made_recall):
        made.update_layout(xaxis=axes, yaxis=axes)
    told = _curves_told(part)
    return [
        Drawing(f"roc{part.label}", made_roc, f"ROC curves. {told}", "ROC (with the area below)", half=True),
        Drawing(
            f"precision_recall{part.label}",
            made_recall,
            f"Precision against recall. {told}",
            "Precision and recall (with average precision)",
            half=True,
        ),
    ]


def _thinned(count: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_CURVE_POINTS)).round().astype(int))


def _curves_told(part: Part) -> str:
    from sklearn.metrics import average_precision_score, roc_auc_score

    able = _one_against_rest(part)
    areas = [(name, float(roc_auc_score(truth, share))) for name, truth, share in able]
    if part.binary:
        (name, truth, share), area = able[0], areas[0][1]
        precision = float(average_precision_score(truth, share))
        return (
            f"The area below the ROC curve is {area:.3f}: so often does a row of {name!r} get a higher probability "
            f"than another one. The average precision is {precision:.3f}, against {truth.mean():.3f} by chance."
        )
    worst, best = min(areas, key=lambda one: one[1]), max(areas, key=lambda one: one[1])
    return (
        f"Each class against the others: {best[0]!r} is told best (area {best[1]:.3f}), {worst[0]!r} worst "
        f"({worst[1]:.3f})."
    )


def _point(x: float, y: float) -> go.Scatter:
    marker = {"size": 12, "symbol": "star", "color": OTHER, "line": {"width": 1, "color": "#ffffff"}}
    return go.Scatter(x=[x], y=[y], mode="markers", marker=marker, name="threshold in use")


def _roc_point(part: Part) -> go.Scatter:
    counts = _counts(part, decisions(part))
    return _point(counts[0, 1] / max(counts[0].sum(), 1), counts[1, 1] / max(counts[1].sum(), 1))


def _recall_point(part: Part) -> go.Scatter:
    counts = _counts(part, decisions(part))
    called = counts[:, 1].sum()
    return _point(counts[1, 1] / max(counts[1].sum(), 1), counts[1, 1] / called if called else 1.0)


# Calibration.


def _calibration(part: Part) -> tuple[str, list[Drawing]]:
    """Whether probabilities are as often right as they say: of the second of two classes, or of the likeliest one."""
    if part.binary:
        said, came, axis = part.shares[:, 1], part.truth, f"share that is {plain(part.target.classes[1], 24)}"
    else:
        said = part.shares.max(axis=1)
        came, axis = (part.shares.argmax(axis=1) == part.truth).astype(float), "share that is right"
    edges = np.unique(np.quantile(said, np.linspace(0, 1, max(2, min(BINS, len(said) // (2 * LEAST_IN_BIN))) + 1)))
    bins = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, max(len(edges) - 2, 0))
    points: list[tuple[float, ...]] = []
    for bin_ in np.unique(bins):
        inside = bins == bin_
        if inside.sum() >= LEAST_IN_BIN:
            share, count = float(came[inside].mean()), int(inside.sum())
            points.append((float(said[inside].mean()), share, *_wilson(share, count), count))
    if not points:
        return f"Calibration needs parts of at least {LEAST_IN_BIN} rows each; there are {len(said)} rows.", []
    x, y, low, high, count = np.array(points).T
    made = figure(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="as often as it says", hoverinfo="skip"),
        go.Scatter(
            x=x,
            y=y,
            mode="markers+lines",
            marker={"color": ACCENT, "size": 9},
            line={"color": ACCENT, "width": 1.5},
            error_y={"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1.2},
            customdata=count,
            name="rows in equal parts (95%)",
            hovertemplate="said %{x:.1%}, came %{y:.1%} (%{customdata} rows)<extra></extra>",
        ),
        height=420,
        xaxis_title="probability that is predicted",
        yaxis_title=axis,
        xaxis={"range": [-0.02, 1.02], "tickformat": ".0%"},
        yaxis={"range": [-0.02, 1.02], "tickformat": ".0%"},
    )
    off = (low > x) | (high < x)
    told = f"Probabilities are off by {float(np.average(np.abs(x - y), weights=count)):.1%} on average; "
    told += (
        f"in {int(off.sum())} of {len(x)} parts by more than chance explains: "
        f"{'too sure of themselves' if _too_sure(x, y, off) else 'not sure enough, or shifted'}."
        if off.sum() > 1
        else "they come true about as often as they say."
    )
    alt = f"Calibration. {told}"
    return told, [Drawing(f"calibration{part.label}", made, alt, "Calibration (reliability)", half=True)]


def _too_sure(x: Any, y: Any, off: Any) -> bool:
    """Whether what comes true is nearer to the middle than what is said."""
    middle = 0.5
    return bool(np.mean(np.abs(x[off] - middle) > np.abs(y[off] - middle)) > 0.5)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
