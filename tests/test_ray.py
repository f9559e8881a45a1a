"""Trials on real Ray clusters, which lose processes, actors, nodes and heads; nothing that was finished is lost."""

import importlib.util
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clusters import Cluster, cluster  # type: ignore[import-not-found]
from searches import (  # type: ignore[import-not-found]
    PATIENCE,
    alive,
    houses,
    records,
    started,
    wait_until,
    write_study,
)

from tunekit.errors import StudyError
from tunekit.executors import Child, Ended, Job, Limits, Place, bridge, travels_by_value
from tunekit.executors import ray as executors_ray
from tunekit.executors.bridge import Bridge, Wish
from tunekit.executors.cluster import Machine
from tunekit.executors.node import put_files
from tunekit.executors.ray import RayExecutor
from tunekit.study import load_study
from tunekit.tracking import Observer

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='Ray is not installed: pip install "tunekit[ray]"'
)
LONG = 150.0
"""Seconds after which a cluster is taken to hang: Ray declares a node dead after some fifteen. No measure of speed."""

GIB = 2**30


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """One node with two slots."""
    with cluster(2) as made:
        yield made


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """What stands for a study's rows."""
    folder = Path(tmp_path_factory.mktemp("study")) / "data"
    folder.mkdir()
    np.save(folder / "target.npy", np.arange(1000.0))
    (folder / "facts.json").write_text('{"folds": 1}')
    return folder


@pytest.fixture(scope="module")
def executor(two, rows) -> Iterator[RayExecutor]:
    """One for all tests that leave it whole."""
    travels_by_value(sys.modules[__name__])
    made = RayExecutor(None, 1, rows, heavy=False, address=two.address)
    wait_ready(made, 2)
    yield made
    made.close()


@pytest.fixture
def start(executor, tmp_path) -> Callable[..., Child]:
    return partial(start_job, executor, tmp_path)


def start_job(executor: RayExecutor, folder: Path, function: Any, *arguments: Any, limits: Limits | None = None) -> Any:
    """Start a job in a folder of its own."""
    travels_by_value(sys.modules[__name__])
    own = Path(tempfile.mkdtemp(dir=folder))
    child = executor.start(Job(function, arguments, own, limits or Limits()))
    _folders[child] = own
    return child


_folders: dict[Child, Path] = {}
_heard: dict[Child, list[Any]] = {}


def listen(executor: RayExecutor, child: Child, patience: float = LONG) -> Any:
    """The next word of a child; what others say meanwhile is kept for their turn."""
    deadline = time.monotonic() + patience
    while not _heard.get(child):
        assert time.monotonic() < deadline, "not a word: it is taken to hang"
        hear(executor)
    return _heard[child].pop(0)


def hear(executor: RayExecutor) -> None:
    begun = time.monotonic()
    for one, word in executor.listen(0.1):
        _heard.setdefault(one, []).append(word)
    assert time.monotonic() - begun < 5.0, "it kept the conductor waiting"  # a second, and this machine is shared


def wait_ready(executor: RayExecutor, slots: int) -> None:
    """Until every actor's server is ready, of as many slots."""
    deadline = time.monotonic() + LONG
    while executor.workers != slots or not all(seat.ready for seat in executor._seats.values()):
        assert time.monotonic() < deadline, f"{executor.workers} slots, expected {slots}"
        hear(executor)


def descendants(processes: list[psutil.Process]) -> list[psutil.Process]:
    """These processes, and all that they have started."""
    return [*processes, *(child for process in processes for child in process.children(recursive=True))]


def listens_at(process: psutil.Process) -> set[str]:
    """The addresses at which a process can be reached."""
    with suppress(psutil.NoSuchProcess):
        ends = process.net_connections("inet")
        return {one.laddr.ip.removeprefix("::ffff:") for one in ends if one.status == psutil.CONN_LISTEN}
    return set()


def node_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tunekit-node-*"))


def echo(place: Place) -> bool:
    while (word := place.channel.recv()) is not None:
        place.channel.send(word)
    return True


def sum_of_rows(place: Place, factor: float) -> bool:
    place.channel.send(factor * float(np.load(place.data / "target.npy", mmap_mode="r").sum()))
    return True


def write(place: Place) -> bool:
    (place.folder / "fold0" / "deep").mkdir(parents=True)
    (place.folder / "fold0" / "model.npz").write_bytes(bytes(range(256)) * 2**14)  # 4 MiB
    (place.folder / "fold0" / "deep" / "empty").touch()
    print("a last remark")
    return True


def fail(place: Place) -> bool:
    raise ValueError("the jar is empty")


