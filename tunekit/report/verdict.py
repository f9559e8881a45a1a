"""First of all: is the blend worth it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tunekit.report.material import Finding, Material
from tunekit.report.section import Cell, Drawing, Section, Table
from tunekit.report.style import ACCENT, GREY, counted, figure, listed, looks, number, plain
from tunekit.tracking.standings import trial_name
from tunekit.tracking.summary import combination_lines, out_of_fold
from tunekit.trial import State

LEVELS = {"problem": "Problem", "hint": "Hint", "good": "Good sign"}


def verdict(material: Material) -> Section:
    """The blend against the best single model, the cheap reference and the baseline, on rows that nothing touched."""
    ensemble = material.summary.get("ensemble")
    if not ensemble:
        return _without_blend(material)
    sense = "smaller" if material.smaller else "larger"
    rows = ensemble.get("test_rows")
    told = [
        str(ensemble.get("verdict") or "There is no verdict."),
        f"Scores are {material.metric} ({sense} is better)"
        + (f" on {rows:,} test rows that no model, choice or threshold has seen." if rows else " out of fold."),
        *(f"{line[0].upper()}{line[1:]}." for line in combination_lines(ensemble)),
    ]
    if news := _still_running(material):
        told.append(news)
    return Section(
        "verdict",
        "Verdict",
        told,
        drawings=[_scores(material, ensemble)],
        tables=[_table(material, ensemble)],
        cards=_cards(material, ensemble),
    )


def ranked_findings(findings: Sequence[Finding]) -> list[Finding]:
    """What a coach says, problems first."""
    order = list(LEVELS)
    return sorted(findings, key=lambda one: order.index(one.level) if one.level in order else len(order))


def findings_told(findings: Sequence[Finding]) -> str:
    """How many of each level, in a sentence."""
    counts = {level: sum(one.level == level for one in findings) for level in LEVELS}
    plurals = {"problem": "problems", "hint": "hints", "good": "good signs"}
    words = [counted(count, LEVELS[level].lower(), plurals[level]) for level, count in counts.items() if count]
    return f"{listed(words)}." if words else ""


def _without_blend(material: Material) -> Section:
    running = " A search is running." if any(trial.state is State.RUNNING for trial in material.trials) else ""
    return Section(
        "verdict",
        "Verdict",
        [f"There is no blend yet, so nothing is judged on the test rows.{running}"],
        left_out=["A verdict needs a search that has ended with a trial fitted on every fold."],
    )


def _still_running(material: Material) -> str:
    """That a search goes on, whose trials are not in the blend."""
    running = sum(trial.state is State.RUNNING for trial in material.trials)
    if not running:
        return ""
    return f"A search is running ({counted(running, 'trial')} in flight); the blend is of the last one that ended."


@dataclass(frozen=True)
class _Contender:
    """One of those that are compared.

    Args:
        name: to read.
        family: of a single model, else "".
        test: score on the test rows.
        bounds: of its 95% interval; none in results of earlier versions.
        oof: score out of fold.
    """

    name: str
    family: str
    test: Any
    bounds: Sequence[Any]
    oof: Any


def _contenders(material: Material, ensemble: Mapping[str, Any]) -> list[_Contender]:
    """Those that are compared."""
    found = [
        _Contender(
            "blend", "", ensemble.get("test_score"), ensemble.get("test_interval") or (), ensemble.get("oof_score")
        )
    ]
    single, cheap = ensemble.get("best_single"), ensemble.get("cheap")
    if single:
        found.append(_single("best single", single))
    if cheap:
        found.append(_single("cheap reference", cheap))
    test, oof = ensemble.get("test_baseline"), material.summary.get("baseline")
    if test is not None or oof is not None:
        found.append(_Contender("baseline", "baseline", test, ensemble.get("test_baseline_interval") or (), oof))
    return found


def _single(called: str, model: Mapping[str, Any]) -> _Contender:
    name, test = f"{called}: {trial_name(model)}", model.get("test_score")
    return _Contender(name, model["family"], test, model.get("test_interval") or (), out_of_fold(model))


def _interval(bounds: Any) -> str:
    bounds = list(bounds or ())
    return f"{number(bounds[0])} to {number(bounds[1])}" if len(bounds) == 2 else "-"


def _cards(material: Material, ensemble: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    interval = _interval(ensemble.get("test_interval"))
    cards = [("Blend", number(ensemble.get("test_score")), f"95%: {interval}")]
    if single := ensemble.get("best_single"):
        cards.append(("Best single model", number(single.get("test_score")), trial_name(single)))
    if cheap := ensemble.get("cheap"):
        cards.append(("Cheap reference", number(cheap.get("test_score")), trial_name(cheap)))
    if ensemble.get("test_baseline") is not None:
        cards.append(("Baseline", number(ensemble["test_baseline"]), "no column used"))
    return cards


def _table(material: Material, ensemble: Mapping[str, Any]) -> Table:
    gains = {"best single": ensemble.get("gain_interval"), "cheap reference": (ensemble.get("cheap") or {})}
    gains["cheap reference"] = gains["cheap reference"].get("gain_interval")  # type: ignore[union-attr]
    rows = []
    for one in _contenders(material, ensemble):
        gain = gains.get(one.name.partition(":")[0])
        rows.append(
            [
                Cell(one.name, family=one.family),
                Cell(number(one.test), one.test),
                Cell(_interval(one.bounds)),
                Cell(number(one.oof), one.oof),
                Cell(_interval(gain)),
            ]
        )
    head = (material.metric, "test rows", "95% interval", "out of fold", "the blend is better by (95%)")
    return Table("Scores of the blend and of what it is compared with", head, rows, frozenset({1, 2, 3, 4}))


def _scores(material: Material, ensemble: Mapping[str, Any]) -> Drawing:
    look = looks(material.all_families)
    traces = []
    contenders = [one for one in _contenders(material, ensemble) if one.test is not None]
    for one in reversed(contenders):
        blend, error = one.name == "blend", None
        if one.bounds:
            low, high = one.bounds
            error = {"type": "data", "symmetric": False, "array": [high - one.test], "arrayminus": [one.test - low]}
        marker = look.get(one.family)
        traces.append(
            go.Scatter(
                x=[one.test],
                y=[plain(one.name)],
                error_x=error,
                mode="markers",
                marker={
                    "size": 15 if blend else 12,
                    "symbol": "diamond" if blend else "circle",
                    "color": ACCENT if blend else marker.colour if marker else GREY,
                },
                hovertemplate=f"{plain(one.name)}: %{{x:.6g}}<extra></extra>",
                showlegend=False,
            )
        )
    sense = "←" if material.smaller else "→"
    made = figure(*traces, height=80 + 44 * len(traces), xaxis_title=f"{plain(material.metric)} ({sense} better)")
    alt = "; ".join(f"{one.name} {number(one.test)}" for one in contenders)
    return Drawing("verdict", made, f"Scores on the test rows: {alt}", "Scores on the test rows, with 95% intervals")
