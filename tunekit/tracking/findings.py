"""What the coach says as it is shown on a console: findings, and the ladder of capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunekit.tracking.standings import score_text, seconds_text

STYLES = {"problem": "bold red", "hint": "yellow", "good": "green"}
INDENT = 9
"""Columns before what is said of a finding: its level stands there."""


def findings_renderable(study: str, findings: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Findings, as `tunekit check --json` prints them, for people.

    Args:
        study: its name.
        findings: the most urgent first.
    """
    counts = [sum(one["level"] == level for one in findings) for level in STYLES]
    words = ", ".join(
        f"{count} {level}{'s' if count != 1 and level != 'good' else ''}"
        for level, count in zip(STYLES, counts, strict=True)
        if count
    )
    parts: list[RenderableType] = [Text.assemble((study, "bold"), f": {words or 'nothing was found'}")]
    for one in findings:
        level = str(one["level"])
        parts += [Text(""), Text.assemble((f"{level:{INDENT}}", STYLES.get(level, "")), (str(one["title"]), "bold"))]
        parts.append(Padding(Text(str(one["text"])), (0, 0, 0, INDENT)))
        if one["change"]:
            parts.append(Padding(Text.assemble("change:  ", (str(one["change"]), "cyan")), (0, 0, 0, INDENT)))
    return Group(*parts)


def growth_renderable(growth: Mapping[str, Any]) -> RenderableType:
    """A walk up the ladder, as `tunekit grow --json` prints it, for people.

    A gain over the smaller size that was best so far is told in its standard errors.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    names = sorted({str(name).rpartition("/")[2] for name in growth["names"]})
    for name in (", ".join(names) or "size", "parameters", "train\nloss", "validation\nloss", "best\nepoch", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("gain in\nerrors", "time", "over-\nfits?"):
        table.add_column(name, justify="right", no_wrap=True)
    for rung in growth["rungs"]:
        gain = f"{rung['gain'] / rung['error']:+.1f}" if rung["error"] else ""
        cells = (
            str(rung["size"]),
            "-" if rung["parameters"] is None else f"{rung['parameters']:,}",
            f"{rung['train_loss']:.4g}",
            f"{rung['valid_loss']:.4g}",
            f"{rung['best_epoch']:.1f}",
            score_text(rung["score"]),
            gain,
            seconds_text(rung["seconds"]),
            "yes" if rung["overfits"] else "no",
        )
        table.add_row(*map(Text, cells), style="bold" if rung["size"] == growth["enough"] else None)
    parts: list[RenderableType] = [table, Text(""), Text(str(growth["told"]))]
    if growth["stopped"]:
        parts.append(Text(f"It ended early: {growth['stopped']}."))
    if growth["change"]:
        parts.append(Text.assemble("change:  ", (str(growth["change"]), "cyan")))
    return Group(*parts)
