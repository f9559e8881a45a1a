"""Runs jobs in fresh processes on this machine, each within limits of time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import psutil

from tunekit.errors import StudyError

LIGHT = ("numpy", "cloudpickle", "tunekit.executors.warm_light")
HEAVY = ("numpy", "cloudpickle", "tunekit.executors.warm_heavy")

GIB = 2**30

MOST_FAILED_STARTS = 3
"""A server that ends so often before it is ready will never be."""


@dataclass(frozen=True)
class Limits:
    """What one trial may use.

    Args:
        seconds: wall-clock time; None for no limit.
        memory: bytes of resident memory; None for no limit.
    """

    seconds: float | None = None
    memory: int | None = None

    @classmethod
    def for_machine(cls, workers: int, seconds: float | None) -> Limits:
        """Memory: this machine's free memory, less a tenth, divided among the workers."""
        return cls(seconds, int(0.9 * psutil.virtual_memory().available / workers))


class Child:
    """One job in a process of its own.

    Args:
        channel: to the process; its end of file is the process's end.
        log: the file that takes what the process prints.
        limits: what it may use.
    """

    def __init__(self, channel: Connection, log: Path, limits: Limits) -> None:
        self.channel = channel
        self.log = log
        self.limits = limits
        self.pid: int | None = None
        self.status: int | None = None
        self.started = time.monotonic()
        self.overrun: str | None = None

    def check_limits(self) -> None:
        """Kill the process if it has outgrown a limit; `reason` then says which."""
        seconds = time.monotonic() - self.started
        if self.limits.seconds is not None and seconds > self.limits.seconds:
            self._overran(f"out of time: {seconds:.0f} s of {self.limits.seconds:.0f} s")
        if self.limits.memory is not None and self.pid is not None:
            try:
                used = psutil.Process(self.pid).memory_info().rss
            except psutil.NoSuchProcess:
                return
            if used > self.limits.memory:
                self._overran(f"out of memory: {used / GIB:.1f} GiB of {self.limits.memory / GIB:.1f} GiB")

    def kill(self) -> None:
        """End the process at once."""
        if self.pid is not None and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _overran(self, reason: str) -> None:
        self.overrun = self.overrun or reason
        self.kill()

    @property
    def reason(self) -> str:
        """Why the process ended without a result, in words."""
        if self.overrun:
            return self.overrun
        if self.status is not None and os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            told = f"the process was ended by signal {number} ({signal.Signals(number).name})"
            if number == signal.SIGKILL:
                told += ", which the system sends where memory runs out"
        else:
            code = "unknown" if self.status is None else os.WEXITSTATUS(self.status)
            told = f"the process ended by itself (exit code {code})"
        last = self.last_words()
        return f"{told}; its last words: {last}" if last else told

    def last_words(self) -> str:
        """The last line that the process printed, or nothing."""
        return last_line(self.log)


def travels_by_value(module: ModuleType) -> None:
    """Send the functions of a module that no other process can import, such as a study file, by value."""
    cloudpickle.register_pickle_by_value(module)


