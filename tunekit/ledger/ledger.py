"""The durable truth of a study: its trials as Optuna's, and a folder for the files of each.

A trial's record is written to the database in one transaction with its end, after its files: whatever is killed at
whatever moment, a trial has ended with all that it left, or it is run again with the same values. Trials' folders hold
copies of their records, for people.

The database is SQLite in the study's folder, for one search at a time, or PostgreSQL, for several conductors at once.
These tell each other by heartbeats that they are alive, and take over what the dead had in flight.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunekit.drivers.base import ProposalSampler
from tunekit.drivers.translate import from_stored, is_stored, key_of
from tunekit.errors import StudyError
from tunekit.ledger.database import Database, checked
from tunekit.ledger.ended import EndedTrials
from tunekit.ledger.family import Running, SearchedFamily
from tunekit.ledger.files import TrialFiles, record_of
from tunekit.ledger.lock import FolderLock
from tunekit.ledger.plans import again
from tunekit.ledger.registry import Registry, compare
from tunekit.ledger.spaces import FamilySpace, expressed
from tunekit.ledger.storage import BufferedStorage, LastWords
from tunekit.space import Dimension, Value
from tunekit.stopping import Stopper
from tunekit.trial import State, Trial, derive_seed

LOOK_EVERY = 1.0
"""Seconds between looks at what other conductors did."""

_TOLD = {
    State.COMPLETE: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
    State.INTERRUPTED: TrialState.FAIL,
}

_TAKEN_OVER = "its search was silent for too long, so another one took it over; it is run again with the same values"
_KILLED = "the search was killed while it ran; it is run again with the same values"


@dataclass(frozen=True)
class _Opened:
    """What there is while a ledger is open."""

    database: Database
    storage: BufferedStorage
    registry: Registry


class Ledger:
    """The record of one study.

    Args:
        root: the `mlruns` folder.
        name: the study's name.
        storage: the address of a PostgreSQL database; None for SQLite in the study's folder.
        artifacts: where trials' files are kept, as an address that fsspec knows; None for the study's folder, which
            all machines must then share.
        heartbeat: seconds between two signs of life of a trial in flight.
        grace: seconds of silence after which a trial is taken over by another conductor.

    Attributes:
        folder: of the study.
        shared: whether many conductors may work on it at once.

    Raises:
        StudyError: the storage or the artifacts can't be used, or what they need is not installed.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        storage: str | None = None,
        artifacts: str | None = None,
        *,
        heartbeat: float = 10.0,
        grace: float = 60.0,
    ) -> None:
        self.folder = root / "studies" / name
        self.shared = storage is not None
        self._name = name
        self._address = self.folder / "ledger.db" if storage is None else checked(storage)
        self._files = TrialFiles(self.folder, name, artifacts)
        self._lock = FolderLock(self.folder / "lock")
        self._heartbeat, self._grace = heartbeat, grace
        self._seed, self._direction = 0, "minimize"
        self._costs: list[str] = []
        self._open: _Opened | None = None
        self._alone = False  # nobody else writes, so there is never any news
        self._program = ""
        self._ended = EndedTrials(self._program)
        self._news: list[Trial] = []
        self._families: dict[str, SearchedFamily] = {}
        self._shown: dict[str, dict[str, Dimension]] = {}  # by family: in whose terms its driver sees earlier trials
        self._changes: list[str] = []
        self._looked = self._looked_well = self._beaten = self._adopted = -math.inf

    def open(self, identity: Mapping[str, Any], *, seed: int, fresh: bool = False, program: str = "") -> None:
        """Open for a search: check that this is the same study, and recover what a crash left.

        Args:
            identity: what must not change within a study, in plain JSON types: "direction" of the score is one of
                them; "also_minimize", if it is there, names what else trials are judged by.
            seed: the study's.
            fresh: delete what is there and start anew.
            program: digest of the study file: only where it is another one, families' spaces may have changed, and
                what failed may not fail again.

        Raises:
            StudyError: the study is not the one that is there; another search runs on it, where there can be only one;
                or the database can't be used.
        """
        self._seed, self._direction = seed, identity["direction"]
        self._program = program
        self._costs = identity.get("also_minimize") or []
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.shared:
            self._lock.take()
            if fresh:
                self._clear()
        opened = self._connect()
        opened.database.create_tables()
        self._files.claim(opened.registry.join(dict(identity), wipe=self._clear if fresh and self.shared else None))
        self._look()
        self._alone = not self.shared
        for trial in self._ended.all():
            self._files.complete(trial)
        self._recover()
        self._news.clear()

    def open_to_read(self) -> None:
        """Open beside a running search, or after one, to read `trials`.

        Raises:
            StudyError: there was no search yet, or the database can't be used.
        """
        if self.shared or (self.folder / "ledger.db").exists():
            if self._connect().database.holds(self._name):
                return
            self.close()
        place = self.folder if isinstance(self._address, Path) else Database(self._address).name
        raise StudyError(f"the study has no trials yet in {place}; run `tunekit search` on it first")

    def close(self) -> None:
        """Release the database and the lock."""
        if self._open is not None:
            with suppress(StudyError):  # the server is gone; it will find that we are, too
                self._open.registry.leave()
            self._open.database.close()
            self._open = None
        self._lock.release()

    @property
    def identity(self) -> dict[str, Any]:
        """What the study was when it was first searched; see `open`."""
        return self._opened.registry.identity()

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Refuse a study that is not the one in the ledger.

        Raises:
            StudyError: naming what has changed.
        """
        compare(self.identity, identity, self._opened.database.name)

    def add_family(self, family: str, sampler: ProposalSampler, stopper: Stopper, plans: list[dict[str, Any]]) -> None:
        """Open or create a family's Optuna study, with every plan that it was not given before.

        What failed with another study file is planned again: what was planned then, and all of it where nothing else
        came of the family.
        """
        storage = self._opened.storage
        study = optuna.create_study(
            storage=storage,
            study_name=f"{self._name}/{family}",
            directions=[StudyDirection[self._direction.upper()], *[StudyDirection.MINIMIZE for _ in self._costs]],
            sampler=sampler,
            pruner=stopper,
            load_if_exists=True,
        )
        ended = self._ended.of(family)
        failed = self._failed_before(ended, study.get_trials(deepcopy=False))
        new = storage.enqueue(study._study_id, [*plans, *failed])
        if count := sum(plan in failed for plan in new):
            self._changes.append(f"{family}: the study file has changed, its {count} failed trial(s) are tried again")
        space = FamilySpace(ended, self._program)
        self._families[family] = SearchedFamily(study, sampler, stopper, space)
        self._shown.pop(family, None)
        self._show(family)

    def is_outdated(self, trial: Trial) -> bool:
        """Whether a trial failed with another study file than this search's: see `Trial.is_outdated`."""
        return trial.is_outdated(self._program)

    def planned(self, family: str) -> int:
        """How many planned trials of a family wait to be run."""
        return self._opened.storage.planned(self._families[family].id)

    def exhausted(self, family: str) -> bool:
        """Whether the driver has nothing left to propose for a family that waits for no planned trial."""
        return self.planned(family) == 0 and self._families[family].exhausted

    def start(self, family: str, started: float) -> Running:
        """Ask for the family's next trial."""
        self._look_if_due()
        handle = self._families[family].study.ask()
        attrs = self._opened.storage.get_trial(handle._trial_id).user_attrs
        plan = attrs.get("plan")
        trial = Trial(
            number=attrs["number"],
            family=family,
            index=handle.number,
            seed=self._seed_of(family, handle.number, plan),
            started=started,
            program=self._program,
            retry_of=(plan or {}).get("retry_of"),
        )
        self._files.make_room(trial)
        return Running(trial, handle, plan)

    def suggest(self, running: Running, dimension: Dimension) -> Value:
        """The value of a dimension for a trial in flight: planned, or proposed by the driver."""
        name = running.trial.family
        family = self._families[name]
        if family.space.ask(dimension):
            self._changes += family.space.news(name)
            self._show(name)
            if dimension.key in family.space.changed():
                running.handle.relative_params.pop(dimension.key, None)  # proposed for what it was
        return family.suggest(running, dimension)

    def settle(self, running: Running) -> Trial | None:
        """Write a trial's values, now that all are known.

        Returns:
            An earlier trial of the family that was tried with exactly the same values: it needn't be run. None if
            there is none, or if this one is run again because it was interrupted.
        """
        self._opened.storage.settle(running.id)
        family = running.trial.family
        self._changes += self._families[family].space.compare(family, running.trial)
        if running.trial.retry_of is not None:
            return None
        self._look_if_due()
        return self._ended.same(running.trial)

    def worth_more(self, running: Running, score: float, step: int) -> bool:
        """Report a score; whether the stopper lets the trial go on. Planned trials always go on.

        Where trials are judged by more than their score, after folds alone: see `worth_more_among_rivals`.
        """
        family = self._families[running.trial.family]
        if self._costs:
            return family.worth_more_for_its_costs(running, self._ended.of(running.trial.family), self._direction)
        return family.worth_more(running, score, step)

    def end(self, running: Running) -> None:
        """Record a trial that ended, and plan it again if it was interrupted. Its files must be on disk by now.

        If another conductor took it over meanwhile, `running.trial` becomes an interrupted one.
        """
        trial, storage = running.trial, self._opened.storage
        trial.proposal_seconds = self._families[trial.family].sampler.seconds(trial.index)
        try:
            self._files.keep(trial, self._beat_if_due)
        except StudyError as error:
            if trial.state is State.COMPLETE:  # others are of no use to a blend, with or without their files
                trial.state, trial.error = State.FAILED, str(error)
        plan = again(storage.get_trial(running.id)) if trial.state is State.INTERRUPTED else None
        record = record_of(trial)
        storage.last_words(running.id, LastWords(record, plan))
        state = _TOLD[trial.state]
        values = None
        if state is TrialState.COMPLETE:
            assert trial.score is not None, "it was fitted on every fold"
            values = [trial.score, *(trial.costs[name] for name in self._costs)]
        try:
            self._families[trial.family].study.tell(running.handle, values, state=state)
        except UpdateFinishedTrialError:
            trial.state, trial.error = State.INTERRUPTED, _TAKEN_OVER
            self._learn([running.id])  # what the other one wrote
        else:
            self._ended.add(trial)
            self._files.record(trial, record)

    def take_changes(self) -> list[str]:
        """How families' spaces have changed since earlier runs, in sentences: what was seen since the last call."""
        changes, self._changes = self._changes, []
        return changes

    # Other conductors.

    def beat(self, runnings: Sequence[Running]) -> list[Running]:
        """Let other conductors know that these trials are alive; cheap when it needn't be said yet.

        Returns:
            Those that another conductor took over, because we were silent for too long: they needn't go on.
        """
        alive = self._beat_if_due()
        return [] if alive is None else [running for running in runnings if running.id not in alive]

    def adopt_stale(self) -> None:
        """End what conductors that died had in flight, and plan it again; cheap when called often."""
        if self.shared and time.monotonic() - self._adopted >= self._heartbeat:
            self._recover()

    def refresh(self) -> list[Trial]:
        """The trials that others ended since the last call of this or of `trials`; cheap when called often."""
        self._look_if_due()
        news, self._news = self._news, []
        return sorted(news, key=lambda trial: trial.number)

    # Reading.

    def trials(self) -> list[Trial]:
        """Every trial that ended, by number, with its curve."""
        self._look()
        self._news.clear()
        return self._ended.all()

    def running(self) -> list[Trial]:
        """The trials that are in flight right now, in any search; none if no search runs."""
        opened = self._opened
        if not self.shared and not self._lock.taken():
            return []
        self._look()
        dead = set(opened.registry.stale()) if self.shared else set()
        flying = []
        for trial_id in set(opened.storage.in_flight()) - dead:
            family, frozen = opened.storage.place(trial_id)
            flying.append(Trial(frozen.user_attrs["number"], family, frozen.number, seed=0))
        return sorted(flying, key=lambda trial: trial.number)

    # Files.

    def trial_folder(self, trial: Trial) -> Path:
        """Where a trial's files are, if they are on this machine."""
        return self._files.folder(trial)

    def fetch(self, trial: Trial) -> Path:
        """A trial's folder, with its files on this machine, but for those that were let go of.

        Raises:
            StudyError: they are on another machine only.
        """
        return self._files.fetch(trial)

    def forget(self, trial: Trial) -> None:
        """Delete the folders of a trial's folds, wherever they are; its record stays."""
        self._files.forget(trial)

    def files_size(self, trial: Trial) -> int:
        """Bytes that the folders of a trial's folds take on this machine."""
        return self._files.size(trial)

    # How.

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            raise StudyError(f"the ledger in {self.folder} is not open; call open or open_to_read first")
        return self._open

    def _connect(self) -> _Opened:
        database = Database(self._address)
        storage, registry = BufferedStorage(database, self._name), Registry(database, self._name, self._grace)
        self._open = _Opened(database, storage, registry)
        self._alone, self._ended, self._news = False, EndedTrials(self._program), []
        return self._open

    def _clear(self) -> None:
        self._files.clear()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _show(self, family: str) -> None:
        """Show a family's driver what ended in the terms of its space of today."""
        changed = self._families[family].space.changed()
        if changed == self._shown.get(family, {}):
            return
        self._shown[family] = changed
        by_index = {trial.index: trial for trial in self._ended.of(family)}

        def instead(written: FrozenTrial) -> FrozenTrial | None:
            record = by_index.get(written.number)
            return None if record is None or not changed else expressed(written, record, changed)

        self._opened.storage.show(self._families[family].id, instead)

    def _failed_before(self, ended: Sequence[Trial], written: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """Plans of what a family's trials that failed with another study file should have tried."""
        tried = [trial for trial in ended if trial.state is not State.INTERRUPTED]
        only_failed = all(trial.is_outdated(self._program) for trial in tried)
        outdated = [written[one.index] for one in tried if one.is_outdated(self._program) and one.same_as is None]
        return [again(one) for one in outdated if only_failed or "plan" in one.user_attrs]

    def _look_if_due(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._look(thorough=now - self._looked_well >= self._heartbeat)

    def _look(self, *, thorough: bool = False) -> None:
        """Learn what others did, unless there can be no others."""
        self._looked = time.monotonic()
        self._looked_well = self._looked if thorough else self._looked_well
        storage = self._opened.storage
        if self._alone:
            return
        storage.sync(thorough=thorough)
        self._news += self._learn(storage.take_ended())

    def _learn(self, trial_ids: Sequence[int]) -> list[Trial]:
        """Read the records of trials that ended."""
        trials = [Trial.from_json(json.loads(text)) for text in self._opened.storage.records(trial_ids)]
        for trial in trials:
            self._ended.add(trial)
        return trials

    def _beat_if_due(self) -> set[int] | None:
        """Ids of the trials in flight here that are still ours; None if it needn't be said yet that they live."""
        now = time.monotonic()
        if not self.shared or now - self._beaten < self._heartbeat:
            return None
        self._beaten = now
        self._opened.registry.beat()
        return self._opened.storage.beat()

    def _recover(self) -> None:
        """End what was left running by conductors that are dead: interrupted, and planned again."""
        self._adopted = time.monotonic()
        opened = self._opened
        left, only_if = opened.storage.in_flight(), None
        if self.shared:
            left, only_if = opened.registry.stale(), opened.registry.is_stale()
            if left:
                self._look(thorough=True)
        for trial_id in sorted(set(left) - set(opened.storage.in_flight_here())):
            family, frozen = opened.storage.place(trial_id)
            if frozen.state is not TrialState.RUNNING:  # another conductor was as fast
                continue
            trial = self._crashed(family, frozen)
            words = LastWords(record_of(trial), again(frozen))
            if opened.storage.end(trial_id, TrialState.FAIL, (), words, only_if=only_if):
                self._ended.add(trial)
                self._news.append(trial)
                self._files.record(trial)

    def _crashed(self, family: str, frozen: FrozenTrial) -> Trial:
        plan = frozen.user_attrs.get("plan")
        dimensions = self._ended.dimensions(family)
        known = [
            (dimensions[key_of(name)], stored) for name, stored in frozen.params.items() if key_of(name) in dimensions
        ]
        return Trial(
            number=frozen.user_attrs["number"],
            family=family,
            index=frozen.number,
            seed=self._seed_of(family, frozen.number, plan),
            state=State.INTERRUPTED,
            values={one.name: from_stored(one, stored) for one, stored in known if is_stored(one, stored)},
            started=frozen.datetime_start.timestamp() if frozen.datetime_start else 0.0,
            error=_TAKEN_OVER if self.shared else _KILLED,
            retry_of=(plan or {}).get("retry_of"),
        )

    def _seed_of(self, family: str, index: int, plan: dict[str, Any] | None) -> int:
        return derive_seed(self._seed, "fit", family, (plan or {}).get("retry_of", index))
