"""The process between a conductor and a Ray cluster: `python -m tunekit.executors.bridge FD`.

It is Ray's driver, and keeps actors on the nodes. Why it is not the conductor itself: Ray ends the process of a driver
that has missed the head of its cluster for a minute, and blocks it meanwhile; and it takes over SIGTERM. The bridge's
end is one more way in which a cluster can be lost, and the conductor survives it.

The conductor talks to it over a private socket pair. It receives a `Wish`, and then ("post", actor, letter) and
("start", actor, letter, job, folder), where the letter is for `Node.serve` and the folder takes the job's files.
It says ("connected",), ("joined", actor, slots, how many others are starting), ("said", actor, ready servers, words,
reasons of jobs whose files are spoilt), ("left", actor, reason), ("unfit", reason) of a node, and ("refused", reason),
which is the end.
"""

from __future__ import annotations

import math
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from tunekit import __version__
from tunekit.executors.cluster import Actor, Cluster, Machine
from tunekit.executors.node import hang_up, open_line, put_files

LOOK_EVERY = 2.0
"""Seconds between looks at the cluster's nodes."""

SETTLING = 5.0
"""Seconds after an actor has joined until Ray's count of a node's free CPUs is to be trusted."""

MOST_FAILED_STARTS = 3
"""A node where so many actors ended before they had joined gets none any more."""


@dataclass(frozen=True)
class Wish:
    """What a conductor wants of a cluster.

    Args:
        address: of its head; None for the cluster that Ray finds on this machine, or else a new one on this machine.
        workers: jobs at a time, or None for as many as there is room for.
        threads: of each job.
        slots: jobs at a time that one actor may have, or None for all of its node's.
        heavy: whether jobs with TensorFlow will come.
        data: the folder of the study's rows.
        patience: seconds to wait for a cluster that was there before.
    """

    address: str | None
    workers: int | None
    threads: int
    slots: int | None
    heavy: bool
    data: Path
    patience: float = 0.0


@dataclass
class _Seat:
    """An actor, and the line to it.

    Args:
        actor: Ray's.
        machine: where it is.
        slots: jobs at a time.
        line: to it, once it has joined.
        joined: when that was.
    """

    actor: Actor
    machine: Machine
    slots: int
    line: Connection | None = None
    joined: float = math.inf


