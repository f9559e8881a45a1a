"""Runs jobs in processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from tunekit.errors import StudyError
from tunekit.executors import shelf
from tunekit.executors.base import Child, Ended, Executor, Job, last_line
from tunekit.executors.words import JobDone

LIGHT = ("numpy", "cloudpickle", "tunekit.executors.warm_light")
HEAVY = ("numpy", "cloudpickle", "tunekit.executors.warm_heavy")

GIB = 2**30

MOST_FAILED_STARTS = 3
"""A server that ends so often before it is ready will never be."""

JOBS_PER_PROCESS = 12
"""A process is replaced after so many jobs: what libraries leak stays small, and starting a new one is spread thin."""

LEAST_CHECK = 0.2
"""Seconds between two looks at the limits."""

STATUS_PATIENCE = 2.0
"""Seconds to wait for the server's word on how a process ended."""


class _Process:
    """A worker: a process that a server forked, and the job that it is at."""

    def __init__(self, channel: Connection, server: _Server) -> None:
        self.channel = channel
        self.server = server
        self.pid: int | None = None
        self.status: int | None = None
        self.served = 0
        self.killed = False
        self.gone_since: float | None = None

    @property
    def usable(self) -> bool:
        """Whether it waits for a job; one that ended meanwhile has closed its end of the channel."""
        return not self.killed and not self.channel.poll()

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds, without the files that it maps: those give way; 0 if that can't be told."""
        try:
            if self.pid is None:
                return 0
            memory = psutil.Process(self.pid).memory_info()
            return int(memory.rss - getattr(memory, "shared", 0))
        except psutil.NoSuchProcess:
            return 0

    def kill(self) -> None:
        self.killed = True
        if self.pid is not None and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.status is not None and os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            told = f"the process was ended by signal {number} ({signal.Signals(number).name})"
            return told + (", which the system sends where memory runs out" if number == signal.SIGKILL else "")
        code = "unknown" if self.status is None else os.WEXITSTATUS(self.status)
        return f"the process ended by itself (exit code {code})"


class LocalChild(Child):
    """A job in a process of this machine.

    Args:
        job: what runs.
        process: where.
    """

    def __init__(self, job: Job, process: _Process) -> None:
        self.job = job
        self.process = process
        self.started = time.monotonic()
        self.overrun: Ended | None = None

    @property
    def pid(self) -> int | None:
        """Of its process, once that is known."""
        return self.process.pid

    def send(self, word: Any) -> None:
        """See `Child.send`."""
        with contextlib.suppress(OSError):
            self.process.channel.send(word)

    def kill(self) -> None:
        """See `Child.kill`."""
        self.process.kill()

    def check_limits(self) -> None:
        """End the job if it has outgrown a limit; its `Ended` then says which."""
        limits = self.job.limits
        seconds = time.monotonic() - self.started
        if limits.seconds is not None and seconds > limits.seconds:
            self._overran(Ended(f"out of time: {seconds:.0f} s of {limits.seconds:.0f} s", late=True))
        if limits.memory is not None and (used := self.process.resident) > limits.memory:
            self._overran(Ended(f"out of memory: {used / GIB:.1f} GiB of {limits.memory / GIB:.1f} GiB"))

    def _overran(self, end: Ended) -> None:
        self.overrun = self.overrun or end
        self.kill()

    @property
    def end(self) -> Ended:
        """Why it ended without having returned."""
        if self.overrun:
            return self.overrun
        if self.process.server.dead and self.process.status is None:
            return Ended("its process server was killed", lost=True)
        last = last_line(self.job.log)
        return Ended(f"{self.process.end}; its last words: {last}" if last else self.process.end)


