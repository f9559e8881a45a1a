"""Optuna's storage for one process that runs many trials: reads from memory, writes in few transactions.

What is said about a trial that runs here is kept in memory, where Optuna sees it, and written by `settle` and together
with the trial's end. So a trial costs a transaction when it starts, one when its values are known, and one when it
ends, whatever it reports meanwhile. The tables hold what Optuna's own storage would have written.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunekit.ledger.database import (
    FAMILIES,
    HEARTBEATS,
    RECORDS,
    STUDIES,
    TRIALS,
    USER_ATTRS,
    Database,
    upsert,
    utc_now,
)
from tunekit.ledger.memory import FamilyMemory, copied
from tunekit.ledger.plans import waiting
from tunekit.ledger.rows import Facts, insert_trial, read_trials, to_utc, write_values
from tunekit.ledger.studies import FamilyStorage

MANY = 500
"""More trials than this are read family by family rather than by their ids."""


@dataclass(frozen=True)
class LastWords:
    """What is written together with the end of a trial.

    Args:
        record: of the trial, as JSON.
        again: the plan of the trial that takes its place, if it is run again.
    """

    record: str
    again: dict[str, Any] | None = None


class BufferedStorage(FamilyStorage):
    """The trials of one tunekit study.

    Args:
        database: with its tables.
        study: the tunekit study.
    """

    def __init__(self, database: Database, study: str) -> None:
        super().__init__(database, study)
        self._places: dict[int, tuple[int, int]] = {}  # by a trial's id: its family's id, and its number there
        self._facts: dict[int, Facts] = {}  # of trials that run here
        self._settled: set[int] = set()  # of these, the ones whose values are written: all of them, or none
        self._last_words: dict[int, LastWords] = {}
        self._mine: set[int] = set()  # trials that were started here
        self._watched: dict[int, TrialState] = {}  # trials that others may change
        self._unseen: list[int] = []
        self._newest = -1

    # What the ledger asks for.

    def planned(self, study_id: int) -> int:
        """How many planned trials wait to be run."""
        return self._families[study_id].count(TrialState.WAITING)

    def show(self, study_id: int, instead: Callable[[FrozenTrial], FrozenTrial | None]) -> None:
        """Let drivers see trials that ended otherwise than they were written; None shows what was written."""
        family = self._families[study_id]
        written = [family.written(trial.number) for trial in family.all() if trial.state.is_finished()]
        shown = {trial.number: instead(trial) for trial in written}
        family.show({number: trial for number, trial in shown.items() if trial is not None})

    def place(self, trial_id: int) -> tuple[str, FrozenTrial]:
        """A trial, and its family."""
        return self.family(self._places[trial_id][0]), self.get_trial(trial_id)

    def in_flight_here(self) -> list[int]:
        """Ids of the trials that run here."""
        return list(self._facts)

    def in_flight(self) -> list[int]:
        """Ids of the trials that run, here or elsewhere."""
        elsewhere = [trial_id for trial_id, state in self._watched.items() if state is TrialState.RUNNING]
        return [*self._facts, *elsewhere]

    def records(self, trial_ids: Sequence[int]) -> list[str]:
        """The records of trials that ended."""
        found: list[str] = []
        for first in range(0, len(trial_ids), MANY):
            some = trial_ids[first : first + MANY]
            query = sa.select(RECORDS.c.record).where(RECORDS.c.trial_id.in_(some))
            found += [row.record for row in self._database.read(query)]
        return found

    def take_ended(self) -> list[int]:
        """Ids of the trials that others ended, as far as `sync` saw it since the last call."""
        ended, self._unseen = self._unseen, []
        return ended

    def sync(self, *, thorough: bool = False) -> None:
        """Read what others have written.

        Args:
            thorough: also what was said since about trials that run elsewhere and were known to run.
        """

        def read(connection: sa.Connection) -> tuple[int, dict[int, FamilyMemory], list[tuple[int, FrozenTrial]]]:
            rows = connection.execute(self._newer()).all()
            newest = max((row.trial_id for row in rows), default=-1)
            foreign = [row for row in rows if row.trial_id not in self._mine]
            changed = [row.trial_id for row in foreign if self._is_news(row.trial_id, row.state, thorough)]
            if not changed:
                return newest, {}, []
            which = TRIALS.c.trial_id.in_(changed)
            if len(changed) > MANY:
                which = TRIALS.c.study_id.in_({row.study_id for row in foreign})
            known = all(row.study_id in self._families for row in foreign)
            return newest, {} if known else self.read_families(connection), read_trials(connection, which)

        newest, families, trials = self._database.run(read)
        self._newest = max(self._newest, newest)
        self._families = families | self._families
        self._unseen += [trial._trial_id for study_id, trial in trials if self._take_in(study_id, trial)]

    def settle(self, trial_id: int) -> None:
        """Write what was said about a trial that runs here; from now on its values are written as they come."""
        self._settled.add(trial_id)
        self._flush(trial_id)

    def beat(self) -> set[int]:
        """Let others know that the trials that run here are alive, and what was said about them since.

        Returns:
            Those that are still ours: others take over what they believe to be dead.
        """
        mine = sorted(self._facts)  # all lock rows in the same order
        settled = [trial_id for trial_id in mine if trial_id in self._settled]

        def write(connection: sa.Connection) -> set[int]:
            runs = sa.exists().where(TRIALS.c.trial_id == HEARTBEATS.c.trial_id, TRIALS.c.state == TrialState.RUNNING)
            update = sa.update(HEARTBEATS).where(HEARTBEATS.c.trial_id.in_(mine), runs)
            alive = set(connection.scalars(update.values(heartbeat=utc_now()).returning(HEARTBEATS.c.trial_id)))
            for trial_id in settled:
                self._facts[trial_id].write(connection, trial_id)
            return alive

        alive = self._database.run(write, durable=False) if mine else set()
        self._facts |= {trial_id: Facts() for trial_id in settled}
        return alive

    def enqueue(self, study_id: int, plans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Plan trials, but not what was planned before.

        Returns:
            What is planned now.
        """

        def write(connection: sa.Connection) -> list[dict[str, Any]]:
            self.hold(connection)
            told = sa.select(USER_ATTRS.c.value_json).join(TRIALS, TRIALS.c.trial_id == USER_ATTRS.c.trial_id)
            told = told.where(TRIALS.c.study_id == study_id, USER_ATTRS.c.key == "plan")
            known = [json.loads(text) for text in connection.scalars(told)]
            new = [plan for plan in plans if plan not in known]
            for plan in new:
                insert_trial(connection, study_id, waiting(plan))
            return new

        new = self._database.run(write)
        self.sync()
        return new

    def last_words(self, trial_id: int, words: LastWords) -> None:
        """What is to be written together with the end of a trial, once Optuna is told of it."""
        self._last_words[trial_id] = words

    def end(
        self, trial_id: int, state: TrialState, values: Sequence[float], words: LastWords | None, *, only_if: Any = None
    ) -> bool:
        """End a trial, and plan the one that takes its place, in one transaction.

        Args:
            trial_id: of the trial.
            state: that it ends in.
            values: one for each objective, or none.
            words: see `LastWords`.
            only_if: a condition on its row, beside that it runs.

        Returns:
            Whether it ended now, in this way. Otherwise another conductor was first.
        """
        study_id, number = self._places[trial_id]
        now = datetime.now()
        facts = self._facts.get(trial_id, Facts())

        def write(connection: sa.Connection) -> bool:
            if words is not None and words.again is not None:
                self.hold(connection)
            runs = [TRIALS.c.trial_id == trial_id, TRIALS.c.state == TrialState.RUNNING]
            update = sa.update(TRIALS).where(*runs, *([] if only_if is None else [only_if]))
            if not connection.execute(update.values(state=state, datetime_complete=to_utc(now))).rowcount:
                if words is None or trial_id not in self._mine:
                    return False
                told = connection.scalar(sa.select(RECORDS.c.record).where(RECORDS.c.trial_id == trial_id))
                return bool(told == words.record)  # the word of our own commit got lost
            facts.write(connection, trial_id)
            write_values(connection, trial_id, values)
            if words is not None:
                upsert(connection, RECORDS, [{"trial_id": trial_id, "record": words.record}])
                if words.again is not None:
                    insert_trial(connection, study_id, waiting(words.again))
            return True

        done = self._database.run(write)
        if not done and trial_id not in self._mine:
            return False  # whatever happened to it is still to be read
        self._facts.pop(trial_id, None)
        self._settled.discard(trial_id)
        self._watched.pop(trial_id, None)
        ended = copied(self._families[study_id][number])
        ended.state, ended.datetime_complete = (state, now) if done else (TrialState.FAIL, now)
        if done and values:
            ended.values = list(values)
        self._families[study_id].put(ended)
        if words is not None and words.again is not None:
            self.sync()
        return done

    # Trials, as Optuna asks for them.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Start a trial, or add one."""
        if template_trial is None:
            started = self._start(study_id, None)
            assert started is not None  # only a planned one can be taken by another
            return started

        def write(connection: sa.Connection) -> int:
            self.hold(connection)
            return insert_trial(connection, study_id, template_trial)[0]

        trial_id = self._database.run(write)
        self.sync()
        return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Keep a value; see the base class."""
        trial, facts = self._changing(trial_id)
        family = self._families[self._places[trial_id][0]]
        family.check(param_name, distribution)
        facts.params[param_name] = (param_value_internal, distribution)
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution
        family.put(trial)
        if trial_id in self._settled:  # it trains already
            self._flush(trial_id)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Keep a report; see the base class."""
        trial, facts = self._changing(trial_id)
        facts.reports[step] = trial.intermediate_values[step] = intermediate_value
        self._families[self._places[trial_id][0]].put(trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep an attribute; see the base class."""
        trial, facts = self._changing(trial_id)
        facts.user_attrs[key] = trial.user_attrs[key] = value
        self._families[self._places[trial_id][0]].put(trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep an attribute; see the base class."""
        trial, facts = self._changing(trial_id)
        facts.system_attrs[key] = trial.system_attrs[key] = value
        self._families[self._places[trial_id][0]].put(trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Start a planned trial, or end one that runs here; see the base class."""
        trial = self.get_trial(trial_id)
        if state is TrialState.RUNNING:
            return trial.state is TrialState.WAITING and self._start(self._places[trial_id][0], trial) is not None
        self._changing(trial_id)
        words = self._last_words.pop(trial_id, None)
        if not self.end(trial_id, state, values or (), words):
            raise UpdateFinishedTrialError(f"trial {trial.number} was taken over by another conductor")
        return True

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial; not to be changed."""
        study_id, number = self._places[trial_id]
        return self._families[study_id][number]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """The id of the trial of this number."""
        return self._families[study_id][trial_number]._trial_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials by number, as far as this process knows them."""
        trials = self._families[study_id].all(states)
        return copy.deepcopy(trials) if deepcopy else trials

    def _newer(self) -> sa.Select[tuple[int, TrialState]]:
        """Rows of trials that this process doesn't know, or that others may have changed."""
        newer = sa.or_(TRIALS.c.trial_id > self._newest, TRIALS.c.trial_id.in_(list(self._watched)))
        query = sa.select(TRIALS.c.trial_id, TRIALS.c.study_id, TRIALS.c.state)
        return query.join(FAMILIES, FAMILIES.c.study_id == TRIALS.c.study_id).where(self.of_this_study, newer)

    def _is_news(self, trial_id: int, state: TrialState, thorough: bool) -> bool:
        """Whether a trial is to be read: it is new, or its state is, or its values may be."""
        if state is not self._watched.get(trial_id):
            return True
        return state is TrialState.RUNNING and (thorough or not self.get_trial(trial_id).params)

    def _take_in(self, study_id: int, trial: FrozenTrial) -> bool:
        """Whether the trial has ended since it was last read."""
        trial_id = trial._trial_id
        if trial_id in self._mine or (trial_id in self._places and self.get_trial(trial_id).state.is_finished()):
            return False
        self._families[study_id].put(trial)
        self._places[trial_id] = (study_id, trial.number)
        if trial.state.is_finished():
            self._watched.pop(trial_id, None)
        else:
            self._watched[trial_id] = trial.state
        return trial.state.is_finished()

    def _start(self, study_id: int, planned: FrozenTrial | None) -> int | None:
        """Start a planned trial, or a new one, and number it; None if another conductor took the planned one."""
        now = datetime.now()
        trial = copied(planned) if planned is not None else create_trial(state=TrialState.WAITING)
        trial.state, trial.datetime_start = TrialState.RUNNING, now

        def write(connection: sa.Connection) -> tuple[int, int, int] | None:
            if planned is not None:
                waits = [TRIALS.c.trial_id == planned._trial_id, TRIALS.c.state == TrialState.WAITING]
                take = sa.update(TRIALS).where(*waits).values(state=trial.state, datetime_start=to_utc(now))
                if not connection.execute(take).rowcount:
                    return None
            count = sa.update(STUDIES).where(STUDIES.c.name == self._study).returning(STUDIES.c.next_number)
            number = connection.execute(count.values(next_number=STUDIES.c.next_number + 1)).scalar_one() - 1
            place = (planned._trial_id, planned.number) if planned else insert_trial(connection, study_id, trial)
            Facts(user_attrs={"number": number}).write(connection, place[0])
            if self._database.shared:
                connection.execute(sa.insert(HEARTBEATS).values(trial_id=place[0], heartbeat=utc_now()))
            return *place, number

        started = self._database.run(write)
        if started is None:
            self.sync()
            return None
        trial_id, trial.number, trial.user_attrs["number"] = started
        trial._trial_id = trial_id
        self._mine.add(trial_id)
        self._watched.pop(trial_id, None)
        self._facts[trial_id] = Facts()
        self._places[trial_id] = (study_id, trial.number)
        self._families[study_id].put(trial)
        return trial_id

    def _flush(self, trial_id: int) -> None:
        self._database.run(lambda connection: self._facts[trial_id].write(connection, trial_id), durable=False)
        self._facts[trial_id] = Facts()

    def _changing(self, trial_id: int) -> tuple[FrozenTrial, Facts]:
        """A copy of a trial that runs here, to be changed and put in its place."""
        trial = self.get_trial(trial_id)
        if trial_id not in self._facts:
            raise UpdateFinishedTrialError(f"trial {trial.number} does not run here: {trial.state.name}")
        return copied(trial), self._facts[trial_id]
