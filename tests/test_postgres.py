"""The ledger on PostgreSQL: many conductors on one study, some of which die, and a server that goes away."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hammer  # type: ignore[import-not-found]
import pytest
import sqlalchemy as sa
from ledgers import IDENTITY, end, open_ledger, space, start  # type: ignore[import-not-found]
from postgres import PASSWORD, CannotStart, Server, running_server  # type: ignore[import-not-found]

from tunekit.errors import StudyError
from tunekit.ledger import Ledger
from tunekit.ledger.database import checked
from tunekit.trial import State

GRACE = 30.0  # longer than any test takes: who is to be silent is made so by `silence`


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    try:
        with running_server() as server:
            yield server
    except CannotStart as error:
        pytest.skip(f"PostgreSQL can't be started here: {error}")


@pytest.fixture
def storage(server) -> str:
    """The address of an empty database."""
    return str(server.new_database())


@pytest.fixture
def conductor(storage, tmp_path: Path, monkeypatch) -> Iterator[Any]:
    """Opens a ledger as another conductor would; it says that it is alive when it is asked to."""
    ledgers: list[Ledger] = []
    monkeypatch.setattr("tunekit.ledger.registry.server_started", lambda: sa.func.to_timestamp(0))

    def joined(root: str = "root", **options: Any) -> Ledger:
        where = {"storage": storage, "heartbeat": 3600.0, "grace": GRACE, **options.pop("where", {})}
        ledgers.append(open_ledger(tmp_path / root, where=where, **options))
        return ledgers[-1]

    yield joined
    for ledger in ledgers:
        ledger.close()


def query(storage: str, text: str) -> list[Any]:
    engine = sa.create_engine(checked(storage))
    with engine.begin() as connection:
        result = connection.execute(sa.text(text))
        rows = list(result.all()) if result.returns_rows else []
    engine.dispose()
    return rows


def refreshed(ledger: Ledger) -> list[int]:
    """Numbers of what others ended; without the pause that `refresh` makes between looks."""
    ledger._looked = -math.inf
    return [trial.number for trial in ledger.refresh()]


def adopt(ledger: Ledger) -> None:
    """Take over what is stale; without the pause."""
    ledger._adopted = -math.inf
    ledger.adopt_stale()


def silence(ledger: Ledger) -> None:
    """Let a conductor have been silent for an hour."""
    opened = ledger._opened
    ids = ", ".join(map(str, [-1, *opened.storage.in_flight_here()]))
    hour = "SET heartbeat = heartbeat - interval '1 hour'"
    with opened.database._engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE trial_heartbeats {hour} WHERE trial_id IN ({ids})"))
        own = {"own": opened.registry._conductor}
        connection.execute(sa.text(f"UPDATE tunekit_conductors {hour} WHERE conductor = :own"), own)


def test_two_conductors_share_numbers_plans_and_what_they_found(conductor) -> None:
    one, two = conductor(), conductor()
    assert one.shared
    assert one.planned("net") == two.planned("net") == 3
    flying = [start(ledger) for ledger in (one, two, two, one, two)]
    assert [running.trial.number for running in flying] == [0, 1, 2, 3, 4]
    assert [running.trial.index for running in flying] == [0, 1, 2, 3, 4]
    values = [running.trial.values for running in flying]
    assert values[0]["units"] == 64, "the plans, each once"
    assert values[1]["units"] == 128
    assert values[2]["kind"] == "b"
    assert [running.plan is None for running in flying] == [False, False, False, True, True]
    assert values[3] != values[4], "proposals by the trial's index, whoever asks"
    assert [trial.number for trial in two.running()] == [0, 1, 2, 3, 4]
    first = end(one, flying[0])
    assert refreshed(one) == [], "its own"
    assert refreshed(two) == [0]
    assert refreshed(two) == []
    second = end(two, flying[1], State.FAILED, None)
    third = end(two, flying[2], State.INTERRUPTED, None)
    assert one.planned("net") == 0
    assert refreshed(one) == [1, 2]
    assert one.planned("net") == 1, "what was interrupted there may run here"
    assert one.trials() == two.trials() == [first, second, third]
    again = start(one)
    assert again.trial.values == values[2]
    assert again.trial.retry_of == 2
    assert again.trial.seed == third.seed
    assert two.trials() == [first, second, third]


def test_drivers_learn_from_other_conductors(conductor) -> None:
    one, two = conductor(plans=[]), conductor(plans=[])
    running = start(one)
    two._looked = -math.inf
    two.start("net", 100.0)
    seen = two._families["net"].study.get_trials(deepcopy=False)
    assert [dict(trial.params) for trial in seen] == [running.handle.params, {}], "what runs elsewhere, too"
    one.worth_more(running, 2.0, 1)
    end(one, running)
    refreshed(two)
    seen = two._families["net"].study.get_trials(deepcopy=False)
    assert seen[0].value == 1.5
    assert seen[0].intermediate_values == {1: 2.0}


def test_all_objectives_are_shared(conductor) -> None:
    one, two = (conductor(plans=[], also_minimize=["latency"]) for _ in range(2))
    running = start(one)
    running.trial.costs = {"latency": 0.25}
    end(one, running)
    assert refreshed(two) == [0]
    assert two._families["net"].study.get_trials(deepcopy=False)[0].values == [1.5, 0.25]
    assert two.trials()[0].costs == {"latency": 0.25}


def test_values_that_were_tried_elsewhere_are_recognised(conductor) -> None:
    one, two = conductor(), conductor()
    first, other = start(one, "net"), start(two, "net", dimensions=0)
    kept = end(one, first)
    refreshed(two)
    other.plan = first.plan
    for dimension in space():
        two.suggest(other, dimension)
    assert two.settle(other) == kept


def test_many_may_open_it_at_once_the_first_time(storage, tmp_path: Path) -> None:
    def joined(number: int) -> list[int]:
        where = {"storage": storage}
        ledger = open_ledger(tmp_path / "root", where=where)
        flying = [start(ledger, family) for family in ("net", "trees") for _ in range(2)]
        numbers = [running.trial.number for running in flying]
        for running in flying:
            end(ledger, running)
        ledger.close()
        return numbers

    with ThreadPoolExecutor(8) as threads:
        numbers = [number for some in threads.map(joined, range(8)) for number in some]
    assert sorted(numbers) == list(range(32))
    reader = Ledger(tmp_path / "elsewhere", "houses", storage)
    reader.open_to_read()
    trials = reader.trials()
    reader.close()
    assert [trial.number for trial in trials] == list(range(32))
    for family in ("net", "trees"):
        own = sorted(trial.index for trial in trials if trial.family == family)
        assert own == list(range(16)), "three plans, given once, and 13 of the driver's"
    assert query(storage, "SELECT COUNT(*) FROM trial_user_attributes WHERE key = 'plan'") == [(6,)]


# Conductors that die, or hang.


def test_what_a_dead_conductor_had_in_flight_is_run_elsewhere_as_it_was(conductor) -> None:
    dead, alive = conductor(plans=[]), conductor(plans=[])
    lost = [start(dead), start(dead, "trees"), start(dead, dimensions=2)]
    own = start(alive)
    adopt(alive)
    assert alive.planned("net") == 0, "not yet silent for too long"
    silence(dead)
    silence(alive)
    assert alive.beat([own]) == [], "and so it is heard"
    assert [trial.number for trial in alive.running()] == [3], "the others' heartbeats have ended"
    adopt(alive)
    adopt(alive)
    assert refreshed(alive) == [0, 1, 2]
    assert alive.planned("net") == 2
    assert alive.planned("trees") == 1
    third = conductor(plans=[])
    assert [trial.state for trial in third.trials()] == [State.INTERRUPTED] * 3
    assert "another one took it over" in str(third.trials()[0].error)
    again = [start(third), start(alive, "trees"), start(alive)]
    for before, after in zip(lost, again, strict=True):
        assert after.trial.retry_of == before.trial.index
        assert after.trial.seed == before.trial.seed
    assert [one.trial.values for one in again[:2]] == [one.trial.values for one in lost[:2]]
    assert again[2].trial.values.items() >= lost[2].trial.values.items(), "the driver's own, from the same seed"


def test_whoever_was_silent_for_too_long_learns_it_and_does_not_count(conductor) -> None:
    hung, alive = conductor(plans=[]), conductor(plans=[])
    lost = [start(hung), start(hung)]
    silence(hung)
    adopt(alive)
    again = start(alive)
    assert again.trial.retry_of == 0
    kept = end(alive, again)
    assert hung.beat(lost) == lost
    for running in lost:
        trial = end(hung, running)
        assert trial.state is State.INTERRUPTED
        assert "another one took it over" in str(trial.error)
    for ledger in (hung, alive, conductor(plans=[])):
        assert [trial.state for trial in ledger.trials()] == [State.INTERRUPTED, State.INTERRUPTED, State.COMPLETE]
        assert ledger.trials()[2] == kept
        assert ledger.planned("net") == 1, "the second one's retry; the first one's has ended"


def test_two_that_take_over_at_once_plan_it_once(conductor) -> None:
    dead, *others = (conductor(plans=[]) for _ in range(5))
    start(dead)
    silence(dead)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(adopt, others))
    for ledger in others:
        assert refreshed(ledger) == [0], "each is told once"
        assert ledger.planned("net") == 1


def test_a_server_that_was_down_has_heard_nobody(conductor, monkeypatch) -> None:
    """Its conductors are not dead because it was: silence counts from its own start at the earliest."""
    ledger = conductor(plans=[])
    start(ledger)
    silence(ledger)
    registry = ledger._opened.registry
    assert len(registry.stale()) == 1
    monkeypatch.undo()
    registry._grace = 1800.0  # the server runs for less
    assert registry.stale() == []
    registry._grace = 0.0
    assert len(registry.stale()) == 1


@pytest.mark.parametrize(
    ("conductors", "kills", "hangs", "seed"),
    [
        (2, 4, 1, 1),
        pytest.param(3, 25, 6, 2, marks=pytest.mark.slow),
        pytest.param(2, 40, 0, 3, marks=pytest.mark.slow),
    ],
    ids=["quick", "hanging", "killed"],
)
def test_killed_at_random_they_lose_nothing_and_count_nothing_twice(
    conductors, kills, hangs, seed, storage, tmp_path: Path
) -> None:
    hammer.run(tmp_path, storage, conductors=conductors, kills=kills, hangs=hangs, seed=seed)
    states = hammer.check(tmp_path, storage)
    assert states[State.COMPLETE] > 4
    assert states[State.INTERRUPTED] > 2


# Who may open it.


def test_another_study_is_refused_wherever_it_is_declared(conductor) -> None:
    ledger = conductor()
    with pytest.raises(StudyError, match="metric was rmse, is mae"):
        conductor("elsewhere", metric="mae")
    assert ledger.identity == IDENTITY
    start(ledger)


def test_fresh_is_refused_while_others_work_and_deletes_this_study_only(conductor, storage, tmp_path: Path) -> None:
    neighbours = [conductor(name=name) for name in ("house_", "houses2", "Houses")]
    for other in neighbours:
        end(other, start(other))
    ledger, other = conductor(name="houseX"), conductor(name="house_")
    kept = ledger.trial_folder(end(ledger, start(ledger)))
    with pytest.raises(
        StudyError, match=r"another search works on this study \(process \d+ on .*, seen \d+ seconds ago"
    ):
        conductor(name="houseX", fresh=True)
    assert kept.exists()
    ledger.close()
    fresh = conductor(name="houseX", fresh=True, metric="mae")
    assert fresh.trials() == []
    assert not kept.exists()
    assert fresh.planned("net") == 3
    assert start(fresh).trial.number == 0
    for neighbour in [*neighbours, other]:
        assert len(neighbour.trials()) == 1, "names that are alike are others' all the same"
    assert query(storage, "SELECT COUNT(*) FROM tunekit_records") == [(3,)]


def test_a_killed_search_holds_up_a_fresh_one_until_it_was_silent_for_long_enough(conductor) -> None:
    killed = conductor()
    start(killed)
    with pytest.raises(StudyError, match="If it was killed, wait until it has been silent for 30 seconds"):
        conductor(fresh=True)
    silence(killed)
    ledger = conductor(fresh=True)
    assert ledger.trials() == ledger.running() == []


def test_files_of_a_ledger_elsewhere_are_not_mixed_in(conductor, tmp_path: Path) -> None:
    local = open_ledger(tmp_path / "root")
    end(local, start(local))
    local.close()
    with pytest.raises(StudyError, match="holds files of another ledger"):
        conductor()
    conductor("elsewhere")


def test_it_is_read_from_anywhere(conductor, storage, tmp_path: Path) -> None:
    reader = Ledger(tmp_path / "laptop", "houses", storage)
    with pytest.raises(
        StudyError, match=r"has no trials yet in 127\.0\.0\.1:\d+/test_.*run `tunekit search` on it first"
    ):
        reader.open_to_read()
    ledger = conductor()
    with pytest.raises(StudyError, match="has no trials yet"):
        Ledger(tmp_path / "laptop", "another", storage).open_to_read()
    kept = end(ledger, start(ledger))
    start(ledger, "trees")
    reader.open_to_read()
    assert reader.trials() == [kept]
    assert [(trial.number, trial.family) for trial in reader.running()] == [(1, "trees")]
    assert reader.identity == IDENTITY
    with pytest.raises(StudyError, match=r"files of trial 000 net are not in .*need a folder that they share"):
        reader.fetch(kept)
    reader.close()


# A server that is not there.


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_a_database_that_cannot_be_used_is_named_without_its_password(wrong, server, tmp_path: Path, caplog) -> None:
    address = server.address("postgres", "another/password") if wrong == "password" else server.address("nowhere")
    with caplog.at_level(logging.DEBUG), pytest.raises(StudyError) as caught:
        open_ledger(tmp_path, where={"storage": address})
    told = f"{caught.value} {caught.value!r} {caplog.text}"
    assert f"the database 127.0.0.1:{server.port}/" in told
    assert "can't be used" in told
    assert PASSWORD not in told
    assert "another/password" not in told
    assert "%2F" not in told


def test_a_server_that_restarts_is_waited_for(server, conductor) -> None:
    ledger = conductor(plans=[])
    running = start(ledger)
    for act in (
        lambda: end(ledger, running),
        lambda: start(ledger),
        lambda: refreshed(ledger),
    ):
        server.stop()
        thread = threading.Timer(0.2, server.start)
        thread.start()
        act()
        thread.join()
    assert [trial.state for trial in ledger.trials()] == [State.COMPLETE]


def test_a_server_that_stays_away_ends_the_search_in_words(server, conductor, monkeypatch) -> None:
    monkeypatch.setattr("tunekit.ledger.database.PATIENCE", 1.0)
    ledger = conductor(plans=[])
    flying = [start(ledger), start(ledger)]
    server.stop()
    try:
        with pytest.raises(StudyError, match=r"did not answer for \d+ seconds: .*Start the search again") as caught:
            end(ledger, flying[0])
        assert PASSWORD not in str(caught.value)
        begun = time.monotonic()
        with pytest.raises(StudyError, match="did not answer"):
            end(ledger, flying[1])
        assert time.monotonic() - begun < 1.0, "the second one doesn't wait as long again"
    finally:
        server.start()
    silence(ledger)
    ledger.close()
    ledger = conductor(plans=[])
    assert [trial.state for trial in ledger.trials()] == [State.INTERRUPTED] * 2
    assert ledger.planned("net") == 2


def test_a_commit_whose_word_was_lost_counts_once(conductor, monkeypatch) -> None:
    """The connection breaks after the server committed, before it said so: it is tried again, and nothing doubles."""
    ledger = conductor()
    begin = sa.Engine.begin
    breaks = [False]

    class Broken:
        def __init__(self, engine: sa.Engine) -> None:
            self.context = begin(engine)

        def __enter__(self) -> sa.Connection:
            return self.context.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.context.__exit__(*error)
            if breaks[0]:
                breaks[0] = False
                raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection was lost"))

    monkeypatch.setattr(sa.Engine, "begin", lambda engine: Broken(engine))
    breaks[0] = True
    running = start(ledger)
    assert not breaks[0]
    for state, wanted in ((State.COMPLETE, 1), (State.INTERRUPTED, 1)):
        breaks[0] = True
        end(ledger, running, state, 1.5 if state is State.COMPLETE else None)
        assert not breaks[0]
        assert [trial.state for trial in ledger.trials()].count(state) == wanted
        running = start(ledger)
    assert [trial.number for trial in ledger.running()] == [0, 3], "the first is the one whose start was lost"
    trials = ledger.trials()
    assert len({trial.number for trial in trials}) == len(trials)
