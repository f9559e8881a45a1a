"""Jobs in real processes: how each ends, who runs the next one, and that nothing outlives the search. No TensorFlow."""

import builtins
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from searches import PATIENCE, alive, started, wait_until  # type: ignore[import-not-found]

from tunekit.errors import StudyError
from tunekit.executors import (
    Child,
    Ended,
    Executor,
    Job,
    Limits,
    LocalExecutor,
    Place,
    servers_kept,
    travels_by_value,
)
from tunekit.executors import local as executors_local
from tunekit.executors.memory import free_memory
from tunekit.study import load_study

MIB = 2**20
NO_LIMITS = Limits()
Start = Callable[..., Any]


@pytest.fixture(scope="module")
def executor(tmp_path_factory) -> Iterator[LocalExecutor]:
    """One for all tests of this file: its server imports scikit-learn and XGBoost once."""
    folder = tmp_path_factory.mktemp("executor")
    made = LocalExecutor(1, 1, folder / "executor.log", folder / "data", heavy=False, jobs_per_process=3)
    yield made
    made.close()


def starter(executor: Executor, folder: Path) -> Start:
    """Starts jobs in folders of their own."""
    travels_by_value(sys.modules[__name__])  # or each child would import this file, and pytest with it

    def start(
        function: Any, *arguments: Any, limits: Limits = NO_LIMITS, name: str = "job", heavy: bool = False
    ) -> Any:
        (folder / name).mkdir(exist_ok=True)
        return executor.start(Job(function, arguments, folder / name, limits, heavy))

    return start


@pytest.fixture
def start(executor, tmp_path) -> Start:
    """Start a job in a process that has served none."""
    server = executor._server(False)
    while server.idle:
        server.idle.pop().channel.close()
    return starter(executor, tmp_path)


_heard: dict[Child, list[Any]] = {}


def listen(executor: Executor, child: Child) -> Any:
    """The next word of a child; what others say meanwhile is kept for their turn."""
    deadline = time.monotonic() + PATIENCE
    while not _heard.get(child):
        assert time.monotonic() < deadline, "not a word: it is taken to hang"
        for one, word in executor.listen(0.1):
            _heard.setdefault(one, []).append(word)
    return _heard[child].pop(0)


def all_of(executor: Executor, child: Child) -> list[Any]:
    """Every word of a child up to its last."""
    said = [listen(executor, child)]
    while not isinstance(said[-1], Ended):
        said.append(listen(executor, child))
    return said


def reason(executor: Executor, child: Child) -> str | None:
    """Why a child ended that said nothing else."""
    last = listen(executor, child)
    assert isinstance(last, Ended)
    assert not last.lost
    return last.reason


def pid_of(executor: Executor, child: Child) -> int:
    """Of the process where a `whoami` ran, after its end."""
    pid, last = all_of(executor, child)
    assert last == Ended()
    return int(pid)


def whoami(place: Place) -> bool:
    place.channel.send(os.getpid())
    return True


def whoami_for_the_last_time(place: Place) -> bool:
    place.channel.send(os.getpid())
    return False


def answer(place: Place, one: float, other: float) -> bool:
    place.channel.send(("sum", one + other, os.getpid()))
    return True


def echo(place: Place) -> bool:
    while (word := place.channel.recv()) is not None:
        place.channel.send(word)
    return True


def count(place: Place, most: int, code: int | None = None) -> bool:
    for number in range(most):
        place.channel.send(number)
    if code is not None:
        os._exit(code)
    return True


def end_by(place: Place, number: int) -> bool:
    os.kill(os.getpid(), number)
    return True


def leave(place: Place, code: int) -> bool:
    os._exit(code)


def say(place: Place, text: str) -> bool:
    print(text)
    return True


def say_and_leave(place: Place, text: str) -> bool:
    print("an earlier line")
    print(text, flush=True)
    os._exit(3)


def fail(place: Place) -> bool:
    raise ValueError("the jar is empty")


def rest(place: Place, seconds: float) -> bool:
    time.sleep(seconds)
    return whoami(place)


def loop(place: Place) -> bool:
    place.channel.send(os.getpid())
    while True:
        pass


