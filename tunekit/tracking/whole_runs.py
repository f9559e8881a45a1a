"""Runs of MLflow that have ended already, each written whole: by one transaction where MLflow keeps a database.

MLflow's client takes four calls for such a run. They make three dozen statements, with an object for each row, and
that is more computing than everything else that a search does for a trial. Its tables take the same rows in five.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from tunekit.tracking.records import Record

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Connection, Engine, Table

LARGEST = 1.7976931348623157e308
"""What MLflow writes for infinity, which its databases don't take."""

FOR_SQLITE = (
    "PRAGMA busy_timeout = 20000",  # milliseconds to wait for another's transaction, as MLflow does
    "PRAGMA synchronous = NORMAL",  # a write-ahead log stays whole without waiting for the disk each time
)

GIVEN = {
    "runs": {
        "run_uuid", "name", "artifact_uri", "experiment_id", "source_type", "source_name", "entry_point_name",
        "user_id", "status", "start_time", "end_time", "source_version", "lifecycle_stage",
    },
    "tags": {"key", "value", "run_uuid"},
    "params": {"key", "value", "run_uuid"},
    "metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
    "latest_metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}  # fmt: skip
"""The tables of a run and the columns that are written, in the order of their references."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Args:
        name: how people read it.
        start: milliseconds since 1970.
        end: the same.
        status: MLflow's, such as "FINISHED".
        record: its parameters, metrics and tags.
        files: to keep as its artifacts.
    """

    name: str
    start: int
    end: int
    status: str
    record: Record
    files: Sequence[Path] = ()


class ByClient:
    """Writes runs by the calls of MLflow's client, for a tracking server.

    Args:
        client: of the server.
        experiment: the id of the experiment.
    """

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self._client, self._experiment = client, experiment

    def write(self, ended: Ended) -> Run:
        """Write a run, its status last: one that is left open isn't whole."""
        tags = ended.record.tags  # each that is set later costs MLflow a look for it, and an insertion
        run = self._client.create_run(self._experiment, start_time=ended.start, tags=tags, run_name=ended.name)
        self.complete(run, replace(ended, record=replace(ended.record, tags={})))
        return run

    def complete(self, run: Run, ended: Ended) -> None:
        """Write what a run lacks that a crash left open; what it has already stays as it is."""
        log(self._client, run.info.run_id, ended.record)
        for file in ended.files:
            self._client.log_artifact(run.info.run_id, str(file))
        self._client.set_terminated(run.info.run_id, status=ended.status, end_time=ended.end)

    def add(self, run_id: str, record: Record) -> None:
        """Add a record to a run that goes on."""
        log(self._client, run_id, record)

    def close(self) -> None:
        """Nothing of its own is open."""


class ByTables(ByClient):
    """Writes runs into the tables of MLflow's database.

    Args:
        client: of the database.
        experiment: the id of the experiment.
        engine: of the same database.
        tables: MLflow's, by name.
    """

    def __init__(self, client: MlflowClient, experiment: str, engine: Engine, tables: Mapping[str, Table]) -> None:
        super().__init__(client, experiment)
        self._engine, self._tables = engine, tables
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _set_up)
        self._artifacts = str(client.get_experiment(experiment).artifact_location)

    def write(self, ended: Ended) -> Run:
        """Write a run, all of it or nothing."""
        from mlflow.entities import Run, RunData, RunInfo, RunTag
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import append_to_uri_path

        number = uuid.uuid4().hex
        append: Any = append_to_uri_path  # published without types
        place = str(append(self._artifacts, number, "artifacts"))
        if ended.files:
            artifacts: Any = get_artifact_repository(place)  # the same
            for file in ended.files:
                artifacts.log_artifact(str(file))
        rows = {"runs": [row_of(ended, number, int(self._experiment), place)], **rows_of(ended.record, number)}
        rows["tags"].append({"key": "mlflow.runName", "value": ended.name, "run_uuid": number})
        with self._engine.begin() as connection:
            self._insert(connection, rows)
        user = rows["runs"][0]["user_id"]
        info = RunInfo(
            number, self._experiment, user, ended.status, ended.start, ended.end, "active", place, ended.name
        )
        make: Any = Run  # the same
        run: Run = make(info, RunData(tags=[RunTag(row["key"], row["value"]) for row in rows["tags"]]))
        return run

    def add(self, run_id: str, record: Record) -> None:
        """Add tags, and metrics that are later than those of their names before, to a run that goes on."""
        from sqlalchemy.exc import IntegrityError

        rows = rows_of(record, run_id)
        try:
            with self._engine.begin() as connection:
                for name in ("tags", "latest_metrics"):
                    table, keys = self._tables[name], [row["key"] for row in rows[name]]
                    connection.execute(table.delete().where(table.c.run_uuid == run_id, table.c.key.in_(keys)))
                self._insert(connection, rows)
        except IntegrityError:  # some of it is there already: MLflow looks for what isn't
            super().add(run_id, record)

    def _insert(self, connection: Connection, rows: Mapping[str, list[dict[str, Any]]]) -> None:
        for name, found in rows.items():
            if found:
                connection.execute(self._tables[name].insert(), found)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def writer(client: MlflowClient, experiment: str, uri: str, *, database: bool) -> ByClient:
    """What writes the runs of an experiment.

    Args:
        client: of MLflow.
        experiment: its id.
        uri: where MLflow keeps runs.
        database: whether that is a database, whose tables are written where this MLflow's are those that are known.
    """
    if not database:
        return ByClient(client, experiment)
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.models import SqlRun

    metadata = SqlRun.metadata
    tables = {name: metadata.tables[name] for name in GIVEN if name in metadata.tables}
    if len(tables) < len(GIVEN) or not all(takes(table, GIVEN[name]) for name, table in tables.items()):
        return ByClient(client, experiment)
    connect: Any = create_sqlalchemy_engine  # with MLflow's own settings; published without types
    return ByTables(client, experiment, connect(uri), tables)