class Bridge:
    """Keeps actors on the nodes of a cluster, and passes on what is said.

    Args:
        conductor: the line to it.
        wish: what it wants.
        cluster: where.
    """

    def __init__(self, conductor: Connection, wish: Wish, cluster: Cluster) -> None:
        self._conductor = conductor
        self._wish = wish
        self._cluster = cluster
        self._listener = socket.create_server((cluster.host, 0))
        self._key = secrets.token_bytes(32)
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._seats: dict[int, _Seat] = {}
        self._made = 0
        self._folders: dict[int, Path] = {}
        self._failures: Counter[str] = Counter()
        self._why: dict[str, str] = {}

    def run(self) -> None:
        """Work until the conductor is gone, or the cluster is."""
        self._say("connected")
        for work in (self._read, self._look, self._accept):
            threading.Thread(target=work, daemon=True).start()
        with suppress(_Over):
            while True:
                self._handle(*self._events.get())
        for seat in self._seats.values():
            if seat.line is None:
                seat.actor.kill()
            else:
                hang_up(seat.line)
        self._cluster.close([seat.actor for seat in self._seats.values()])

    # In threads

    def _read(self) -> None:
        """What the conductor says."""
        with suppress(EOFError, OSError):
            while True:
                self._events.put(self._conductor.recv())
        self._events.put(("over",))

    def _look(self) -> None:
        """Which nodes there are; the question waits where the head is gone."""
        try:
            while True:
                self._events.put(("machines", self._cluster.machines()))
                time.sleep(LOOK_EVERY)
        except Exception as error:
            self._events.put(("over", f"the head of the Ray cluster doesn't answer: {error}"))

    def _accept(self) -> None:
        """Actors that call."""
        while True:
            connected, _ = self._listener.accept()
            threading.Thread(target=self._hear, args=(connected,), daemon=True).start()

    def _hear(self, connected: socket.socket) -> None:
        """What an actor says, with files put in place; a thread for each, so that a slow line delays no other."""
        line = open_line(connected)
        try:
            deliver_challenge(line, self._key)
            answer_challenge(line, self._key)
            _, number, version = line.recv()
        except (EOFError, OSError, AuthenticationError):  # a stranger
            line.close()
            return
        self._events.put(("joined", number, version, line))
        with suppress(EOFError, OSError):
            while True:
                kind, *facts = line.recv()
                if kind == "said":
                    ready, words, files = facts
                    self._events.put((kind, number, ready, words, self._put(files)))
                else:
                    self._events.put((kind, number, *facts))
        self._events.put(("gone", number, ""))

    def _put(self, files: dict[int, dict[str, bytes]]) -> dict[int, str]:
        """Write files where the conductor wants them; where that failed, why."""
        spoilt = {}
        for job, own in files.items():
            try:
                put_files(own, self._folders.pop(job))
            except OSError as error:
                spoilt[job] = f"its files came back from the node and can't be written: {error}"
        return spoilt

    # In the main thread

    def _handle(self, kind: str, *facts: Any) -> None:
        if kind == "over":
            self._end(*facts)
        elif kind == "machines":
            self._place(*facts)
        elif facts[0] not in self._seats:
            return  # it was lost meanwhile
        elif kind == "joined":
            self._welcome(*facts)
        elif kind == "said":
            self._say(kind, *facts)
        elif kind == "broken":
            self._fail(*facts, times=MOST_FAILED_STARTS)
        elif kind == "gone":
            self._miss(*facts)
        else:
            self._post(*facts)

    def _place(self, machines: list[Machine]) -> None:
        """Give nodes with room actors, evenly, until there are slots enough."""
        if self._cluster.home not in {machine.identity for machine in machines}:
            self._end("Ray's process on this machine has ended")
        able = [machine for machine in machines if machine.cpus >= self._wish.threads]
        fit = [machine for machine in able if self._failures[machine.identity] < MOST_FAILED_STARTS]
        if able and not fit:
            self._end(self._why[able[0].identity])
        now = time.monotonic()
        unsure = {seat.machine.identity for seat in self._seats.values() if now < seat.joined + SETTLING}
        room = {one: one.free // self._wish.threads for one in fit if one.identity not in unsure}
        planned: Counter[Machine] = Counter()
        have = sum(seat.slots for seat in self._seats.values())
        left = math.inf if self._wish.workers is None else self._wish.workers - have
        while left > 0 and any(room[one] > planned[one] for one in room):
            planned[max(room, key=lambda one: room[one] - planned[one])] += 1
            left -= 1
        for machine, slots in planned.items():
            self._hire(machine, slots)

    def _hire(self, machine: Machine, slots: int) -> None:
        others = sum(seat.slots for seat in self._seats.values() if seat.machine.identity == machine.identity)
        sharers = slots + others
        while slots > 0:
            own = min(slots, self._wish.slots or slots)
            slots -= own
            threads = self._wish.threads
            facts = (own, threads, machine.memory // sharers, sharers, self._wish.heavy)
            actor = self._cluster.hire(machine, own * threads, *facts)
            number, self._made = self._made, self._made + 1
            self._seats[number] = _Seat(actor, machine, own)
            actor.serve(partial(self._served, number), self._listener.getsockname()[:2], self._key, number)

    def _served(self, number: int, reason: str) -> None:
        """In a thread of Ray's."""
        self._events.put(("gone", number, reason))

    def _welcome(self, number: int, version: str, line: Connection) -> None:
        seat = self._seats[number]
        if version != __version__:
            reason = f"tunekit is {version} there and {__version__} here; expected the same version"
            self._fail(number, reason, times=MOST_FAILED_STARTS)
            return
        seat.line = line
        seat.joined = time.monotonic()
        self._failures[seat.machine.identity] = 0
        self._say("joined", number, seat.slots, sum(1 for one in self._seats.values() if one.line is None))

    def _post(self, number: int, letter: bytes, job: int | None = None, folder: Path | None = None) -> None:
        if job is not None and folder is not None:
            self._folders[job] = folder
        line = self._seats[number].line
        if line is not None:
            with suppress(OSError):  # its end will be heard
                line.send_bytes(letter)

    def _miss(self, number: int, reason: str) -> None:
        """An actor has ended, or hung up."""
        seat = self._seats[number]
        if seat.line is None:
            self._fail(number, reason)
        else:
            self._lose(number, f"the node {seat.machine.name} was lost, or tunekit's process on it")

    def _fail(self, number: int, reason: str, *, times: int = 1) -> None:
        """Lose an actor by its node's fault."""
        machine = self._seats[number].machine
        why = f"the node {machine.name} can't run trials: {reason}"
        self._failures[machine.identity] += times
        self._why[machine.identity] = why
        self._lose(number, why)
        if self._failures[machine.identity] >= MOST_FAILED_STARTS:
            self._say("unfit", why)

    def _lose(self, number: int, reason: str) -> None:
        seat = self._seats.pop(number)
        if seat.line is not None:
            hang_up(seat.line)
        seat.actor.kill()
        self._say("left", number, reason)

    def _end(self, reason: str | None = None) -> None:
        if reason is not None:
            self._say("refused", reason)
        raise _Over

    def _say(self, *words: Any) -> None:
        with suppress(OSError):
            self._conductor.send(words)


class _Over(Exception):
    """Leaves the loop; caught in this file."""


def main(arguments: list[str]) -> None:
    """Serve one conductor."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Or a cluster of our own would listen on all addresses of this machine; nothing else depends on it under Linux.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    conductor = Connection(int(arguments[0]))
    wish: Wish = conductor.recv()
    cpus = None if wish.workers is None else wish.workers * wish.threads
    try:
        cluster = Cluster(wish.address, cpus, wish.patience, wish.data)
    except Exception as error:
        conductor.send(("refused", str(error)))
    else:
        Bridge(conductor, wish, cluster).run()
    os._exit(0)  # Ray waits long in its own clean-up where the cluster is gone


if __name__ == "__main__":
    from tunekit.executors.bridge import main as importable

    importable(sys.argv[1:])
