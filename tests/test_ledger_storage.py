"""The buffered storage: what it writes is what Optuna would have written, and it asks the database little."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from ledgers import IDENTITY, end, open_ledger, space, start  # type: ignore[import-not-found]
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb import models
from optuna.trial import TrialState
from postgres import CannotStart, running_server  # type: ignore[import-not-found]

from tunekit.ledger.database import Database, checked
from tunekit.ledger.files import record_of
from tunekit.ledger.registry import Registry
from tunekit.ledger.storage import BufferedStorage
from tunekit.trial import Epoch, State

PLAN = {"values": {"units": 64}}


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    try:
        with running_server() as server:
            yield server
    except CannotStart as error:
        pytest.skip(f"PostgreSQL can't be started here: {error}")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request, tmp_path: Path) -> Callable[[str], str]:
    """Addresses of databases that are empty, for Optuna."""
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path / name}.db"
    server = request.getfixturevalue("server")
    return lambda name: str(server.new_database())


def opened(address: str) -> tuple[Database, BufferedStorage]:
    local = sa.make_url(address).database if address.startswith("sqlite") else None
    database = Database(checked(address) if local is None else Path(local))
    database.create_tables()
    Registry(database, "house", 60.0).join(dict(IDENTITY))
    return database, BufferedStorage(database, "house")


def work(study: optuna.Study, *, numbered: bool) -> None:
    """Everything that may happen to trials.

    Args:
        study: to work on.
        numbered: whether its storage numbers trials by itself.
    """
    study.enqueue_trial({}, user_attrs={"plan": PLAN})
    study.enqueue_trial({}, user_attrs={"plan": {"values": {"units": 128}}})
    study.set_user_attr("about", "study")
    asked = []
    for number in range(6):
        trial = study.ask()
        asked.append(trial)
        if not numbered:
            trial.set_user_attr("number", number)
        if number == 5:
            study.enqueue_trial({}, user_attrs={"plan": {"values": {"units": 256}}})
        trial.suggest_float("lr", 1e-4, 1e-1 * (number + 1), log=True)
        trial.suggest_int("units", 8, 512, log=True)
        trial.suggest_categorical("kind", ["a", None, 3, 0.5, True])
        if number % 2:
            trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
            trial.suggest_int("only", 5, 5)
        for step, value in enumerate((0.1 + 0.2, math.inf, -math.inf, math.nan)[: number + 1]):
            trial.report(value, 10**6 + step)
        trial.set_user_attr("note", {"nested": [1, None, "ü"]})
        trial.set_user_attr("note", "the last word")
        trial.storage.set_trial_system_attr(trial._trial_id, "rung", 0.25)
    study.tell(asked[0], 1.25)
    study.tell(asked[1], state=TrialState.PRUNED)
    study.tell(asked[2], state=TrialState.FAIL)
    study.tell(asked[3], state=TrialState.PRUNED)
    study.tell(asked[4], -math.inf)


def contents(address: str) -> dict[str, list[str]]:
    """All rows of Optuna's tables, but ids of rows and times."""
    engine = sa.create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    found = {}
    with engine.connect() as connection:
        for table in models.BaseModel.metadata.sorted_tables:
            kept = [one for one in table.c if not one.primary_key and not isinstance(one.type, sa.DateTime)]
            rows = connection.execute(sa.select(*kept)).all()
            found[table.name] = sorted(map(str, rows))
    engine.dispose()
    return found


