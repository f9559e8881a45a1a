"""From a study's blend to a bundle."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunekit.data import GAPS, Schema
from tunekit.ensemble import Combination
from tunekit.errors import ExportError, StudyError
from tunekit.executors import Job, Limits, LocalExecutor, answer_of, servers_kept
from tunekit.export import BlendPlan, Member, write_bundle, write_models
from tunekit.export.converting import NET, convert_trial, converted
from tunekit.export.net_files import write_nets
from tunekit.export.writer import check_place
from tunekit.families import NetFamily
from tunekit.families.base import load_facts
from tunekit.families.neighbors import KIND as NEIGHBORS
from tunekit.families.student import Student
from tunekit.ledger import Ledger
from tunekit.study.blend import Candidate, is_polished, load_candidate, polished_alone
from tunekit.study.earlier import bring_bases
from tunekit.study.prepared import Prepared
from tunekit.study.serving import Serving, costs_text
from tunekit.trial import Trial

if TYPE_CHECKING:
    from tunekit.study.effort import Site
    from tunekit.study.study import Study

BUNDLE = "bundle"
"""The form of an export that predicts; others are `tunekit.export.training_on.KINDS`."""

MOST_CHECKED = 2000
"""Test rows that an export is compared on, beside the probes."""

MOST_CHECKED_VALUES = 8 * 2**20
"""Of arrays in these rows."""

LEAST_CHECKED = 50
"""Test rows that an export is compared on however large they are."""

ROOM = 0.9
"""Of the limits, for what a fold's models cost that stand for those of all rows."""

TRIES = 3
"""Selections under limits, where members are fitted once more and may be too large then."""

