"""A search that was killed, or stopped by its owner, loses nothing that was finished and goes on where it was."""

import os
import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import pytest
from searches import (  # type: ignore[import-not-found]
    LONG,
    alive,
    check_mirror,
    command,
    houses,
    records,
    shown,
    started,
    tunekit,
    wait_until,
    write_study,
)

from tunekit.drivers import ProposalSampler, find_driver
from tunekit.errors import StudyError
from tunekit.ledger import Ledger
from tunekit.space import HyperParameters
from tunekit.stopping import NeverStop
from tunekit.trial import State

COUNTED = ("complete", "stopped", "failed")
"""States of trials that count towards `--trials`; what was interrupted is run again."""

NET = """
def net(hp, data):
    inputs, x = data.keras_inputs()
    for i in range(hp.Int("layers", 1, 2)):
        x = keras.layers.Dense(hp.Int(f"units_{i}", 8, 64, step=2, sampling="log"), activation="relu")(x)
    model = keras.Model(inputs, data.keras_head(x))
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log", default=1e-2)), loss=data.loss)
    return model
"""


def prepare(folder: Path, table: pd.DataFrame, target: str, families: str, code: str = "") -> None:
    table.to_csv(folder / "train.csv", index=False)
    write_study(
        folder, f'tk.Table(HERE / "train.csv", target="{target}")', families, code=code, options="split=tk.KFold(2)"
    )


