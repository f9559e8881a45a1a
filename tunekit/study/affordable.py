"""The best blend that serving can afford: selected anew under limits that are measured on the exported graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunekit.ensemble import Chosen, Combination, Greedy
from tunekit.errors import ExportError
from tunekit.export import BlendPlan
from tunekit.export.converting import converted
from tunekit.export.serving import costs_of
from tunekit.ledger import Ledger
from tunekit.study.blend import (
    BASELINE,
    Blend,
    Candidate,
    Limit,
    best_first,
    combined,
    considered,
    judged_blend,
    load_candidate,
)
from tunekit.study.bundling import convert_nets, plan_of
from tunekit.study.prepared import Prepared
from tunekit.study.result import ensemble_summary
from tunekit.study.serving import UNITS, Serving, costs_text

if TYPE_CHECKING:
    from tunekit.study.study import Study

MOST_MEASURED = 12
"""Candidates whose cost is measured: the blend's members, each family's best, and the best others."""

TIMES = 5
"""How often a blend is selected, until one uses its limits without breaking them."""

SECONDS = 60.0
"""Of selecting and judging, each time."""

ONCE = " (with one model a member, of a fold's rows)"

Members = tuple[tuple[Candidate, float], ...]


@dataclass(frozen=True)
class _Found:
    """A blend, and what it costs."""

    members: Members
    chosen: Chosen
    combination: Combination
    costs: dict[str, float]


def affordable(
    study: Study,
    prepared: Prepared,
    ledger: Ledger,
    summary: dict[str, Any],
    serving: Serving,
    *,
    once: bool = False,
    room: float = 1.0,
) -> dict[str, Any]:
    """The "ensemble" of a summary, or another one that is within the limits, with what that costs.

    Args:
        study: the declaration.
        prepared: its rows.
        ledger: holds the trials' files.
        summary: of the search, with its blend.
        serving: the limits.
        once: members will be fitted once more, on all rows: their first fold's model stands for the one that they will
            have. `costs_once_more` measures what came of it.
        room: share of the limits to use.

    Raises:
        ExportError: no blend is within the limits; the message says what the smallest possible costs.
    """
    whole = summary["ensemble"]
    scale = _Scale(study, prepared, ledger, serving, once)
    serving = serving.scaled(room)
    candidates = _candidates(study, ledger, prepared, whole)
    by_number = {one.trial.number: one for one in candidates}
    members = [by_number[one["trial"]] for one in whole["members"]]
    before = scale.costs(members, [one["weight"] for one in whole["members"]], _combination(whole, prepared))
    if serving.fits(before):
        told = f"the blend costs {costs_text(before)}{ONCE if once else ''}, within {costs_text(scale.serving.limits)}"
        return {**whole, "serving": {"limits": scale.serving.limits, "costs": before, "told": told}}
    able = [one for one in candidates if one.trial.family != BASELINE] or candidates
    able = _worth_measuring(able, {one.trial.number for one in members})
    found = _search(scale, able, serving)
    judgement = judged_blend(found.members, found.combination, candidates, None, prepared, Limit(study.seed, SECONDS))
    blend = Blend(found.members, found.chosen, found.combination, candidates[0], judgement)
    ensemble = ensemble_summary(blend, prepared)
    told = _told(summary, ensemble, before, found.costs, scale)
    return {**ensemble, "serving": {"limits": scale.serving.limits, "costs": found.costs, "told": told}}


def costs_once_more(
    study: Study, prepared: Prepared, ledger: Ledger, serving: Serving, plan: BlendPlan, members: Sequence[Candidate]
) -> dict[str, float]:
    """What a blend costs whose members were fitted once more.

    Args:
        study: the declaration.
        prepared: its rows.
        ledger: of the study.
        serving: says which costs.
        plan: of the export.
        members: with one model each.
    """
    return _Scale(study, prepared, ledger, serving, once=True).costs(members, plan.weights.tolist(), plan.combination)


def _candidates(study: Study, ledger: Ledger, prepared: Prepared, whole: Mapping[str, Any]) -> list[Candidate]:
    """All of the study's families whose predictions are kept, best first."""
    names = {family.name for family in study.families}
    ranked = best_first([trial for trial in ledger.trials() if trial.family in names], prepared)
    wanted = {one["trial"] for one in whole["members"]}
    kept = considered(ranked, MOST_MEASURED * 2)
    found = []
    for trial in [trial for trial in ranked if trial in kept or trial.number in wanted]:
        with suppress(FileNotFoundError):  # where disk is short, some are let go of
            found.append(load_candidate(ledger, trial, prepared))
    return found


def _worth_measuring(able: Sequence[Candidate], members: set[int]) -> list[Candidate]:
    """The blend's members and each family's best; then the best others, up to `MOST_MEASURED`."""
    first = {one.trial.family: one.trial.number for one in reversed(able)}
    wanted = members | set(first.values())
    others = [one.trial.number for one in able if one.trial.number not in wanted]
    wanted |= set(others[: max(0, MOST_MEASURED - len(wanted))])
    return [one for one in able if one.trial.number in wanted]


def _combination(whole: Mapping[str, Any], prepared: Prepared) -> Combination | None:
    fitted = whole.get("combination")
    weights = np.array([one["weight"] for one in whole["members"]])
    return Combination.from_plain(fitted["fitted"], prepared.data.task, weights) if fitted else None