CONVERTING_SECONDS = 600.0
"""A net that takes longer to convert is given up."""


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    Args:
        form: `BUNDLE`, or one of `tunekit.export.training_on.KINDS`.
        overwrite: replace what is there.
        refit: fit the members once more, on all rows; or as many of them as so many seconds allow, unjudged.
        distill: teach one net what the blend predicts.
        serving: limits that the blend must keep to, if any; or the net.
        tell: is told what limits, the refit and the net cost.
    """

    form: str
    overwrite: bool
    refit: bool | float
    distill: bool
    serving: Serving | None
    tell: Callable[[str], object] | None

    def told(self, text: str) -> None:
        """Tell, if somebody listens."""
        if self.tell is not None:
            self.tell(text)


def export(study: Study, site: Site, summary: dict[str, Any], folder: Path, wanted: Wanted) -> Path:
    """Write the blend of a summary, or the best that serving can afford: what that costs is told.

    Raises:
        StudyError: the data is not the one that was searched on, or a member's files are gone.
        ExportError: the bundle would predict differently, or no blend is within the limits.
    """
    check_place(folder.absolute(), wanted.overwrite)  # before members are fitted once more
    prepared = study.prepare()
    ledger = study.open_ledger_to_read(site)
    several = wanted.refit or wanted.distill  # times that TensorFlow is needed, which takes seconds to import
    with closing(ledger), servers_kept() if several else nullcontext():
        ledger.check_identity(study.identity(prepared))
        bring_bases(study, site, ledger)
        trials = {trial.number: trial for trial in ledger.trials()}
        members = summary["ensemble"]["members"]
        absent = [member["trial"] for member in members if member["trial"] not in trials]
        if absent:
            raise StudyError(f"trial(s) {absent} of the blend are not in the ledger; run `tunekit search` again")
        if wanted.serving is None or wanted.distill:
            summary, plan, candidates = _as_wanted(study, prepared, ledger, trials, summary, wanted)
        else:
            summary, plan, candidates = _within_limits(study, prepared, ledger, trials, summary, wanted)
        if wanted.distill:
            from tunekit.study.distill import distilled

            single = _single(ledger, trials, summary, prepared)
            taught = distilled(study, prepared, ledger, (plan, candidates), single, wanted.serving)
            candidates, plan = [taught.student], taught.plan
            wanted.told(taught.told)
        if wanted.form == BUNDLE:
            convert_nets(study, prepared, ledger, candidates)
            write_bundle(plan, folder, lambda position: converted(plan.members[position]), overwrite=wanted.overwrite)
        else:
            with _nets_in_children(study, prepared, ledger) as run:
                write_models(
                    plan,
                    folder,
                    wanted.form,
                    lambda position, place, rows: run(write_nets, candidates[position], (wanted.form, place, rows)),
                    overwrite=wanted.overwrite,
                )
        if holding := [one.trial.name for one in candidates if _holds_rows(one)]:
            wanted.told(
                f"what is written holds training rows, scaled but legible, and their targets ({', '.join(holding)}): "
                "hand it on only to those who may see them"
            )
    return folder


Blended = tuple[dict[str, Any], BlendPlan, list[Candidate]]
"""A summary, what is exported of it, and the members."""


def _as_wanted(
    study: Study,
    prepared: Prepared,
    ledger: Ledger,
    trials: dict[int, Trial],
    summary: dict[str, Any],
    wanted: Wanted,
) -> Blended:
    """The blend of a summary, its members fitted once more where that is wanted."""
    from tunekit.study.refit import refitted, refitted_in_time

    members = summary["ensemble"]["members"]
    candidates = [load_candidate(ledger, trials[member["trial"]], prepared) for member in members]
    ensemble = _alone_as_judged(study, prepared, candidates[0], summary)
    summary = {**summary, "ensemble": ensemble}
    plan = _planned(study, prepared, candidates, summary)
    if not wanted.refit:
        return summary, plan, candidates
    if wanted.refit is True:
        found = refitted(study, prepared, ledger, candidates, plan.combined)
        candidates, told = found.members, {"test_score": found.score, "told": found.told}
        wanted.told(found.told)
    else:
        anew = refitted_in_time(study, prepared, ledger, candidates, plan.weights.tolist(), float(wanted.refit))
        names = [one.trial.name for one, before in zip(anew, candidates, strict=True) if one is not before]
        candidates = anew
        told = {"told": f"fitted once more on all {len(prepared.data):,} rows, unjudged: {', '.join(names) or 'none'}"}
    summary = {**summary, "ensemble": {**ensemble, "refit": told}}
    return summary, _planned(study, prepared, candidates, summary), candidates


def _alone_as_judged(study: Study, prepared: Prepared, candidate: Candidate, summary: dict[str, Any]) -> dict[str, Any]:
    """The "ensemble" of a summary; of a trial alone, with the calibration or the threshold by which it was judged."""
    ensemble: dict[str, Any] = summary["ensemble"]
    blend = summary.get("blend") or {}
    if blend.get("combination") is None:
        return ensemble
    weights = np.array([member["weight"] for member in blend["members"]])
    like = Combination.from_plain(blend["combination"]["fitted"], prepared.data.task, weights)
    own = polished_alone(candidate, like, prepared, study.seed)
    if not is_polished(own):
        return ensemble
    why = "one model, with a calibration or a threshold of its own as the blend has"
    said = {"name": "one model", "told": own.told, "why": why, "on_rows_apart": False, "threshold": own.threshold}
    return {**ensemble, "combination": {**said, "tried": [], "fitted": own.plain}}


def _within_limits(
    study: Study,
    prepared: Prepared,
    ledger: Ledger,
    trials: dict[int, Trial],
    summary: dict[str, Any],
    wanted: Wanted,
) -> Blended:
    """The best blend within the limits.

    Members that are fitted once more are selected by a fold's models, some of which grow with their rows: they are
    measured when they are there, and selected again if they have grown too much.

    Raises:
        ExportError: there is none.
    """
    from tunekit.study.affordable import affordable, costs_once_more

    serving, once = wanted.serving, wanted.refit is True
    assert serving is not None
    room, costs = ROOM if once else 1.0, {}
    for _ in range(TRIES):
        ensemble = affordable(study, prepared, ledger, summary, serving, once=once, room=room)
        wanted.told(ensemble["serving"]["told"])
        found = _as_wanted(study, prepared, ledger, trials, {**summary, "ensemble": ensemble}, wanted)
        if not once:
            return found
        narrowed, plan, members = found
        costs = costs_once_more(study, prepared, ledger, serving, plan, members)
        wanted.told(f"what was fitted on all rows costs {costs_text(costs)}")
        if serving.fits(costs):
            ensemble = narrowed["ensemble"]
            ensemble = {**ensemble, "serving": {**ensemble["serving"], "costs": costs}}
            narrowed = {**narrowed, "ensemble": ensemble}
            return narrowed, _planned(study, prepared, members, narrowed), members
        by_folds = ensemble["serving"]["costs"]
        room = 0.95 * min(room, *(by_folds[name] / costs[name] for name in serving.limits))  # as they have grown
    raise ExportError(
        f"fitted on all rows, the blend costs {costs_text(costs)} after {TRIES} selections; expected "
        f"{costs_text(serving.limits)} at most: allow more, or export without --refit"
    )


def _holds_rows(candidate: Candidate) -> bool:
    """Whether its models are training rows."""
    folder = candidate.folders[0]
    parts = [folder, *(path for path in folder.glob("target*") if path.is_dir())]
    return any(load_facts(part)["kind"] == NEIGHBORS for part in parts)


def _single(ledger: Ledger, trials: dict[int, Trial], summary: dict[str, Any], prepared: Prepared) -> Candidate | None:
    """The best single model, unless that is what is exported or its files are gone."""
    best = summary["ensemble"].get("best_single")
    if best is None or [best["trial"]] == [member["trial"] for member in summary["ensemble"]["members"]]:
        return None
    try:
        return load_candidate(ledger, trials[best["trial"]], prepared)
    except (FileNotFoundError, KeyError):
        return None


def convert_nets(study: Study, prepared: Prepared, ledger: Ledger, candidates: list[Candidate]) -> None:
    """Convert the nets that are not converted yet, one process per trial: this process stays without TensorFlow."""
    todo = [one for one in candidates if is_net(one) and not all((folder / NET).exists() for folder in one.folders)]
    if not todo:
        return
    with _nets_in_children(study, prepared, ledger) as run:
        for candidate in todo:
            run(convert_trial, candidate)


Run = Callable[..., Any]
"""Called with a job's function, a candidate that is a net, and what else the function takes; returns its answer."""


