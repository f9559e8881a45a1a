"""Runs written into MLflow's tables are what MLflow's own calls make of them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.tracking import MlflowClient
from postgres import CannotStart, running_server  # type: ignore[import-not-found]

from tunekit.tracking import whole_runs
from tunekit.tracking.mirror import make_database
from tunekit.tracking.records import Point, Record
from tunekit.tracking.whole_runs import ByClient, ByTables, Ended, takes, writer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of MLflow's."""
    if request.param == "sqlite":
        root = tmp_path_factory.mktemp("mlruns")
        make_database(root)
        yield f"sqlite:///{root / 'mlflow.db'}"
        return
    try:
        with running_server() as server:
            yield str(server.new_database())  # MLflow makes its tables when it first comes
    except CannotStart as error:
        pytest.skip(f"PostgreSQL can't be started here: {error}")


def ended(*files: Path) -> Ended:
    """A run with all that is special: a double, NaN and infinities, several steps, no order, odd names."""
    record = Record(
        params={"family": "wide_deep", "block_0/units": "64", "empty": ""},
        tags={"mlflow.user": "someone", "tunekit.state": "complete", "mlflow.note.content": "**ü**\n'quoted'"},
        points=[
            Point("loss", 0.5, 2000, 2),
            Point("loss", 1.0, 1000, 1),
            Point("loss", 0.5, 2000, 2),
            Point("score", math.nan, 3000),
            Point("score", 1.0, 2000),
            Point("worst", math.inf, 3000, 1),
            Point("worst", -math.inf, 3000, 1),
            Point("tie", 1.0, 3000, 1),
            Point("tie", 2.0, 3000, 1),
        ],
    )
    return Ended("007 wide_deep", 1000, 3000, "FAILED", record, files)


def told(client: MlflowClient, number: str) -> dict[str, Any]:
    """All that MLflow tells of a run, but for what names it."""
    run = client.get_run(number)
    facts = {name: str(value).replace(number, "ID") for name, value in dict(run.info).items()}
    history = {name: [dict(one) for one in client.get_metric_history(number, name)] for name in run.data.metrics}
    for points in history.values():
        for point in points:
            point.pop("run_id", None)
    files = {
        file.path: Path(client.download_artifacts(number, file.path)).read_text()
        for file in client.list_artifacts(number)
    }
    return {
        "info": facts,
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {name: str(value) for name, value in run.data.metrics.items()},  # NaN is not itself
        "history": {name: sorted(map(str, points)) for name, points in history.items()},
        "files": files,
    }


def test_both_ways_make_the_same_run(uri: str, tmp_path: Path) -> None:
    file = tmp_path / "layers.txt"
    file.write_text("a layer\n")
    client = MlflowClient(uri)
    experiment = client.create_experiment("same", artifact_location=(tmp_path / "artifacts").as_uri())
    tables = writer(client, experiment, uri, database=True)
    assert isinstance(tables, ByTables)
    by_tables, by_client = (one.write(ended(file)) for one in (tables, ByClient(client, experiment)))
    tables.close()
    found = told(client, by_tables.info.run_id)
    assert found == told(client, by_client.info.run_id)
    assert found["files"] == {"layers.txt": "a layer\n"}
    assert found["metrics"] | {"loss": "0.5", "tie": "2.0", "score": "nan"} == found["metrics"]
    assert by_tables.info.status == "FAILED"
    assert by_tables.info.run_id in [
        run.info.run_id for run in client.search_runs([experiment], "tags.`tunekit.state` = 'complete'")
    ]


def test_a_run_is_written_whole_or_not_at_all(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("whole", artifact_location=tmp_path.as_uri())
    tables = writer(client, experiment, uri, database=True)
    broken = ended()
    broken.record.params["none"] = None  # type: ignore[assignment]
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        tables.write(broken)
    assert client.search_runs([experiment]) == []
    assert tables.write(ended()).info.run_name == "007 wide_deep"
    tables.close()
    assert len(client.search_runs([experiment])) == 1


def test_a_run_that_goes_on_gets_tags_and_later_metrics(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("going on", artifact_location=tmp_path.as_uri())
    tables = writer(client, experiment, uri, database=True)
    several = [
        Record(tags={"note": "one"}, points=[Point("best", 3.0, 1000, 1), Point("best", 2.0, 2000, 2)]),
        Record(tags={"note": "two", "new": "yes"}, points=[Point("best", 1.0, 3000, 3), Point("other", 1.0, 3000, 3)]),
        Record(points=[Point("best", 1.0, 3000, 3), Point("best", 5.0, 4000, 4)]),  # the first is there already
    ]
    found = []
    for one in (tables, ByClient(client, experiment)):
        run = client.create_run(experiment, start_time=1000, run_name="search")
        for record in several:
            one.add(run.info.run_id, record)
        found.append(told(client, run.info.run_id))
    tables.close()
    assert found[0] == found[1]
    assert (found[0]["metrics"], found[0]["tags"]["note"]) == ({"best": "5.0", "other": "1.0"}, "two")
    assert len(found[0]["history"]["best"]) == 4


def test_a_run_left_open_is_completed(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("open", artifact_location=tmp_path.as_uri())
    run = client.create_run(experiment, run_name="007 wide_deep", tags={"mlflow.user": "someone"})
    tables = writer(client, experiment, uri, database=True)
    tables.complete(run, ended())
    tables.close()
    found = told(client, run.info.run_id)
    assert (found["info"]["status"], found["metrics"]["loss"]) == ("FAILED", "0.5")


def test_tables_that_changed_and_servers_are_written_by_the_client(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(uri)
    assert type(writer(client, "0", uri, database=False)) is ByClient
    for given in (
        {**whole_runs.GIVEN, "params": {"key", "run_uuid"}},  # one more column that must be given
        {**whole_runs.GIVEN, "params": {"key", "value", "run_uuid", "kind"}},  # one less
        {**whole_runs.GIVEN, "parameters": {"key"}},
    ):
        monkeypatch.setattr(whole_runs, "GIVEN", given)
        assert type(writer(client, "0", uri, database=True)) is ByClient


def test_columns_with_a_default_may_be_left_out() -> None:
    columns = [
        sqlalchemy.Column("key", sqlalchemy.String, nullable=False),
        sqlalchemy.Column("kind", sqlalchemy.String, nullable=False, server_default="usual"),
        sqlalchemy.Column("note", sqlalchemy.String),
    ]
    table = sqlalchemy.Table("params", sqlalchemy.MetaData(), *columns)
    assert takes(table, {"key"})
    assert not takes(table, {"note"})
    assert not takes(table, {"key", "value"})
