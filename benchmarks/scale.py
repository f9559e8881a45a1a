"""Trials per second with more and more Ray actors: trials that sleep, run by the real conductor into a real ledger.

Each actor has one slot, and all are on this machine: sleeping trials let a few cores stand for a cluster, as long as
these are not busy, which `machine` tells. All figures are of the steady part, in which every actor had a trial. The
efficiency is the seconds slept in trials that ended, over actors times wall time. Milliseconds are the processors', per
trial: of the conductor, which is one thread and has its limit where they make a second per second; of the bridge, which
talks to Ray; and of all that takes part, trials and Ray included.

Run: python benchmarks/scale.py --actors 1 2 4 8 16 32 64 --json scale.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

import tunekit as tk
from tunekit.executors import Executor, Limits, LocalExecutor
from tunekit.executors.ray import RayExecutor
from tunekit.families.base import ArrayModel
from tunekit.ledger import Ledger
from tunekit.study.conductor import Conductor
from tunekit.study.goal import Clock, Goal
from tunekit.study.keeping import Keeping
from tunekit.study.search import _open
from tunekit.tracking import Observer, Observers, StudyFacts
from tunekit.tracking.mlflow import MlflowObserver
from tunekit.trial import State


class Sleeps(tk.families.Family):
    """Asks for one value, sleeps, and predicts a constant."""

    name = "sleeps"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def fit(self, hp, fold, report):
        """See `Family.fit`."""
        hp.Float("x", 0.0, 1.0)
        hp.settle()
        time.sleep(self.seconds)
        value = np.zeros((1, 1))
        return ArrayModel(
            "constant", "flat", fold.preparation, {"value": value[0]}, lambda rows: np.repeat(value, len(rows), axis=0)
        )


@dataclass(frozen=True)
class Sample:
    """Seconds so far: of the clock, and of the processors for this process, the bridge, all of ours, and all others."""

    wall: float
    conductor: float
    bridge: float
    ours: float
    machine: float
    ended: int


@dataclass
class Meter(Observer):
    """Takes samples where the steady part begins and ends: in between, every actor has a trial.

    Args:
        actors: so many.
        trials: so many will be started.
    """

    actors: int
    trials: int
    started: int = 0
    ended: int = 0
    samples: list[Sample] = field(default_factory=list)

    def trial_started(self, trial) -> None:
        """See `Observer.trial_started`."""
        self.started += 1
        if self.started in (2 * self.actors, self.trials):  # each actor has ended a trial: its process is warm
            self.samples.append(self._sample())

    def trial_ended(self, trial) -> None:
        """See `Observer.trial_ended`."""
        self.ended += trial.state is State.COMPLETE

    def _sample(self) -> Sample:
        busy = psutil.cpu_times()
        own = psutil.Process()
        others = {process: _seconds(process) for process in own.children(recursive=True)}
        bridge = sum(
            seconds for process, seconds in others.items() if process in own.children() and _is_bridge(process)
        )
        return Sample(
            time.monotonic(),
            time.process_time(),
            bridge,
            time.process_time() + sum(others.values()),
            sum(busy) - busy.idle - busy.iowait,
            self.ended,
        )


def _seconds(process: psutil.Process) -> float:
    """Of the processors, with those of the children that have ended."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def _is_bridge(process: psutil.Process) -> bool:
    return "tunekit.executors.bridge" in process.cmdline()


def rows() -> pd.DataFrame:
    """A hundred of them."""
    random = np.random.default_rng(0)
    return pd.DataFrame({"a": random.normal(size=100), "y": random.normal(size=100)})


@contextmanager
def executor(kind: str, actors: int, data: Path) -> Iterator[Executor]:
    """One with every server ready."""
    made: Executor
    if kind == "ray":
        made = RayExecutor(actors, 1, data, heavy=False, address="local", slots_per_actor=1)
    else:
        made = LocalExecutor(actors, 1, data.parent / "executor.log", data, heavy=False)
    try:
        while made.workers < actors or not _all_ready(made):
            made.listen(0.2)
        yield made
    finally:
        made.close()