@contextmanager
def _nets_in_children(study: Study, prepared: Prepared, ledger: Ledger) -> Iterator[Run]:
    """Runs what needs TensorFlow, one process per trial: this process stays without it."""
    families = {family.name: family for family in (Student(), *study.families)}
    shape = (prepared.data.task, prepared.data.outputs, prepared.schema.cardinalities)
    rows = len(prepared.folds.pairs[0][0])
    with tempfile.TemporaryDirectory() as nothing:
        executor = LocalExecutor(1, 1, ledger.folder / "executor.log", Path(nothing))

        def run(function: Callable[..., bool], candidate: Candidate, *more: Any) -> Any:
            family = families.get(candidate.trial.family)
            if not isinstance(family, NetFamily):
                raise StudyError(
                    f"{candidate.trial.name} is in the blend, but the study has no net family "
                    f"{candidate.trial.family!r} any more; put it back, or search again"
                )
            arguments = (family, candidate.trial.values, candidate.folders, shape, rows, prepared.data.targets, *more)
            job = Job(function, arguments, candidate.folder, Limits(CONVERTING_SECONDS), heavy=True)
            return answer_of(executor, job, ExportError, "could not be converted")

        try:
            yield run
        finally:
            executor.close()


def plan_of(study: Study, prepared: Prepared, candidates: list[Candidate], weights: list[float]) -> BlendPlan:
    """What is exported of candidates and their shares: their mean, without facts."""
    tests = len(prepared.folds.test)
    checked = min(tests, _most_checked(prepared.schema))
    real = prepared.data.raw_rows(prepared.folds.test[:checked])
    columns = {name: np.concatenate([real[name], probes]) for name, probes in prepared.probes.items()}
    predictions = [np.concatenate([one.unlabelled[:checked], one.unlabelled[tests:]]) for one in candidates]
    members = tuple(
        Member(one.trial.name, weight, one.folder, one.folds) for one, weight in zip(candidates, weights, strict=True)
    )
    return BlendPlan(
        name=study.name,
        task=prepared.data.task,
        outputs=prepared.data.outputs,
        classes=prepared.data.classes,
        schema=prepared.schema,
        members=members,
        facts={
            "target": getattr(study.data, "target", None),
            "window": getattr(study.data, "told", None),
            "texts_like_gaps": _texts_like_gaps(prepared.schema),
        },
        check_columns=columns,
        check_predictions=np.stack(predictions),
        targets=prepared.data.targets,
        least=prepared.least,
    )


def _planned(study: Study, prepared: Prepared, candidates: list[Candidate], summary: dict[str, Any]) -> BlendPlan:
    """What is exported of a summary's members, combined as it says."""
    weights = [member["weight"] for member in summary["ensemble"]["members"]]
    return _as_searched(plan_of(study, prepared, candidates, weights), summary)


def _as_searched(plan: BlendPlan, summary: dict[str, Any]) -> BlendPlan:
    """The plan with what the search found, and its way to combine."""
    facts = {name: summary[name] for name in ("metric", "direction", "baseline", "ensemble")}
    fitted = summary["ensemble"].get("combination")
    if fitted is None:  # a single trial, or a blend of an earlier version: a mean
        return replace(plan, facts={**facts, **plan.facts})
    told = {name: value for name, value in fitted.items() if name != "fitted"}  # the graph holds the numbers
    facts["ensemble"] = {**facts["ensemble"], "combination": told}
    combination = Combination.from_plain(fitted["fitted"], plan.task, plan.weights)
    return replace(plan, facts={**facts, **plan.facts}, combination=combination)


def _most_checked(schema: Schema) -> int:
    """Rows; fewer than usual where they hold large arrays."""
    values = sum(math.prod(column.shape) for column in schema.arrays)
    return min(MOST_CHECKED, max(MOST_CHECKED_VALUES // max(values, 1), LEAST_CHECKED))


def _texts_like_gaps(schema: Schema) -> dict[str, list[str]]:
    """Per column, the categories that are spelled as a CSV file spells a gap."""
    found = {column.name: sorted(GAPS.intersection(column.levels)) for column in schema.categorical}
    return {name: texts for name, texts in found.items() if texts}


def is_net(candidate: Candidate) -> bool:
    """Whether its models are Keras's."""
    return bool(load_facts(candidate.folders[0])["kind"] == "keras")
