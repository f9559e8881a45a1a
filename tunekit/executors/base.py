"""What an executor is: it runs jobs, each within limits, in a process that the job has for itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from tunekit.errors import StudyError, TunekitError
from tunekit.executors.memory import free_memory

LOG = "log.txt"
"""In a job's folder: what it printed."""


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Args:
        seconds: wall-clock time; None for no limit.
        memory: bytes of resident memory; None for no limit.
    """

    seconds: float | None = None
    memory: int | None = None

    @classmethod
    def for_machine(cls, workers: int, seconds: float | None) -> Limits:
        """Memory: what is free on this machine or in this container, less a tenth, divided among the workers."""
        return cls(seconds, int(0.9 * free_memory() / workers))


@dataclass(frozen=True)
class Place:
    """Where a job finds itself.

    Args:
        channel: to the one who started it.
        data: the folder of the study's rows, the same for all jobs. A job may add files that spare others work; what is
            there doesn't change.
        folder: what the job writes here reaches the one who started it when the job ends.
    """

    channel: Connection
    data: Path
    folder: Path


@dataclass(frozen=True)
class Job:
    """Something to run.

    Args:
        function: called as `function(place, *arguments)`; importable, or of a module that `travels_by_value`. It
            returns whether its process is as good as new: such a process may serve another job.
        arguments: plain data, and objects of the user's code.
        folder: for what it writes, and for its log.
        limits: what it may use.
        heavy: whether it needs TensorFlow.
    """

    function: Callable[..., bool]
    arguments: tuple[Any, ...]
    folder: Path
    limits: Limits = Limits()
    heavy: bool = False

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / LOG


@dataclass(frozen=True)
class Ended:
    """The last word of a job.

    Args:
        reason: None if its function returned; else why it ended, in words.
        lost: whether the place where it ran was lost, which says nothing about the job itself.
        late: whether its time was over.
    """

    reason: str | None = None
    lost: bool = False
    late: bool = False


class Child(ABC):
    """A job that was started."""

    @abstractmethod
    def send(self, word: Any) -> None:
        """Say something to the job; nothing happens if it is gone: its `Ended` will tell."""

    @abstractmethod
    def kill(self) -> None:
        """End the job at once."""


class Executor(ABC):
    """Runs jobs."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """Jobs that can run at a time, right now."""

    @abstractmethod
    def ready(self, *, heavy: bool) -> bool:
        """Whether a job would start at once."""

    def prepare(self) -> None:  # noqa: B027
        """Begin with what jobs with TensorFlow need, where that waits until they come; it may be called again."""

    @abstractmethod
    def start(self, job: Job) -> Child:
        """Run a job."""

    @abstractmethod
    def listen(self, timeout: float) -> list[tuple[Child, Any]]:
        """What children said since the last call, in order; waits for a word at most `timeout` seconds.

        The last word of each child is an `Ended`, by when what it wrote is in its job's folder.
        """

    @abstractmethod
    def close(self) -> None:
        """End everything; may be called again."""


def travels_by_value(module: ModuleType) -> None:
    """Send the functions of a module that no other process can import, such as a study file, by value."""
    cloudpickle.register_pickle_by_value(module)


def check_travels(thing: Any, name: str) -> None:
    """Refuse what a job's arguments can't hold.

    Args:
        thing: of the user's code.
        name: of it, in words.

    Raises:
        StudyError: it can't be sent to another process.
    """
    try:
        cloudpickle.dumps(thing)
    except Exception as error:  # whatever an object of the user's raises
        raise StudyError(
            f"{name} can't be sent to the processes of trials: {type(error).__name__}: {error}; it holds an object of "
            "this process, such as a lock, an open file or a connection: create that inside the function that uses it"
        ) from error


def last_line(log: Path) -> str:
    """The last line of a log file, or nothing."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1][:300] if lines else ""


def answer_of(executor: Executor, job: Job, error: type[TunekitError], failed: str) -> Any:
    """Run one job to its end.

    Args:
        executor: that runs nothing else.
        job: sends one answer; a text is the reason why it failed.
        error: raised if it did.
        failed: what could not be done, in words.
    """
    executor.start(job)
    answer = None
    while True:
        for _, word in executor.listen(0.25):
            if not isinstance(word, Ended):
                answer = word
                continue
            reason = answer if isinstance(answer, str) else word.reason
            if reason:
                raise error(f"{job.folder.name} {failed}: {reason}; see {job.log}")
            return answer
