"""The ledger: a real database, real kills, and what a search finds when it comes back."""

import itertools
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import hammer  # type: ignore[import-not-found]
import pytest
from ledgers import (  # type: ignore[import-not-found]
    DEFAULTS,
    IDENTITY,
    Killed,
    die_in_transaction,
    dies,
    end,
    open_ledger,
    space,
    start,
)

from tunekit.drivers import ProposalSampler, Random, find_driver
from tunekit.errors import StudyError
from tunekit.ledger import Ledger, write_json
from tunekit.space import HyperParameters
from tunekit.stopping import FOLD_STEP, Halving, Median
from tunekit.trial import Epoch, State, Trial, derive_seed


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened = open_ledger(tmp_path)
    yield opened
    opened.close()


def test_plans_come_first_then_the_driver(ledger) -> None:
    assert ledger.planned("net") == 3
    default = start(ledger)
    assert default.plan == DEFAULTS
    assert default.trial.values == {"units": 64, "lr": 1e-3, "kind": "a"}
    # The rest of a portfolio's entry are defaults.  A logarithm and back costs the last places.
    assert start(ledger).trial.values == {"units": 128, "lr": pytest.approx(1e-3), "kind": "a"}
    assert start(ledger).trial.values == {"units": 64, "lr": pytest.approx(1e-2), "kind": "b"}
    assert ledger.planned("net") == 0
    assert ledger.planned("trees") == 3, "each family has its own"
    free = start(ledger)
    assert free.plan is None
    assert all(dimension.contains(free.trial.values[dimension.name]) for dimension in space())


def test_numbers_count_the_study_and_indices_the_family(ledger) -> None:
    trials = [start(ledger, family).trial for family in ("net", "trees", "net")]
    assert [(trial.number, trial.family, trial.index) for trial in trials] == [
        (0, "net", 0),
        (1, "trees", 0),
        (2, "net", 1),
    ]
    assert len({trial.seed for trial in trials}) == 3
    assert trials[0].name == "000 net"


