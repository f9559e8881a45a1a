"""Who is in the blend, and whether its members err on different rows."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from tunekit.report.material import Absent, Material, Members
from tunekit.report.section import Drawing, Section
from tunekit.report.style import SEQUENTIAL, distinct, figure, looks

ALIKE = 0.97
"""Members whose errors are correlated like this add little to each other."""


def members(material: Material) -> Section:
    """The weights, and how the members' errors go together."""
    ensemble = material.summary.get("ensemble")
    if not ensemble:
        return Section("members", "The blend's members", left_out=["There is no blend yet."])
    told, drawings, left_out = [_weights_told(material)], [_weights(material)], []
    found = material.members
    if isinstance(found, Absent):
        left_out.append(f"How their errors go together can't be shown: {found.why}.")
    elif len(found.names) < 2:
        left_out.append("There is a single member, which nothing can be compared with.")
    else:
        correlation = np.atleast_2d(np.corrcoef(found.errors))
        told.append(_correlation_told(found, correlation))
        drawings.append(_correlation(found, correlation, told[-1]))
    return Section("members", "The blend's members", told, drawings, left_out=left_out)


def _weights_told(material: Material) -> str:
    rows = material.summary["ensemble"]["members"]
    families: dict[str, float] = {}
    for one in rows:
        families[one["family"]] = families.get(one["family"], 0.0) + one["weight"]
    first = max(families, key=lambda family: families[family])
    return (
        f"{len(rows)} member{'s' if len(rows) > 1 else ''} of {len(families)} "
        f"famil{'ies' if len(families) > 1 else 'y'}; {first} has {families[first]:.0%} of the weight."
    )


def _weights(material: Material) -> Drawing:
    rows = material.summary["ensemble"]["members"][::-1]
    look = looks(material.all_families)
    made = figure(
        go.Bar(
            y=distinct([f"{one['trial']:03d} {one['family']}" for one in rows]),
            x=[one["weight"] for one in rows],
            orientation="h",
            marker_color=[look[one["family"]].colour for one in rows],
            text=[f"{one['weight']:.0%}" for one in rows],
            textposition="auto",
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        ),
        height=90 + 32 * len(rows) if len(rows) == 1 else max(280, 90 + 32 * len(rows)),
        xaxis_title="weight in the blend",
        xaxis_tickformat=".0%",
    )
    return Drawing("weights", made, f"Weights of the blend's members. {_weights_told(material)}", "Weights", half=True)


def _correlation_told(found: Members, correlation: np.ndarray) -> str:
    upper = np.triu_indices(len(found.names), 1)
    values = correlation[upper]
    if not np.isfinite(values).any():
        return "The members' errors don't vary, so they can't be compared."
    near, far = int(np.nanargmax(values)), int(np.nanargmin(values))

    def pair(at: int) -> str:
        return f"{found.names[upper[0][at]]} and {found.names[upper[1][at]]} ({values[at]:.2f})"

    text = f"The errors that are most alike are those of {pair(near)}"
    if len(values) > 1:
        text += f"; the least alike are those of {pair(far)}: what they get wrong differs most, so they help each other"
    alike = " All of them err on the same rows, so blending can gain little." if np.nanmin(values) > ALIKE else ""
    return f"{text}.{alike} This is the correlation, out of fold, of what each gets wrong."


def _correlation(found: Members, correlation: np.ndarray, told: str) -> Drawing:
    labels = distinct(found.names)
    shown = correlation.round(3)
    np.fill_diagonal(shown, np.nan)  # each is like itself: that would hide how the others differ
    made = figure(
        go.Heatmap(
            z=shown,
            x=labels,
            y=labels,
            zmin=min(0.5, float(np.nanmin(shown))),
            zmax=1,
            colorscale=SEQUENTIAL,
            reversescale=True,
            texttemplate="%{z:.2f}" if len(labels) <= 8 else None,
            hovertemplate="%{x}<br>%{y}: %{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        ),
        height=max(280, 150 + 36 * len(labels)),
    )
    made.update_yaxes(autorange="reversed")
    made.update_xaxes(tickangle=-35)
    return Drawing(
        "correlation", made, f"Correlation of the members' errors. {told}", "How alike their errors are", half=True
    )
