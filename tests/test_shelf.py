"""Servers that are kept from one executor to the next."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tunekit.executors import Ended, Job, LocalExecutor, Place, servers_kept
from tunekit.executors.shelf import SHELF, Shelf

PATIENCE = 60.0
"""Seconds for a server to import its libraries, on a busy machine."""


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    SHELF.end()
    yield
    SHELF.end()


def say_parent(place: Place) -> bool:
    """The number of the server that forked this process."""
    place.channel.send(os.getppid())
    return True


def server_of_a_job(folder: Path) -> int:
    """Run a job on an executor of its own, and close it; the number of its server."""
    executor = LocalExecutor(1, 1, folder / "executor.log", folder, heavy=False)
    try:
        executor.start(Job(say_parent, (), folder))
        said: list[object] = []
        deadline = time.monotonic() + PATIENCE
        while not any(isinstance(word, Ended) for word in said):
            assert time.monotonic() < deadline
            said += [word for _, word in executor.listen(0.2)]
        assert isinstance(said[0], int)
        return said[0]
    finally:
        executor.close()


def test_within_servers_kept_the_next_executor_takes_the_server_and_not_its_processes(tmp_path: Path) -> None:
    with servers_kept():
        first = server_of_a_job(tmp_path)
        deadline = time.monotonic() + PATIENCE
        while psutil.Process(first).children():  # the job's process ends
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server_of_a_job(tmp_path) == first


def test_elsewhere_a_server_ends_with_its_executor(tmp_path: Path) -> None:
    first = server_of_a_job(tmp_path)
    assert not psutil.pid_exists(first)
    with servers_kept():
        kept = server_of_a_job(tmp_path)
    server_of_a_job(tmp_path)  # takes it, and ends it
    assert not psutil.pid_exists(kept)


def test_a_server_that_died_meanwhile_is_replaced(tmp_path: Path) -> None:
    with servers_kept():
        first = server_of_a_job(tmp_path)
        os.kill(first, signal.SIGKILL)
        # Its main thread is a zombie before its other threads have ended: only waiting tells when it is gone. (A job
        # that starts between the two is lost, and a search runs it again.)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert server_of_a_job(tmp_path) != first


def test_a_server_is_not_taken_where_relative_paths_mean_something_else(tmp_path: Path, monkeypatch) -> None:
    with servers_kept():
        first = server_of_a_job(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert server_of_a_job(tmp_path) != first


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
)  # that is the case
def test_a_forked_process_does_not_touch_what_its_parent_keeps(tmp_path: Path) -> None:
    with servers_kept():
        first = server_of_a_job(tmp_path)
        pid = os.fork()
        if not pid:
            os._exit(0 if SHELF.take((False, 1)) is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert server_of_a_job(tmp_path) == first


class Sound:
    """A server that is always fit for more."""

    ended = False

    def clear(self) -> bool:
        return True

    def end(self) -> None:
        self.ended = True


def test_a_server_that_nobody_takes_is_ended_after_a_while() -> None:
    shelf, server = Shelf(idle=0.05), Sound()
    with servers_kept():
        shelf.leave("key", server)
    deadline = time.monotonic() + PATIENCE
    while not server.ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert shelf.take("key") is None
