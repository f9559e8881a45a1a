"""The rows with the largest errors, to be looked at one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tunekit.bundle.columns import ARRAY
from tunekit.report.classes import decisions
from tunekit.report.material import Absent, Material, Part, Shown
from tunekit.report.section import Cell, Drawing, Section, Table
from tunekit.report.style import number, plain, template

MOST, FEWEST = 12, 3
MOST_COLUMNS = 12
MOST_TARGETS = 4
LONGEST = 80
MOST_PICTURES = 8
PICTURE = 48
"""Pixels of a picture's longer side; larger ones are thinned."""


def worst(material: Material) -> Section:
    """The rows with the largest loss, with their ids and columns."""
    title, shown = "Worst errors", material.shown
    if isinstance(shown, Absent):
        return Section("worst", title, left_out=[f"Errors of single rows can't be shown: {shown.why}."])
    names = _columns(material, shown)
    told, tables, drawings = [], [], []
    for part in shown.parts[:MOST_TARGETS]:
        losses = part.losses
        first = np.argsort(-losses, kind="stable")[: min(MOST, max(FEWEST, len(losses) // 10))]
        label = f"{part.target.name}: " if part.target.name else ""
        share = losses[first].sum() / losses.sum() if losses.sum() else 0.0
        told.append(
            f"{label}the {len(first)} rows with the largest {_loss_name(part)} of {len(losses):,} have {share:.0%} of "
            f"all of it. {_pattern(shown, names, first)}"
        )
        tables.append(_table(shown, part, names, first))
        drawings += _pictures(shown, part, first[:MOST_PICTURES])
    told[0] = told[0][0].upper() + told[0][1:] if not shown.data.targets else told[0]
    left_out = []
    able = sum(column.kind != ARRAY for column in shown.data.schema.columns)
    if len(names) < able:
        left_out.append(f"{len(names)} of {able} columns are shown: {_why(material)}.")
    return Section("worst", title, told, drawings, tables, left_out=left_out)


def _loss_name(part: Part) -> str:
    return (
        "absolute error" if part.target.task == "regression" else "loss (minus the logarithm of the true class's share)"
    )


def _why(material: Material) -> str:
    most = "those that the predictions need most" if not isinstance(material.columns, Absent) else "the first"
    return most


def _columns(material: Material, shown: Shown) -> list[str]:
    """Names of the columns to show: the most important, or the first."""
    able = [column.name for column in shown.data.schema.columns if column.kind != ARRAY]
    if not isinstance(material.columns, Absent) and material.columns.losses.size:
        means = dict(zip(material.columns.names, material.columns.losses.mean(axis=1), strict=True))
        able.sort(key=lambda name: -means.get(name, 0.0))
    return able[:MOST_COLUMNS]


def _pattern(shown: Shown, names: list[str], first: Any) -> str:
    """What the worst rows have in common, where more of them share a category than of all rows."""
    kinds = {column.name: column.kind for column in shown.data.schema.columns}
    for name in names:
        if kinds[name] not in ("category", "boolean"):
            continue
        values = shown.data.columns[name][shown.rows]
        own, counts = np.unique(values[first].astype(str), return_counts=True)
        share, usual = counts.max() / len(first), float(np.mean(values.astype(str) == own[counts.argmax()]))
        if counts.max() >= 4 and share > 2 * usual + 0.1:
            value = str(own[counts.argmax()]) or "missing"
            return f"In {counts.max()} of them {name} is {value!r}, as in {usual:.0%} of all rows."
    return ""


def _table(shown: Shown, part: Part, names: list[str], first: Any) -> Table:
    regression = part.target.task == "regression"
    decided = None if regression else decisions(part)
    kinds = {column.name: column.kind for column in shown.data.schema.columns}
    rows = []
    for at in first:
        row = int(shown.rows[at])
        cells = [Cell(str(shown.data.ids[row]))]
        if regression:
            true, said = float(part.truth[at]), float(part.predictions[at, 0])
            cells += [Cell(number(true), true), Cell(number(said), said), Cell(number(true - said), abs(true - said))]
        else:
            assert decided is not None
            true_class = int(part.truth[at])
            share = float(part.shares[at, true_class])
            cells += [Cell(str(part.target.classes[true_class])), Cell(str(part.target.classes[int(decided[at])]))]
            cells += [Cell(f"{share:.2%}", share)]
        cells += [_cell(shown.data.columns[name][row], kinds[name]) for name in names]
        rows.append(cells)
    third = "true less predicted" if regression else "share of the true class"
    head = ("id", "true", "predicted", third, *names)
    label = f" of {part.target.name}" if part.target.name else ""
    numeric = {1, 2, 3} if regression else {3}
    numeric |= {4 + place for place, name in enumerate(names) if kinds[name] == "number"}
    return Table(f"Rows with the largest errors{label}", head, rows, frozenset(numeric), sortable=True)


def _cell(value: Any, kind: str) -> Cell:
    if kind == "date":
        text = "-" if np.isnan(value) else str(np.datetime64(round(float(value)), "s")).replace("T", " ")
        return Cell(text.removesuffix(" 00:00:00"))
    if kind == "boolean":
        return Cell("-" if np.isnan(value) else "yes" if value else "no")
    if kind == "number":
        return Cell("-" if np.isnan(value) else f"{value:.6g}", float(value))
    text = str(value) or "-"
    return Cell(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…", note=text if len(text) > LONGEST else "")


def _pictures(shown: Shown, part: Part, first: Any) -> list[Drawing]:
    """The first picture column of the worst rows, where there is one."""
    column = next((one for one in shown.data.schema.arrays if len(one.shape) == 3), None)
    if column is None or shown.data.horizon is not None or column.shape[2] not in (1, 3):
        return []
    step = max(1, -(-max(column.shape[:2]) // PICTURE))
    made = make_subplots(1, len(first), horizontal_spacing=0.02)
    for place, at in enumerate(first, start=1):
        cells = np.asarray(shown.data.columns[column.name][shown.rows[[at]]])[0, ::step, ::step].astype(float)
        low, high = float(cells.min()), float(cells.max())
        grey = ((cells - low) / (high - low or 1.0) * 255).round().astype(np.uint8)
        said = plain(part.target.classes[int(part.truth[at])], 16) if part.target.classes else number(part.truth[at])
        if column.shape[2] == 3:
            trace: Any = go.Image(z=grey)
        else:
            trace = go.Heatmap(z=grey[..., 0], colorscale="Greys", reversescale=True, showscale=False, hoverinfo="skip")
        made.add_trace(trace, row=1, col=place)
        made.update_xaxes(visible=True, showticklabels=False, title_text=f"true {said}", row=1, col=place)
        made.update_xaxes(showgrid=False, ticks="", constrain="domain", row=1, col=place)
        made.update_yaxes(
            visible=False, autorange="reversed", scaleanchor=f"x{place if place > 1 else ''}", row=1, col=place
        )
    made.update_layout(template=template(), height=190, margin={"l": 8, "r": 8, "t": 8, "b": 40})
    alt = "Pictures of the rows with the largest errors"
    return [Drawing(f"worst_pictures{part.label}", made, alt, alt, width=110 * len(first))]
