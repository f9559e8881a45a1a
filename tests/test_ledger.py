"""The ledger: a real database, real kills, and what a search finds when it comes back."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunekit.drivers import ProposalSampler, Random, find_driver
from tunekit.errors import StudyError
from tunekit.ledger import Ledger, Running, write_json
from tunekit.space import Dimension, HyperParameters
from tunekit.stopping import FOLD_STEP, Halving, Median
from tunekit.trial import Epoch, State, Trial

IDENTITY = {"data": "0123456789abcdef" * 4, "split": "KFold(5)", "metric": "rmse", "direction": "minimize", "seed": 7}
DEFAULTS: dict[str, Any] = {"defaults": True}
PORTFOLIO: list[dict[str, Any]] = [{"values": {"units": 128}}, {"values": {"lr": 0.01, "kind": "b"}}]


def factory(hp: HyperParameters) -> None:
    hp.Int("units", 32, 512, step=2, sampling="log", default=64)  # stored as a position
    hp.Float("lr", 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Choice("kind", ["a", "b", "c"])


def space() -> list[Dimension]:
    hp = HyperParameters()
    factory(hp)
    return hp.space


def open_ledger(root: Path, *, plans: list[dict[str, Any]] | None = None, seed: int = 7, **changed: Any) -> Ledger:
    ledger = Ledger(root, "houses")
    fresh = changed.pop("fresh", False)
    try:
        ledger.open({**IDENTITY, "seed": seed, **changed}, seed=seed, fresh=fresh)
        for family in ("net", "trees"):
            given: list[dict[str, Any]] = [DEFAULTS, *PORTFOLIO] if plans is None else plans
            ledger.add_family(family, ProposalSampler(Random(), seed, family), Median(startup=1), given)
    except BaseException:
        ledger.close()
        raise
    return ledger


def start(ledger: Ledger, family: str = "net", dimensions: int = 3) -> Running:
    """Start a trial and ask for so many of its values."""
    running = ledger.start(family, started=100.0)
    for dimension in space()[:dimensions]:
        ledger.suggest(running, dimension)
    return running


def end(ledger: Ledger, running: Running, state: State = State.COMPLETE, score: float | None = 1.5) -> Trial:
    running.trial.state, running.trial.score = state, score
    ledger.end(running)
    return running.trial


class Killed(Exception):
    """Stands for SIGKILL: nothing after it happens, and nobody tidies up."""


def dies(*_: Any, **__: Any) -> None:
    raise Killed


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
import test_ledger as house

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


@pytest.mark.parametrize(
    "moment", ["within start", "between planning and telling", "between planning and telling, told"]
)
def test_a_trial_is_planned_again_once_wherever_the_kill_fell(moment, tmp_path: Path, monkeypatch) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    with monkeypatch.context() as patch:
        if moment == "within start":
            patch.setattr("tunekit.ledger.Trial", dies)
            with pytest.raises(Killed):
                ledger.start("net", 100.0)
        elif moment == "between planning and telling":
            start(ledger)
            ledger.close()
            patch.setattr(Ledger, "_tell", dies)
            for _ in range(2):
                with pytest.raises(Killed):
                    open_ledger(tmp_path, plans=[])
        else:
            running = start(ledger)
            patch.setattr(Ledger, "_tell", dies)
            with pytest.raises(Killed):
                end(ledger, running, State.INTERRUPTED, None)
    ledger.close()
    for _ in range(2):
        ledger = open_ledger(tmp_path, plans=[])
        assert ledger.planned("net") == 1
        ended = ledger.trials()
        assert [trial.state for trial in ended] == [State.INTERRUPTED] * (moment != "within start")
        ledger.close()
    ledger = open_ledger(tmp_path, plans=[])
    running = start(ledger)
    assert running.trial.retry_of == 0
    end(ledger, running)
    assert ledger.planned("net") == 0
    ledger.close()


@pytest.mark.parametrize("state", [State.COMPLETE, State.STOPPED, State.FAILED])
def test_what_was_recorded_but_not_told_is_told_as_recorded(state, tmp_path: Path, monkeypatch) -> None:
    ledger = open_ledger(tmp_path, plans=[])
    running = start(ledger)
    ledger.worth_more(running, 2.0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_tell", dies)
        with pytest.raises(Killed):
            end(ledger, running, state, None if state is State.FAILED else 1.5)
    ledger.close()
    ledger = open_ledger(tmp_path, plans=[])
    assert ledger.trials() == [running.trial]
    assert ledger.planned("net") == 0, "it ended: it is not run again"
    ledger.close()


def test_a_half_written_file_is_never_read(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"old": 1})
    with monkeypatch.context() as patch:
        patch.setattr("tunekit.ledger.os.fsync", dies)
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