def last_line(log: Path) -> str:
    """The last line of a log file, or nothing."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1][:300] if lines else ""


class _Server:
    """A zygote process and the children it forked."""

    def __init__(self, modules: tuple[str, ...], threads: int, log: Path) -> None:
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "PYTHONWARNINGS": "ignore",
        }
        with log.open("a") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunekit.executors.zygote", str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=environment,
            )
        theirs.close()
        self.control = Connection(ours.detach())
        self.ready = False
        self.children: list[Child] = []
        self._requests: dict[int, Child] = {}

    def start(self, child: Child, end: socket.socket) -> None:
        request = len(self.children)
        self.control.send((request, str(child.log)))
        reduction.send_handle(self.control, end.fileno(), self.process.pid)
        self._requests[request] = child
        self.children.append(child)

    def listen(self) -> bool:
        """Take in what the server has said; False if it is gone."""
        try:
            while self.control.poll():
                self._take(self.control.recv())
        except (EOFError, OSError):
            return False
        return True

    def _take(self, message: tuple[Any, ...]) -> None:
        if message[0] == "ready":
            self.ready = True
        elif message[0] == "started":
            self._requests.pop(message[1]).pid = message[2]
        else:
            for child in self.children:
                if child.pid == message[1]:
                    child.status = message[2]


class LocalExecutor:
    """Starts jobs in fresh processes of this machine.

    Two servers fork them: a light one that is ready at once, and one that has imported TensorFlow, which takes some
    ten seconds during which light jobs can run.

    Args:
        threads: how many threads each job may use.
        log: takes what the servers print.
        heavy: whether jobs with TensorFlow will come.
    """

    def __init__(self, threads: int, log: Path, *, heavy: bool = True) -> None:
        self._threads = threads
        self._log = log
        self._failed_starts = 0
        self._servers = {False: _Server(LIGHT, threads, log)}
        if heavy:
            self._servers[True] = _Server(HEAVY, threads, log)

    def ready(self, *, heavy: bool) -> bool:
        """Whether a job would start at once."""
        return self._server(heavy).ready

    def start(
        self, function: Callable[..., None], arguments: tuple[Any, ...], log: Path, limits: Limits, *, heavy: bool
    ) -> Child:
        """Run `function(channel, *arguments)` in a fresh process.

        Args:
            function: importable, or defined by value in a user's file; gets its end of the channel first.
            arguments: what else it gets; user code travels by value.
            log: takes what the process prints.
            limits: what it may use.
            heavy: whether it needs TensorFlow.
        """
        ours, theirs = socket.socketpair()
        child = Child(Connection(ours.detach()), log, limits)
        try:
            self._server(heavy).start(child, theirs)
        except OSError:  # the server died since we last heard of it
            self._restart(heavy)
            self._server(heavy).start(child, theirs)
        theirs.close()
        with contextlib.suppress(OSError):  # if the child is gone already, its end of file will tell
            child.channel.send((sys.path, cloudpickle.dumps((function, arguments))))
        return child

    def wait(self, children: list[Child], timeout: float) -> list[Child]:
        """Wait for a word of any of the children, at most `timeout` seconds; those with something to read."""
        channels: dict[Any, Child] = {child.channel: child for child in children}
        controls = [server.control for server in self._servers.values()]
        readable = wait([*channels, *controls], timeout)
        for heavy in list(self._servers):
            if not self._servers[heavy].listen():
                self._restart(heavy)
        return [channels[channel] for channel in readable if channel in channels]

    def wait_for_status(self, child: Child, timeout: float = 2.0) -> None:
        """After a child's end of file: wait until the server has said how it ended."""
        deadline = time.monotonic() + timeout
        while child.status is None and time.monotonic() < deadline:
            self.wait([], 0.05)

    def close(self) -> None:
        """End the servers and all their children; may be called again."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            for child in server.children:
                child.kill()
            server.control.close()
            server.process.kill()
            server.process.wait()

    def _server(self, heavy: bool) -> _Server:
        if heavy and True not in self._servers:
            self._servers[True] = _Server(HEAVY, self._threads, self._log)
        return self._servers[heavy]

    def _restart(self, heavy: bool) -> None:
        dead = self._servers[heavy]
        self._failed_starts = 0 if dead.ready else self._failed_starts + 1
        if self._failed_starts == MOST_FAILED_STARTS:
            raise StudyError(
                f"the process server ended {MOST_FAILED_STARTS} times while it imported "
                f"{'TensorFlow' if heavy else 'scikit-learn and XGBoost'}; expected that to work: its last words were "
                f"{last_line(self._log)!r} ({self._log})"
            )
        dead.control.close()
        dead.process.kill()
        dead.process.wait()
        for child in dead.children:
            child.overrun = child.overrun or (None if child.status is not None else "its process server was killed")
        self._servers[heavy] = _Server(HEAVY if heavy else LIGHT, self._threads, self._log)
