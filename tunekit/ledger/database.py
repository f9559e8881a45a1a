"""The database of a ledger: SQLite in the study's folder, or PostgreSQL for several machines.

Optuna's own tables, which any of its tools can read, and three of ours beside them. Every access is a function that
`Database.run` gives a transaction, so that a lost connection can be survived by running it again.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages._rdb import models
from sqlalchemy.dialects import postgresql, sqlite

from tunekit.errors import StudyError

Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds for which a PostgreSQL server that doesn't answer is asked again."""

SCHEMA_LOCK = 7_355_608_021
"""The advisory lock under which tables are created: two that do so at once would fail."""

# Noticing a server that is gone takes the operating system two hours if nothing else is said.
POSTGRES_OPTIONS = {
    "application_name": "tunekit",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_OURS = sa.MetaData()

STUDIES = sa.Table(
    "tunekit_studies",
    _OURS,
    sa.Column("name", sa.String(512), primary_key=True),
    sa.Column("token", sa.String(64), nullable=False),  # of this ledger of the study, until it is started anew
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("next_number", sa.Integer, nullable=False),  # whoever holds this row may start and plan trials
)

RECORDS = sa.Table(
    "tunekit_records",
    _OURS,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record", sa.Text, nullable=False),  # of a trial that ended, as in its trial.json
)

CONDUCTORS = sa.Table(
    "tunekit_conductors",
    _OURS,
    sa.Column("conductor", sa.String(64), primary_key=True),
    sa.Column("study", sa.String(512), nullable=False),
    sa.Column("heartbeat", sa.DateTime, nullable=False),
)

# Optuna's tables by what is in them.
FAMILIES: sa.Table = models.StudyModel.__table__
FAMILY_USER_ATTRS: sa.Table = models.StudyUserAttributeModel.__table__
FAMILY_SYSTEM_ATTRS: sa.Table = models.StudySystemAttributeModel.__table__
DIRECTIONS: sa.Table = models.StudyDirectionModel.__table__
TRIALS: sa.Table = models.TrialModel.__table__
PARAMS: sa.Table = models.TrialParamModel.__table__
VALUES: sa.Table = models.TrialValueModel.__table__
REPORTS: sa.Table = models.TrialIntermediateValueModel.__table__
USER_ATTRS: sa.Table = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRS: sa.Table = models.TrialSystemAttributeModel.__table__
HEARTBEATS: sa.Table = models.TrialHeartbeatModel.__table__


class _WalConnection(sqlite3.Connection):
    """Survives kills, and lets readers read while the conductor writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


class Database:
    """A database that may hold ledgers.

    Args:
        address: a file for SQLite, or the checked URL of a PostgreSQL database.
    """

    def __init__(self, address: Path | sa.URL) -> None:
        self.shared = isinstance(address, sa.URL)
        if isinstance(address, sa.URL):
            self.name = f"{address.host or 'this machine'}:{address.port or 5432}/{address.database}"
            self._secret = str(address.password or "")
            url = address
            given = {name: value for name, value in POSTGRES_OPTIONS.items() if name not in address.query}
            self._options: dict[str, Any] = {"connect_args": given, "pool_pre_ping": True}
        else:
            self.name, self._secret = str(address), ""
            url = sa.URL.create("sqlite", database=str(address))
            self._options = {"connect_args": {"timeout": 60, "factory": _WalConnection}}
        self._url = url.render_as_string(hide_password=False)
        try:
            self._engine = sa.create_engine(url, **self._options)
        except ImportError as error:
            raise StudyError(f'{error}: PostgreSQL needs a driver; pip install "tunekit[postgres]"') from None
        self._patience = PATIENCE

    def run(self, work: Callable[[sa.Connection], Result], *, patient: bool = True, durable: bool = True) -> Result:
        """Run a function in a transaction of its own; again, if the connection is lost meanwhile.

        Args:
            work: may be run more than once, even after it was committed: that is when the word of it got lost.
            patient: wait for a server that doesn't answer.
            durable: False where it costs nothing if the server's machine, not we, loses power right after.

        Raises:
            StudyError: the server didn't answer for as long as we waited, or the study was deleted.
        """
        begun: float | None = None
        while True:
            try:
                with self._engine.begin() as connection:
                    if self.shared and not durable:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
                    result = work(connection)
                self._patience = PATIENCE
                return result
            except sa.exc.IntegrityError:
                raise StudyError(f"the study in {self.name} was deleted or started anew by another search") from None
            except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
                begun = begun or time.monotonic()
                cause = " ".join(str(error.orig).replace(self._secret or "\0", "***").split()).rstrip(".?")
                if not patient or not self.shared:
                    raise StudyError(f"the database {self.name} can't be used: {cause}") from None
                waited = time.monotonic() - begun
                if waited >= self._patience:
                    self._patience = 0.0  # what is still to be ended doesn't wait as long again
                    raise StudyError(
                        f"the database {self.name} did not answer for {waited:.0f} seconds: {cause}. Start the search "
                        "again when it does; what was in flight is run again with the same values"
                    ) from None
                time.sleep(random.uniform(0.1, 1.0))

    def read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """What a query finds."""
        return self.run(lambda connection: connection.execute(query).all())

    def create_tables(self) -> None:
        """Create what is missing; several may do so at once.

        Raises:
            StudyError: there is no such database, or its tables are of another version of Optuna.
        """

        def create(connection: sa.Connection) -> None:
            if self.shared:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
            self._create_tables()  # by other connections

        self.run(create, patient=False)

    def _create_tables(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = optuna.storages.RDBStorage(self._url, engine_kwargs=dict(self._options))
        except (RuntimeError, sa.exc.ProgrammingError, StorageInternalError) as error:  # another version, or no rights
            raise StudyError(f"the database {self.name} can't be used: {error}") from None
        storage.remove_session()
        storage.engine.dispose()
        _OURS.create_all(self._engine)

    def holds(self, study: str) -> bool:
        """Whether a study was ever opened in it."""

        def look(connection: sa.Connection) -> bool:
            query = sa.select(STUDIES.c.name).where(STUDIES.c.name == study)
            return sa.inspect(connection).has_table(STUDIES.name) and connection.scalar(query) is not None

        return self.run(look, patient=False)

    def close(self) -> None:
        """Release every connection."""
        self._engine.dispose()


def checked(storage: str) -> sa.URL:
    """The URL of a PostgreSQL database.

    Raises:
        StudyError: it is none. Nothing of it is told that may be a password.
    """
    expected = "expected a PostgreSQL database, such as postgresql://user:password@host/database"
    try:
        url = sa.make_url(storage)
    except sa.exc.ArgumentError:
        raise StudyError(f"the storage can't be read as an address; {expected}") from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise StudyError(
            f"the storage is {url.get_backend_name()}; {expected}, or leave it out for SQLite in the study's folder"
        )
    return url.set(drivername="postgresql+psycopg")


def upsert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; where one that is to be unique is there already, it takes the new values."""
    if rows:
        connection.execute(_upsert_into(table, connection.dialect.name), rows)


@cache
def _upsert_into(table: sa.Table, dialect: str) -> Any:
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    unique = next((one for one in table.constraints if isinstance(one, sa.UniqueConstraint)), table.primary_key)
    keys = [column.name for column in unique.columns]
    rest = [column.name for column in table.columns if column.name not in keys and not column.primary_key]
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in rest})


def utc_now() -> Any:
    """The server's clock, whatever the session's time zone; PostgreSQL only."""
    return sa.func.timezone("UTC", sa.func.clock_timestamp())