def takes(table: Table, given: set[str]) -> bool:
    """Whether a row of a table is whole by the given columns."""
    needed = {
        column.name
        for column in table.columns
        if not (column.nullable or column.default is not None or column.server_default is not None)
    }
    return needed <= given <= {column.name for column in table.columns}


def row_of(ended: Ended, number: str, experiment: int, place: str) -> dict[str, Any]:
    """The row that MLflow's own calls would make of a run.

    Args:
        ended: the run.
        number: its id.
        experiment: the id of its experiment.
        place: the address of its artifacts.
    """
    return {
        "run_uuid": number,
        "name": ended.name,
        "artifact_uri": place,
        "experiment_id": experiment,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": ended.record.tags.get("mlflow.user", "unknown"),
        "status": ended.status,
        "start_time": ended.start,
        "end_time": ended.end,
        "source_version": "",
        "lifecycle_stage": "active",
    }


def rows_of(record: Record, number: str) -> dict[str, list[dict[str, Any]]]:
    """The rows that MLflow's own calls would make of a record, by table.

    Args:
        record: what a run holds.
        number: the run's id.
    """
    metrics: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for point in dict.fromkeys(record.points):  # a table takes each only once
        unknown = math.isnan(point.value)
        row = {
            "key": point.key,
            "value": 0.0 if unknown else max(-LARGEST, min(LARGEST, point.value)),
            "timestamp": point.timestamp,
            "step": point.step,
            "is_nan": unknown,
            "run_uuid": number,
        }
        metrics.append(row)
        before = latest.get(point.key)
        if before is None or _age(row) > _age(before):
            latest[point.key] = row
    return {
        "tags": [{"key": key, "value": value, "run_uuid": number} for key, value in record.tags.items()],
        "params": [{"key": key, "value": value, "run_uuid": number} for key, value in record.params.items()],
        "metrics": metrics,
        "latest_metrics": list(latest.values()),
    }


def _age(row: Mapping[str, Any]) -> tuple[int, int, float]:
    """By which MLflow tells a metric's latest value."""
    return row["step"], row["timestamp"], row["value"]


def _set_up(connection: Any, _: Any) -> None:
    for pragma in FOR_SQLITE:
        connection.execute(pragma)


def log(client: MlflowClient, run_id: str, record: Record) -> None:
    """Add a record to a run."""
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(  # splits what is over MLflow's limits per call
        run_id,
        metrics=[Metric(point.key, point.value, point.timestamp, point.step) for point in record.points],
        params=[Param(name, value) for name, value in record.params.items()],
        tags=[RunTag(name, value) for name, value in record.tags.items()],
    )
