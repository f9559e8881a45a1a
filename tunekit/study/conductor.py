"""The loop of a search: choose a family, start a trial, answer its questions, record how it ended.

One process, one thread, no TensorFlow. It alone asks, tells and writes; trials compute in processes of their own. Where
several machines work on one study, each has a conductor, and the ledger is what they share.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunekit.drivers import ProposalCost
from tunekit.errors import StudyError
from tunekit.executors import Child, Ended, Executor, Job, Limits
from tunekit.families import Baseline, Family
from tunekit.ledger import Ledger, Running
from tunekit.stopping import FOLD_STEP, RUNGS, NeverStop, Stopper
from tunekit.study.allocation import Tally, fits, next_family
from tunekit.study.blend import best_first
from tunekit.study.goal import Goal
from tunekit.study.keeping import Keeping
from tunekit.study.prepared import Prepared
from tunekit.study.shares import Share, Shares
from tunekit.study.starting import ignored
from tunekit.study.worth import Worth
from tunekit.tracking import Observer
from tunekit.training.trial import MeasureCosts, TrialTask, run_trial
from tunekit.trial import Epoch, State, Trial

TICK = 0.25
"""Seconds between looks at the clock."""

MOST_REPEATS = 20
"""A family whose driver proposes only what was tried already, so often in a row, has nothing new to try."""

MOST_LOST = 3
"""A trial whose place was lost (a machine, a process server) so often is taken to be the cause."""

LATE = 0.5
"""Of a budget: a trial that had as much, and more to do, says that the search is short rather than that it hangs."""

LAST_WORDS = 2.0
"""Seconds at the end of a search for trials that are done to hand over what they wrote."""


@dataclass
class _Flight:
    """A trial in its process.

    Args:
        running: its record.
        child: its process.
        verdict: how it ended, by its own word; None as long as it runs.
        share: of the time that it may take.
    """

    running: Running
    child: Child
    share: Share
    verdict: State | None = None


class Conductor:
    """Runs the trials of a study until its goal is reached, its space is exhausted, or it is told to stop.

    Args:
        prepared: the rows.
        families: in the order of their first trials.
        driver: the name of the study's driver.
        stopper: of the study.
        ledger: open for a search, with every family added.
        observer: watches.
        goal: when to end.
        threads: of each trial.
        limits: of each trial.
        keeping: which trials' files stay on disk.
        costs: measures what it takes to serve a trial, where the study asks for that.
        board: whether nets' trainings are written down for TensorBoard.

    Attributes:
        trials: that ended.
        asked_to_stop: whether the search was, by a signal.
        busy_seconds: of trials that ended in this search.
    """

    def __init__(
        self,
        prepared: Prepared,
        families: Sequence[Family],
        driver: str,
        stopper: Stopper,
        ledger: Ledger,
        observer: Observer,
        *,
        goal: Goal,
        threads: int,
        limits: Limits,
        keeping: Keeping,
        costs: MeasureCosts | None = None,
        board: bool = False,
    ) -> None:
        self._prepared = prepared
        self._families = {family.name: family for family in families}
        # Costs are known after a fold; until then a trial with a bad score may be worth having.
        self._rungs = frozenset() if isinstance(stopper, NeverStop) or costs is not None else RUNGS
        self._costs = costs
        self._board = board
        self._proposals = ProposalCost(driver)
        self._ledger = ledger
        self._observer = observer
        self._goal = goal
        self._threads = threads
        self._limits = limits
        self._keeping = keeping
        self._flights: list[_Flight] = []
        self.asked_to_stop = False
        self._given_up: set[str] = set()
        self._repeats: Counter[str] = Counter()
        self._lost: Counter[tuple[str, int]] = Counter()
        self._ticked = -math.inf
        self.trials: list[Trial] = []
        self._tallies = {name: Tally() for name in self._families}
        self._shares = Shares(goal, self._families, self._tallies, prepared.metric, len(prepared.folds))
        self._worth = Worth(ledger, prepared)
        for trial in ledger.trials():
            self._count(trial)
        self.busy_seconds = 0.0

    def run(self, executor: Executor) -> None:
        """Run trials. Ctrl-C, or SIGTERM, ends the search cleanly; a second Ctrl-C ends it at once.

        Raises:
            StudyError: there is no room for what trials write.
        """
        restore = self._catch_signals()
        self._look_back()
        try:
            while not self._over():
                self._start_trials(executor)
                if not self._flights and not self._waits_for_server(executor):
                    break
                self._listen(executor, TICK)
                self._meet_others()
        finally:
            restore()
            self._interrupt_all(executor)

    def _look_back(self) -> None:
        """Say what earlier searches mean for this one."""
        self._tell_changes()
        for last in {trial.family: trial for trial in self.trials if trial.family in self._families}.values():
            if not self._ledger.planned(last.family):
                self._give_up_on(last)

    def _over(self) -> bool:
        return self.asked_to_stop or self._goal.clock.left == 0.0 or self._goal.reached(self.trials)

    def _start_trials(self, executor: Executor) -> None:
        while len(self._flights) < executor.workers and self._trials_left > 0:
            family = self._choose(executor)
            if family is None:
                return
            self._start(executor, self._families[family])

    @property
    def _trials_left(self) -> float:
        if self._goal.trials is None:
            return math.inf
        return self._goal.trials - sum(tally.run for tally in self._tallies.values()) - len(self._flights)

    def _choose(self, executor: Executor) -> str | None:
        ready = [name for name, family in self._families.items() if executor.ready(heavy=family.needs_tensorflow)]
        fitting = [name for name in self._families if fits(self._tallies[name], self._shares.left)]
        choice = self._next([name for name in fitting if name in ready])
        due = self._next(fitting)
        if due is not None and self._families[due].needs_tensorflow and self._shares.enough_for_nets:
            executor.prepare()
        # A limited number of trials is not used up by those that could start while others had to wait.
        waiting = [name for name in self._families if name not in ready and name not in self._given_up]
        if self._trials_left > sum(self._ledger.planned(name) for name in waiting):
            return choice
        return choice if choice == self._next(list(self._families)) else None

    def _next(self, names: list[str]) -> str | None:
        flying = [flight.running.trial.family for flight in self._flights]
        started = {name: tally.ended + flying.count(name) for name, tally in self._tallies.items()}
        names = [name for name in names if name not in self._given_up and not self._ledger.exhausted(name)]
        planned = {name: self._ledger.planned(name) for name in names}
        return next_family(
            names,
            planned,
            started,
            self._tallies,
            self._prepared.metric,
            self._worth.weights,
            by_time=self._shares.by_time,
        )

    def _waits_for_server(self, executor: Executor) -> bool:
        """Whether there is work for a server that is still importing."""
        if self._trials_left <= 0:
            return False
        waiting = [name for name, family in self._families.items() if not executor.ready(heavy=family.needs_tensorflow)]
        if not waiting or self._next(waiting) is None:
            return False
        executor.prepare()
        return True

    def _start(self, executor: Executor, family: Family) -> None:
        running = self._ledger.start(family.name, time.time())
        folder = self._ledger.trial_folder(running.trial)
        folder.mkdir(parents=True, exist_ok=True)
        rungs = self._rungs if running.plan is None else frozenset()
        share = self._shares.of(family, self._given_up, executor.workers)
        limits = [one for one in (share.first, self._limits.seconds) if one is not None]
        seconds = min(limits) if limits else None
        metric, seed = self._prepared.metric_of_trials, running.trial.seed
        task = TrialTask(family, metric, seed, self._threads, seconds, rungs, self._costs, self._board)
        job = Job(run_trial, (task,), folder, self._limits, heavy=family.needs_tensorflow)
        self._flights.append(_Flight(running, executor.start(job), share))
        running.trial.threads = self._threads
        self._observer.trial_started(running.trial)

    def _listen(self, executor: Executor, timeout: float) -> None:
        by_child = {id(flight.child): flight for flight in self._flights}
        for child, word in executor.listen(timeout):
            flight = by_child.get(id(child))
            if flight is None or flight not in self._flights:
                continue
            if isinstance(word, Ended):
                self._end_by(flight, word)
            else:
                self._take(flight, word)
        if time.monotonic() - self._ticked >= TICK:
            self._ticked = time.monotonic()
            self._observer.tick(self._goal.clock.left, [flight.running.trial for flight in self._flights])

    def _meet_others(self) -> None:
        """Where several conductors work on the study: be seen, take over from the dead, learn what others found."""
        if not self._ledger.shared:
            return
        for lost in self._ledger.beat([flight.running for flight in self._flights]):
            flight = next(one for one in self._flights if one.running is lost)
            flight.child.kill()
            self._end(flight, State.INTERRUPTED, "taken over by another machine, to which this one seemed dead")
        self._ledger.adopt_stale()
        for trial in self._ledger.refresh():
            self._count(trial)
            self._observer.trial_ended(trial)

    def _take(self, flight: _Flight, message: tuple[Any, ...]) -> None:
        kind, *facts = message
        running = flight.running
        if kind == "suggest":
            flight.child.send(self._ledger.suggest(running, facts[0]))
            self._tell_changes()
        elif kind == "settled":
            flight.child.send(self._is_new(flight))
        elif kind == "epochs":
            self._take_epochs(flight, *facts)
        elif kind == "costs":
            running.trial.costs = facts[0]
        elif kind == "fold":
            self._take_fold(flight, *facts)
        elif kind == "failed":
            running.trial.error = facts[0]
            flight.verdict = State.FAILED
        elif kind == "no room":
            raise StudyError(
                f"{running.trial.name} could not write: {facts[0]}; expected room in {self._ledger.folder} and for "
                "temporary files: make some, or keep less (--keep, --disk), and search again: it goes on where it was"
            )
        else:
            running.trial.fit_seconds, running.trial.memory = facts
            flight.verdict = flight.verdict or (State.COMPLETE if kind == "done" else State.STOPPED)

    def _tell_changes(self) -> None:
        for text in self._ledger.take_changes():
            self._observer.message(text)

    def _is_new(self, flight: _Flight) -> bool:
        """Whether a trial's values were never tried; else it gets the result that they had."""
        trial = flight.running.trial
        earlier = self._ledger.settle(flight.running)
        self._tell_changes()
        if told := ignored(flight.running.plan, trial.values):
            self._observer.message(f"{trial.name}: {told}")
        if earlier is None:
            self._repeats[trial.family] = 0
            return True
        self._repeats[trial.family] += 1
        trial.same_as = earlier.number
        trial.score = earlier.score
        trial.fold_scores = list(earlier.fold_scores)
        trial.best_epochs = list(earlier.best_epochs)
        trial.costs = dict(earlier.costs)
        trial.error = f"not run again: the same values as trial {earlier.number}"
        if earlier.error:
            trial.error += f": {earlier.error}"
        flight.verdict = earlier.state
        return False

    def _take_epochs(self, flight: _Flight, epochs: list[tuple[int, int, float, dict[str, float]]], asks: bool) -> None:
        trial = flight.running.trial
        stop = False
        for fold, epoch, best, logs in epochs:
            trial.curve.append(Epoch(fold, epoch, logs))
            if fold > 0:
                continue
            trial.score = best
            if epoch in self._rungs:  # of planned trials too, for others are compared with them
                stop = not self._ledger.worth_more(flight.running, best, epoch)
        if asks:
            if stop:
                trial.error = f"stopped after {epochs[-1][1]} epochs: others were better by then"
            flight.child.send(stop)

    def _take_fold(
        self, flight: _Flight, fold: int, score: float, best_epoch: int | None, seconds: float, pace: float | None
    ) -> None:
        trial = flight.running.trial
        trial.fold_scores.append(score)
        trial.fold_ends.append(time.time() - trial.started)
        trial.score = sum(trial.fold_scores) / len(trial.fold_scores)
        trial.fit_seconds = seconds
        if best_epoch is not None:
            trial.best_epochs.append(best_epoch)
        last = fold + 1 == len(self._prepared.folds)
        more = self._ledger.worth_more(flight.running, trial.score, FOLD_STEP + fold) or last
        if fold == 0 and not last and (needed := self._shares.beyond(flight.share, trial, seconds, pace)) is not None:
            more = False
            self._give_up_too_slow(flight, needed)
        elif more and not last and (needed := self._shares.too_late(flight.share, trial, seconds)) is not None:
            more = False
            self._end_too_late(flight, needed)
        elif not more:
            trial.error = f"stopped after {fold + 1} of {len(self._prepared.folds)} folds: others were better by then"
        flight.child.send(more)

    def _give_up_too_slow(self, flight: _Flight, needed: float) -> None:
        """End the first trial of a family for the others' sake."""
        trial = flight.running.trial
        flight.verdict = State.INTERRUPTED
        self._given_up.add(trial.family)
        trial.error = (
            f"ended after its first fold: all would take some {needed:.0f} s, more than its share of the time "
            "left; it is run again in a search with more"
        )
        tried = self._given_up | {other.running.trial.family for other in self._flights}
        if others := self._shares.slower_than(flight.share, trial, needed, tried):
            self._given_up.update(others)
            self._observer.message(
                f"{trial.family} would take some {needed:.0f} s, so that no net is tried in the "
                f"{self._shares.left or 0.0:.0f} s left ({', '.join(others)}): with more time they are"
            )

    def _end_too_late(self, flight: _Flight, needed: float) -> None:
        """End a trial whose other folds the time is not enough for."""
        trial, left = flight.running.trial, self._shares.left
        flight.verdict = State.STOPPED
        trial.error = (
            f"ended after {len(trial.fold_scores)} of {len(self._prepared.folds)} folds: the others would take some "
            f"{needed:.0f} s, and {left or 0.0:.0f} s are left"
        )
        # Another of the driver's proposals may be quicker; what was planned must not be lost.
        if flight.running.plan is not None or not fits(self._tallies[trial.family], left):
            flight.verdict = State.INTERRUPTED
            trial.error += "; it is run again in a search with more"
            self._given_up.add(trial.family)

    def _end_by(self, flight: _Flight, last: Ended) -> None:
        """End a trial by its own verdict, or by how its process ended."""
        trial = flight.running.trial
        if flight.verdict is not None:
            self._end(flight, flight.verdict, None)
        elif last.lost and self._may_run_again(trial):
            self._end(flight, State.INTERRUPTED, f"{last.reason}; it is run again with the same values")
        elif last.late and self._too_slow_for_the_budget(trial):
            self._given_up.add(trial.family)
            self._end(flight, State.INTERRUPTED, f"{last.reason}; it is run again in a search with more")
        else:
            self._end(flight, State.FAILED, last.reason or "its process went on to other work without a word")

    def _too_slow_for_the_budget(self, trial: Trial) -> bool:
        """Whether a trial whose time was over is no failure, but of a family that others should get the time of."""
        budget, limit = self._goal.clock.budget, self._limits.seconds
        others = self._families.keys() - self._given_up - {trial.family, Baseline.name}
        return budget is not None and limit is not None and limit >= LATE * budget and len(others) > 0

    def _count(self, trial: Trial) -> None:
        self.trials.append(trial)
        if self._ledger.is_outdated(trial):
            return
        self._tallies.setdefault(trial.family, Tally()).add(trial)  # its family may have left the study
        if trial.family in self._families:
            self._worth.look(trial)

    def _may_run_again(self, trial: Trial) -> bool:
        first = (trial.family, trial.index if trial.retry_of is None else trial.retry_of)
        self._lost[first] += 1
        return self._lost[first] < MOST_LOST

    def _end(self, flight: _Flight, state: State, error: str | None) -> None:
        self._flights.remove(flight)
        trial = flight.running.trial
        trial.state = state
        trial.error = error or trial.error
        trial.seconds = time.time() - trial.started
        if state is State.INTERRUPTED or (state is State.FAILED and trial.same_as is None):
            trial.fit_seconds = trial.seconds
        self.busy_seconds += trial.fit_seconds
        self._ledger.end(flight.running)
        self._count(trial)
        if self._goal.refits is not None:
            self._goal.keep_for_refits(best_first(self.trials, self._prepared))
        self._observer.trial_ended(trial)
        for notice in (self._keeping.look([trial]), self._proposals.look(trial)):
            if notice:
                self._observer.message(notice)
        self._give_up_on(trial)

    def _give_up_on(self, trial: Trial) -> None:
        """Say so once when a family's trials have done nothing but fail, or repeat what was tried."""
        if trial.family in self._given_up:
            return
        tally = self._tallies[trial.family]
        if trial.state is State.FAILED and tally.failed == tally.spent and tally.exhausted:
            self._given_up.add(trial.family)
            self._observer.message(
                f"{trial.family} is given up, all its trials failed; the last: {trial.error}; they are tried "
                "again once the study file has changed"
            )
        elif self._repeats[trial.family] >= MOST_REPEATS:
            self._given_up.add(trial.family)
            self._observer.message(
                f"{trial.family} is done: the last {MOST_REPEATS} proposals were all tried before; to go on, widen its "
                "search space or choose another driver"
            )

    def _interrupt_all(self, executor: Executor) -> None:
        deadline = time.monotonic() + LAST_WORDS
        while any(flight.verdict for flight in self._flights) and time.monotonic() < deadline:
            self._listen(executor, 0.05)
        reason = "interrupted by its owner" if self.asked_to_stop else "interrupted at the end of the search"
        for flight in list(self._flights):
            flight.child.kill()
            self._end(flight, State.INTERRUPTED, f"{reason}; it is run again with the same values")

    def _catch_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def ask(number: int, frame: Any) -> None:
            del frame
            if self.asked_to_stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked_to_stop = True
            self._observer.message("stopping; everything that is finished is kept (again to stop at once)")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore
