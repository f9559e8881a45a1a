"""Jobs in real processes: what each kind of end looks like, and that nothing outlives the search. No TensorFlow."""

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from searches import alive, started, wait_until  # type: ignore[import-not-found]

from tunekit.executors import Child, Limits, LocalExecutor, travels_by_value
from tunekit.study import load_study

MIB = 2**20
NO_LIMITS = Limits()


@pytest.fixture(scope="module")
def executor(tmp_path_factory) -> Iterator[LocalExecutor]:
    """One for all tests of this file: its server imports scikit-learn and XGBoost once."""
    made = LocalExecutor(1, tmp_path_factory.mktemp("executor") / "executor.log", heavy=False)
    yield made
    made.close()


@pytest.fixture
def start(executor, tmp_path) -> Callable[..., Child]:
    """Start a job without TensorFlow."""
    travels_by_value(sys.modules[__name__])  # or each child would import this file, and pytest with it

    def starter(
        function: Callable[..., None], *arguments: Any, limits: Limits = NO_LIMITS, log: str = "log.txt"
    ) -> Child:
        child: Child = executor.start(function, arguments, tmp_path / log, limits, heavy=False)
        return child

    return starter


def listen(executor: LocalExecutor, child: Child) -> Any:
    """The next word of a child, or EOFError; its limits are looked at meanwhile, as the conductor does."""
    deadline = time.monotonic() + 60  # no measure of speed: after that, it is taken to hang
    while not executor.wait([child], 0.1):
        child.check_limits()
        assert time.monotonic() < deadline
    return child.channel.recv()


def reason(executor: LocalExecutor, child: Child) -> str:
    """Why a child ended without a word."""
    with pytest.raises((EOFError, ConnectionResetError)):
        listen(executor, child)
    executor.wait_for_status(child)
    return child.reason


def answer(channel: Any, one: float, other: float) -> None:
    channel.send(("sum", one + other, os.getpid()))


def echo(channel: Any) -> None:
    while (word := channel.recv()) is not None:
        channel.send(word)


def end_by(channel: Any, number: int) -> None:
    os.kill(os.getpid(), number)


def leave(channel: Any, code: int) -> None:
    os._exit(code)


def say_and_leave(channel: Any, words: str) -> None:
    print("an earlier line")
    print(words, flush=True)
    os._exit(3)


def fail(channel: Any) -> None:
    raise ValueError("the jar is empty")


def loop(channel: Any) -> None:
    channel.send(os.getpid())
    while True:
        pass


def grow(channel: Any) -> None:
    kept = []
    for _ in range(200):  # MiB, at most: were the limit not kept, this test and not the machine should suffer
        kept.append(np.ones(4 * MIB // 8))
        time.sleep(0.02)
    channel.send(len(kept))
    time.sleep(3600)


# Ends


def test_a_job_answers_from_a_process_of_its_own(executor, start) -> None:
    word, total, pid = listen(executor, start(answer, 1.5, 2.0))
    assert (word, total) == ("sum", 3.5)
    assert pid != os.getpid()


def test_a_job_is_talked_to(executor, start) -> None:
    child = start(echo)
    for word in ("one", {"two": 2}, np.arange(3).tolist()):
        child.channel.send(word)
        assert listen(executor, child) == word
    child.channel.send(None)
    assert reason(executor, child) == "the process ended by itself (exit code 0)"


def test_each_job_has_a_fresh_process(executor, start) -> None:
    pids = [listen(executor, start(answer, 0, 0))[2] for _ in range(3)]
    assert len(set(pids)) == 3


def test_jobs_run_side_by_side(executor, start) -> None:
    children = [start(echo, log=f"{number}.txt") for number in range(3)]
    for number, child in enumerate(children):
        child.channel.send(number)
    assert [listen(executor, child) for child in children] == [0, 1, 2]
    for child in children:
        child.channel.send(None)
        reason(executor, child)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_crash_by_signal_is_told(executor, start, number) -> None:
    told = reason(executor, start(end_by, number))
    assert told == f"the process was ended by signal {int(number)} ({number.name})"


def test_a_kill_from_elsewhere_is_told_with_its_usual_cause(executor, start) -> None:
    told = reason(executor, start(end_by, signal.SIGKILL))
    assert told == ("the process was ended by signal 9 (SIGKILL), which the system sends where memory runs out")


def test_leaving_without_a_word_is_told(executor, start) -> None:
    assert reason(executor, start(leave, 3)) == "the process ended by itself (exit code 3)"


def test_the_last_words_are_told(executor, start) -> None:
    told = reason(executor, start(say_and_leave, "CUDA is on fire"))
    assert told == "the process ended by itself (exit code 3); its last words: CUDA is on fire"


def test_an_exception_is_told(executor, start, tmp_path) -> None:
    told = reason(executor, start(fail))
    assert told == "the process ended by itself (exit code 1); its last words: ValueError: the jar is empty"
    assert "in fail" in (tmp_path / "log.txt").read_text()  # the whole traceback is in the trial's log


def test_an_endless_loop_is_ended_at_its_time_limit(executor, start) -> None:
    child = start(loop, limits=Limits(seconds=0.5))
    process = psutil.Process(listen(executor, child))
    told = reason(executor, child)
    assert told.startswith("out of time: ")
    assert " s of " in told
    wait_until(lambda: not alive(process), "the loop ended")


def test_a_job_that_outgrows_its_memory_is_ended(executor, start) -> None:
    server = psutil.Process(executor._servers[False].process.pid)
    limit = server.memory_info().rss + 150 * MIB  # a child starts with the server's pages
    told = reason(executor, start(grow, limits=Limits(memory=limit)))
    assert told.startswith("out of memory: ")
    assert told.endswith(f" of {limit / 2**30:.1f} GiB")


def test_a_job_that_cant_be_read_is_told(executor, start) -> None:
    told = reason(executor, start(_NotThere.job))
    assert told.startswith("the process ended by itself (exit code 1); its last words: ")
    assert told.endswith("ModuleNotFoundError: No module named 'no_such_room'")


class _NotThere:
    """Its function claims to come from a module that the other process can't import."""

    class _Job:
        def __reduce__(self) -> tuple[Any, ...]:
            return __import__, ("no_such_room",)

        def __call__(self, channel: Any) -> None: ...

    job = _Job()


# Servers that die


def test_when_the_server_is_killed_the_child_ends_and_the_next_job_runs(executor, start) -> None:
    child = start(loop)
    process = psutil.Process(listen(executor, child))
    server = executor._servers[False].process
    server.kill()
    assert reason(executor, child) == "its process server was killed"
    wait_until(lambda: not alive(process), "the child of a dead server ended")
    assert listen(executor, start(answer, 2, 3))[1] == 5
    assert executor._servers[False].process.pid != server.pid


def test_a_job_started_on_a_dead_server_runs_on_the_next_one(executor, start) -> None:
    listen(executor, start(answer, 0, 0))  # it is ready
    server = executor._servers[False].process
    server.kill()
    server.wait()  # nobody has listened since
    child = start(answer, 2, 3)
    assert listen(executor, child)[1] == 5
    executor.wait_for_status(child)
    assert child.reason == "the process ended by itself (exit code 0)"


def test_closing_ends_the_server_and_every_child(tmp_path) -> None:
    made = LocalExecutor(1, tmp_path / "executor.log", heavy=False)
    children = [made.start(loop, (), tmp_path / f"{number}.txt", NO_LIMITS, heavy=False) for number in range(2)]
    processes = [psutil.Process(listen(made, child)) for child in children]
    server = psutil.Process(made._servers[False].process.pid)
    made.close()
    wait_until(lambda: not any(map(alive, [server, *processes])), "all ended")


CONDUCTOR = """
import time
from pathlib import Path
from tunekit.executors import Limits, LocalExecutor

def loop(channel):
    import os
    channel.send(os.getpid())
    while True:
        pass

if __name__ == "__main__":
    executor = LocalExecutor(1, Path("executor.log"), heavy=False)
    child = executor.start(loop, (), Path("log.txt"), Limits(), heavy=False)
    while not executor.wait([child], 0.1):
        pass
    pids = [executor._servers[False].process.pid, child.channel.recv()]
    Path("pids.partial").write_text(" ".join(map(str, pids)))
    Path("pids.partial").rename("pids.txt")
    time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_conductor_is_killed_nothing_stays(tmp_path, number) -> None:
    (tmp_path / "conductor.py").write_text(CONDUCTOR)
    with started([sys.executable, "conductor.py"], tmp_path) as conductor:
        wait_until((tmp_path / "pids.txt").exists, "the child runs")
        processes = [psutil.Process(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split()]
        assert all(map(alive, processes))
        conductor.send_signal(number)
        conductor.wait()
        wait_until(lambda: not any(map(alive, processes)), "server and child ended with their conductor")


# User code


def test_a_function_of_a_study_file_travels_by_value(executor, start, tmp_path) -> None:
    """With what it needs of its file; the other process can't import that, nor is it run again there."""
    path = tmp_path / "study.py"
    path.write_text(
        textwrap.dedent(
            """
            import os
            import tunekit as tk

            PARENT = os.getpid()
            FACTOR = 3

            def triple(value):
                return value * FACTOR

            class Counter:
                step = 10

                def count(self, channel, value):
                    channel.send((triple(value) + self.step, PARENT, os.getpid()))

            study = tk.Study("small", data=tk.Table("train.csv", target="y"), families=[tk.Baseline()])
            count = Counter().count
            """
        )
    )
    study = load_study(path)
    module = next(one for one in list(sys.modules.values()) if getattr(one, "study", None) is study)
    path.unlink()
    total, parent, pid = listen(executor, start(module.count, 4))
    assert total == 22
    assert parent == os.getpid() != pid


def test_a_job_sees_the_search_path_of_the_search(executor, start, tmp_path, monkeypatch) -> None:
    (tmp_path / "beside_the_study.py").write_text("def job(channel):\n    channel.send(__name__)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import beside_the_study  # type: ignore[import-not-found]

    assert listen(executor, start(beside_the_study.job)) == "beside_the_study"


def test_limits_for_this_machine_share_its_free_memory() -> None:
    two, four = Limits.for_machine(2, 60.0), Limits.for_machine(4, 60.0)
    assert two.seconds == four.seconds == 60.0
    assert two.memory is not None
    assert four.memory is not None
    assert four.memory < two.memory < psutil.virtual_memory().total / 2