def loop(place: Place) -> bool:
    place.channel.send(os.getpid())
    while True:
        time.sleep(0.01)


def grow(place: Place) -> bool:
    kept = []
    for _ in range(200):  # 8 MiB each: were the limit not kept, this test and not the machine should suffer
        kept.append(np.ones(2**20))
        time.sleep(0.02)
    return bool(kept)


# Without a cluster


def test_without_ray_it_says_how_to_get_it(rows, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r'needs Ray, which is not installed here; run `pip install "tunekit\[ray\]"`'):
        RayExecutor(None, 1, rows)


@needs_ray
def test_an_address_where_nothing_listens_is_refused(rows) -> None:
    with pytest.raises(StudyError, match=r"\(ray_address is '127.0.0.1:9'\): nothing answers at 127.0.0.1:9 \("):
        RayExecutor(None, 1, rows, address="127.0.0.1:9")


@needs_ray
def test_an_address_of_the_ray_client_is_refused(rows) -> None:
    with pytest.raises(StudyError, match=r"'ray://head:10001'; expected the head's host and port, such as"):
        RayExecutor(None, 1, rows, address="ray://head:10001")


@pytest.mark.parametrize("name", ["../other.txt", "/tmp/other.txt", "fold0/../../other.txt"])
def test_files_cant_leave_their_folder(tmp_path, name) -> None:
    with pytest.raises(OSError, match="leads out of the job's folder"):
        put_files({name: b""}, tmp_path / "job")
    assert not (tmp_path / "other.txt").exists()


class FakeActor:
    """An actor that never calls, or ends at once."""

    def __init__(self, fails: str | None) -> None:
        self.fails = fails
        self.killed = False

    def serve(self, ended: Callable[[str], Any], address: tuple[str, int], key: bytes, number: int) -> None:
        self.address = address
        if self.fails is not None:
            ended(self.fails)

    def kill(self) -> None:
        self.killed = True


class FakeCluster:
    """Nodes with so many free CPUs each.

    Args:
        free: of host0, host1 and so on.
        fails: why actors end at once, by host.
    """

    home = "0"
    host = "127.0.0.1"

    def __init__(self, *free: int, fails: dict[str, str] | None = None) -> None:
        self.free = free
        self.fails = fails or {}
        self.hired: list[tuple[str, int, tuple[Any, ...], FakeActor]] = []

    def machines(self) -> list[Machine]:
        taken: Counter[str] = Counter()
        for name, cpus, _, actor in self.hired:
            taken[name] += 0 if actor.killed else cpus
        names = [f"host{number}" for number in range(len(self.free))]
        return [
            Machine(str(number), name, 8, self.free[number] - taken[name], GIB) for number, name in enumerate(names)
        ]

    def hire(self, machine: Machine, cpus: int, *facts: Any) -> FakeActor:
        actor = FakeActor(self.fails.get(machine.name))
        self.hired.append((machine.name, cpus, facts, actor))
        return actor

    def close(self, actors: list[FakeActor]) -> None:
        assert all(actor.killed for actor in actors)


@pytest.fixture
def bridging(monkeypatch, rows) -> Iterator[Callable[..., Any]]:
    """Runs a bridge over a fake cluster; gives the conductor's end of its line."""
    monkeypatch.setattr(bridge, "LOOK_EVERY", 0.01)
    running = []

    def run(fake: FakeCluster, **wish: Any) -> Any:
        ours, theirs = Pipe()
        facts = {"address": None, "workers": None, "threads": 1, "slots": None, "heavy": False, "data": rows, **wish}
        thread = threading.Thread(target=Bridge(theirs, Wish(**facts), fake).run)  # type: ignore[arg-type]
        thread.start()
        running.append((ours, thread))
        assert ours.recv() == ("connected",)
        return ours

    yield run
    for ours, thread in running:
        ours.close()
        thread.join()


def hired(fake: FakeCluster) -> Counter[tuple[str, int]]:
    """How many actors of how many CPUs each host has, once no more come."""
    before = -1
    while before != len(fake.hired):
        before = len(fake.hired)
        time.sleep(0.2)  # of 0.01 s each look
    return Counter((name, cpus) for name, cpus, _, _ in fake.hired)


