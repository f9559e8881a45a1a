"""Conductors that train nothing, on one study, killed again and again: what the ledger must survive, in fast motion.

Run as a program it starts conductors, kills them at random moments, lets the last ones finish, and leaves in the folder
what each said it had done. `check` compares that with what the ledger holds.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tunekit.drivers import ProposalSampler, Random
from tunekit.ledger import Ledger, Running
from tunekit.space import Dimension, HyperParameters
from tunekit.stopping import FOLD_STEP, Median
from tunekit.trial import State, Trial

STUDY = "hammered"
IDENTITY = {"direction": "minimize", "seed": 3}
PLANS: dict[str, list[dict[str, Any]]] = {
    "net": [{"defaults": True}, *({"values": {"units": units}} for units in (8, 16, 32, 64, 128))],
    "trees": [{"defaults": True}, *({"values": {"lr": lr}} for lr in (0.01, 0.02, 0.05))],
}
ENDINGS = [State.COMPLETE, State.COMPLETE, State.STOPPED, State.FAILED, State.INTERRUPTED]
AT_ONCE = 3
HEARTBEAT, GRACE = 0.2, 1.0


def space() -> list[Dimension]:
    hp = HyperParameters()
    hp.Int("units", 4, 128, step=2, sampling="log", default=4)
    hp.Float("lr", 1e-3, 1e-1, sampling="log", default=1e-2)
    hp.Choice("kind", ["a", "b", "c"])
    return hp.space


def open_ledger(root: Path, storage: str | None) -> Ledger:
    ledger = Ledger(root, STUDY, storage, heartbeat=HEARTBEAT, grace=GRACE)
    ledger.open(IDENTITY, seed=3)
    for family, plans in PLANS.items():
        ledger.add_family(family, ProposalSampler(Random(), 3, family), Median(startup=2), plans)
    return ledger


class Conductor:
    """One process: trials in turns, in random steps."""

    def __init__(self, root: Path, storage: str | None, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.ledger = open_ledger(root, storage)
        self.flights: list[Running] = []
        self.ended = {trial.number for trial in self.ledger.trials()}

    def run(self) -> None:
        """Work until told to stop; then until everything that was planned has ended."""
        quiet = time.monotonic()
        while time.monotonic() - quiet < 2 * GRACE or not self.ledger.shared:
            stopping = (self.root / "stop").exists()
            waiting = [family for family in PLANS if self.ledger.planned(family)]
            if len(self.flights) < AT_ONCE and (waiting or not stopping):
                self.flights.append(self.ledger.start(self.chance.choice(waiting or list(PLANS)), time.time()))
            for running in list(self.flights):
                self.step(running, stopping)
            self.meet_others()
            if self.flights or waiting or not stopping or (self.ledger.shared and self.ledger.running()):
                quiet = time.monotonic()
            elif not self.ledger.shared:
                break
            else:
                time.sleep(0.05)
        self.ledger.close()

    def meet_others(self) -> None:
        self.ledger.beat(self.flights)
        self.ledger.adopt_stale()
        for trial in self.ledger.refresh():
            assert trial.number not in self.ended, f"{trial.name} is told twice"
            self.ended.add(trial.number)

    def step(self, running: Running, stopping: bool) -> None:
        trial, dimensions = running.trial, space()
        asked = len(trial.values)
        if asked < len(dimensions):
            self.ledger.suggest(running, dimensions[asked])
            if asked + 1 == len(dimensions):
                trial.same_as = getattr(self.ledger.settle(running), "number", None)
                self.say("settled", trial)
        elif self.chance.random() < 0.4:
            step = FOLD_STEP + len(trial.fold_scores)
            trial.fold_scores.append(self.chance.random())
            self.ledger.worth_more(running, trial.fold_scores[-1], step)
        elif trial.fold_scores and self.chance.random() < 0.5:
            self.flights.remove(running)
            trial.state = self.chance.choice(ENDINGS[: -1 if stopping else None])
            trial.score = sum(trial.fold_scores) / len(trial.fold_scores)
            folder = self.ledger.trial_folder(trial) / "fold0"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model").write_text(str(trial.score))
            self.ledger.end(running)
            assert trial.number not in self.ended
            self.ended.add(trial.number)
            self.say("ended", trial)

    def say(self, what: str, trial: Trial) -> None:
        """Write down what is done: from now on it must not be lost."""
        with (self.root / f"{what}.{os.getpid()}").open("a") as file:
            file.write(json.dumps(trial.to_json()) + "\n")


def said(root: Path, what: str) -> dict[int, Trial]:
    """What conductors wrote down, by the trial's number; a line that a kill tore is left out."""
    found: dict[int, Trial] = {}
    for path in root.glob(f"{what}.*"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                trial = Trial.from_json(json.loads(line))
                assert trial.number not in found, f"{trial.name} has {what} twice"
                found[trial.number] = trial
    return found


def check(root: Path, storage: str | None) -> Counter[State]:
    """Nothing that was finished is lost or doubled; what was interrupted ran again, as it was; every plan was run.

    Returns:
        How many trials ended in each state.
    """
    ledger = Ledger(root, STUDY, storage)
    ledger.open_to_read()
    trials = {trial.number: trial for trial in ledger.trials()}
    assert ledger.running() == []
    ledger.close()
    assert sorted(trials) == list(range(len(trials))), "numbers are given once, without gaps"
    assert len({(trial.family, trial.index) for trial in trials.values()}) == len(trials)
    for number, trial in said(root, "ended").items():
        assert trials[number].state is trial.state, f"{trial.name} ended {trial.state} and is {trials[number].state}"
        if trial.state is not State.INTERRUPTED:  # of one that was taken over, the other's word counts
            assert trials[number] == trial, f"{trial.name} was finished and has changed"
            assert (ledger.trial_folder(trial) / "fold0" / "model").read_text() == str(trial.score)
    settled = said(root, "settled")
    for trial in trials.values():
        if trial.retry_of is not None:
            first = next(one for one in trials.values() if (one.family, one.index) == (trial.family, trial.retry_of))
            assert first.state is State.INTERRUPTED
            assert trial.seed == first.seed
            if first.number in settled:
                known = settled[first.number].values
                again = {name: trial.values.get(name, known[name]) for name in known}
                assert again == known, f"{first} ran again as {trial}"
    for family, plans in PLANS.items():
        own = [trial for trial in trials.values() if trial.family == family]
        roots = {trial.index: [trial] for trial in own if trial.retry_of is None}
        for trial in own:
            if trial.retry_of is not None:
                roots[trial.retry_of].append(trial)
        for attempts in roots.values():
            finished = [trial for trial in attempts if trial.state is not State.INTERRUPTED]
            assert len(finished) == 1, f"{[trial.name for trial in attempts]}: finished {len(finished)} times"
        wanted = [plan.get("values", {}) for plan in plans]
        assert set(range(len(plans))) <= set(roots), "plans are the first trials of a family"
        for index, values in enumerate(wanted):
            assert roots[index][-1].values.items() >= values.items() or "lr" in values
    return Counter(trial.state for trial in trials.values())


def start(root: Path, storage: str | None, seed: int) -> int:
    """A conductor in a process of its own; the process's id."""
    child = os.fork()
    if child:
        return child
    try:
        Conductor(root, storage, seed).run()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def finished(root: Path) -> int:
    """How many trials have ended."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("ended.*"))


def run(root: Path, storage: str | None, **how: int | float) -> None:
    """Run this file: forking is safe in a process that has just begun."""
    options = [f"--{name}={value}" for name, value in how.items()]
    command = [sys.executable, __file__, str(root), *([f"--storage={storage}"] if storage else []), *options]
    house = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": house})
    assert done.returncode == 0, done.stderr


def hammer(root: Path, storage: str | None, conductors: int, kills: int, hangs: int, pause: float, seed: int) -> None:
    """Start conductors, kill them, let some hang for a while, and let the last ones finish."""
    chance = random.Random(seed)
    alive: list[int] = []
    for kill in range(kills + 1):
        while len(alive) < conductors:
            alive.append(start(root, storage, seed=1000 * seed + 10 * kill + len(alive)))
        if chance.random() < 0.7:  # else it may be killed while it opens, too
            more = finished(root) + chance.randint(1, 9)
            while finished(root) < more:
                time.sleep(0.01)
        time.sleep(chance.uniform(0.0, pause))
        if kill < kills:
            killed = alive.pop(chance.randrange(len(alive)))
            os.kill(killed, signal.SIGKILL)
            status = os.waitpid(killed, 0)[1]
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it had ended by itself"
        if kill < hangs:
            hung = chance.choice(alive)
            os.kill(hung, signal.SIGSTOP)
            time.sleep(2 * GRACE)  # the others take over what it had in flight, and it finds that out
            os.kill(hung, signal.SIGCONT)
    (root / "stop").touch()
    for child in alive:
        assert os.waitpid(child, 0)[1] == 0, "a conductor failed"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--storage")
    parser.add_argument("--conductors", type=int, default=1)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--hangs", type=int, default=0, help="how often one is silent for too long, and goes on")
    parser.add_argument("--pause", type=float, default=0.3, help="the longest that is waited in between, in seconds")
    parser.add_argument("--seed", type=int, default=1)
    hammer(**vars(parser.parse_args()))