class _Server:
    """A zygote, and the processes that it forked."""

    def __init__(self, modules: tuple[str, ...], threads: int, log: Path) -> None:
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            "TF_FORCE_GPU_ALLOW_GROWTH": os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true"),  # or the first takes all
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin cost 20 times the time on a machine with other work
            "OPENBLAS_NUM_THREADS": "1",  # its sums depend on the number of threads, so scores would on that of workers
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
        self.dead = False
        self.idle: list[_Process] = []
        self._processes: dict[int, _Process] = {}
        self._requests: dict[int, _Process] = {}
        self._requested = 0

    def fork(self, log: Path) -> _Process:
        """Ask for a new process; its number comes later."""
        ours, theirs = socket.socketpair()
        process = _Process(Connection(ours.detach()), self)
        with theirs:
            self._requested += 1
            self.control.send((self._requested, str(log)))
            reduction.send_handle(self.control, theirs.fileno(), self.process.pid)
        self._requests[self._requested] = process
        return process

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

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
            process = self._requests.pop(message[1])
            process.pid = message[2]
            self._processes[message[2]] = process
            if process.killed:  # before it was known which it is
                process.kill()
        else:
            process = self._processes.pop(message[1])
            process.status = message[2]
            if process in self.idle:
                self.idle.remove(process)

    def clear(self) -> bool:
        """End its processes; whether it can serve another executor."""
        for process in [*self._processes.values(), *self._requests.values()]:
            process.kill()
            process.channel.close()
        self.idle.clear()
        return self.ready and not self.dead and not self.gone and self.listen()

    def end(self) -> None:
        """End it; its children end with it."""
        self.dead = True
        for process in self._processes.values():
            process.kill()
        self.control.close()
        self.process.kill()
        self.process.wait()


