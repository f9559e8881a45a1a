"""The report as one page that needs no network: plotly.js is in it once, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from tunekit.report.columns import columns_section
from tunekit.report.curves import curves
from tunekit.report.history import costs, history
from tunekit.report.hyperparameters import hyperparameters, parallel
from tunekit.report.leaderboard import leaderboard
from tunekit.report.material import Finding, Material
from tunekit.report.members import members
from tunekit.report.predictions import predictions
from tunekit.report.reproduce import reproduce
from tunekit.report.section import Section
from tunekit.report.style import DARK, LIGHT, looks, template
from tunekit.report.verdict import LEVELS, findings_told, ranked_findings, verdict
from tunekit.report.worst import worst

SECTIONS = (
    *(verdict, leaderboard, history, hyperparameters, parallel, curves, members),
    *(predictions, columns_section, worst, costs, reproduce),
)
"""What makes each section, in the order of the page."""


def sections(material: Material) -> list[Section]:
    """The sections of the page, in order; those that can't be shown say why."""
    return [section(material) for section in SECTIONS]


def figures_of(made: Sequence[Section]) -> dict[str, go.Figure]:
    """Every figure by its name."""
    return {drawing.name: drawing.figure for section in made for drawing in section.drawings}


def page(material: Material, made: Sequence[Section], findings: Sequence[Finding] = ()) -> str:
    """The page as HTML.

    Args:
        material: of the study.
        made: its `sections`.
        findings: what a coach says, shown below the verdict.
    """
    themes = {"light": template(LIGHT), "dark": template(DARK)}
    return (
        environment()
        .get_template("page.html")
        .render(
            name=str(material.summary["study"]),
            sections=made,
            looks=looks(material.all_families),
            findings=ranked_findings(findings),
            findings_told=findings_told(findings),
            levels=LEVELS,
            plotly=get_plotlyjs(),
            themes=script_json({name: one.to_plotly_json() for name, one in themes.items()}),
        )
    )


def script_json(data: Any) -> str:
    r"""JSON that may stand in a script element, for Plotly writes it so that no text in it can end that.

    >>> script_json({"name": "</script>"})
    '{"name":"\\u003c\\u002fscript\\u003e"}'
    """
    text: str = to_json_plotly(data, engine="json")
    return text


def figure_json(figure: go.Figure) -> str:
    """A figure without its template: the page has that once, in light and in dark."""
    plain = figure.to_dict()
    plain["layout"].pop("template", None)
    return script_json(plain)


@cache
def environment() -> jinja2.Environment:
    """Where the pages' templates are; all that they are given is escaped."""
    made = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("tunekit.report", "page"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["figure_json"] = figure_json
    return made
