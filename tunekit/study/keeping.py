"""Which trials' files stay on disk: what the blend may still need, and never more than a stated size."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tunekit.ledger import Ledger
from tunekit.objectives import pareto_front
from tunekit.study.blend import best_first, considered
from tunekit.study.prepared import Prepared
from tunekit.trial import State, Trial

MEGA = 1e6


class Keeping:
    """Deletes models and predictions that no blend will need; records stay.

    The members of the last blend come first, so that it can be exported until the next one is made. What earlier
    searches have left on this machine counts, too.

    Args:
        ledger: of the study.
        prepared: its rows.
        keep: so many of the best trials keep their files, and each family's best.
        disk: bytes that kept files may take; None for no limit. The worst go first.
        costs: that count beside the score; the Pareto front keeps its files too, for any of it may be exported.
    """

    def __init__(
        self, ledger: Ledger, prepared: Prepared, keep: int, disk: int | None, costs: Sequence[str] = ()
    ) -> None:
        self._ledger = ledger
        self._prepared = prepared
        self._keep = keep
        self._disk = disk
        self._costs = costs
        self._seen: set[int] = set()
        self._kept: dict[int, Trial] = {}
        self._sizes: dict[int, int] = {}
        self._blended = _members_of_last_blend(ledger)
        for trial in ledger.trials():
            self._seen.add(trial.number)
            if ledger.files_size(trial):
                self._take_in(trial)

    def look(self, trials: Sequence[Trial]) -> str | None:
        """Look at trials that ended since the last time, and let go of what need not stay.

        Returns:
            What its owner should know, if anything.
        """
        for trial in trials:
            if trial.number not in self._seen:
                self._seen.add(trial.number)
                self._take_in(trial)
        ranked = best_first(list(self._kept.values()), self._prepared)
        blended = [trial for trial in self._kept.values() if trial.number in self._blended]
        front = pareto_front(ranked, self._prepared.metric.direction, self._costs)
        chosen = {one.number: one for one in (*blended, *front, *considered(ranked, self._keep))}
        notice, size, staying = None, 0, set()
        for trial in chosen.values():
            own = self._sizes[trial.number]
            if self._disk is None or size + own <= self._disk:
                size += own
                staying.add(trial.number)
            elif own > self._disk:
                notice = (
                    f"the files of {trial.name} take {own / MEGA:.1f} MB and are not kept, for all together may take "
                    f"{self._disk / MEGA:.1f} MB; it can't be in the blend: give --disk more"
                )
        for number in set(self._kept) - staying:
            self._ledger.forget(self._kept.pop(number))
        return notice

    def _take_in(self, trial: Trial) -> None:
        if trial.state is State.COMPLETE and trial.same_as is None:
            self._kept[trial.number] = trial
            self._sizes[trial.number] = self._ledger.files_size(trial)
        else:
            self._ledger.forget(trial)


def _members_of_last_blend(ledger: Ledger) -> set[int]:
    path = ledger.folder / "result.json"
    if not path.exists():
        return set()
    ensemble = json.loads(path.read_text())["ensemble"] or {"members": []}
    return {member["trial"] for member in ensemble["members"]}