@dataclass(frozen=True)
class _Scale:
    """Measures blends by the graph of their export."""

    study: Study
    prepared: Prepared
    ledger: Ledger
    serving: Serving
    once: bool

    def costs(
        self, members: Sequence[Candidate], weights: Sequence[float], combination: Combination | None
    ) -> dict[str, float]:
        """Of a blend, those that are limited; with one model a member if they are fitted once more."""
        members = [replace(one, folds=1) for one in members] if self.once else members
        convert_nets(self.study, self.prepared, self.ledger, list(members))
        plan = plan_of(self.study, self.prepared, list(members), list(weights))
        plan = replace(plan, combination=combination)
        row = self.prepared.data.raw_rows(self.prepared.folds.test[:1])
        return costs_of(plan, lambda place: converted(plan.members[place]), row, tuple(self.serving.limits))


def _search(scale: _Scale, able: list[Candidate], serving: Serving) -> _Found:
    """Select by costs of single members added up, measure the blend, and correct what may be added up."""
    alone = [scale.costs([one], [1.0], None) for one in able]
    costs = {name: np.array([one[name] for one in alone]) for name in serving.limits}
    _check_possible(able, costs, serving, scale)
    allowance, best, sign = 1.0, None, scale.prepared.metric.sign
    for _ in range(TIMES):
        found = _selected(scale, able, costs, {name: allowance * limit for name, limit in serving.limits.items()})
        if found is None:
            allowance /= 0.8
            continue
        use = max(found.costs[name] / limit for name, limit in serving.limits.items())
        if use <= 1.0 and (best is None or sign * found.chosen.score < sign * best.chosen.score):
            best = found
        if use <= 1.0 and (use > 0.9 or allowance > 4 or len(found.members) == len(able)):
            break
        # Members share the encoding of the columns, so that together they cost less than one by one, or some more.
        allowance *= 0.95 / use if use > 1.0 else min(1.0 / max(use, 0.25), 2.0)
    return best or _single(scale, able, costs, serving)


def _check_possible(
    able: list[Candidate], costs: Mapping[str, npt.NDArray[np.float64]], serving: Serving, scale: _Scale
) -> None:
    within = np.ones(len(able), dtype=bool)
    for name, limit in serving.limits.items():
        within &= costs[name] <= limit
    if within.any():
        return
    worst = np.max([costs[name] / limit for name, limit in serving.limits.items()], axis=0)
    least = int(worst.argmin())
    smallest = [f"{costs[name].min():.3g} {UNITS[name]}" for name in serving.limits]
    nearest = costs_text({name: costs[name][least] for name in costs})
    allowed = costs_text(scale.serving.limits)
    room = "" if serving == scale.serving else f" (of {allowed}, which leaves room for models of more rows)"
    raise ExportError(
        f"no blend is within {costs_text(serving.limits)}{room}: of {len(able)} trials that were measured, the one "
        f"that comes nearest is {able[least].trial.name} with {nearest} by itself (the smallest possible: "
        f"{', '.join(smallest)}). Allow that, or search with smaller families, such as tk.Linear()"
    )


def _selected(
    scale: _Scale, able: list[Candidate], costs: Mapping[str, npt.NDArray[np.float64]], limits: Mapping[str, float]
) -> _Found | None:
    """The best blend whose members' costs add up to no more than the limits; None if there is none."""

    def allowed(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        may = np.ones(len(able), dtype=bool)
        for name, limit in limits.items():
            may &= costs[name] + costs[name][counts > 0].sum() <= limit
        return np.asarray(may | (counts > 0))

    if not allowed(np.zeros(len(able), dtype=np.int64)).any():
        return None
    prepared = scale.prepared
    members, chosen, combination = combined(
        able, prepared, scale.study.seed, SECONDS, combiners=(Greedy(),), allowed=allowed
    )
    measured = scale.costs([one for one, _ in members], [share for _, share in members], combination)
    return _Found(members, chosen, combination, measured)


def _single(
    scale: _Scale, able: list[Candidate], costs: Mapping[str, npt.NDArray[np.float64]], serving: Serving
) -> _Found:
    """The best single one that is within the limits."""
    within = [
        one for place, one in enumerate(able) if serving.fits({name: costs[name][place] for name in serving.limits})
    ]
    members, chosen, combination = combined(
        within[:1], scale.prepared, scale.study.seed, SECONDS, combiners=(Greedy(),)
    )
    return _Found(members, chosen, combination, scale.costs([within[0]], [1.0], combination))


def _told(
    summary: Mapping[str, Any],
    ensemble: Mapping[str, Any],
    before: Mapping[str, float],
    after: Mapping[str, float],
    scale: _Scale,
) -> str:
    whole, metric, sign = summary["ensemble"], summary["metric"], scale.prepared.metric.sign
    scores = ensemble["oof_score"], whole["oof_score"]
    share = f" ({abs(scores[0] / scores[1] - 1):.1%})" if scores[1] else ""
    costs = f"What that costs{share}" if sign * scores[0] > sign * scores[1] else "That costs nothing"
    return (
        f"{len(ensemble['members'])} member(s) at {costs_text(after)}{ONCE if scale.once else ''}, within "
        f"{costs_text(scale.serving.limits)}; the best blend has {len(whole['members'])} at {costs_text(before)}. "
        f"{costs}: {metric} {scores[0]:.5g} out of fold "
        f"against {scores[1]:.5g}, and {ensemble['test_score']:.5g} against {whole['test_score']:.5g} on the test rows"
    )