def _all_ready(made: Executor) -> bool:
    seats = getattr(made, "_seats", None)
    return made.ready(heavy=False) if seats is None else all(seat.ready for seat in seats.values())


def measure(kind: str, actors: int, seconds: float, rounds: int, *, mlflow: bool) -> dict[str, Any]:
    """One search with so many actors, each of which runs so many trials one after the other."""
    family = Sleeps(seconds)
    study = tk.Study(
        "scale",
        data=tk.Table(rows(), target="y"),
        families=[family],
        split=tk.Holdout(test=0.1, valid=0.2),
        driver=tk.drivers.Random(),
        stopper=tk.NeverStop(),
    )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepared = study.prepare()
        prepared.write(root / "data")
        ledger = Ledger(root, study.name)
        try:
            _open(ledger, study, prepared, fresh=False)
            trials = actors * rounds
            meter = Meter(actors, trials)
            observer = Observers([meter, *([MlflowObserver(root)] if mlflow else [])])
            with executor(kind, actors, root / "data") as made:
                observer.study_started(_facts(actors, trials), [])
                goal = Goal(Clock(None, 0.0), prepared.metric, trials)
                conductor = Conductor(
                    prepared,
                    study.families,
                    study.driver.name,
                    study.stopper,
                    ledger,
                    observer,
                    goal=goal,
                    threads=1,
                    limits=Limits(600.0, 4 * 2**30),  # sleeping needs none, and 64 share this machine's
                    keeping=Keeping(ledger, prepared, 30, None),
                )
                conductor.run(made)
            observer.close()
        finally:
            ledger.close()
    return {"actors": actors, **figures(meter, seconds)}


def _facts(actors: int, trials: int) -> StudyFacts:
    return StudyFacts(
        "scale", "rmse", "minimize", "regression", ("sleeps",), "random", "Holdout", 100, 1, 0, "", None, trials, actors
    )


def figures(meter: Meter, seconds: float) -> dict[str, float]:
    """Of the steady part."""
    first, last = meter.samples
    wall, ended = last.wall - first.wall, last.ended - first.ended
    return {
        "trials": ended,
        "trials_per_second": ended / wall,
        "ideal": meter.actors / seconds,
        "efficiency": ended * seconds / (meter.actors * wall),
        "conductor_share": (last.conductor - first.conductor) / wall,
        "conductor_ms": 1000 * (last.conductor - first.conductor) / ended,
        "bridge_ms": 1000 * (last.bridge - first.bridge) / ended,
        "ours_ms": 1000 * (last.ours - first.ours) / ended,
        "machine_share": (last.machine - first.machine) / (wall * (psutil.cpu_count() or 1)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="that each trial sleeps")
    parser.add_argument("--rounds", type=int, default=20, help="trials per actor")
    parser.add_argument("--executor", choices=("ray", "local"), default="ray")
    parser.add_argument("--mlflow", action="store_true", help="record the trials in MLflow, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{'actors':>6} {'trials':>7} {'trials/s':>9} {'ideal':>7} {'efficiency':>11} ", end="")
    print(f"{'conductor':>10} {'ms/trial':>9} {'bridge ms':>10} {'all ms':>7} {'machine':>8}")
    found = []
    for actors in arguments.actors:
        one = measure(arguments.executor, actors, arguments.seconds, arguments.rounds, mlflow=arguments.mlflow)
        found.append(one)
        print(
            f"{one['actors']:6} {one['trials']:7} {one['trials_per_second']:9.2f} {one['ideal']:7.1f} "
            f"{one['efficiency']:11.1%} {one['conductor_share']:10.1%} {one['conductor_ms']:9.2f} "
            f"{one['bridge_ms']:10.2f} {one['ours_ms']:7.1f} {one['machine_share']:8.1%}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": arguments.seconds, "found": found}, indent=1))