def grow(place: Place) -> bool:
    kept = []
    for _ in range(200):  # MiB, at most: were the limit not kept, this test and not the machine should suffer
        kept.append(np.ones(4 * MIB // 8))
        time.sleep(0.02)
    place.channel.send(len(kept))
    time.sleep(3600)
    return True


def hold(place: Place, mebibytes: int) -> bool:
    """Leave something behind in the process."""
    vars(builtins)["held"] = np.ones(mebibytes * MIB // 8)
    return whoami(place)


# Words


def test_a_job_answers_from_a_process_of_its_own(executor, start) -> None:
    (word, total, pid), last = all_of(executor, start(answer, 1.5, 2.0))
    assert (word, total) == ("sum", 3.5)
    assert pid != os.getpid()
    assert last == Ended()


def test_a_job_is_talked_to(executor, start) -> None:
    child = start(echo)
    for word in ("one", {"two": 2}, np.arange(3).tolist()):
        child.send(word)
        assert listen(executor, child) == word
    child.send(None)
    assert listen(executor, child) == Ended()


def test_a_job_knows_its_place(executor, start, tmp_path) -> None:
    def look(place: Place) -> bool:
        place.channel.send((place.data, place.folder))
        (place.folder / "left").write_text("behind")
        return True

    told, last = all_of(executor, start(look))
    assert told == (executor._data, tmp_path / "job")
    assert last == Ended()
    assert (tmp_path / "job" / "left").read_text() == "behind"  # it is there by the last word


@pytest.mark.parametrize("code", [None, 4])
def test_all_words_come_in_order_before_the_last(executor, start, code) -> None:
    said = all_of(executor, start(count, 3000, code))
    assert said[:-1] == list(range(3000))
    assert said[-1] == Ended(None if code is None else "the process ended by itself (exit code 4)")
    assert executor.listen(0.05) == []  # and none after it


def test_jobs_run_side_by_side(executor, start) -> None:
    children = [start(echo, name=str(number)) for number in range(3)]
    for number, child in enumerate(children):
        child.send(number)
    assert [listen(executor, child) for child in children] == [0, 1, 2]
    assert len({child.pid for child in children}) == 3
    for child in children:
        child.send(None)
    assert [listen(executor, child) for child in children] == [Ended()] * 3


def test_listening_to_nobody_is_quiet(executor) -> None:
    assert executor.listen(0.01) == []


def test_a_word_to_a_child_that_is_gone_is_lost_in_silence(executor, start) -> None:
    child = start(leave, 3)
    assert reason(executor, child) == "the process ended by itself (exit code 3)"
    child.send("anybody there?")
    child.kill()


# Ends


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


def test_an_exception_is_told(executor, start) -> None:
    child = start(fail)
    told = reason(executor, child)
    assert told == "the process ended by itself (exit code 1); its last words: ValueError: the jar is empty"
    assert "in fail" in child.job.log.read_text()  # the whole traceback is in the trial's log


def test_an_endless_loop_is_ended_at_its_time_limit(executor, start) -> None:
    child = start(loop, limits=Limits(seconds=2.0))  # in which a slow machine has begun it
    process = psutil.Process(listen(executor, child))
    last = listen(executor, child)
    assert last.late
    assert last.reason.startswith("out of time: ")
    assert " s of " in last.reason
    wait_until(lambda: not alive(process), "the loop ended")


def test_a_job_that_outgrows_its_memory_is_ended(executor, start) -> None:
    limit = _of_server(executor).memory_info().rss + 150 * MIB  # a child starts with the server's pages
    told = reason(executor, start(grow, limits=Limits(memory=limit)))
    assert told is not None
    assert told.startswith("out of memory: ")
    assert told.endswith(f" of {limit / 2**30:.1f} GiB")


def test_a_job_that_cant_be_read_is_told(executor, start) -> None:
    told = reason(executor, start(_NotThere.job))
    assert told is not None
    assert told.startswith("the process ended by itself (exit code 1); its last words: ")
    assert told.endswith("ModuleNotFoundError: No module named 'no_such_room'")


class _NotThere:
    """Its function claims to come from a module that the other process can't import."""

    class _Job:
        def __reduce__(self) -> tuple[Any, ...]:
            return __import__, ("no_such_room",)

        def __call__(self, place: Place) -> bool:
            raise NotImplementedError

    job = _Job()


@pytest.mark.parametrize("known", [True, False], ids=["known", "just_started"])
def test_a_child_is_killed(executor, start, known) -> None:
    listen(executor, start(whoami))
    child = start(loop)
    if known:
        listen(executor, child)
    child.kill()
    assert all_of(executor, child)[-1].reason.startswith("the process was ended by signal 9")


# The next job


def test_a_process_serves_so_many_jobs_one_after_the_other(executor, start) -> None:
    pids = [pid_of(executor, start(whoami)) for _ in range(7)]
    assert pids == [pids[0]] * 3 + [pids[3]] * 3 + [pids[6]]
    assert len(set(pids)) == 3


def test_a_process_that_is_replaced_ends(executor, start) -> None:
    pids = [pid_of(executor, start(whoami)) for _ in range(3)]
    wait_until(lambda: not psutil.pid_exists(pids[0]), "the process that has served enough ended")


def test_a_job_may_ask_for_a_new_process_after_it(executor, start) -> None:
    first = pid_of(executor, start(whoami_for_the_last_time))
    assert pid_of(executor, start(whoami)) != first


@pytest.mark.parametrize(("function", "arguments"), [(fail, ()), (leave, (3,)), (end_by, (signal.SIGABRT,))])
def test_after_a_failure_comes_a_new_process(executor, start, function, arguments) -> None:
    first = pid_of(executor, start(whoami))
    child = start(function, *arguments)
    assert reason(executor, child)
    assert child.pid == first
    assert pid_of(executor, start(whoami)) != first


def test_after_an_overrun_comes_a_new_process(executor, start) -> None:
    first = pid_of(executor, start(whoami))
    child = start(loop, limits=Limits(seconds=0.2))
    assert listen(executor, child) == first
    assert reason(executor, child)
    assert pid_of(executor, start(whoami)) != first


def test_a_process_that_has_grown_to_half_of_the_limit_is_replaced(executor, start) -> None:
    first = pid_of(executor, start(whoami))
    limits = Limits(memory=2 * (psutil.Process(first).memory_info().rss + 100 * MIB))
    assert pid_of(executor, start(hold, 150, limits=limits)) == first
    assert pid_of(executor, start(whoami, limits=limits)) != first


def test_without_a_limit_a_process_that_has_grown_is_kept(executor, start) -> None:
    first = pid_of(executor, start(hold, 150))
    assert pid_of(executor, start(whoami)) == first


def test_an_idle_process_that_was_killed_isnt_used(executor, start) -> None:
    first = pid_of(executor, start(whoami))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(first), "the idle process ended")  # the executor hasn't listened since
    assert pid_of(executor, start(whoami)) != first


def test_a_process_is_never_at_two_jobs(executor, start) -> None:
    first = pid_of(executor, start(whoami))
    children = [start(echo, name=str(number)) for number in range(2)]
    for child in children:
        child.send(None)
        assert listen(executor, child) == Ended()
    assert [child.pid == first for child in children] == [True, False]


def test_each_job_has_its_own_log(executor, start) -> None:
    children = []
    for number in range(3):
        children.append(start(say, f"this is job {number}", name=str(number)))
        assert listen(executor, children[-1]) == Ended()
    assert len({child.pid for child in children}) == 1
    assert [child.job.log.read_text() for child in children] == [f"this is job {number}\n" for number in range(3)]


def test_a_jobs_time_counts_from_its_own_start(executor, start) -> None:
    first = pid_of(executor, start(rest, 2.1))
    # Were it counted from the process's start, its first look at the limits would end it.
    child = start(rest, 0.5, limits=Limits(seconds=2.0))
    assert pid_of(executor, child) == first


def test_a_later_jobs_limits_hold(executor, start) -> None:
    first = pid_of(executor, start(rest, 0.0, limits=Limits(seconds=3600.0)))
    child = start(loop, limits=Limits(seconds=0.5))
    assert listen(executor, child) == first
    assert str(reason(executor, child)).startswith("out of time: ")


# Servers


def test_when_the_server_is_killed_the_child_is_lost_and_the_next_job_runs(executor, start) -> None:
    child = start(loop)
    process = psutil.Process(listen(executor, child))
    server = _of_server(executor)
    server.kill()
    assert listen(executor, child) == Ended("its process server was killed", lost=True)
    wait_until(lambda: not alive(process), "the child of a dead server ended")
    assert pid_of(executor, start(whoami)) != process.pid
    assert _of_server(executor).pid != server.pid


@pytest.mark.parametrize("idle", [True, False], ids=["an_idle_process", "no_process"])
def test_a_job_started_on_a_dead_server_runs_on_the_next_one(executor, start, idle) -> None:
    first = pid_of(executor, start(whoami if idle else whoami_for_the_last_time))
    _of_server(executor).kill()
    executor._servers[False].process.wait()  # nobody has listened since
    assert pid_of(executor, start(whoami)) != first


def test_a_server_that_never_gets_ready_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(executors_local, "HEAVY", ("no_such_room",))
    made = LocalExecutor(1, 1, tmp_path / "executor.log", tmp_path, heavy=True)
    try:
        with pytest.raises(StudyError, match=r"ended 3 times .* TensorFlow; .* No module named 'no_such_room'"):
            _listen_on(made)
    finally:
        made.close()


def _listen_on(executor: Executor) -> None:
    for _ in range(int(PATIENCE / 0.1)):
        executor.listen(0.1)


@pytest.fixture
def both(tmp_path, monkeypatch) -> Iterator[LocalExecutor]:
    """An executor with two servers, both quick: a small module stands for TensorFlow."""
    monkeypatch.setattr(executors_local, "LIGHT", ("numpy", "cloudpickle"))
    monkeypatch.setattr(executors_local, "HEAVY", ("numpy", "cloudpickle", "chunk"))
    made = LocalExecutor(2, 1, tmp_path / "executor.log", tmp_path, heavy=False)
    yield made
    made.close()


def has_imported(place: Place, module: str) -> bool:
    place.channel.send((os.getpid(), module in sys.modules))
    return True


def test_children_of_both_servers_are_heard(both, tmp_path) -> None:
    start = starter(both, tmp_path)
    found = []
    for name in ("first", "again"):  # the heavy server starts with its first job
        children = {heavy: start(has_imported, "chunk", heavy=heavy, name=f"{name}{heavy}") for heavy in (True, False)}
        said = {heavy: all_of(both, child) for heavy, child in children.items()}
        assert all(last == Ended() for _, last in said.values())
        assert {heavy: told[1] for heavy, (told, _) in said.items()} == {True: True, False: False}
        found.append({heavy: told[0] for heavy, (told, _) in said.items()})
    assert found[0] == found[1]  # each server's process serves that server's next job
    assert both.ready(heavy=True)
    assert both.ready(heavy=False)


def test_a_server_may_wait_until_its_jobs_are_due(both, tmp_path) -> None:
    def made() -> LocalExecutor:
        return LocalExecutor(1, 1, tmp_path / "executor.log", tmp_path, heavy=True, at_once=False)

    with servers_kept():
        waiting = made()
        assert not waiting.ready(heavy=True)
        wait_until(lambda: waiting.listen(0.1) == [] and waiting.ready(heavy=False), "the light server is ready")
        assert not waiting.ready(heavy=True), "asking does not start it"
        waiting.prepare()
        server = waiting._servers[True]
        waiting.prepare()
        wait_until(lambda: waiting.listen(0.1) == [] and waiting.ready(heavy=True), "the heavy server is ready")
        assert waiting._servers[True] is server
        waiting.close()
        after = made()
        assert after.ready(heavy=True), "one that is there costs nothing"
        assert after._servers[True] is server
    after.close()


def test_a_server_that_is_killed_takes_only_its_own_children(both, tmp_path) -> None:
    start = starter(both, tmp_path)
    light, heavy = start(echo, name="light"), start(loop, name="heavy", heavy=True)
    listen(both, heavy)
    both._servers[True].process.kill()
    assert listen(both, heavy) == Ended("its process server was killed", lost=True)
    light.send("still here")
    assert listen(both, light) == "still here"
    light.send(None)
    assert listen(both, light) == Ended()


def test_closing_ends_the_server_and_every_child(tmp_path) -> None:
    made = LocalExecutor(1, 1, tmp_path / "executor.log", tmp_path, heavy=False)
    start = starter(made, tmp_path)
    children = [start(loop, name=str(number)) for number in range(2)]
    pids = [listen(made, child) for child in children]
    pids.append(pid_of(made, start(whoami)))  # idle now
    processes = [psutil.Process(pid) for pid in (*pids, _of_server(made).pid)]
    made.close()
    wait_until(lambda: not any(map(alive, processes)), "all ended")
    made.close()  # may be called again


CONDUCTOR = """
import os
import time
from pathlib import Path
from tunekit.executors import Ended, Job, LocalExecutor

def loop(place):
    place.channel.send(os.getpid())
    while True:
        pass

def whoami(place):
    place.channel.send(os.getpid())
    return True

if __name__ == "__main__":
    executor = LocalExecutor(2, 1, Path("executor.log"), Path("."), heavy=False)
    for function in (whoami, loop):
        executor.start(Job(function, (), Path(".")))
    said = []
    while len(said) < 3:
        said += [word for _, word in executor.listen(0.1)]
    pids = [executor._servers[False].process.pid, *(word for word in said if not isinstance(word, Ended))]
    Path("pids.partial").write_text(" ".join(map(str, pids)))
    Path("pids.partial").rename("pids.txt")
    time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_conductor_is_killed_nothing_stays(tmp_path, number) -> None:
    (tmp_path / "conductor.py").write_text(CONDUCTOR)
    with started([sys.executable, "conductor.py"], tmp_path) as conductor:
        wait_until((tmp_path / "pids.txt").exists, "the children run")
        processes = [psutil.Process(int(pid)) for pid in (tmp_path / "pids.txt").read_text().split()]
        assert len(processes) == 3  # the server, a process that waits for a job, and one at work
        assert all(map(alive, processes))
        conductor.send_signal(number)
        conductor.wait()
        wait_until(lambda: not any(map(alive, processes)), "server and children ended with their conductor")


def _of_server(executor: LocalExecutor) -> psutil.Process:
    listen(executor, starter(executor, executor._log.parent)(whoami_for_the_last_time))  # it is ready
    return psutil.Process(executor._servers[False].process.pid)


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

                def count(self, place, value):
                    place.channel.send((triple(value) + self.step, PARENT, os.getpid()))
                    return True

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
    first = pid_of(executor, start(whoami))
    (tmp_path / "beside_the_study.py").write_text(
        "def job(place):\n    place.channel.send(__name__)\n    return True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import beside_the_study  # type: ignore[import-not-found]

    child = start(beside_the_study.job)
    assert all_of(executor, child) == ["beside_the_study", Ended()]
    assert child.pid == first  # it was forked when the search's path was another


def environment_of(place: Place, name: str) -> bool:
    place.channel.send(os.environ.get(name))
    return True


def test_nets_share_the_memory_of_a_gpu(executor, start) -> None:
    expected = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    assert all_of(executor, start(environment_of, "TF_FORCE_GPU_ALLOW_GROWTH")) == [expected, Ended()]


GROUPS = {
    "version 2": ("0::/jobs/one\n", "", "memory.max", "memory.current", "inactive_file"),
    "version 1": (
        "3:cpu:/\n4:memory:/jobs/one\n0::/\n",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


@pytest.mark.parametrize("version", GROUPS)
def test_a_container_has_its_own_limit_of_memory(version, tmp_path) -> None:
    text, controller, limit, used, files = GROUPS[version]
    membership = tmp_path / "membership"
    membership.write_text(text)

    def write(group: str, most: str, taken: int, given_way: int) -> None:
        folder = tmp_path / controller / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((limit, most), (used, taken), ("memory.stat", f"anon 7\n{files} {given_way}")):
            (folder / name).write_text(f"{content}\n")

    assert free_memory(tmp_path, membership) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    write("", "4000", 1000, 200)  # a container that tells its group as it is outside
    assert free_memory(tmp_path, membership) == 3200
    write("jobs/one", "max" if version == "version 2" else str(2**63 - 4096), 1000, 0)
    assert free_memory(tmp_path, membership) == 3200
    write("jobs", "2000", 1500, 100)
    assert free_memory(tmp_path, membership) == 600
    write("jobs", "2000", 2500, 0)
    assert free_memory(tmp_path, membership) == 0
    assert free_memory(tmp_path, tmp_path / "none") > 10**6


def test_limits_for_this_machine_share_its_free_memory() -> None:
    two, four = Limits.for_machine(2, 60.0), Limits.for_machine(4, 60.0)
    assert two.seconds == four.seconds == 60.0
    assert two.memory is not None
    assert four.memory is not None
    assert four.memory < two.memory < psutil.virtual_memory().total / 2