@pytest.mark.parametrize(
    ("free", "wish", "expected"),
    [
        ((8, 8), {}, {("host0", 8): 1, ("host1", 8): 1}),
        ((8, 2), {"threads": 2}, {("host0", 8): 1, ("host1", 2): 1}),
        ((0, 3), {"threads": 2}, {("host1", 2): 1}),
        ((8, 8), {"workers": 3}, {("host0", 2): 1, ("host1", 1): 1}),
        ((8, 8), {"workers": 100}, {("host0", 8): 1, ("host1", 8): 1}),
        ((3, 8), {"slots": 2, "workers": 7}, {("host0", 1): 1, ("host1", 2): 3}),
        ((8,), {"threads": 9}, {}),
    ],
)
def test_each_node_with_room_gets_its_share(bridging, free, wish, expected) -> None:
    fake = FakeCluster(*free)
    bridging(fake, **wish)
    assert hired(fake) == expected


def test_slots_of_a_node_share_its_memory(bridging) -> None:
    fake = FakeCluster(8)
    bridging(fake, workers=4, slots=1)
    assert hired(fake) == {("host0", 1): 4}
    assert [facts[2:4] for _, _, facts, _ in fake.hired] == [(GIB // 4, 4)] * 4


def test_a_node_where_actors_always_end_is_given_up(bridging) -> None:
    fake = FakeCluster(2, 2, fails={"host1": "no module"})
    line = bridging(fake)
    assert hired(fake) == {("host0", 2): 1, ("host1", 2): 3}
    said = [line.recv() for _ in range(4)]
    reason = "the node host1 can't run trials: no module"
    assert [(kind, why) for kind, *_, why in said] == [("left", reason)] * 3 + [("unfit", reason)]


def test_when_no_node_is_left_it_says_why(bridging) -> None:
    line = bridging(FakeCluster(2, fails={"host0": "no module"}))
    said = [line.recv() for _ in range(5)]
    assert said[-1] == ("refused", "the node host0 can't run trials: no module")


def test_a_stranger_who_calls_is_not_heard(bridging) -> None:
    fake = FakeCluster(2)
    line = bridging(fake)
    hired(fake)
    with socket.create_connection(fake.hired[0][3].address) as stranger:
        stranger.settimeout(PATIENCE)
        assert b"#CHALLENGE#" in stranger.recv(256)
        stranger.sendall(b"\0\0\0\x20" + bytes(32))
        while stranger.recv(256):  # told that it failed, and hung up on
            pass
    assert not line.poll(0.2)


# Jobs


@needs_ray
@pytest.mark.slow
def test_jobs_are_talked_to_side_by_side(executor, start) -> None:
    assert executor.workers == 2
    assert executor.ready(heavy=False)
    children = [start(echo) for _ in range(2)]
    assert not executor.ready(heavy=False)  # no room
    for word in ("one", {"two": 2}, list(range(1000))):
        for child in children:
            child.send(word)
        assert [listen(executor, child) for child in children] == [word, word]
    for child in children:
        for number in range(100):
            child.send(number)
        child.send(None)
    for child in children:
        assert [listen(executor, child) for _ in range(101)] == [*range(100), Ended()]
    assert executor.ready(heavy=False)


@needs_ray
@pytest.mark.slow
def test_a_job_finds_the_rows_and_leaves_its_files(executor, start, rows) -> None:
    child = start(sum_of_rows, 2.0)
    assert [listen(executor, child) for _ in range(2)] == [2.0 * np.load(rows / "target.npy").sum(), Ended()]
    child = start(write)
    assert listen(executor, child) == Ended()
    folder = _folders[child]
    assert (folder / "log.txt").read_text() == "a last remark\n"
    assert (folder / "fold0" / "model.npz").read_bytes() == bytes(range(256)) * 2**14
    assert (folder / "fold0" / "deep" / "empty").read_bytes() == b""


@needs_ray
@pytest.mark.slow
def test_each_end_is_told_with_its_reason_and_its_log(executor, start) -> None:
    child = start(fail)
    told = listen(executor, child)
    assert told == Ended("the process ended by itself (exit code 1); its last words: ValueError: the jar is empty")
    assert "in fail" in (_folders[child] / "log.txt").read_text()
    child = start(loop, limits=Limits(seconds=0.5))
    listen(executor, child)
    assert listen(executor, child).reason.startswith("out of time: ")
    child = start(grow, limits=Limits(memory=400 * 2**20))
    assert listen(executor, child).reason.endswith(" of 0.4 GiB")
    child = start(loop)
    process = psutil.Process(listen(executor, child))
    child.kill()
    assert "signal 9" in listen(executor, child).reason
    wait_until(lambda: not alive(process), "the job ended")


@needs_ray
@pytest.mark.slow
def test_a_killed_process_costs_its_job_and_a_killed_actor_all_of_its(two, executor, start) -> None:
    children = [start(loop) for _ in range(2)]
    processes = [psutil.Process(listen(executor, child)) for child in children]
    processes[0].kill()
    assert listen(executor, children[0]).reason.startswith("the process was ended by signal 9 (SIGKILL)")
    assert not _heard.get(children[1])
    children[0] = start(loop)
    processes[0] = psutil.Process(listen(executor, children[0]))
    folders = node_folders()
    [actor] = two.actors()
    helpers = descendants([actor])
    actor.kill()
    for child in children:
        last = listen(executor, child)
        assert last.lost
        assert last.reason.startswith("the node ")
    wait_until(lambda: not any(map(alive, [*helpers, *processes])), "its processes ended")
    wait_ready(executor, 2)  # in a new actor
    child = start(sum_of_rows, 1.0)
    assert [listen(executor, child) for _ in range(2)] == [499500.0, Ended()]
    wait_until(lambda: len(folders & node_folders()) < len(folders), "the folder of the killed actor is gone")


@needs_ray
@pytest.mark.slow
def test_without_an_address_it_starts_a_cluster_that_only_this_machine_sees(rows, tmp_path, monkeypatch) -> None:
    before = node_folders()
    with tempfile.TemporaryDirectory(prefix="tk-ray-") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)  # where there is none that it could find
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        made = RayExecutor(3, 1, rows, heavy=False)
        try:
            assert made.workers == 3
            assert made._bridge is not None
            mine = descendants([psutil.Process(made._bridge._process.pid)])
            assert set().union(*map(listens_at, mine)) == {"127.0.0.1"}
            wait_ready(made, 3)
            child = start_job(made, tmp_path, loop)
            listen(made, child)
            made._bridge._process.kill()  # as Ray does with a driver that misses the head
            assert listen(made, child) == Ended("the Ray cluster was lost", lost=True)
            # but for Ray's agents, which miss their raylet after a minute
            rest = [one for one in mine if alive(one) and not one.name().endswith("Agent")]
            wait_until(lambda: not any(map(alive, rest)), "the cluster ended with its driver")
            wait_ready(made, 3)  # on another cluster
            child = start_job(made, tmp_path, sum_of_rows, 1.0)
            assert listen(made, child) == 499500.0
            mine = descendants([psutil.Process(made._bridge._process.pid)])
        finally:
            made.close()
        made.close()
        wait_until(lambda: not any(map(alive, mine)), "all ended")
    wait_until(lambda: node_folders() <= before, "its folders are gone")
    with pytest.raises(StudyError, match="the executor is closed"):
        start_job(made, tmp_path, loop)


@needs_ray
@pytest.mark.slow
def test_when_the_head_stays_away_it_says_so(rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(executors_ray, "LOST_PATIENCE", 5.0)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    with cluster(1) as made_cluster:
        made = RayExecutor(None, 1, rows, heavy=False, address=made_cluster.address)
        wait_ready(made, 1)
        child = start_job(made, tmp_path, loop)
        listen(made, child)
        made_cluster.gcs.kill()
        assert listen(made, child).lost
        assert made.workers == 0
        assert not made.ready(heavy=False)
        with pytest.raises(StudyError, match="what was finished is in the ledger: run the study again to go on"):
            wait_ready(made, 1)
        made.close()


# Searches

SLOW = """
import time


class Slow(tk.families.Family):
    name = "slow"

    def fit(self, hp, fold, report):
        level = hp.Float("level", 0.0, 1.0)
        hp.settle()
        time.sleep({seconds} if fold.number == 0 else 0.0)
        return tk.families.base.ArrayModel(
            "constant",
            "flat",
            fold.preparation,
            {{"value": np.array([level])}},
            lambda features: np.full((len(features), 1), 1e5 * (1 + level)),
        )
"""

NET = """
def net(hp, data):
    inputs, x = data.keras_inputs()
    x = keras.layers.Dense(hp.Int("units", 4, 16), activation="relu")(x)
    model = keras.Model(inputs, data.keras_head(x))
    model.compile("adam", loss=data.loss)
    return model
"""


@pytest.fixture(scope="module")
def eight() -> Iterator[Cluster]:
    """Two nodes with four slots each. The last test takes one away."""
    with cluster(4, 4) as made:
        yield made


def study(folder: Path, families: str, code: str = "", run: str = "") -> Any:
    """A study of some houses, in two folds, at random."""
    houses(200).to_csv(folder / "train.csv", index=False)
    data = 'tk.Table(HERE / "train.csv", target="Sale_Price")'
    return write_study(folder, data, families, code=code, options='split=tk.KFold(2), driver="random"', run=run)


def check_retries(trials: list[dict[str, Any]]) -> None:
    """Each trial that was interrupted has one that follows it, of the same seed and values."""
    for trial in [one for one in trials if one["state"] == "interrupted"]:
        root = trial["index"] if trial["retry_of"] is None else trial["retry_of"]
        again = [one for one in trials if one["retry_of"] == root and one["family"] == trial["family"]]
        assert [one["state"] for one in again if one["index"] > trial["index"]][-1] == "complete"
        for one in again:
            assert one["seed"] == trial["seed"]
            assert trial["values"] in (one["values"], {})


@needs_ray
@pytest.mark.slow
def test_a_search_finds_what_it_finds_without_a_cluster(eight, tmp_path) -> None:
    path = study(tmp_path, "tk.Baseline(), tk.Linear(), tk.XGBoost()")
    found = {}
    for name, address in (("local", None), ("ray", eight.address)):
        load_study(path).run(
            trials=8, workers=1, root=tmp_path / name, executor=name, ray_address=address, observers=[]
        )
        found[name] = records(tmp_path / name)
        files = (tmp_path / name / "studies" / "small" / "trials").glob("*/fold*/*")
        found[f"{name}'s files"] = sorted(str(file.relative_to(tmp_path / name)) for file in files)
    assert len(found["local"]) == 8
    assert found["ray's files"] == found["local's files"]
    for mine, other in zip(found["ray"], found["local"], strict=True):
        for name in ("number", "family", "state", "seed", "values"):
            assert mine[name] == other[name]
        # locally a single trial has all cores, and threads add up in another order
        assert mine["fold_scores"] == pytest.approx(other["fold_scores"], rel=1e-6)


@needs_ray
@pytest.mark.slow
def test_a_net_is_fitted_on_a_node(eight, tmp_path) -> None:
    path = study(tmp_path, "tk.Keras(net, epochs=3)", NET)
    result = load_study(path).run(
        trials=2, workers=1, root=tmp_path, executor="ray", ray_address=eight.address, observers=[]
    )
    assert [trial["state"] for trial in result.summary["trials"]] == ["complete"] * 2
    assert len(list((tmp_path / "studies" / "small" / "trials").glob("*-net/fold*/model.weights.h5"))) == 4


@needs_ray
@pytest.mark.slow
def test_when_the_conductor_is_killed_nothing_stays_and_nothing_is_lost(eight, tmp_path) -> None:
    where = f'trials=16, workers=4, executor="ray", ray_address="{eight.address}", observers=[]'
    path = study(tmp_path, "Slow()", SLOW.format(seconds=1.0), where)
    folders = node_folders()
    with started([sys.executable, path.name], tmp_path) as conductor:
        wait_until(lambda: len(records(tmp_path / "mlruns")) > 4, "some trials have ended", LONG)
        helpers = descendants([*psutil.Process(conductor.pid).children(), *eight.actors()])
        assert len(helpers) > 1 + 2 * 3  # the bridge; on each node an actor, a server and a job
        conductor.send_signal(signal.SIGKILL)
        conductor.wait()
        before = records(tmp_path / "mlruns")
        wait_until(lambda: not any(map(alive, helpers)), "all ended with their conductor")
    wait_until(lambda: node_folders() <= folders, "their folders are gone")
    load_study(path).run(
        trials=16, workers=4, root=tmp_path / "mlruns", executor="ray", ray_address=eight.address, observers=[]
    )
    after = records(tmp_path / "mlruns")
    assert [trial for trial in after if trial["number"] in {one["number"] for one in before}] == before
    assert sum(trial["state"] == "complete" for trial in after) == 16
    check_retries(after)


class Killer(Observer):
    """Kills a process once some trials run."""

    def __init__(self, process: psutil.Process, after: int) -> None:
        self.process = process
        self.left = after

    def trial_started(self, trial: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.process.kill()


@needs_ray
@pytest.mark.slow
def test_a_lost_node_costs_what_it_ran_and_that_is_run_again(eight, tmp_path) -> None:
    path = study(tmp_path, "Slow()", SLOW.format(seconds=20.0))  # Ray takes some 13 s to miss a node
    killer = Killer(eight.raylets[1], 8)
    load_study(path).run(trials=8, root=tmp_path, executor="ray", ray_address=eight.address, observers=[killer])
    trials = records(tmp_path)
    lost = [trial for trial in trials if trial["state"] == "interrupted"]
    assert len(lost) == 4
    assert all(
        re.fullmatch(r"the node .* was lost, .*; it is run again with the same values", t["error"]) for t in lost
    )
    assert sum(trial["state"] == "complete" for trial in trials) == 8 == len(trials) - len(lost)
    check_retries(trials)
