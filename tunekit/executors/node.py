"""A node of a cluster: an actor that runs jobs in processes of its machine, as a search does on its own.

`Node` becomes an actor of Ray's in `bridge.py`; nothing here knows Ray. Its one call lasts as long as the search and
talks to the bridge over a socket: there a word takes a third of a millisecond, and as a call of Ray's it takes three.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt

from tunekit import __version__
from tunekit.errors import StudyError
from tunekit.executors.base import Child, Ended, Job, Limits, Place
from tunekit.executors.local import LocalExecutor

TICK = 0.25
"""Seconds between looks at the limits of jobs."""

IDLE = 60.0
"""Seconds to wait for words where no job runs."""

MOST_CARRIED = 2 * 2**30
"""Bytes of files that a job may leave: they pass through the memory of both sides."""

CALLING = 10.0
"""Seconds to reach the bridge."""

REAPER = 'exec 3<&0; (read -r _ <&3 || { sleep 3; rm -rf -- "$1"; }) &'
"""A shell that outlives a killed actor, waits for the end of its jobs and removes its folder; a line spares it that."""


@dataclass(frozen=True)
class Order:
    """A job on its way to a node.

    Args:
        call: the function and its arguments, pickled: only the job's own process reads them, for that may import much.
        path: where the conductor looks for modules.
        limits: of the job; a memory of None stands for the node's share.
        heavy: whether it needs TensorFlow.
    """

    call: bytes
    path: tuple[str, ...]
    limits: Limits
    heavy: bool


class Node:
    """Runs jobs on its machine.

    Args:
        slots: jobs at a time.
        threads: of each job.
        memory: bytes that each job may hold if nothing else is said, at most; it is less where less is free.
        sharers: slots, here and in other actors, that share the machine's free memory.
        heavy: whether jobs with TensorFlow will come.
        names: of the study's files of rows.
        rows: their bytes.
    """

    def __init__(
        self,
        slots: int,
        threads: int,
        memory: int,
        sharers: int,
        heavy: bool,
        names: Sequence[str],
        *rows: npt.NDArray[np.uint8],
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tunekit-node-"))
        self._reaper = _remove_when_gone(self._folder)
        data = self._folder / "data"
        data.mkdir()
        for name, content in zip(names, rows, strict=True):
            content.tofile(data / name)
        self._memory = min(memory, Limits.for_machine(sharers, None).memory or memory)
        self._kinds = (False, True) if heavy else (False,)
        self._ready: frozenset[bool] = frozenset()
        self._executor = LocalExecutor(slots, threads, self._folder / "servers.log", data, heavy=heavy)
        self._children: dict[int, Child] = {}
        self._numbers: dict[Child, int] = {}

    def serve(self, address: tuple[str, int], key: bytes, number: int) -> None:
        """Run jobs until the bridge hangs up, and leave nothing behind.

        It is told ("joined", number, version of tunekit), then ("said", ready servers, words, files), where words are
        pairs of a job's number and its word, and files those of the jobs that ended; or ("broken", reason) in the end.

        Args:
            address: of the bridge.
            key: shows it who calls.
            number: of this actor.
        """
        try:
            with _call(address, key) as line:
                line.send(("joined", number, __version__))
                try:
                    while self._take_letters(line):
                        self._tell(line, self._executor.listen(TICK if self._children else IDLE, line))
                except StudyError as error:
                    line.send(("broken", str(error)))
        except (ConnectionError, EOFError):
            return
        finally:
            self._executor.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._reaper.communicate(b"\n")

    def _take_letters(self, line: Connection) -> bool:
        """Do as the bridge says; False if it has hung up."""
        while line.poll():
            try:
                kind, number, *content = line.recv()
            except EOFError:
                return False
            if kind == "start":
                self._start(number, *content)
            elif number in self._children and kind == "say":
                self._children[number].send(*content)
            elif number in self._children:
                self._children[number].kill()
        return True

    def _start(self, number: int, order: Order) -> None:
        folder = self._folder / str(number)
        folder.mkdir()
        limits = order.limits if order.limits.memory is not None else replace(order.limits, memory=self._memory)
        child = self._executor.start(Job(run_order, (order.call, order.path), folder, limits, heavy=order.heavy))
        self._children[number] = child
        self._numbers[child] = number

    def _tell(self, line: Connection, words: list[tuple[Child, Any]]) -> None:
        said, files = [], {}
        for child, word in words:
            number = self._numbers[child]
            if isinstance(word, Ended):
                del self._children[number], self._numbers[child]
                try:
                    files[number] = _take_files(self._folder / str(number))
                except OSError as error:
                    word = Ended(f"its files can't be carried back: {error}", lost=True)
            said.append((number, word))
        ready = frozenset(kind for kind in self._kinds if self._executor.ready(heavy=kind))
        if said or ready != self._ready:
            self._ready = ready
            line.send(("said", ready, said, files))


def run_order(place: Place, call: bytes, path: tuple[str, ...]) -> bool:
    """In the job's process: call the function, with the conductor's modules within reach where they exist here too."""
    sys.path += [folder for folder in path if folder not in sys.path and Path(folder).exists()]
    function, arguments = cloudpickle.loads(call)
    reusable: bool = function(place, *arguments)
    return reusable


def _take_files(folder: Path) -> dict[str, bytes]:
    """What a job wrote, by name; it is here no more."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    try:
        size = sum(file.stat().st_size for file in files)
        if size > MOST_CARRIED:
            raise OSError(f"they take {size / 2**30:.1f} GiB, expected at most {MOST_CARRIED / 2**30:.1f} GiB")
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_files(files: dict[str, bytes], folder: Path) -> None:
    """Write what a job wrote where the conductor wants it.

    Raises:
        OSError: it can't be written, or would leave the folder.
    """
    for name, content in files.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{name!r} leads out of the job's folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def open_line(connected: socket.socket) -> Connection:
    """A line over a socket: short words go out at once, and a peer that vanished is noticed."""
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Connection(connected.detach())


def hang_up(line: Connection) -> None:
    """Close a line, also for a thread that reads it."""
    with socket.socket(fileno=os.dup(line.fileno())) as own, suppress(OSError):
        own.shutdown(socket.SHUT_RDWR)
    line.close()


def _call(address: tuple[str, int], key: bytes) -> Connection:
    """A line to the bridge, each side having shown that it has the key."""
    try:
        line = open_line(socket.create_connection(address, CALLING))
    except OSError as error:
        raise StudyError(f"it can't reach the search at {address[0]}:{address[1]} ({error})") from error
    answer_challenge(line, key)
    deliver_challenge(line, key)
    return line


def _remove_when_gone(folder: Path) -> subprocess.Popen[bytes]:
    """Have a folder removed when this process has ended, however that happens."""
    return subprocess.Popen(
        ["sh", "-c", REAPER, "tunekit", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