def facts(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """All of a trial, to be compared: NaN is not equal to itself."""
    reports = {step: repr(value) for step, value in trial.intermediate_values.items()}
    return {**vars(trial), "intermediate_values": reports, "distributions": trial.distributions}


def test_the_tables_hold_what_optuna_itself_would_have_stored(new_address) -> None:
    ours, optunas = new_address("ours"), new_address("optunas")
    database, storage = opened(ours)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(storage=storage, study_name="house/net", sampler=sampler)
    work(study, numbered=True)
    running = [trial for trial in study.trials if trial.state is TrialState.RUNNING]
    storage.settle(running[0]._trial_id)
    plain = optuna.storages.RDBStorage(optunas)
    sampler = optuna.samplers.RandomSampler(seed=1)
    work(optuna.create_study(storage=plain, study_name="house/net", sampler=sampler), numbered=False)
    found, expected = contents(ours), contents(optunas)
    if database.shared:
        assert len(found.pop("trial_heartbeats")) == 6
        assert expected.pop("trial_heartbeats") == []
    assert found == expected
    again = optuna.storages.RDBStorage(ours)
    read = optuna.load_study(storage=again, study_name="house/net")
    assert list(map(facts, study.trials)) == list(map(facts, read.trials)), "as it is seen here, too"
    assert [trial.state.name for trial in read.trials] == [
        *["COMPLETE", "PRUNED", "FAIL", "PRUNED", "COMPLETE", "RUNNING", "WAITING"]
    ]
    assert read.best_value == -math.inf
    assert all(trial.duration is not None for trial in read.trials if trial.state.is_finished())
    for one in (plain, again):
        one.remove_session()
        one.engine.dispose()
    database.close()


def test_what_was_read_back_is_what_was_there(new_address) -> None:
    address = new_address("ours")
    database, storage = opened(address)
    study = optuna.create_study(storage=storage, study_name="house/net")
    work(study, numbered=True)
    storage.settle(study.trials[5]._trial_id)
    other = BufferedStorage(database, "house")
    other.sync()
    assert other.take_ended() == [trial._trial_id for trial in study.trials if trial.state.is_finished()]
    assert other.take_ended() == []
    read = optuna.load_study(storage=other, study_name="house/net")
    assert list(map(facts, read.trials)) == list(map(facts, study.trials))
    assert read.user_attrs == {"about": "study"}
    assert read.direction is study.direction
    assert [one.study_name for one in optuna.get_all_study_summaries(other)] == ["house/net"]
    assert {trial.state for trial in read.get_trials(states=(TrialState.WAITING,))} == {TrialState.WAITING}
    with pytest.raises(KeyError):
        optuna.load_study(storage=other, study_name="house/trees")
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=other, study_name="house/net")
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        study.ask().suggest_categorical("kind", ["other", "choices"])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_user_attr(study.trials[0]._trial_id, "late", 1)
    database.close()


def test_trials_that_were_handed_out_do_not_change(new_address) -> None:
    database, storage = opened(new_address("ours"))
    study = optuna.create_study(storage=storage, study_name="house/net")
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    before = study.get_trials(deepcopy=False)[0]
    then = facts(before)
    trial.suggest_float("y", 0.0, 1.0)
    trial.report(1.0, 1)
    trial.set_user_attr("note", 1)
    study.tell(trial, 2.0)
    assert facts(before) == then
    assert study.trials[0].value == 2.0
    database.close()


def test_a_trial_costs_three_transactions_whatever_it_reports(tmp_path: Path, monkeypatch) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    run, runs = Database.run, [0]

    def counting(self: Database, *arguments: Any, **options: Any) -> Any:
        runs[0] += 1
        return run(self, *arguments, **options)

    monkeypatch.setattr(Database, "run", counting)

    def cost(act: Callable[[], Any], expected: int) -> Any:
        runs[0] = 0
        result = act()
        assert runs == [expected]
        return result

    def trial(steps: int) -> None:
        running = cost(lambda: ledger.start("net", 100.0), 1)
        cost(lambda: [ledger.suggest(running, one) for one in space()], 0)
        cost(lambda: ledger.settle(running), 1)
        cost(lambda: [ledger.worth_more(running, 1.0, step) for step in range(steps)], 0)
        cost(lambda: [ledger.beat([running]), ledger.adopt_stale(), ledger.refresh()], 0)
        cost(lambda: [ledger.planned("net"), ledger.exhausted("net"), ledger.trials()], 0)
        cost(lambda: end(ledger, running), 1)

    trial(3)
    trial(30)
    ledger.close()


def test_a_record_is_what_a_trial_says_of_itself(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = start(ledger).trial
    trial.curve = [Epoch(0, 1, {"loss": 0.5}), Epoch(1, 1, {"loss": 0.25, "val_loss": 0.125})]
    trial.state = State.COMPLETE
    ledger.close()
    assert json.loads(record_of(trial)) == json.loads(json.dumps(trial.to_json()))
