"""What the coach looks at after a search: the trials with their curves, and the blend with its predictions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunekit.coach.noise import complete, difference
from tunekit.ledger import Ledger
from tunekit.study import Study
from tunekit.study.blend import BASELINE, Candidate, best_first, load_candidate
from tunekit.study.prepared import Prepared
from tunekit.trial import Trial


@dataclass(frozen=True)
class Searched:
    """A search that was run.

    Args:
        study: the declaration.
        prepared: its rows.
        trials: all that ended, with curves.
        summary: as `Result.summary`.
        members: of the blend with their weights, the largest first; those whose predictions are still there.
    """

    study: Study
    prepared: Prepared
    trials: list[Trial]
    summary: dict[str, Any]
    members: list[tuple[Candidate, float]]

    @classmethod
    def read(cls, study: Study, prepared: Prepared, summary: dict[str, Any], ledger: Ledger) -> Searched:
        """From an open ledger."""
        trials = ledger.trials()
        numbers = {trial.number: trial for trial in trials}
        members = []
        for member in (summary.get("ensemble") or {"members": []})["members"]:
            with suppress(OSError, KeyError):
                trial = numbers[member["trial"]]
                members.append((load_candidate(ledger, trial, prepared), float(member["weight"])))
        return cls(study, prepared, trials, summary, members)

    @cached_property
    def ranked(self) -> list[Trial]:
        """The complete trials of the study's families, the best first."""
        names = {family.name for family in self.study.families}
        able = [trial for trial in complete(self.trials) if trial.family in names]
        return best_first(able, self.prepared)

    @cached_property
    def able(self) -> list[Trial]:
        """The same without the baseline."""
        return [trial for trial in self.ranked if trial.family != BASELINE]

    def best_of(self, *families: str) -> Trial | None:
        """The best complete trial of some families."""
        return next((trial for trial in self.ranked if trial.family in families), None)

    @property
    def metric(self) -> str:
        """The metric's name."""
        return self.prepared.metric.name

    def gain(self, one: float, other: float) -> float:
        """By how much one score is better than another; negative where it is worse."""
        return self.prepared.metric.sign * (other - one)

    def learnt(self, family: str) -> bool:
        """Whether a family's best trial is better than the baseline, by more than noise; True without a baseline."""
        first, best = self.best_of(BASELINE), self.best_of(family)
        if first is None or best is None:
            return first is None
        found = difference(best, first, self.prepared)
        return self.gain(best.score or 0.0, first.score or 0.0) > 0 if found is None else found.better
