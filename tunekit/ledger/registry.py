"""What a study is, and who works on it: its row, its conductors' rows, and the heartbeats of its trials."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.dialects import postgresql, sqlite

from tunekit.errors import StudyError
from tunekit.ledger.database import (
    CONDUCTORS,
    DIRECTIONS,
    FAMILIES,
    FAMILY_SYSTEM_ATTRS,
    FAMILY_USER_ATTRS,
    HEARTBEATS,
    PARAMS,
    RECORDS,
    REPORTS,
    STUDIES,
    SYSTEM_ATTRS,
    TRIALS,
    USER_ATTRS,
    VALUES,
    Database,
    utc_now,
)
from tunekit.ledger.studies import of_study

OF_TRIALS = (PARAMS, VALUES, REPORTS, USER_ATTRS, SYSTEM_ATTRS, HEARTBEATS, RECORDS)
OF_FAMILIES = (TRIALS, DIRECTIONS, FAMILY_USER_ATTRS, FAMILY_SYSTEM_ATTRS, FAMILIES)


class Registry:
    """One conductor's view of a study and its other conductors.

    Args:
        database: with its tables.
        study: its name.
        grace: seconds without a heartbeat after which a conductor, or a trial, is taken to be dead.
    """

    def __init__(self, database: Database, study: str, grace: float) -> None:
        self._database = database
        self._study = study
        self._grace = grace
        self._joined = False
        self._conductor = f"{socket.gethostname()[:20]} {os.getpid()} {uuid.uuid4().hex[:16]}"

    def join(self, identity: dict[str, Any], wipe: Callable[[], None] | None = None) -> str:
        """Begin to work on the study; a new one takes the identity.

        Args:
            identity: of the study, as it is declared now.
            wipe: start anew: deletes the files of the study, and here its rows are.

        Returns:
            The token of the ledger, which is another one after each new start.

        Raises:
            StudyError: it is another study; or it is to start anew, and another conductor works on it.
        """
        new = {"name": self._study, "token": uuid.uuid4().hex, "identity": json.dumps(identity), "next_number": 0}
        own = STUDIES.c.name == self._study

        def write(connection: sa.Connection) -> str:
            dialect = postgresql if self._database.shared else sqlite
            connection.execute(dialect.insert(STUDIES).values(new).on_conflict_do_nothing())
            row = connection.execute(sa.select(STUDIES).where(own).with_for_update()).one()
            if wipe is None:
                compare(json.loads(row.identity), identity, self._database.name)
            else:
                self._refuse_others(connection)
                wipe()
                self._delete(connection)
                connection.execute(sa.update(STUDIES).where(own).values(new))
            if self._database.shared:
                gone = _silence() > self._grace
                connection.execute(sa.delete(CONDUCTORS).where(CONDUCTORS.c.study == self._study, gone))
                self._sign(connection)
            return str(row.token if wipe is None else new["token"])

        token = self._database.run(write)
        self._joined = self._database.shared
        return token

    def leave(self) -> None:
        """End working on the study, if it was joined."""
        if not self._joined:
            return
        self._joined = False
        own = CONDUCTORS.c.conductor == self._conductor
        self._database.run(lambda connection: connection.execute(sa.delete(CONDUCTORS).where(own)), patient=False)

    def beat(self) -> None:
        """Let other conductors know that this one is alive."""
        self._database.run(self._sign, durable=False)

    def identity(self) -> dict[str, Any]:
        """What the study is; empty before it was first opened."""
        query = sa.select(STUDIES.c.identity).where(STUDIES.c.name == self._study)
        return {name: one for row in self._database.read(query) for name, one in json.loads(row.identity).items()}

    def is_stale(self) -> sa.ColumnElement[bool]:
        """A condition on `TRIALS`: its conductor is silent for too long, though the server would have heard it."""
        heard = sa.func.greatest(HEARTBEATS.c.heartbeat, sa.func.timezone("UTC", server_started()))
        silent = sa.extract("epoch", utc_now() - heard) > self._grace
        return sa.exists().where(HEARTBEATS.c.trial_id == TRIALS.c.trial_id, silent)

    def stale(self) -> list[int]:
        """Ids of the trials whose conductors are dead."""
        query = sa.select(TRIALS.c.trial_id).join(FAMILIES, FAMILIES.c.study_id == TRIALS.c.study_id)
        query = query.where(of_study(self._study), TRIALS.c.state == TrialState.RUNNING, self.is_stale())
        return [row.trial_id for row in self._database.read(query)]

    def _sign(self, connection: sa.Connection) -> None:
        row = {"conductor": self._conductor, "study": self._study, "heartbeat": utc_now()}
        insert = postgresql.insert(CONDUCTORS).values(row)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["conductor"], set_={"heartbeat": insert.excluded.heartbeat})
        )

    def _refuse_others(self, connection: sa.Connection) -> None:
        silent = _silence()
        others = sa.select(CONDUCTORS.c.conductor, silent.label("silent")).where(
            CONDUCTORS.c.study == self._study, CONDUCTORS.c.conductor != self._conductor, silent <= self._grace
        )
        for row in connection.execute(others):
            host, process, _ = row.conductor.rsplit(" ", 2)
            raise StudyError(
                f"another search works on this study (process {process} on {host}, seen {row.silent:.0f} seconds ago); "
                f"stop it before you start anew. If it was killed, wait until it has been silent for {self._grace:.0f} "
                "seconds"
            )

    def _delete(self, connection: sa.Connection) -> None:
        families = sa.select(FAMILIES.c.study_id).where(of_study(self._study))
        trials = sa.select(TRIALS.c.trial_id).where(TRIALS.c.study_id.in_(families))
        for table in OF_TRIALS:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(trials)))
        for table in OF_FAMILIES:
            connection.execute(sa.delete(table).where(table.c.study_id.in_(families)))


def server_started() -> Any:
    """When the server began to hear anybody."""
    return sa.func.pg_postmaster_start_time()


def _silence() -> sa.ColumnElement[Any]:
    """Seconds since a conductor was last heard."""
    return sa.extract("epoch", utc_now() - CONDUCTORS.c.heartbeat)


def compare(before: dict[str, Any], now: dict[str, Any], place: str) -> None:
    """Refuse a study that is not the one in the ledger.

    Raises:
        StudyError: naming what has changed.
    """
    changed = [name for name in now if before.get(name) != json.loads(json.dumps(now[name]))]
    if changed:
        told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now[name])}" for name in changed)
        raise StudyError(
            f"the study in {place} was started differently: {told}. Its trials can't be compared with new ones: undo "
            "the change, give the study another name, or start anew with --fresh"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
