"""The loop of a search: choose a family, start a trial, answer its questions, record how it ended.

One process, one thread, no TensorFlow. It alone asks, tells and writes; trials compute in processes of their own.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunekit.data.store import Store
from tunekit.executors import Child, Limits, LocalExecutor
from tunekit.families import Family
from tunekit.ledger import Ledger, Running
from tunekit.stopping import FOLD_STEP, RUNGS
from tunekit.study.allocation import COUNTED, fits, is_exhausted, next_family
from tunekit.study.prepared import Prepared
from tunekit.tracking import Observer
from tunekit.training.trial import TrialTask, run_trial
from tunekit.trial import Epoch, State, Trial

TICK = 0.25
"""Seconds between looks at the clock and at the limits."""


@dataclass
class Clock:
    """What is left of a budget.

    Args:
        budget: seconds for everything, or None.
        reserve: seconds of it that are kept for what comes after the trials.
        started: `time.monotonic()` at the start.
    """

    budget: float | None
    reserve: float
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that trials may still take; None without a budget."""
        return None if self.budget is None else max(0.0, self.budget - self.reserve - self.elapsed)


@dataclass
class _Flight:
    """A trial in its process."""

    running: Running
    child: Child
    ended: bool = False

    def answer(self, value: Any) -> None:
        """Answer the process; if it is gone, reading on will tell how it ended."""
        with contextlib.suppress(OSError):
            self.child.channel.send(value)