@pytest.mark.parametrize("state", [State.COMPLETE, State.STOPPED, State.FAILED, State.INTERRUPTED])
def test_a_trial_ends_in_each_state(state, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    running = start(ledger)
    trial = running.trial
    ledger.worth_more(running, 2.0, 1)
    trial.curve = [Epoch(0, 1, {"loss": 0.5, "val_loss": 0.75}), Epoch(1, 1, {"loss": 0.25})]
    trial.fold_scores, trial.best_epochs = [1.0, 2.0], [3, 4]
    trial.seconds, trial.fit_seconds, trial.memory = 1.25, 1.0, 2**30
    trial.error = None if state is State.COMPLETE else "in words"
    end(ledger, running, state, None if state is State.FAILED else 1.5)
    assert ledger.trials() == [trial]
    ledger.close()
    again = open_ledger(tmp_path)
    assert again.trials() == [trial], "and so it is read by the next search"
    assert type(again.trials()[0].state) is State
    assert again.planned("net") == (3 if state is State.INTERRUPTED else 2)
    assert start(again).trial.number == 1
    again.close()
    reader = Ledger(tmp_path, "houses")
    reader.open_to_read()
    assert reader.trials() == [trial]
    reader.close()


def test_trials_come_by_number_whatever_ended_first(ledger) -> None:
    flying = [start(ledger, family) for family in ("net", "trees", "net", "trees")]
    for running in reversed(flying):
        end(ledger, running)
    assert [trial.number for trial in ledger.trials()] == [0, 1, 2, 3]


def test_trials_in_flight_are_not_among_those_that_ended(ledger, tmp_path: Path) -> None:
    end(ledger, start(ledger))
    start(ledger, "trees")
    assert [trial.family for trial in ledger.trials()] == ["net"]
    reader = Ledger(tmp_path, "houses")
    reader.open_to_read()
    assert [(trial.number, trial.family, trial.state) for trial in reader.running()] == [(1, "trees", State.RUNNING)]
    reader.close()
    ledger.close()
    reader.open_to_read()
    assert reader.running() == [], "nobody searches any more: it is dead"
    reader.close()


def test_planned_trials_are_never_stopped(ledger) -> None:
    for score in (1.0, 1.1, 0.9):
        running = start(ledger)
        assert ledger.worth_more(running, 1e9 if score == 0.9 else score, FOLD_STEP)
        end(ledger, running, score=score)
    bad = start(ledger)
    assert bad.plan is None
    assert not ledger.worth_more(bad, 1e9, FOLD_STEP), "the fourth is the driver's own, and far worse than the others"


def test_halving_compares_with_planned_trials(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "houses")
    ledger.open(IDENTITY, seed=7)
    ledger.add_family("net", ProposalSampler(Random(), 7, "net"), Halving(min_epochs=8), [DEFAULTS])
    assert ledger.worth_more(start(ledger), 1.0, 8)
    assert not ledger.worth_more(start(ledger), 9.0, 8), "worse than the defaults, at the same epoch"
    ledger.close()


# Crashes.


def test_an_interrupted_trial_is_planned_again_with_its_values_and_seed(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    first = start(ledger)
    end(ledger, first, State.INTERRUPTED, None)
    assert ledger.planned("net") == 1
    second = start(ledger)
    assert second.trial.values == first.trial.values
    assert second.trial.seed == first.trial.seed
    assert second.trial.retry_of == first.trial.index == 0
    assert second.trial.number != first.trial.number
    end(ledger, second, State.INTERRUPTED, None)
    ledger.close()
    ledger = open_ledger(tmp_path, plans=[])
    third = start(ledger)
    assert third.trial.values == first.trial.values
    assert third.trial.seed == first.trial.seed
    assert third.trial.retry_of == 0, "the root, however often it was interrupted"
    end(ledger, third)
    assert ledger.planned("net") == 0
    ledger.close()


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import ledgers as house

ledger = house.open_ledger(Path({root!r}), plans=[])
house.end(ledger, house.start(ledger))
flying = [house.start(ledger), house.start(ledger, "trees", dimensions=2), ledger.start("net", 100.0)]
print(json.dumps([[one.trial.values, one.trial.seed] for one in flying]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_search_finds_its_trials_again(tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    flying = json.loads(killed.stdout)

    ledger = open_ledger(tmp_path, plans=[])
    trials = ledger.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE, *[State.INTERRUPTED] * 3], "nothing finished is lost"
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert all("killed" in str(trial.error) for trial in trials[1:])
    assert [trial.seed for trial in trials[1:]] == [seed for _, seed in flying]
    assert trials[1].values == flying[0][0], "what is shown are values, not how they are stored"
    assert trials[2].values == {}, "it didn't train yet: what it would be given was not written"
    assert ledger.planned("net") == 2
    assert ledger.planned("trees") == 1

    again = [start(ledger), start(ledger, "trees"), start(ledger)]
    assert again[0].trial.values == flying[0][0]
    for running, (values, seed) in zip(again, flying, strict=True):
        assert running.trial.values.items() >= values.items(), "as far as they had been asked for"
        assert running.trial.seed == seed
    assert [running.trial.number for running in again] == [4, 5, 6], "numbers are never given twice"
    assert [running.trial.retry_of for running in again] == [1, 0, 2]
    for running in again:
        end(ledger, running)
    ledger.close()
    ledger = open_ledger(tmp_path, plans=[])
    assert ledger.planned("net") == ledger.planned("trees") == 0
    ledger.close()


def test_a_defaults_trial_that_was_killed_is_the_defaults_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    start(ledger, dimensions=1)
    ledger.close()
    ledger = open_ledger(tmp_path)
    assert ledger.planned("net") == 3, "the defaults again, and the two that waited"
    values = [start(ledger).trial.values for _ in range(3)]
    assert {"units": 64, "lr": pytest.approx(1e-3), "kind": "a"} in values
    ledger.close()


@pytest.mark.parametrize("committed", [False, True])
def test_a_trial_is_planned_again_once_wherever_the_kill_fell(committed, tmp_path: Path, monkeypatch) -> None:
    """Killed in the n-th transaction of a trial that is interrupted, for every n: at its end, or right after it."""
    for nth in itertools.count(1):
        root = tmp_path / str(nth)
        ledger = open_ledger(root, plans=[])
        with monkeypatch.context() as patch:
            alive = die_in_transaction(patch, nth, committed=committed)
            with suppress(Killed):
                end(ledger, start(ledger), State.INTERRUPTED)
        ledger.close()
        open_ledger(root, plans=[]).close()  # which recovers; that is done once
        ledger = open_ledger(root, plans=[])
        ended = ledger.trials()
        assert len(ended) == (committed or nth > 1), "before its first transaction ended it was no trial"
        assert all(trial.state is State.INTERRUPTED for trial in ended)
        assert ledger.planned("net") == len(ended)
        running = start(ledger)
        assert running.trial.retry_of == (0 if ended else None)
        assert running.trial.number == len(ended)
        assert running.trial.seed == derive_seed(7, "fit", "net", 0)
        end(ledger, running)
        assert ledger.planned("net") == 0
        ledger.close()
        if alive():
            break
    assert nth > 3, "there were transactions to be killed in"


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("state", [State.COMPLETE, State.STOPPED, State.FAILED])
def test_killed_while_it_ends_a_trial_has_ended_wholly_or_not_at_all(
    state, committed, tmp_path: Path, monkeypatch
) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    running = start(ledger)
    ledger.worth_more(running, 2.0, 1)
    with monkeypatch.context() as patch:
        die_in_transaction(patch, 1, committed=committed)
        with pytest.raises(Killed):
            end(ledger, running, state, None if state is State.FAILED else 1.5)
    ledger.close()
    record = ledger.trial_folder(running.trial) / "trial.json"
    assert not record.exists()
    ledger = open_ledger(tmp_path, plans=[])
    if committed:
        assert ledger.trials() == [running.trial]
        assert ledger.planned("net") == 0, "it ended: it is not run again"
    else:
        assert [trial.state for trial in ledger.trials()] == [State.INTERRUPTED]
        assert ledger.planned("net") == 1
    assert Trial.from_json(json.loads(record.read_text())) == ledger.trials()[0], "written now"
    ledger.close()


def test_a_half_written_file_is_never_read(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"old": 1})
    with monkeypatch.context() as patch:
        patch.setattr("tunekit.ledger.files.os.fsync", dies)
        with pytest.raises(Killed):
            write_json(path, {"new": "x" * 100})
    assert json.loads(path.read_text()) == {"old": 1}


def test_the_retry_of_a_changed_factory_takes_what_still_fits(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    before = start(ledger)
    end(ledger, before, State.INTERRUPTED, None)
    hp = HyperParameters()
    hp.Int("units", 1000, 2000, step=2, sampling="log")  # another grid
    hp.Float("lr", 1e-4, 1e-1, sampling="log")
    hp.Choice("kind", ["x", "y"])
    running = ledger.start("net", 100.0)
    values = {dimension.name: ledger.suggest(running, dimension) for dimension in hp.space}
    assert values["lr"] == before.trial.values["lr"]
    assert all(dimension.contains(values[dimension.name]) for dimension in hp.space)
    ledger.close()


# Who may open it.


def test_a_second_search_is_refused(ledger, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"another search is running on this study \(process \d+\); wait for it"):
        open_ledger(tmp_path)
    with pytest.raises(StudyError, match="another search"):
        open_ledger(tmp_path, fresh=True)
    assert ledger.planned("net") == 3, "and the first goes on"
    end(ledger, start(ledger))


def test_the_lock_is_free_when_its_owner_is_gone(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    open_ledger(tmp_path).close()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("data", "f" * 64, "data was 0123456789ab..., is ffffffffffff..."),
        ("split", "TimeSplit(5)", "split was KFold(5), is TimeSplit(5)"),
        ("metric", "mae", "metric was rmse, is mae"),
        ("seed", 8, "seed was 7, is 8"),
    ],
)
def test_another_study_is_refused_and_what_changed_is_named(name, value, told, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    kept = end(ledger, start(ledger))
    ledger.close()
    with pytest.raises(StudyError) as caught:
        open_ledger(tmp_path, **{name: value})
    message = str(caught.value)
    assert told in message
    assert message.count(" was ") == 2, "'was started differently', and the one thing that changed"
    assert "undo the change, give the study another name, or start anew with --fresh" in message
    ledger = open_ledger(tmp_path)
    assert ledger.trials() == [kept], "nothing was lost by the refusal"
    ledger.close()


def test_fresh_starts_anew(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    folder = ledger.trial_folder(end(ledger, start(ledger)))
    assert (folder / "trial.json").exists()
    ledger.close()
    ledger = open_ledger(tmp_path, fresh=True, metric="mae")
    assert not folder.exists()
    assert ledger.trials() == []
    assert ledger.planned("net") == 3
    assert start(ledger).trial.number == 0
    ledger.close()


def test_there_is_nothing_to_read_before_a_search(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has no trials yet.*run `tunekit search` on it first"):
        Ledger(tmp_path, "houses").open_to_read()
    with pytest.raises(StudyError, match="is not open"):
        Ledger(tmp_path, "houses").trials()


def test_a_family_that_is_new_in_a_resumed_study_gets_its_plans(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    end(ledger, start(ledger))
    ledger.add_family("late", ProposalSampler(find_driver("random"), 7, "late"), Median(), [DEFAULTS])
    assert ledger.planned("late") == 1
    assert start(ledger, "late").trial.number == 1
    ledger.close()


# The same values again.


def repeat(ledger: Any, values: dict[str, Any], family: str = "net") -> Any:
    """A trial of these values, asked for by a plan; with what `settle` says to it."""
    study = ledger._families[family].study
    study.enqueue_trial({}, user_attrs={"plan": {"values": values, "again": len(study.trials)}})
    running = ledger.start(family, 100.0)
    for dimension in space():
        ledger.suggest(running, dimension)
    return running, ledger.settle(running)


@pytest.mark.parametrize("state", [State.COMPLETE, State.STOPPED, State.FAILED])
def test_values_that_were_tried_are_recognised(state, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    values = {"units": 128, "lr": 0.02, "kind": "b"}
    running, earlier = repeat(ledger, values)
    assert earlier is None
    ledger.worth_more(running, 2.0, 1)
    first = end(ledger, running, state, None if state is State.FAILED else 1.5)
    second, earlier = repeat(ledger, values)
    assert earlier == first
    second.trial.same_as = earlier.number
    end(ledger, second, state, None if state is State.FAILED else 1.5)
    for other, family in (({**values, "units": 64}, "net"), (values, "trees")):
        running, earlier = repeat(ledger, other, family)
        assert earlier is None
        end(ledger, running)
    ledger.close()
    ledger = open_ledger(tmp_path, plans=[])
    assert repeat(ledger, values)[1] == first, "the original, not the one that repeats it; after a resume, too"
    assert ledger.trials()[1].same_as == first.number
    ledger.close()


def test_what_was_interrupted_was_not_tried_and_is_run_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    values = {"units": 128, "lr": 0.02, "kind": "b"}
    first, _ = repeat(ledger, values)
    other, earlier = repeat(ledger, values)
    assert earlier is None, "it still runs: it may fail by a crash that has nothing to do with its values"
    end(ledger, other)
    end(ledger, first, State.INTERRUPTED, None)
    retry = ledger.start("net", 100.0)
    for dimension in space():
        ledger.suggest(retry, dimension)
    assert retry.trial.values == first.trial.values
    assert ledger.settle(retry) is None, "as it would have been if it hadn't been interrupted"
    ledger.close()


def test_the_same_position_in_another_grid_is_another_value(tmp_path: Path) -> None:
    """A log-sampled int is stored as a position: when the grid has changed, that says nothing."""
    ledger = open_ledger(tmp_path, plans=[])
    for low, known in ((32, False), (16, False), (32, True)):
        hp = HyperParameters()
        hp.Int("units", low, 512, step=2, sampling="log", default=low)
        ledger._families["net"].study.enqueue_trial({}, user_attrs={"plan": {"defaults": True, "low": low}})
        running = ledger.start("net", 100.0)
        assert ledger.suggest(running, hp.space[0]) == low
        assert (ledger.settle(running) is not None) == known
        end(ledger, running)
    ledger.close()


def test_a_family_without_hyperparameters_has_one_trial_to_try(ledger) -> None:
    first = ledger.start("trees", 100.0)
    assert ledger.settle(first) is None
    end(ledger, first)
    again = ledger.settle(ledger.start("trees", 100.0))
    assert again == first.trial


def test_values_are_written_when_all_are_known_and_then_as_they_come(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    reader = Ledger(tmp_path, "houses")
    reader.open_to_read()

    def written() -> list[str]:
        with sqlite3.connect(tmp_path / "studies" / "houses" / "ledger.db") as connection:
            names = connection.execute("SELECT param_name FROM trial_params ORDER BY param_id").fetchall()
        connection.close()
        return [name for (name,) in names]

    running = start(ledger, dimensions=2)
    assert written() == []
    ledger.settle(running)
    assert written() == ["units", "lr"]
    ledger.suggest(running, space()[2])
    assert written() == ["units", "lr", "kind"]
    reader.close()
    ledger.close()


# Killed while it recovers, and at random.


@pytest.mark.parametrize("committed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_while_it_recovers_it_recovers_the_next_time(committed, tmp_path: Path, monkeypatch) -> None:
    for nth in itertools.count(1):
        root = tmp_path / str(nth)
        ledger = open_ledger(root, plans=[])
        flying = [start(ledger), start(ledger, "trees")]
        ledger.close()
        with monkeypatch.context() as patch, suppress(Killed):
            recover, alive = Ledger._recover, [False]

            def dying(ledger: Ledger, patch=patch, nth=nth, recover=recover, alive=alive) -> None:
                left = die_in_transaction(patch, nth, committed=committed)
                recover(ledger)
                alive[0] = left()

            patch.setattr(Ledger, "_recover", dying)
            open_ledger(root, plans=[]).close()
        ledger = open_ledger(root, plans=[])
        assert [trial.state for trial in ledger.trials()] == [State.INTERRUPTED] * 2
        for running in flying:
            again = start(ledger, running.trial.family)
            assert again.trial.values == running.trial.values
            assert again.trial.seed == running.trial.seed
            assert ledger.planned(running.trial.family) == 0
        ledger.close()
        if alive[0]:
            break
    assert nth > 3, "there were transactions to be killed in"


@pytest.mark.parametrize(("kills", "seed"), [(4, 1), pytest.param(40, 2, marks=pytest.mark.slow)])
def test_killed_at_random_it_loses_nothing_and_counts_nothing_twice(kills, seed, tmp_path: Path) -> None:
    hammer.run(tmp_path, None, kills=kills, seed=seed)
    states = hammer.check(tmp_path, None)
    assert states[State.COMPLETE] > 4
    assert states[State.INTERRUPTED] > 4


# Whose files are in the folder.


def test_files_of_another_ledger_are_not_mixed_with_those_of_this_one(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    kept = ledger.trial_folder(end(ledger, start(ledger)))
    ledger.close()
    (tmp_path / "studies" / "houses" / "ledger.db").unlink()
    with pytest.raises(StudyError, match=r"holds files of another ledger .* delete what is there with --fresh"):
        open_ledger(tmp_path)
    assert kept.exists()
    open_ledger(tmp_path, fresh=True).close()
    assert not kept.exists()


# Where it is.


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("mysql://me:secret@host/houses", "the storage is mysql; expected a PostgreSQL database, such as"),
        ("sqlite:///secret.db", "the storage is sqlite; expected .* or leave it out for SQLite in the study's folder"),
        ("me:secret@host", "the storage can't be read as an address; expected a PostgreSQL database"),
    ],
)
def test_other_databases_are_refused_and_no_password_is_told(storage, told, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=told) as caught:
        Ledger(tmp_path, "houses", storage)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    ledger = Ledger(tmp_path, "houses", "postgresql://me:secret@host/houses")
    with pytest.raises(StudyError, match=r'needs a driver; pip install "tunekit\[postgres\]"'):
        ledger.open(IDENTITY, seed=7)
    ledger.close()


def test_alone_there_is_nobody_to_be_heard_or_seen(ledger) -> None:
    running = start(ledger)
    assert not ledger.shared
    assert ledger.beat([running]) == []
    ledger.adopt_stale()
    assert ledger.refresh() == []
    assert ledger.identity == IDENTITY