class LocalExecutor(Executor):
    """Runs jobs in processes of this machine.

    Two servers fork them: a light one that is ready at once, and one that has imported TensorFlow, which takes some
    ten seconds during which light jobs can run. A process may serve several jobs, one after the other.

    Args:
        workers: jobs at a time.
        threads: how many threads each job may use.
        log: takes what the servers print.
        data: what jobs get as `Place.data`.
        heavy: whether jobs with TensorFlow will come.
        at_once: whether the server for these is started now, or when `prepare` says so: where no core is idle,
            importing TensorFlow takes time from the other jobs, and these may be all that there is time for.
        jobs_per_process: a process is replaced after so many.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        log: Path,
        data: Path,
        *,
        heavy: bool = True,
        at_once: bool = True,
        jobs_per_process: int = JOBS_PER_PROCESS,
    ) -> None:
        self._workers = workers
        self._threads = threads
        self._log = log
        self._data = data
        self._jobs_per_process = jobs_per_process
        self._failed_starts = 0
        self._checked = 0.0
        self._children: list[LocalChild] = []
        self._servers = {False: self._kept_or_new(heavy=False)}
        if heavy and at_once:
            self.prepare()
        elif heavy and (kept := self._kept(heavy=True)):
            self._servers[True] = kept

    @property
    def workers(self) -> int:
        """See `Executor.workers`."""
        return self._workers

    def ready(self, *, heavy: bool) -> bool:
        """See `Executor.ready`."""
        return heavy in self._servers and self._server(heavy).ready

    def prepare(self) -> None:
        """See `Executor.prepare`."""
        self._server(heavy=True)

    def start(self, job: Job) -> LocalChild:
        """See `Executor.start`."""
        words = (sys.path, str(job.log), self._data, job.folder, cloudpickle.dumps((job.function, job.arguments)))
        process = self._process(job)
        process.served += 1
        child = LocalChild(job, process)
        child.send(words)
        self._children.append(child)
        return child

    def listen(self, timeout: float, *others: Connection) -> list[tuple[Child, Any]]:
        """See `Executor.listen`; it returns early where one of the other connections can be read."""
        channels: dict[Any, LocalChild] = {child.process.channel: child for child in self._children}
        patient = {channel: child for channel, child in channels.items() if child.process.gone_since is None}
        controls = [server.control for server in self._servers.values()]
        if len(patient) < len(channels):
            timeout = min(timeout, 0.05)
        readable = wait([*others, *patient, *controls], timeout)
        for heavy in list(self._servers):
            if not self._servers[heavy].listen():
                self._restart(heavy)
        words: list[tuple[Child, Any]] = []
        for channel in readable:
            if channel in patient:
                words += self._read(patient[channel])
        words += self._ends()
        self._check_limits()
        return words

    def close(self) -> None:
        """See `Executor.close`."""
        servers, self._servers = self._servers, {}
        for heavy, server in servers.items():
            shelf.SHELF.leave(self._key(heavy), server)

    def _process(self, job: Job) -> _Process:
        """One that has done its job well, or a new one."""
        server = self._server(job.heavy)
        while server.idle:
            process = server.idle.pop()
            if process.usable and (job.limits.memory is None or process.resident < job.limits.memory / 2):
                return process
            process.channel.close()
        try:
            return server.fork(job.log)
        except OSError:  # the server died since we last heard of it
            self._restart(job.heavy)
            return self._server(job.heavy).fork(job.log)

    def _read(self, child: LocalChild) -> list[tuple[Child, Any]]:
        words: list[tuple[Child, Any]] = []
        process = child.process
        try:
            while process.channel.poll():
                word = process.channel.recv()
                if isinstance(word, JobDone):
                    self._children.remove(child)
                    self._keep(process, reusable=word.reusable)
                    return [*words, (child, Ended())]
                words.append((child, word))
        except (EOFError, OSError):
            process.gone_since = time.monotonic()
        return words

    def _keep(self, process: _Process, *, reusable: bool) -> None:
        if reusable and process.served < self._jobs_per_process and not (process.killed or process.server.dead):
            process.server.idle.append(process)
        else:
            process.channel.close()

    def _ends(self) -> list[tuple[Child, Any]]:
        """The last words on processes that are gone, as soon as it is known how they ended."""
        words: list[tuple[Child, Any]] = []
        for child in list(self._children):
            process = child.process
            if process.gone_since is None:
                continue
            waited = time.monotonic() - process.gone_since
            if process.status is not None or process.server.dead or waited > STATUS_PATIENCE:
                self._children.remove(child)
                process.channel.close()
                words.append((child, child.end))
        return words

    def _check_limits(self) -> None:
        if time.monotonic() - self._checked > LEAST_CHECK:
            self._checked = time.monotonic()
            for child in self._children:
                child.check_limits()

    def _server(self, heavy: bool) -> _Server:
        if heavy and True not in self._servers:
            self._servers[True] = self._kept_or_new(heavy=True)
        elif self._servers[heavy].gone:  # its idle processes end too
            self._restart(heavy)
        return self._servers[heavy]

    def _kept_or_new(self, *, heavy: bool) -> _Server:
        return self._kept(heavy=heavy) or self._new(heavy)

    def _kept(self, *, heavy: bool) -> _Server | None:
        kept: _Server | None = shelf.SHELF.take(self._key(heavy))
        return kept

    def _new(self, heavy: bool) -> _Server:
        return _Server(HEAVY if heavy else LIGHT, self._threads, self._log)

    def _key(self, heavy: bool) -> tuple[bool, int]:
        """What servers have in common that an earlier executor's may stand in for."""
        return heavy, self._threads

    def _restart(self, heavy: bool) -> None:
        dead = self._servers[heavy]
        dead.listen()  # to its last words
        self._failed_starts = 0 if dead.ready else self._failed_starts + 1
        if self._failed_starts == MOST_FAILED_STARTS:
            raise StudyError(
                f"the process server ended {MOST_FAILED_STARTS} times while it imported "
                f"{'TensorFlow' if heavy else 'scikit-learn and XGBoost'}; expected that to work: its last words were "
                f"{last_line(self._log)!r} ({self._log})"
            )
        dead.end()
        self._servers[heavy] = self._new(heavy)