class Conductor:
    """Runs the trials of a study until its budget is spent, its space is exhausted, or it is told to stop.

    Args:
        prepared: the rows.
        store: the same, on disk.
        families: in the order of their first trials.
        ledger: open for a search, with every family added.
        observer: watches.
        clock: the budget.
        trial_limit: number of trials that the study has in the end, or None.
        workers: trials at a time.
        threads: of each trial.
        limits: of each trial.
    """

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        families: Sequence[Family],
        ledger: Ledger,
        observer: Observer,
        *,
        clock: Clock,
        trial_limit: int | None,
        workers: int,
        threads: int,
        limits: Limits,
    ) -> None:
        self._prepared = prepared
        self._store = store
        self._families = {family.name: family for family in families}
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._trial_limit = trial_limit
        self._workers = workers
        self._threads = threads
        self._limits = limits
        self._flights: list[_Flight] = []
        self._asked_to_stop = False
        self._given_up: set[str] = set()
        self.trials = ledger.trials()
        self.busy_seconds = 0.0

    def run(self, executor: LocalExecutor) -> None:
        """Run trials. Ctrl-C, or SIGTERM, ends the search cleanly; a second Ctrl-C ends it at once."""
        restore = self._catch_signals()
        try:
            while not self._over():
                self._start_trials(executor)
                if not self._flights and not self._waits_for_server(executor):
                    break
                self._listen(executor)
        finally:
            restore()
            self._interrupt_all()

    def _over(self) -> bool:
        return self._asked_to_stop or self._clock.left == 0.0

    def _start_trials(self, executor: LocalExecutor) -> None:
        while len(self._flights) < self._workers and not self._enough():
            family = self._choose(executor)
            if family is None:
                return
            self._start(executor, self._families[family])

    def _enough(self) -> bool:
        return self._trials_left <= 0

    @property
    def _trials_left(self) -> float:
        if self._trial_limit is None:
            return math.inf
        spent = sum(1 for trial in self.trials if trial.state in COUNTED)
        return self._trial_limit - spent - len(self._flights)

    def _choose(self, executor: LocalExecutor) -> str | None:
        ready = [name for name, family in self._families.items() if executor.ready(heavy=family.needs_tensorflow)]
        choice = self._next([name for name in ready if fits(name, self.trials, self._clock.left)])
        # A limited number of trials is not used up by those that could start while others had to wait.
        waiting = [name for name in self._families if name not in ready and name not in self._given_up]
        if self._trials_left > sum(self._ledger.planned(name) for name in waiting):
            return choice
        return choice if choice == self._next(list(self._families)) else None

    def _next(self, names: list[str]) -> str | None:
        flying = [flight.running.trial.family for flight in self._flights]
        started = {
            name: sum(1 for trial in self.trials if trial.family == name) + flying.count(name)
            for name in self._families
        }
        names = [name for name in names if name not in self._given_up and not self._ledger.exhausted(name)]
        planned = {name: self._ledger.planned(name) for name in names}
        return next_family(names, planned, started, self.trials, self._prepared.metric)

    def _waits_for_server(self, executor: LocalExecutor) -> bool:
        """Whether there is work for a server that is still importing."""
        if self._enough():
            return False
        waiting = [name for name, family in self._families.items() if not executor.ready(heavy=family.needs_tensorflow)]
        return bool(waiting) and self._next(waiting) is not None

    def _start(self, executor: LocalExecutor, family: Family) -> None:
        running = self._ledger.start(family.name, time.time())
        folder = self._ledger.trial_folder(running.trial)
        folder.mkdir(parents=True, exist_ok=True)
        task = TrialTask(
            self._store, family, self._prepared.metric, running.trial.seed, self._threads, folder, self._limits.seconds
        )
        child = executor.start(run_trial, (task,), folder / "log.txt", self._limits, heavy=family.needs_tensorflow)
        self._flights.append(_Flight(running, child))
        self._observer.trial_started(running.trial)

    def _listen(self, executor: LocalExecutor) -> None:
        by_child = {id(flight.child): flight for flight in self._flights}
        for child in executor.wait([flight.child for flight in self._flights], TICK):
            flight = by_child[id(child)]
            try:
                while not flight.ended and child.channel.poll():
                    self._take(flight, child.channel.recv())
            except (EOFError, OSError):
                executor.wait_for_status(child)
                self._end(flight, State.FAILED, child.reason)
        for flight in list(self._flights):
            flight.child.check_limits()
        self._observer.tick(self._clock.left, [flight.running.trial for flight in self._flights])

    def _take(self, flight: _Flight, message: tuple[Any, ...]) -> None:
        kind, *facts = message
        running = flight.running
        if kind == "suggest":
            flight.answer(self._ledger.suggest(running, facts[0]))
        elif kind == "epoch":
            self._take_epoch(flight, *facts)
        elif kind == "fold":
            self._take_fold(flight, *facts)
        elif kind == "failed":
            self._end(flight, State.FAILED, facts[0])
        else:
            running.trial.fit_seconds, running.trial.memory = facts
            self._end(flight, State.COMPLETE if kind == "done" else State.STOPPED, None)

    def _take_epoch(self, flight: _Flight, fold: int, epoch: int, best: float, logs: dict[str, float]) -> None:
        trial = flight.running.trial
        trial.curve.append(Epoch(fold, epoch, logs))
        if fold > 0:
            return
        trial.score = best
        stop = epoch in RUNGS and not self._ledger.worth_more(flight.running, best, epoch)
        if stop:
            trial.error = f"stopped after {epoch} epochs: others were better by then"
        flight.answer(stop)

    def _take_fold(self, flight: _Flight, fold: int, score: float, best_epoch: int | None, seconds: float) -> None:
        trial = flight.running.trial
        trial.fold_scores.append(score)
        trial.score = sum(trial.fold_scores) / len(trial.fold_scores)
        trial.fit_seconds = seconds
        if best_epoch is not None:
            trial.best_epochs.append(best_epoch)
        last = fold + 1 == len(self._prepared.folds)
        more = self._ledger.worth_more(flight.running, trial.score, FOLD_STEP + fold) or last
        if not more:
            trial.error = f"stopped after {fold + 1} of {len(self._prepared.folds)} folds: others were better by then"
        flight.answer(more)

    def _end(self, flight: _Flight, state: State, error: str | None) -> None:
        flight.ended = True
        self._flights.remove(flight)
        flight.child.channel.close()
        trial = flight.running.trial
        trial.state = state
        trial.error = error or trial.error
        trial.seconds = time.time() - trial.started
        if state in (State.FAILED, State.INTERRUPTED):
            trial.fit_seconds = trial.seconds
        self.busy_seconds += trial.fit_seconds
        self._ledger.end(flight.running)
        self.trials.append(trial)
        self._observer.trial_ended(trial)
        self._give_up_on(trial)

    def _give_up_on(self, trial: Trial) -> None:
        """Say so once when a family's trials have done nothing but fail."""
        own = [one for one in self.trials if one.family == trial.family]
        failed = [one for one in own if one.state is State.FAILED]
        hopeless = len(failed) == sum(1 for one in own if one.state in COUNTED) and is_exhausted(own)
        if trial.state is State.FAILED and hopeless and trial.family not in self._given_up:
            self._given_up.add(trial.family)
            self._observer.message(f"{trial.family} is given up, all its trials failed; the last: {trial.error}")

    def _interrupt_all(self) -> None:
        reason = "interrupted by its owner" if self._asked_to_stop else "interrupted at the end of the budget"
        for flight in list(self._flights):
            flight.child.kill()
            self._end(flight, State.INTERRUPTED, f"{reason}; it is run again with the same values")

    def _catch_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def ask(number: int, frame: Any) -> None:
            del frame
            if self._asked_to_stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._asked_to_stop = True
            self._observer.message("stopping; everything that is finished is kept and blended (again to stop at once)")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore
