"""Runs jobs on the nodes of a Ray cluster.

Ray places actors, carries data and tells which nodes live; each actor runs its jobs by a `LocalExecutor`, so processes
and limits are those of a search on one machine. Ray never runs anything again: what is lost is told as lost.
"""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from tunekit.errors import StudyError
from tunekit.executors.base import Child, Ended, Executor, Job
from tunekit.executors.bridge import Wish
from tunekit.executors.node import Order

START_PATIENCE = 180.0
"""Seconds for connecting, or for starting a cluster, until the first node is ready."""

GRACE = 10.0
"""Seconds that the first node that is ready waits for the others."""

LOST_PATIENCE = 120.0
"""Seconds without a node after which a cluster that was there is taken to be gone."""

GO_ON = "what was finished is in the ledger: run the study again to go on"

CLOSING = 20.0
"""Seconds for the bridge to end by itself."""


@dataclass
class _Seat:
    """An actor on a node: where jobs run.

    Args:
        slots: jobs at a time.
        ready: which of its servers are.
        jobs: numbers of those that run.
    """

    slots: int
    ready: frozenset[bool] = frozenset()
    jobs: set[int] = field(default_factory=set)

    @property
    def room(self) -> int:
        """Jobs that it could take."""
        return self.slots - len(self.jobs)


class RayChild(Child):
    """A job on a node.

    Args:
        bridge: the way to it.
        number: the job's.
        seat: number of its actor; None if there was none.
    """

    def __init__(self, bridge: _Bridge, number: int, seat: int | None) -> None:
        self.number = number
        self.seat = seat
        self._bridge = bridge

    def send(self, word: Any) -> None:
        """See `Child.send`."""
        self._bridge.post(self.seat, ("say", self.number, word))

    def kill(self) -> None:
        """See `Child.kill`."""
        self._bridge.post(self.seat, ("kill", self.number))


class _Bridge:
    """The process that talks to Ray, from outside."""

    def __init__(self, wish: Wish) -> None:
        ours, theirs = socket.socketpair()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `end`
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunekit.executors.bridge", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                start_new_session=True,  # Ctrl-C is the conductor's to handle
            )
        self.line = Connection(ours.detach())
        self.connected = False
        self._say(wish)

    def post(self, seat: int | None, letter: tuple[Any, ...]) -> None:
        """Send a letter to an actor."""
        if seat is not None:
            self._say(("post", seat, pickle.dumps(letter)))

    def start(self, seat: int, number: int, order: Order, folder: Path) -> None:
        """Have an actor start a job."""
        self._say(("start", seat, pickle.dumps(("start", number, order)), number, folder.absolute()))

    def _say(self, words: Any) -> None:
        with suppress(OSError):  # who listens will hear that it is gone
            self.line.send(words)

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "nothing"

    def end(self) -> None:
        """End it, and with it what it has on the cluster."""
        self.line.close()
        try:
            self._process.wait(CLOSING if self.connected else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()


class RayExecutor(Executor):
    """Runs jobs on the nodes of a Ray cluster.

    Args:
        workers: jobs at a time; None for as many as the cluster's CPUs allow.
        threads: how many each job may use; so many CPUs are reserved for it.
        data: the folder of the study's rows; a copy goes to each node once.
        heavy: whether jobs with TensorFlow will come.
        address: of the cluster's head, such as "10.0.0.5:6379"; None for the one that Ray finds on this machine or in
            RAY_ADDRESS, or else a new one on this machine, which ends with the executor.
        slots_per_actor: jobs at a time of one actor; None for all of its node's.

    Raises:
        StudyError: Ray is not installed, the cluster can't be reached, or none of its nodes can run trials.
    """

    def __init__(
        self,
        workers: int | None,
        threads: int,
        data: Path,
        *,
        heavy: bool = True,
        address: str | None = None,
        slots_per_actor: int | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise StudyError(
                "executor='ray' needs Ray, which is not installed here; run `pip install \"tunekit[ray]\"`, here and "
                "on every node"
            )
        if address is not None and "://" in address:
            raise StudyError(
                f"ray_address is {address!r}; expected the head's host and port, such as '10.0.0.5:6379', in a search "
                "that runs on a machine of the cluster"
            )
        self._wish = Wish(address, workers, threads, slots_per_actor, heavy, data.absolute())
        self._children: dict[int, RayChild] = {}
        self._said: list[tuple[Child, Any]] = []
        self._numbers = itertools.count()
        self._seats: dict[int, _Seat] = {}
        self._starting = 0
        self._connected = False
        self._old_bridges: list[_Bridge] = []
        self._alone_since = time.monotonic()
        self._bridge: _Bridge | None = _Bridge(self._wish)
        try:
            self._wait_for_nodes()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """See `Executor.workers`."""
        slots = sum(seat.slots for seat in self._seats.values())
        return slots if self._wish.workers is None else min(slots, self._wish.workers)

    def ready(self, *, heavy: bool) -> bool:
        """See `Executor.ready`."""
        return any(self._suits(seat, heavy) for seat in self._seats.values())

    def start(self, job: Job) -> RayChild:
        """See `Executor.start`."""
        number = next(self._numbers)
        places = {name: (self._suits(seat, job.heavy), seat.room) for name, seat in self._seats.items()}
        name = max(places, key=lambda name: places[name], default=None)
        bridge = self._open_bridge
        child = RayChild(bridge, number, name)
        if name is None:
            self._said.append((child, Ended("no node was left to run it", lost=True)))
            return child
        self._children[number] = child
        self._seats[name].jobs.add(number)
        path = tuple(str(Path(folder).absolute()) for folder in sys.path)
        order = Order(cloudpickle.dumps((job.function, job.arguments)), path, job.limits, job.heavy)
        bridge.start(name, number, order, job.folder)
        return child

    def listen(self, timeout: float) -> list[tuple[Child, Any]]:
        """See `Executor.listen`.

        Raises:
            StudyError: the cluster is gone, and has not come back.
        """
        self._take_all(0.0 if self._said else timeout)
        alone = time.monotonic() - self._alone_since
        if not self._seats and alone > LOST_PATIENCE:
            raise StudyError(f"{self._cluster} has had no node for trials for {alone:.0f} s; {GO_ON}")
        said, self._said = self._said, []
        return said

    def close(self) -> None:
        """See `Executor.close`."""
        bridges, self._bridge, self._old_bridges = [self._bridge, *self._old_bridges], None, []
        for bridge in bridges:
            if bridge is not None:
                bridge.end()
        self._seats.clear()

    @property
    def _open_bridge(self) -> _Bridge:
        if self._bridge is None:
            raise StudyError("the executor is closed; make a new one")
        return self._bridge

    @property
    def _cluster(self) -> str:
        return "the Ray cluster" if self._wish.address is None else f"the Ray cluster at {self._wish.address}"

    def _suits(self, seat: _Seat, heavy: bool) -> bool:
        return seat.room > 0 and (heavy and self._wish.heavy) in seat.ready

    def _wait_for_nodes(self) -> None:
        begun = time.monotonic()
        while not self._seats:
            self._take_all(0.5)
            if time.monotonic() - begun > START_PATIENCE:
                raise StudyError(
                    f"{self._cluster} had no node for trials within {START_PATIENCE:.0f} s; expected one with "
                    f"{self._wish.threads} free CPUs, or an address that can be reached: see `ray status`"
                )
        first = time.monotonic()
        while self._starting and time.monotonic() - first < GRACE:
            self._take_all(0.1)

    def _take_all(self, timeout: float) -> None:
        """Take in what the bridge has said."""
        try:
            while self._open_bridge.line.poll(timeout):
                self._take(*self._open_bridge.line.recv())
                timeout = 0.0
        except (EOFError, OSError):
            self._cross_again(f"its driver ended, and its last words were: {self._open_bridge.last_words}")

    def _take(self, kind: str, *facts: Any) -> None:
        if kind == "connected":
            self._open_bridge.connected = True
        elif kind == "said":
            self._hear(*facts)
        elif kind == "joined":
            number, slots, self._starting = facts
            self._seats[number] = _Seat(slots)
            self._connected = True
        elif kind == "left":
            self._lose(*facts)
        elif kind == "unfit":
            warnings.warn(facts[0], stacklevel=2)
        else:
            self._cross_again(facts[0])

    def _hear(self, name: int, ready: frozenset[bool], words: list[tuple[int, Any]], spoilt: dict[int, str]) -> None:
        seat = self._seats[name]
        seat.ready = ready
        for number, word in words:
            child = self._children[number]
            if isinstance(word, Ended):
                del self._children[number]
                seat.jobs.discard(number)
                if number in spoilt:
                    word = Ended(spoilt[number], lost=True)
            self._said.append((child, word))

    def _lose(self, name: int, reason: str) -> None:
        """End the jobs of an actor that is gone."""
        seat = self._seats.pop(name, None)
        for number in sorted(seat.jobs) if seat else ():
            self._said.append((self._children.pop(number), Ended(reason, lost=True)))
        if not self._seats:
            self._alone_since = time.monotonic()

    def _cross_again(self, reason: str) -> None:
        """The bridge is gone, and what ran beyond it: build another, unless there has been no node for long."""
        for name in list(self._seats):
            self._lose(name, "the Ray cluster was lost")
        self._old_bridges.append(self._open_bridge)
        self._open_bridge.line.close()
        if not self._connected:
            asked = "none was given" if self._wish.address is None else f"ray_address is {self._wish.address!r}"
            raise StudyError(f"there is no Ray cluster for the trials ({asked}): {reason}")
        if time.monotonic() - self._alone_since > LOST_PATIENCE:
            raise StudyError(f"{self._cluster} is gone ({reason}); {GO_ON}")
        self._bridge = _Bridge(replace(self._wish, patience=LOST_PATIENCE))