def content(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """All that a trial left: its record, and its files."""
    folder = Path(record["folder"])
    return record, {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ended(root: Path) -> dict[int, Any]:
    """Trials that count, by number, with all that they left."""
    kept = {}
    for record in records(root):
        if record["state"] in COUNTED:
            record["folder"] = str(root / "studies" / "small" / "trials" / f"{record['number']:04d}-{record['family']}")
            kept[record["number"]] = content(record)
    return kept


def kill_at_random(folder: Path, kills: int, seed: int, family: str = "*") -> dict[int, Any]:
    """Start a long search again and again, killing its conductor at some moment after it has begun to run trials.

    Trials of the family, if one is named.

    Returns what had ended at the last kill, after checking that each kill kept all that had ended by then.
    """
    moments = random.Random(seed)
    before: dict[int, Any] = {}
    root = folder / "mlruns"
    for kill in range(kills):
        known = started_trials(root, family)
        more = moments.randint(1, 3)
        with started(command("search", "study.py", "--budget", "1h"), folder) as process:
            if kill == 0:  # MLflow makes its database in dozens of steps: none of them may be the last
                wait_until((root / "mlflow.db.partial").exists, "MLflow's database is being made")
            wait_until(lambda known=known, more=more: started_trials(root, family) >= known + more, f"{more} trial(s)")
            with pytest.raises(subprocess.TimeoutExpired):  # still at work: not what is tested if it ended by itself
                process.wait(moments.uniform(0.0, 0.6))
            helpers = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
        wait_until(lambda helpers=helpers: not any(map(alive, helpers)), "the trials ended with their conductor")
        after = ended(root)
        for number, kept in before.items():
            assert after[number] == kept, f"trial {number} has changed"
        before = after
    return before


def started_trials(root: Path, family: str) -> int:
    return len(list((root / "studies" / "small" / "trials").glob(f"*-{family}")))


def check_whole(folder: Path, limit: int, before: dict[int, Any]) -> None:
    """After the last run: nothing lost, nothing twice, what was interrupted was run again with the same values."""
    root = folder / "mlruns"
    trials = shown(folder)["trials"]
    numbers = [trial["number"] for trial in trials]
    assert numbers == list(range(len(trials)))
    done = [trial for trial in trials if not trial["interrupted"]]
    assert sum(1 for trial in done if trial["same_as"] is None) == limit, "repeats of what was tried come on top"
    assert {trial["state"] for trial in done} <= set(COUNTED)
    after = ended(root)
    assert len(after) == len(done)
    for number, kept in before.items():
        assert after[number] == kept, f"trial {number} has changed"
    check_retries(records(root))
    check_mirror(root, trials)
    with closing(sqlite3.connect(root / "studies" / "small" / "ledger.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        running = connection.execute("SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'").fetchone()
    assert running == (0,)


def check_retries(trials: list[dict[str, Any]]) -> None:
    """Every interrupted trial has exactly one that follows it, of the same values and seed."""
    for trial in [one for one in trials if one["state"] == "interrupted"]:
        root = trial["index"] if trial["retry_of"] is None else trial["retry_of"]
        family = [one for one in trials if one["family"] == trial["family"]]
        again = [one for one in family if one["retry_of"] == root and one["index"] > trial["index"]]
        assert len([one for one in again if one["state"] != "interrupted"]) == 1, trial
        for one in again:
            assert one["seed"] == trial["seed"]
            same = {name: one["values"][name] for name in trial["values"] if name in one["values"]}
            assert same == trial["values"] or one["state"] == "interrupted"


def finish(folder: Path, before: dict[int, Any], more: int) -> None:
    """Let the search go on and end by itself, so many trials later, and look at all that it left."""
    run = [record for record, _ in before.values() if record["same_as"] is None]
    limit = len(run) + more
    tunekit(folder, "search", "study.py", "--trials", str(limit))
    check_whole(folder, limit, before)


@pytest.mark.slow
def test_killed_again_and_again_it_loses_nothing(tmp_path) -> None:
    prepare(tmp_path, houses(200), "Sale_Price", "tk.Baseline(), tk.Linear(), tk.Forest()")
    # more than what is planned: defaults and portfolios
    finish(tmp_path, kill_at_random(tmp_path, kills=3, seed=4), more=8)


@pytest.mark.slow  # TensorFlow is imported for each run
def test_killed_with_nets_in_flight_it_loses_nothing(tmp_path) -> None:
    prepare(tmp_path, houses(200), "Sale_Price", "tk.Baseline(), tk.Keras(net, epochs=30)", code=NET)
    finish(tmp_path, kill_at_random(tmp_path, kills=1, seed=2, family="net"), more=2)
    assert ("net", "interrupted") in {(one["family"], one["state"]) for one in records(tmp_path / "mlruns")}


# Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_by_its_owner_it_blends_what_is_there(tmp_path, number) -> None:
    prepare(tmp_path, houses(200), "Sale_Price", "tk.Baseline(), tk.Linear(), tk.Forest()")
    root = tmp_path / "mlruns"
    with started(command("search", "study.py", "--budget", "1h"), tmp_path) as process:
        wait_until(lambda: len(ended(root)) >= 4, "four trials ended")
        helpers = psutil.Process(process.pid).children(recursive=True)
        before = ended(root)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to the search and all that it started
        else:
            process.send_signal(number)
        assert process.wait(LONG) == 0
    assert not any(map(alive, helpers))
    told = (tmp_path / "printed.txt").read_text()
    assert "stopping; everything that is finished is kept" in told
    assert "Traceback" not in told
    summary = shown(tmp_path)
    assert summary["ensemble"]["verdict"]
    after = ended(root)
    assert {trial: after[trial] for trial in before} == before
    states = Counter(trial["state"] for trial in summary["trials"])
    assert set(states) <= {"complete", "stopped"}
    for trial in summary["trials"]:
        if trial["interrupted"]:
            assert trial["error"] == "interrupted by its owner; it is run again with the same values"
    check_mirror(root, summary["trials"])


# The moments that random kills rarely meet


@pytest.fixture
def open_ledger(tmp_path) -> Iterator[Callable[[], Ledger]]:
    """Opens the same ledger with one family, closing it first where it is open: what a crash leaves is on disk."""
    ledgers: list[Ledger] = []

    def opened() -> Ledger:
        for ledger in ledgers:
            ledger.close()
        ledger = Ledger(tmp_path, "small")
        ledgers.append(ledger)
        ledger.open({"direction": "minimize"}, seed=3)
        ledger.add_family("net", ProposalSampler(find_driver("random"), 3, "net"), NeverStop(), [{"defaults": True}])
        return ledger

    yield opened
    for ledger in ledgers:
        ledger.close()


def test_a_second_search_on_a_running_study_is_refused(open_ledger, tmp_path) -> None:
    open_ledger()
    with pytest.raises(StudyError, match=f"process {os.getpid()}"):
        Ledger(tmp_path, "small").open({"direction": "minimize"}, seed=3)


def test_killed_before_a_trial_has_its_number(open_ledger, monkeypatch) -> None:
    ledger = open_ledger()
    with monkeypatch.context() as patch:
        patch.setattr("tunekit.ledger.storage.Facts.write", _die)
        with pytest.raises(_Killed):
            ledger.start("net", 0.0)
    ledger = open_ledger()
    assert ledger.trials() == []
    assert ledger.planned("net") == 1
    again = ledger.start("net", 0.0)
    assert again.trial.number == 0
    hp = HyperParameters(lambda dimension: ledger.suggest(again, dimension))
    assert hp.Int("units", 8, 64, step=2, sampling="log", default=32) == 32  # it still is the one of the defaults


def test_killed_before_its_end_was_told_a_trial_is_run_again(open_ledger, monkeypatch) -> None:
    ledger = open_ledger()
    running = ledger.start("net", 0.0)
    running.trial.state, running.trial.score = State.COMPLETE, 1.5
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", _die)
        with pytest.raises(_Killed):
            ledger.end(running)
    ledger = open_ledger()
    assert [(trial.state, trial.score) for trial in ledger.trials()] == [(State.INTERRUPTED, None)]
    assert ledger.planned("net") == 1


@pytest.mark.parametrize("moment", ["running", "planned"])
def test_a_killed_trial_is_planned_once_and_its_record_tells_true_values(open_ledger, monkeypatch, moment) -> None:
    ledger = open_ledger()
    drawn = []
    for _ in range(2):  # one ends, so that the dimensions are known; the other is killed
        running = ledger.start("net", 0.0)
        hp = HyperParameters(partial(ledger.suggest, running))
        hp.Int("units", 8, 64, step=2, sampling="log")
        hp.Float("keep", 0.5, 0.99, sampling="reverse_log")
        ledger.settle(running)
        drawn.append(hp.values)
        if len(drawn) == 1:
            running.trial.state, running.trial.score = State.COMPLETE, 1.5
            ledger.end(running)
    if moment == "planned":
        running.trial.state = State.INTERRUPTED
        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, "tell", _die)
            with pytest.raises(_Killed):
                ledger.end(running)
    ledger = open_ledger()
    killed = ledger.trials()[1]
    assert (killed.number, killed.state) == (1, State.INTERRUPTED)
    assert killed.values == pytest.approx(drawn[1], rel=1e-12)  # through the stored form and back: rounding only
    assert ledger.planned("net") == 1
    again = ledger.start("net", 0.0)
    hp = HyperParameters(lambda dimension: ledger.suggest(again, dimension))
    hp.Int("units", 8, 64, step=2, sampling="log")
    hp.Float("keep", 0.5, 0.99, sampling="reverse_log")
    assert hp.values == drawn[1]
    assert (again.trial.seed, again.trial.number) == (running.trial.seed, 2)


class _Killed(BaseException):
    """Nothing catches it: stands for SIGKILL at a certain line."""


def _die(*arguments: Any, **named: Any) -> None:
    raise _Killed
