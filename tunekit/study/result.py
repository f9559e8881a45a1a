"""What a search found: leaderboard, blend and verdict, as plain data, as text, and as a bundle to export."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunekit.advice import advise
from tunekit.ensemble import Chosen, Combination
from tunekit.errors import StudyError
from tunekit.objectives import pareto_front
from tunekit.study.blend import Blend, best_first
from tunekit.study.prepared import Prepared
from tunekit.study.serving import Serving
from tunekit.trial import State, Trial

if TYPE_CHECKING:
    from tunekit.report import Figure, Finding
    from tunekit.study.effort import Site
    from tunekit.study.reporting import Written
    from tunekit.study.study import Study


@dataclass(frozen=True)
class Result:
    """What a study's ledger holds.

    Args:
        study: the declaration.
        site: where its ledger is.
        summary: what `tunekit show --json` prints.
    """

    study: Study
    site: Site
    summary: dict[str, Any]

    @classmethod
    def read(cls, study: Study, site: Site) -> Result:
        """The trials in the ledger, and the blend of the last search that ended.

        Its study has the seed of the search, which `tunekit search --seed` may have said.
        """
        ledger = study.open_ledger_to_read(site)
        try:
            path = ledger.folder / "result.json"
            facts, ended = ledger.identity, ledger.trials()
            if facts["seed"] != study.seed:
                study = copy(study)
                study.seed = facts["seed"]
            now = {
                "trials": [trial_summary(trial) for trial in [*ended, *ledger.running()]],
                **_front(ended, facts["direction"], facts.get("also_minimize") or []),
            }
            if path.exists():
                return cls(study, site, {**json.loads(path.read_text()), **now})
            empty = {"study": study.name, "metric": facts["metric"], "direction": facts["direction"]}
            return cls(study, site, {**empty, "baseline": None, **now, "ensemble": None})
        finally:
            ledger.close()

    def export(
        self,
        folder: Path | str,
        *,
        overwrite: bool = False,
        trial: int | None = None,
        latency: str | float | None = None,
        size: str | float | None = None,
        tell: Callable[[str], object] | None = None,
        form: Literal["bundle", "keras", "saved-model"] = "bundle",
        refit: bool | float = False,
        distill: bool = False,
    ) -> Path:
        """Write the blend as a bundle that predicts with numpy and onnxruntime alone.

        Args:
            folder: to be created.
            overwrite: replace a bundle that is there.
            trial: number of a trial to be exported instead of the blend.
            latency: what one prediction may take, such as "2ms", or milliseconds: the blend is selected anew under that
                limit if need be. Left out, with `size` too: the limits that the search was given, if any.
            size: of the graph's file, such as "20MB", or megabytes; as `latency`.
            tell: is told what limits, a refit or a student cost, which the manifest says too.
            refit: fit each member once more, on all rows, the test rows in the end included: one model instead of one
                per fold, so that the bundle is smaller and faster. `tell` is told what that does to the score. Or
                seconds: as many members as these allow are fitted once more, and nothing is judged.
            distill: teach one small net what the blend (or the trial) predicts, and export that. `tell` is told how it
                compares with the blend and the best single model on the test rows, from which it learns only after
                that; the manifest says it, too. A limit of latency or size is then the net's, and the blend stays
                whole.
            form: "keras" or "saved-model" writes the models themselves instead, for those who want to go on training.

        Raises:
            StudyError: there is no blend yet, the trial's models were not kept, or no net can learn the blend, as of
                several targets, texts or arrays.
            ExportError: the bundle would predict differently, the folder holds something else, or no blend is within
                the limits.
        """
        from tunekit.study.bundling import Wanted, export

        if distill and refit:
            raise StudyError(
                "distill=True with refit=True; expected one: a net that learns the blend, or its members fitted anew"
            )
        if distill and form == "keras":
            raise StudyError(
                "distill=True with form='keras'; expected 'bundle' or 'saved-model': the net has layers of its own, "
                "which Keras loads from a file only where their code is known"
            )
        serving = Serving.of(latency, size)
        if trial is not None and serving is not None and not distill:
            raise StudyError(f"trial={trial} with a limit of latency or size; expected one: limits select a blend")
        if trial is None and serving is None:
            serving = Serving.from_plain(self.summary.get("serving"))
        alone = {} if trial is None else {"ensemble": self._alone(trial), "blend": self.summary["ensemble"]}
        summary = {**self.summary, **alone}
        if summary["ensemble"] is None:
            raise StudyError("there is no blend to export; run the search until a trial was fitted on every fold")
        wanted = Wanted(form, overwrite, refit, distill, serving, tell)
        return export(self.study, self.site, summary, Path(folder), wanted)

    def figures(self, *, columns: bool = False) -> dict[str, Figure]:
        """The figures of the report by their names, as Plotly's, to show and to change.

        Args:
            columns: also find out which columns matter, for which the blend is exported: that takes its time.
        """
        from tunekit.report import figures_of, sections
        from tunekit.study.reporting import gather

        return figures_of(sections(gather(self.study, self.site, self.summary, columns=columns)))

    def report(
        self,
        path: Path | str,
        *,
        findings: Sequence[Finding] = (),
        columns: bool = True,
        images: Path | str | None = None,
        form: Literal["svg", "png"] = "svg",
    ) -> Written:
        """Write one page that shows what the search found, and that needs no network.

        Args:
            path: of the page, such as "report.html"; what is there is replaced.
            findings: what a coach says, shown below the verdict.
            columns: whether to find out which columns matter, for which the blend is exported.
            images: a folder for the figures as files, which Kaleido draws in a Chromium.
            form: of these files.

        Raises:
            StudyError: the ledger can't be read, or the figures can't be written as files.
        """
        from tunekit.study.reporting import write_report

        folder = None if images is None else Path(images)
        options: dict[str, Any] = {"findings": findings, "columns": columns, "images": folder, "form": form}
        return write_report(self.study, self.site, self.summary, Path(path), **options)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from tunekit.report import notebook_html

        ledger = self.study.open_ledger_to_read(self.site)
        try:
            return notebook_html(self.summary, [*ledger.trials(), *ledger.running()])
        finally:
            ledger.close()

    def _alone(self, number: int) -> dict[str, Any]:
        """A trial as a blend of one."""
        complete = {one["number"]: one for one in self.summary["trials"] if one["state"] == State.COMPLETE}
        first = complete.get(number) and complete[number]["same_as"]
        if number not in complete or first is not None:
            said = f"; it has the result of trial {first}: export that" if first is not None else ""
            raise StudyError(f"trial {number} can't be exported, it was not fitted on every fold{said}")
        trial = complete[number]
        member = {"trial": number, "family": trial["family"], "weight": 1.0, "score": trial["score"]}
        return {"members": [member], "oof_score": trial["score"]}

    def __str__(self) -> str:
        from tunekit.tracking.summary import summary_text

        return summary_text(self.summary)


def trial_summary(trial: Trial) -> dict[str, Any]:
    """What programs read of a trial: an interrupted one is stopped, and says that it is run again."""
    return {
        "number": trial.number,
        "family": trial.family,
        "state": str(State.STOPPED if trial.state is State.INTERRUPTED else trial.state),
        "interrupted": trial.state is State.INTERRUPTED,
        "same_as": trial.same_as,
        "score": trial.score,
        "costs": trial.costs,
        "fold_scores": trial.fold_scores,
        "values": trial.values,
        "seconds": trial.seconds,
        "error": trial.error,
    }


def _front(trials: Sequence[Trial], direction: str, costs: Sequence[str]) -> dict[str, Any]:
    """With several objectives: the trials that none beats, as (number of) trials in a summary."""
    if not costs:
        return {}
    front = pareto_front(trials, direction, costs)
    return {"also_minimize": list(costs), "front": [trial.number for trial in front]}


def summarise(
    study: Study, prepared: Prepared, trials: Sequence[Trial], blended: Blend | None, overhead: dict[str, float]
) -> dict[str, Any]:
    """The summary of a search, in plain JSON types.

    Args:
        study: the declaration.
        prepared: its rows.
        trials: all that ended.
        blended: the blend, or None.
        overhead: the search's own cost.
    """
    ranked = best_first(trials, prepared)
    baseline = next((trial.score for trial in ranked if trial.family == "baseline"), None)
    return {
        "study": study.name,
        "metric": prepared.metric.name,
        "direction": prepared.metric.direction,
        "baseline": baseline,
        "trials": [trial_summary(trial) for trial in sorted(trials, key=lambda trial: trial.number)],
        **_front(trials, prepared.metric.direction, study.also_minimize),
        "ensemble": None if blended is None else ensemble_summary(blended, prepared),
        "advice": [one.to_json() for one in advise(trials, prepared.metric.direction)],
        "overhead": overhead,
    }


def _cheap(blended: Blend) -> dict[str, Any] | None:
    """The best trial of a cheap family, and by how much the blend is better."""
    if blended.cheap is None:
        return None
    trial, judgement = blended.cheap.trial, blended.judgement
    return {
        "trial": trial.number,
        "family": trial.family,
        "score": trial.score,
        "oof_score": blended.alone.get(trial.number),
        "test_score": judgement.cheap,
        "test_interval": list(judgement.intervals["cheap"]),
        "gain_interval": list(judgement.cheap_interval or ()),
    }


def combination_summary(chosen: Chosen, combination: Combination) -> dict[str, Any]:
    """How the members are combined and why, with all that is needed to do it."""
    return {
        "name": chosen.name,
        "told": combination.told,
        "why": chosen.why,
        "on_rows_apart": chosen.apart,
        "threshold": combination.threshold,
        "tried": [{"name": one.name, "score": one.score, "said": one.said} for one in chosen.tried],
        "fitted": combination.plain,
    }


def ensemble_summary(blended: Blend, prepared: Prepared) -> dict[str, Any]:
    """The blend and its judgement."""
    judgement, single = blended.judgement, blended.single.trial
    return {
        "members": [
            {"trial": one.trial.number, "family": one.trial.family, "weight": weight, "score": one.trial.score}
            for one, weight in blended.members
        ],
        "combination": combination_summary(blended.chosen, blended.combination),
        "oof_score": blended.chosen.score,
        "test_score": judgement.blend,
        "test_interval": list(judgement.intervals["blend"]),
        "test_rows": len(prepared.folds.test),
        "test_baseline": judgement.baseline,
        "test_baseline_interval": list(judgement.intervals.get("baseline", ())),
        "best_single": {
            "trial": single.number,
            "family": single.family,
            "score": single.score,
            "oof_score": blended.alone.get(single.number),
            "test_score": judgement.single,
            "test_interval": list(judgement.intervals["single"]),
        },
        "cheap": _cheap(blended),
        "gain": judgement.gain,
        "gain_interval": list(judgement.gain_interval),
        "verdict": judgement.verdict,
    }
