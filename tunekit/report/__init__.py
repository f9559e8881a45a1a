"""A study as one page that needs no network, as figures to go on with, and as what a notebook shows."""

from plotly.graph_objects import Figure

from tunekit.report.columns import importance
from tunekit.report.images import FORMS, file_name, write_figures
from tunekit.report.material import (
    Absent,
    ColumnImportance,
    Finding,
    Material,
    Members,
    Part,
    Shown,
    errors_of,
)
from tunekit.report.notebook import notebook_html
from tunekit.report.page import figures_of, page, sections
from tunekit.report.section import Section

__all__ = [
    "FORMS",
    "Absent",
    "ColumnImportance",
    "Figure",
    "Finding",
    "Material",
    "Members",
    "Part",
    "Section",
    "Shown",
    "errors_of",
    "figures_of",
    "file_name",
    "importance",
    "notebook_html",
    "page",
    "sections",
    "write_figures",
]
