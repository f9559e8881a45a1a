"""The durable truth of a study: Optuna's storage, and beside it a folder per trial with predictions and models.

One SQLite database a study, in WAL mode, one Optuna study a family. Only the conductor writes. Everything that a trial
leaves on disk is there before the trial is told as ended, so a crash at any moment loses at most the trials in flight;
`Ledger.open` finds those, marks them interrupted and plans them again with the same values.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.trial import TrialState

from tunekit.drivers.base import ProposalSampler
from tunekit.drivers.translate import from_stored, is_stored, key_of, suggest, to_stored
from tunekit.errors import StudyError
from tunekit.space import Dimension, Value
from tunekit.trial import State, Trial, derive_seed

_TOLD = {
    State.COMPLETE: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
    State.INTERRUPTED: TrialState.FAIL,
}


class _WalConnection(sqlite3.Connection):
    """Survives kills, and lets readers read while the conductor writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


@dataclass
class Running:
    """A trial in flight: its record, and Optuna's handle."""

    trial: Trial
    handle: optuna.Trial
    plan: dict[str, Any] | None


class Ledger:
    """The record of one study.

    Args:
        root: the `mlruns` folder.
        name: the study's name.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / "studies" / name
        self._studies: dict[str, optuna.Study] = {}
        self._samplers: dict[str, ProposalSampler] = {}
        self._storage: optuna.storages.RDBStorage | None = None
        self._lock: IO[str] | None = None
        self._next_number = 0
        self._waiting: dict[str, int] = {}  # counted here: asking the database at each look costs milliseconds

    def open(self, identity: Mapping[str, Any], *, seed: int, fresh: bool = False) -> None:
        """Open for a search: take the lock, check that this is the same study, recover what a crash left.

        Args:
            identity: what must not change within a study, in plain JSON types; "direction" is one of them.
            seed: the study's.
            fresh: delete what is there and start anew.

        Raises:
            StudyError: another search runs on it, or the study is not the one that is there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if fresh:
            self._clear()
        self._seed = seed
        self._direction = identity["direction"]
        self.check_identity(dict(identity))
        self._connect()
        self._recover()
        self._next_number = 1 + max((trial.number for trial in self.trials()), default=-1)

    def open_to_read(self) -> None:
        """Open beside a running search, or after one, to read `trials`."""
        if not (self.folder / "ledger.db").exists():
            raise StudyError(f"the study has no trials yet in {self.folder}; run `tunekit search` on it first")
        self._connect()

    def close(self) -> None:
        """Release the database and the lock."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
            self._storage = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def add_family(self, family: str, sampler: ProposalSampler, pruner: Any, plans: list[dict[str, Any]]) -> None:
        """Open or create a family's Optuna study, with every plan that it was not given before."""
        study = optuna.create_study(
            storage=self._open_storage,
            study_name=family,
            direction=self._direction,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        self._studies[family] = study
        self._samplers[family] = sampler
        known = [trial.user_attrs.get("plan") for trial in study.get_trials(deepcopy=False)]
        for plan in plans:
            if plan not in known:
                study.enqueue_trial({}, user_attrs={"plan": plan})
        self._waiting[family] = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def planned(self, family: str) -> int:
        """How many planned trials of a family wait to be run."""
        return self._waiting[family]

    def exhausted(self, family: str) -> bool:
        """Whether the driver has nothing left to propose for a family that waits for no planned trial."""
        return self._waiting[family] == 0 and self._samplers[family].exhausted(self._studies[family])

    def start(self, family: str, started: float) -> Running:
        """Ask for the family's next trial."""
        handle = self._studies[family].ask()
        plan = handle.user_attrs.get("plan")
        self._waiting[family] -= plan is not None
        root = (plan or {}).get("retry_of", handle.number)
        trial = Trial(
            number=self._next_number,
            family=family,
            index=handle.number,
            seed=derive_seed(self._seed, "fit", family, root),
            started=started,
            retry_of=(plan or {}).get("retry_of"),
        )
        self._next_number += 1
        handle.set_user_attr("number", trial.number)
        return Running(trial, handle, plan)

    def suggest(self, running: Running, dimension: Dimension) -> Value:
        """The value of a dimension for a trial in flight: planned, or proposed by the driver."""
        sampler = self._samplers[running.trial.family]
        sampler.planned = _planned(running.plan, dimension)
        try:
            value = suggest(running.handle, dimension)
        finally:
            sampler.planned = {}
        running.trial.values[dimension.name] = value
        running.trial.dimensions.append(dimension)
        return value

    def worth_more(self, running: Running, score: float, step: int) -> bool:
        """Report a score; whether the stopper lets the trial go on. Planned trials always go on."""
        running.handle.report(score, step)
        stop = running.handle.should_prune()  # asked for planned ones too: halving keeps a record of whom it judged
        return running.plan is not None or not stop

    def end(self, running: Running) -> None:
        """Record a trial that ended, and plan it again if it was interrupted. Its files must be on disk by now."""
        trial, handle = running.trial, running.handle
        _write_record(self.trial_folder(trial), trial)
        if trial.state is State.INTERRUPTED:
            self._plan_again(trial.family, handle.number, dict(handle.params), handle.user_attrs.get("plan"))
        self._tell(trial.family, handle.number, trial)

    def trials(self) -> list[Trial]:
        """Every trial that ended, by number, with its curve."""
        ended = []
        for summary in optuna.get_all_study_summaries(self._open_storage):
            study = self._study(summary.study_name)
            for frozen in study.get_trials(deepcopy=False, states=tuple(set(_TOLD.values()))):
                number = frozen.user_attrs.get("number")
                if number is None:  # died within `start`: it never was a trial
                    continue
                record = _read_record(self.folder / "trials" / _folder_name(number, study.study_name))
                if record is not None:
                    ended.append(record)
        return sorted(ended, key=lambda trial: trial.number)

    def running(self) -> list[Trial]:
        """The trials that a search has in flight right now; none if no search runs."""
        if not self._is_searched():
            return []
        flying = []
        for summary in optuna.get_all_study_summaries(self._open_storage):
            for frozen in self._study(summary.study_name).get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                number = frozen.user_attrs.get("number")
                if number is not None:
                    flying.append(Trial(number, summary.study_name, frozen.number, seed=0))
        return sorted(flying, key=lambda trial: trial.number)

    def trial_folder(self, trial: Trial) -> Path:
        """Where a trial's files are."""
        return self.folder / "trials" / _folder_name(trial.number, trial.family)

    @property
    def _open_storage(self) -> optuna.storages.RDBStorage:
        if self._storage is None:
            raise StudyError(f"the ledger in {self.folder} is not open; call open or open_to_read first")
        return self._storage

    def _study(self, family: str) -> optuna.Study:
        if family not in self._studies:
            self._studies[family] = optuna.load_study(study_name=family, storage=self._open_storage)
        return self._studies[family]

    def _is_searched(self) -> bool:
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _take_lock(self) -> None:
        self._lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            self._lock = None
            raise StudyError(
                f"another search is running on this study (process {owner}); wait for it, stop it, or give this study "
                "another name"
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Refuse a study that is not the one in the ledger; a new ledger takes the identity.

        Raises:
            StudyError: naming what has changed.
        """
        path = self.folder / "study.json"
        if not path.exists():
            write_json(path, identity)
            return
        before = json.loads(path.read_text())
        changed = [name for name in identity if before.get(name) != json.loads(json.dumps(identity[name]))]
        if changed:
            told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(identity[name])}" for name in changed)
            raise StudyError(
                f"the study in {self.folder} was started differently: {told}. Its trials can't be compared with new "
                "ones: undo the change, give the study another name, or start anew with --fresh"
            )

    def _connect(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / 'ledger.db'}",
            engine_kwargs={"connect_args": {"timeout": 60, "factory": _WalConnection}},
        )

    def _recover(self) -> None:
        """End what a crash left running: as recorded if its record was written, else as interrupted."""
        for summary in optuna.get_all_study_summaries(self._open_storage):
            study = self._study(summary.study_name)
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                trial = None
                number = frozen.user_attrs.get("number")
                if number is not None:
                    trial = _read_record(self.folder / "trials" / _folder_name(number, study.study_name))
                if trial is None:
                    self._plan_again(study.study_name, frozen.number, frozen.params, frozen.user_attrs.get("plan"))
                    trial = self._crashed(study.study_name, frozen)
                elif trial.state is State.INTERRUPTED:
                    self._plan_again(study.study_name, frozen.number, frozen.params, frozen.user_attrs.get("plan"))
                self._tell(study.study_name, frozen.number, trial)
        self._studies.clear()

    def _crashed(self, family: str, frozen: optuna.trial.FrozenTrial) -> Trial | None:
        number = frozen.user_attrs.get("number")
        if number is None:  # died within `start`: it never was a trial
            return None
        plan = frozen.user_attrs.get("plan") or {}
        trial = Trial(
            number=number,
            family=family,
            index=frozen.number,
            seed=derive_seed(self._seed, "fit", family, plan.get("retry_of", frozen.number)),
            state=State.INTERRUPTED,
            values=self._known_values(family, frozen.params),
            started=frozen.datetime_start.timestamp() if frozen.datetime_start else 0.0,
            error="the search was killed while it ran; it is run again with the same values",
            retry_of=plan.get("retry_of"),
        )
        _write_record(self.trial_folder(trial), trial)
        return trial

    def _known_values(self, family: str, params: Mapping[str, Any]) -> dict[str, Value]:
        """The values behind what Optuna stored, where a trial that ended tells the dimension; for reading only."""
        told = [one for trial in self.trials() if trial.family == family for one in trial.dimensions]
        dimensions = {one.key: one for one in told}
        known = [(dimensions[key_of(name)], stored) for name, stored in params.items() if key_of(name) in dimensions]
        return {one.name: from_stored(one, stored) for one, stored in known if is_stored(one, stored)}

    def _plan_again(self, family: str, index: int, params: Mapping[str, Any], plan: dict[str, Any] | None) -> None:
        """Plan first, tell after: dying in between is noticed here, by the plan that is already there."""
        study = self._study(family)
        for other in study.get_trials(deepcopy=False):
            if (other.user_attrs.get("plan") or {}).get("replaces") == index:
                return
        root = (plan or {}).get("retry_of", index)
        known = {key_of(name): stored for name, stored in params.items()}
        again = {**(plan or {}), "params": known, "retry_of": root, "replaces": index}
        study.enqueue_trial({}, user_attrs={"plan": again})
        self._waiting[family] = self._waiting.get(family, 0) + 1

    def _tell(self, family: str, index: int, trial: Trial | None) -> None:
        state = _TOLD[trial.state] if trial is not None else TrialState.FAIL
        score = trial.score if trial is not None and state is TrialState.COMPLETE else None
        self._study(family).tell(index, score, state=state)


def _planned(plan: dict[str, Any] | None, dimension: Dimension) -> dict[str, Any]:
    """Stored value by key of what a plan says for a dimension; empty where it says nothing that fits."""
    if plan is None:
        return {}
    if is_stored(dimension, plan.get("params", {}).get(dimension.key)):
        return {dimension.key: plan["params"][dimension.key]}
    value = plan.get("values", {}).get(dimension.name)
    if value is None or not dimension.contains(value):
        value = dimension.default if plan.get("defaults") or "values" in plan else None
    return {} if value is None else {dimension.key: to_stored(dimension, value)}


def _folder_name(number: int, family: str) -> str:
    return f"{number:04d}-{family}"


def _write_record(folder: Path, trial: Trial) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "trial.json", trial.to_json())


def _read_record(folder: Path) -> Trial | None:
    try:
        return Trial.from_json(json.loads((folder / "trial.json").read_text()))
    except FileNotFoundError:
        return None


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
