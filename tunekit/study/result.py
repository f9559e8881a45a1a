"""What a search found: leaderboard, blend and verdict, as plain data, as text, and as a bundle to export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.advice import advise
from tunekit.errors import StudyError
from tunekit.study.blend import Blend, best_first
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial

if TYPE_CHECKING:
    from tunekit.study.search import Site
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
        """The trials in the ledger, and the blend of the last search that ended."""
        ledger = study.open_ledger_to_read(site)
        try:
            path = ledger.folder / "result.json"
            trials = [trial_summary(trial) for trial in [*ledger.trials(), *ledger.running()]]
            if path.exists():
                return cls(study, site, {**json.loads(path.read_text()), "trials": trials})
            facts = ledger.identity
            empty = {"study": study.name, "metric": facts["metric"], "direction": facts["direction"]}
            return cls(study, site, {**empty, "baseline": None, "trials": trials, "ensemble": None})
        finally:
            ledger.close()

    def export(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write the blend as a bundle that predicts with numpy and onnxruntime alone.

        Args:
            folder: to be created.
            overwrite: replace a bundle that is there.

        Raises:
            StudyError: there is no blend yet.
            ExportError: the bundle would predict differently, or the folder holds something else.
        """
        from tunekit.study.bundling import export

        if self.summary["ensemble"] is None:
            raise StudyError("there is no blend to export; run the search until a trial was fitted on every fold")
        return export(self.study, self.site, self.summary, Path(folder), overwrite=overwrite)

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
        "fold_scores": trial.fold_scores,
        "values": trial.values,
        "seconds": trial.seconds,
        "error": trial.error,
    }


def summarise(
    name: str, prepared: Prepared, trials: Sequence[Trial], blended: Blend | None, overhead: dict[str, float]
) -> dict[str, Any]:
    """The summary of a search, in plain JSON types.

    Args:
        name: of the study.
        prepared: its rows.
        trials: all that ended.
        blended: the blend, or None.
        overhead: the search's own cost.
    """
    ranked = best_first(trials, prepared)
    baseline = next((trial.score for trial in ranked if trial.family == "baseline"), None)
    return {
        "study": name,
        "metric": prepared.metric.name,
        "direction": prepared.metric.direction,
        "baseline": baseline,
        "trials": [trial_summary(trial) for trial in sorted(trials, key=lambda trial: trial.number)],
        "ensemble": None if blended is None else _ensemble(blended, prepared),
        "advice": [one.to_json() for one in advise(trials, prepared.metric.direction)],
        "overhead": overhead,
    }


def _ensemble(blended: Blend, prepared: Prepared) -> dict[str, Any]:
    judgement, single = blended.judgement, blended.single.trial
    return {
        "members": [
            {"trial": one.trial.number, "family": one.trial.family, "weight": weight, "score": one.trial.score}
            for one, weight in blended.members
        ],
        "oof_score": blended.score,
        "test_score": judgement.blend,
        "test_interval": list(judgement.interval),
        "test_rows": len(prepared.folds.test),
        "test_baseline": judgement.baseline,
        "best_single": {
            "trial": single.number,
            "family": single.family,
            "score": single.score,
            "test_score": judgement.single,
        },
        "gain": judgement.gain,
        "gain_interval": list(judgement.gain_interval),
        "verdict": judgement.verdict,
    }
