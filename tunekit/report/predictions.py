"""The predictions by task, on the untouched test rows."""

from __future__ import annotations

from dataclasses import replace

from tunekit.report.classes import class_drawings
from tunekit.report.forecasts import forecast_drawings
from tunekit.report.material import Absent, Material
from tunekit.report.numbers import number_drawings
from tunekit.report.section import Drawing, Section

TITLE = "Predictions on rows that nothing touched"
MOST_TARGETS = 6


def predictions(material: Material) -> Section:
    """Figures by task, for each target."""
    shown = material.shown
    if isinstance(shown, Absent):
        return Section("predictions", "Predictions", left_out=[f"Predictions can't be shown: {shown.why}."])
    told = [f"What {shown.who} predicts for {shown.where}."]
    if shown.data.weight is not None:
        told.append("Rows count alike in these figures; the scores above weigh them.")
    drawings: list[Drawing] = []
    for part in shown.parts[:MOST_TARGETS]:
        regression = part.target.task == "regression"
        words, made = number_drawings(part) if regression else class_drawings(part)
        if regression and shown.data.horizon is not None:
            before, ahead = forecast_drawings(shown, part, material.lookup)
            words, made = [*before, *words], [*ahead, *made]
        name = f"{part.target.name}: " if part.target.name else ""
        told += [f"{name}{word}" for word in words]
        drawings += [_titled(one, name) for one in made]
    left = shown.parts[MOST_TARGETS:]
    left_out = [f"Of {len(shown.parts)} targets the first {MOST_TARGETS} are shown."] if left else []
    title = TITLE if shown.untouched else "Predictions out of fold"
    return Section("predictions", title, told, drawings, left_out=left_out)


def _titled(drawing: Drawing, name: str) -> Drawing:
    return replace(drawing, title=f"{name}{drawing.title}")
