"""One trial as a job: what it says and when, what it leaves, and that it leaves nothing to the next one."""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from folds import METRICS, fold_of, marks, prepared, table  # type: ignore[import-not-found]

from tunekit.data import KFold, StratifiedKFold, Table
from tunekit.data.preparation import Preparation
from tunekit.data.store import Store
from tunekit.errors import TrialError
from tunekit.executors import Ended, Job, LocalExecutor, Place, travels_by_value
from tunekit.families import (
    MLP,
    Baseline,
    CatBoost,
    Family,
    Forest,
    Keras,
    LightGBM,
    Linear,
    Neighbors,
    WideDeep,
    XGBoost,
)
from tunekit.families.base import ArrayModel
from tunekit.metrics import find_metric
from tunekit.space import HyperParameters
from tunekit.study.prepared import prepare
from tunekit.training import trial as training
from tunekit.training.trial import TrialTask, run_trial

MIB = 2**20
LIGHT = (Baseline(), Linear(), XGBoost(), Forest(), *(kind() for kind in (LightGBM, CatBoost) if not marks(kind)))
ENDS = ("done", "stopped", "failed")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a task's penguins in two folds."""
    written: dict[str, Path] = {}

    def folder(task: str) -> Path:
        if task not in written:
            split = KFold(2) if task == "regression" else StratifiedKFold(2)
            written[task] = tmp_path_factory.mktemp(task)
            prepare(table(task).load(), split, METRICS[task], seed=0).write(written[task])
        return written[task]

    return folder


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Trials in this process start as in a fresh one."""
    training._memos.clear()
    yield
    training._memos.clear()


@dataclass
class Conductor:
    """Answers a trial, and writes down what it said.

    Args:
        values: else the defaults.
        new: the answer to "settled".
        stop_at: the epoch at which to stop.
        last_fold: after which to stop.
        pause: seconds before each answer.
    """

    values: dict[str, Any] = field(default_factory=dict)
    new: bool = True
    stop_at: int | None = None
    last_fold: int | None = None
    pause: float = 0.0
    said: list[Any] = field(default_factory=list)
    paused: float = 0.0
    pid: int | None = None

    def take(self, message: tuple[Any, ...], send: Callable[[Any], None]) -> None:
        self.said.append(message)
        answer = self._answer(*message)
        if answer is not None:
            time.sleep(self.pause)
            self.paused += self.pause
            send(answer)

    def _answer(self, kind: str, *facts: Any) -> Any:
        if kind == "suggest":
            return self.values.get(facts[0].name, facts[0].default)
        if kind == "settled":
            return self.new
        if kind == "epochs":
            return facts[0][-1][1] == self.stop_at if facts[1] else None
        return facts[0] != self.last_fold if kind == "fold" else None

    @property
    def kinds(self) -> list[str]:
        return [message[0] for message in self.said]

    @property
    def epochs(self) -> list[tuple[int, int]]:
        """(fold, epoch) of each that was told about."""
        return [epoch[:2] for message in self.said if message[0] == "epochs" for epoch in message[1]]

    @property
    def asked(self) -> list[tuple[int, int]]:
        """Those that needed an answer."""
        return [message[1][-1][:2] for message in self.said if message[0] == "epochs" and message[2]]

    @property
    def scores(self) -> list[float]:
        return [message[2] for message in self.said if message[0] == "fold"]

    @property
    def reason(self) -> str:
        """Of a failure."""
        assert self.kinds[-1] == "failed", self.said[-1]
        return str(self.said[-1][1])


def task_of(family: Family, *, task: str = "regression", seed: int = 5, **more: Any) -> TrialTask:
    metric = find_metric(METRICS[task], task, 3 if task == "multiclass" else 1)
    return TrialTask(family, metric, seed, threads=1, **more)


def run_here(conductor: Conductor, data: Path, folder: Path, task: TrialTask) -> bool:
    """Run a trial in this process, talking to it from a thread; whether the process may run another."""
    ours, theirs = Pipe()

    def conduct() -> None:
        while not conductor.said or conductor.kinds[-1] not in ENDS:
            conductor.take(ours.recv(), ours.send)

    thread = threading.Thread(target=conduct, daemon=True)
    thread.start()
    reusable = run_trial(Place(theirs, data, folder), task)
    thread.join()
    return reusable


def left(folder: Path) -> dict[str, Any]:
    """The predictions that a trial left, by fold and rows."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("fold*/predictions.npz")):
        with np.load(path) as arrays:
            found |= {f"{path.parent.name} {name}": arrays[name] for name in arrays}
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Bit for bit: the same computation on the same rows."""
    assert one.keys() == other.keys()
    assert one
    for name, predictions in one.items():
        np.testing.assert_array_equal(predictions, other[name], strict=True)


class Steps(Family):
    """Reports so many epochs; what it predicts is a constant."""

    name = "steps"

    def __init__(self, epochs: int = 12) -> None:
        self.epochs = epochs

    def fit(self, hp: Any, fold: Any, report: Any) -> ArrayModel:
        level = hp.Float("level", 0.0, 1.0)
        hp.settle()
        model = constant(fold, level)
        for epoch in range(1, self.epochs + 1):
            if report(epoch, -float(epoch), {"seconds": fold.seconds, "more_seconds": fold.more_seconds}):
                model.stopped = True
                break
        return model


def constant(fold: Any, level: float) -> ArrayModel:
    arrays = {"value": np.array([level])}
    return ArrayModel("constant", "flat", fold.preparation, arrays, lambda rows: np.full((len(rows), 1), level))


# What is said


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("family", [*LIGHT, Neighbors()], ids=lambda family: family.name)
def test_a_trial_from_its_first_question_to_its_end(data, tmp_path, family, task) -> None:
    conductor, told = Conductor(), task_of(family, task=task)
    assert run_here(conductor, data(task), tmp_path, told)
    questions = conductor.kinds.index("settled")
    assert conductor.kinds == ["suggest"] * questions + ["settled", "fold", "fold", "done"]
    asked = [message[1].name for message in conductor.said[:questions]]
    assert len(set(asked)) == len(asked)  # the second fold gets the values of the first
    store = Store(data(task))
    for number, score in enumerate(conductor.scores):
        valid, seconds = store.array(f"valid_{number}"), conductor.said[questions + 1 + number][4]
        predictions = left(tmp_path)[f"fold{number} valid"]
        assert score == told.metric.score(store.array("target")[valid], predictions)
        assert seconds <= conductor.said[-1][1]
        unlabelled = left(tmp_path)[f"fold{number} unlabelled"]
        assert len(unlabelled) == len(store.unlabelled)
        assert (tmp_path / f"fold{number}" / "model.json").exists()


@pytest.mark.parametrize("family", [*LIGHT, Neighbors(), Steps()], ids=lambda family: family.name)
def test_values_that_are_not_new_stop_it_before_anything_is_fitted(data, tmp_path, family) -> None:
    conductor = Conductor(new=False)
    assert run_here(conductor, data("regression"), tmp_path, task_of(family))
    assert conductor.kinds[-2:] == ["settled", "stopped"]
    assert set(conductor.kinds[:-2]) == {"suggest"}
    assert list(tmp_path.iterdir()) == []


def test_a_trial_may_end_after_a_fold(data, tmp_path) -> None:
    conductor = Conductor(last_fold=0)
    assert run_here(conductor, data("regression"), tmp_path, task_of(Linear()))
    assert conductor.kinds[-2:] == ["fold", "stopped"]
    assert [path.name for path in tmp_path.iterdir()] == ["fold0"]


@pytest.mark.parametrize(("every", "batches"), [(3600.0, 5), (-1.0, 24)], ids=["rarely", "at_once"])
def test_epochs_are_told_in_batches_and_asked_about_at_rungs_of_the_first_fold(
    data, tmp_path, monkeypatch, every, batches
) -> None:
    monkeypatch.setattr(training, "SAY_EVERY", every)
    conductor = Conductor()
    assert run_here(conductor, data("regression"), tmp_path, task_of(Steps(), rungs=frozenset({1, 3, 9, 27})))
    assert conductor.epochs == [(fold, epoch) for fold in (0, 1) for epoch in range(1, 13)]  # each once, in order
    assert conductor.asked == [(0, 1), (0, 3), (0, 9)]
    assert conductor.kinds.count("epochs") == batches  # up to each rung, and to each fold's end
    told = [kind for kind in conductor.kinds if kind not in ("suggest", "settled")]
    fold = told.index("fold")
    assert set(told[:fold]) == set(told[fold + 1 : -2]) == {"epochs"}  # none is told of after its fold
    assert told[-2:] == ["fold", "done"]


def test_epochs_are_told_about_while_they_run(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SAY_EVERY", 0.05)

    class Slow(Steps):
        def fit(self, hp: Any, fold: Any, report: Any) -> ArrayModel:
            def slowly(*facts: Any) -> bool:
                time.sleep(0.03)
                return bool(report(*facts))

            return super().fit(hp, fold, slowly)

    conductor = Conductor()
    assert run_here(conductor, data("regression"), tmp_path, task_of(Slow()))
    assert conductor.asked == []  # there are no rungs
    assert (
        conductor.kinds.count("epochs") > 4
    )  # 24 epochs, every second or third of which is some 0.05 s after the last


def test_a_stop_at_a_rung_ends_it(data, tmp_path) -> None:
    conductor = Conductor(stop_at=3)
    assert run_here(conductor, data("regression"), tmp_path, task_of(Steps(), rungs=frozenset({1, 3, 9})))
    assert conductor.epochs == [(0, 1), (0, 2), (0, 3)]
    assert conductor.kinds[-1] == "stopped"
    assert "fold" not in conductor.kinds
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_answers_is_not_counted(data, tmp_path) -> None:
    conductor = Conductor(pause=0.1)
    begun = time.monotonic()
    run_here(conductor, data("regression"), tmp_path, task_of(Steps(3), rungs=frozenset({1})))
    elapsed = time.monotonic() - begun
    answered = ["suggest", "settled", "epochs", "fold", "fold"]
    assert conductor.paused == pytest.approx(0.1 * len(answered))
    told = conductor.said[-1][1]
    # A trial begins to wait a moment after it has asked; altogether less than one of the pauses.
    assert 0.0 <= told <= elapsed - conductor.paused + 0.1
    folds = [message[4] for message in conductor.said if message[0] == "fold"]
    assert folds == sorted(folds)
    assert folds[-1] <= told


def test_nets_say_their_pace(data, tmp_path) -> None:
    net, trees = Conductor(), Conductor()
    family = MLP()
    family.epochs = 3
    run_here(net, data("regression"), tmp_path / "net", task_of(family))
    run_here(trees, data("regression"), tmp_path / "trees", task_of(Steps(3)))
    paces = [[message[5] for message in one.said if message[0] == "fold"] for one in (net, trees)]
    assert all(0.0 < pace < 60.0 for pace in paces[0])
    assert paces[1] == [None, None]


def test_each_fold_gets_its_share_of_the_time(data, tmp_path) -> None:
    conductor = Conductor()
    run_here(conductor, data("regression"), tmp_path, task_of(Steps(1), seconds=1000.0))
    told = [epoch[3] for message in conductor.said if message[0] == "epochs" for epoch in message[1]]
    first, second = [one["seconds"] for one in told]
    # 0.8 of it for two folds, and then what the first has left to the second: all but what this test took
    assert 350 < first <= 400 < 700 < second <= 800
    # What is done once may take half of the other's time.
    assert [one["more_seconds"] for one in told] == [first / 2, 0.0]
    unlimited = Conductor()
    run_here(unlimited, data("regression"), tmp_path, task_of(Steps(1)))
    told = [message for message in unlimited.said if message[0] == "epochs"]
    assert told[0][1][0][3]["seconds"] == float("inf")


# Failures


class Fails(Family):
    """Fails in a way of one's choice."""

    name = "fails"

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def fit(self, hp: Any, fold: Any, report: Any) -> Any:
        return self.work(fold)


def raises(error: Exception) -> Callable[[Any], Any]:
    def work(fold: Any) -> Any:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (raises(ValueError("no such\ncolumn")), r"ValueError: no such column \(in work, test_trial\.py line \d+\)$"),
        (raises(ValueError("x" * 5000)), r"ValueError: x{400}\.\.\. \(in work, test_trial\.py line \d+\)$"),
        (raises(TrialError("said in full")), r"said in full$"),
        (raises(MemoryError()), r"out of memory at \d+\.\d GiB \(in work, test_trial\.py line \d+\)$"),
        (raises(MemoryError("for 1 PiB")), r"out of memory at \d+\.\d GiB: for 1 PiB \(in work, .*\)$"),
        (lambda fold: constant(fold, np.nan), r"\d+ of \d+ predictions are NaN or infinite; expected finite numbers"),
        (lambda fold: None, r"AttributeError: .*'NoneType'"),
    ],
    ids=["error", "long", "own", "memory", "allocation", "nan", "nothing"],
)
def test_a_failure_is_told_in_words(data, tmp_path, capfd, work, told) -> None:
    conductor = Conductor()
    assert not run_here(conductor, data("regression"), tmp_path, task_of(Fails(work)))  # its process is replaced
    assert conductor.kinds == ["failed"]
    assert re.match(told, conductor.reason), conductor.reason
    assert "\nTraceback (most recent call last)" in "\n" + capfd.readouterr().err  # for its log


def test_a_failure_in_a_later_fold_comes_after_the_scores_before_it(data, tmp_path) -> None:
    def second(fold: Any) -> Any:
        if fold.number == 1:
            raise ValueError("not again")
        return constant(fold, 1.0)

    conductor = Conductor()
    assert not run_here(conductor, data("regression"), tmp_path, task_of(Fails(second)))
    assert conductor.kinds == ["fold", "failed"]
    assert conductor.reason.startswith("ValueError: not again")


def test_predictions_that_are_no_probabilities_are_refused(data, tmp_path) -> None:
    conductor = Conductor()
    run_here(conductor, data("binary"), tmp_path, task_of(Fails(lambda fold: constant(fold, 1.5)), task="binary"))
    assert conductor.reason.startswith("the model's outputs run from 1.5 to 1.5; expected probabilities")


def test_the_users_line_is_told_wherever_his_study_is(data, tmp_path) -> None:
    """Such as in a clone of this project."""
    names: dict[str, Any] = {}
    exec(compile("def work(fold):\n    return fold.colour\n", "/home/her/tunekit/studies/study.py", "exec"), names)
    conductor = Conductor()
    run_here(conductor, data("regression"), tmp_path, task_of(Fails(names["work"])))
    assert conductor.reason.endswith("(in work, study.py line 2)")


# What is remembered


def calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """What a function is called with from now on."""
    before, seen = getattr(owner, name), list[Any]()

    def counted(*arguments: Any, **named: Any) -> Any:
        seen.append(arguments)
        return before(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)
    return seen


OTHER_VALUES: dict[str, dict[str, Any]] = {
    "baseline": {"strategy": "median"},
    "linear": {"l2": 300.0},
    "xgboost": {"max_depth": 9, "learning_rate": 0.2, "reg_lambda": 20.0, "subsample": 0.5},
    "lightgbm": {"num_leaves": 60, "learning_rate": 0.2, "lambda_l2": 20.0, "cat_smooth": 1.0},
    "catboost": {"depth": 3, "learning_rate": 0.2, "l2_leaf_reg": 9.0, "subsample": 0.5},
    "forest": {"kind": "random", "trees": 100, "min_samples_leaf": 7},
    "neighbors": {"neighbors": 50},
}


@pytest.mark.parametrize("family", [*LIGHT, Neighbors()], ids=lambda family: family.name)
def test_what_is_remembered_changes_no_result(data, tmp_path, family) -> None:
    def run(name: str, **values: Any) -> dict[str, Any]:
        run_here(Conductor(values), data("regression"), tmp_path / name, task_of(family))
        return left(tmp_path / name)

    first = run("first")
    other = run("other", **OTHER_VALUES[family.name])
    assert_same(first, run("again"))
    training._memos.clear()
    assert_same(other, run("other_alone", **OTHER_VALUES[family.name]))
    assert not np.array_equal(first["fold0 valid"], other["fold0 valid"])


def test_rows_are_prepared_and_binned_once_per_process(data, tmp_path, monkeypatch) -> None:
    prepared, binned = calls(monkeypatch, Preparation, "fit"), calls(monkeypatch, xgboost, "DMatrix")

    def run(name: str, family: Family) -> tuple[int, int]:
        before = len(prepared), len(binned)
        run_here(Conductor(), data("regression"), tmp_path / name, task_of(family))
        return len(prepared) - before[0], len(binned) - before[1]

    assert run("first", XGBoost()) == (2, 8)  # per fold: to train on, two halves to stop by, and what is only predicted
    assert run("second", XGBoost()) == (0, 2)  # the last
    assert run("linear", Linear()) == (0, 0)


def test_rows_that_would_fill_the_memory_are_not_remembered(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "MOST_REMEMBERED", 1000)
    prepared = calls(monkeypatch, Preparation, "fit")
    for name in ("first", "second"):
        run_here(Conductor(), data("regression"), tmp_path / name, task_of(Linear()))
    assert len(prepared) == 4  # two folds each
    assert training._memos == {}


@pytest.mark.parametrize("family", [Linear(), XGBoost()], ids=lambda family: family.name)
def test_nothing_is_remembered_from_other_rows(tmp_path, family) -> None:
    frame = table("regression").source  # as many rows of the same columns, other ones
    folders = []
    for name, rows in (("one", frame.iloc[:150]), ("other", frame.iloc[150:300])):
        prepare(Table(rows, target="body_mass_g").load(), KFold(2), "rmse", seed=0).write(tmp_path / name)
        folders.append(tmp_path / name)
    task = task_of(family)
    for folder in folders:
        run_here(Conductor(), folder, folder / "after", task)
    training._memos.clear()
    run_here(Conductor(), folders[1], folders[1] / "alone", task)
    assert_same(left(folders[1] / "after"), left(folders[1] / "alone"))


# In a process that has served others


class Runner:
    """Runs trials through an executor, one at a time, to an end that isn't a failure.

    Args:
        executor: with a single worker.
        data: the folder of a task's rows.
        folder: for the trials.
    """

    def __init__(self, executor: LocalExecutor, data: Path, folder: Path) -> None:
        travels_by_value(sys.modules[__name__])
        self.executor = executor
        self.folder = folder
        executor._data = data
        self.new_process()

    def new_process(self) -> None:
        """Let the next trial have a process that has served none."""
        for server in self.executor._servers.values():
            while server.idle:
                server.idle.pop().channel.close()

    def run(self, name: str, family: Family, conductor: Conductor | None = None, **more: Any) -> Conductor:
        """Run a trial to its end."""
        conductor = conductor or Conductor()
        folder = self.folder / name
        folder.mkdir()
        job = Job(run_trial, (task_of(family, **more),), folder, heavy=family.needs_tensorflow)
        child = self.executor.start(job)
        deadline = time.monotonic() + 300  # no measure of speed: after that, it is taken to hang
        while time.monotonic() < deadline:
            for _, word in self.executor.listen(0.1):
                if isinstance(word, Ended):
                    assert word == Ended(), (word, job.log.read_text())
                    assert conductor.kinds[-1] != "failed", conductor.said[-1]
                    conductor.pid = child.pid
                    return conductor
                conductor.take(word, child.send)
        raise AssertionError(f"{name} hangs")


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> Iterator[LocalExecutor]:
    folder = tmp_path_factory.mktemp("light")
    made = LocalExecutor(1, 1, folder / "executor.log", folder, heavy=False)
    yield made
    made.close()


@pytest.mark.parametrize("task", [pytest.param("multiclass", marks=pytest.mark.slow), "regression"])
def test_a_process_that_served_others_gives_what_a_fresh_one_does(light, tmp_path, task) -> None:
    prepared(task).write(tmp_path / "data")  # one fold: more are more of the same
    runner = Runner(light, tmp_path / "data", tmp_path)
    alone, pids = {}, set()
    for family in LIGHT:
        runner.new_process()
        alone[family.name] = runner.run(f"{family.name}_alone", family, task=task)
    runner.new_process()
    for family in LIGHT:
        values = {} if task == "multiclass" and family.name == "baseline" else OTHER_VALUES[family.name]
        pids.add(runner.run(f"{family.name}_other", family, Conductor(values), task=task, seed=77).pid)
    for family in LIGHT:
        after = runner.run(f"{family.name}_after", family, task=task)
        pids.add(after.pid)
        assert without_costs(after) == without_costs(alone[family.name])
        assert_same(left(tmp_path / f"{family.name}_after"), left(tmp_path / f"{family.name}_alone"))
    assert len(pids) == 1


def without_costs(one: Conductor) -> list[Any]:
    """What a trial said: not how long it took, what memory it needed and how it parcelled its epochs."""
    said = [message[:4] if message[0] == "fold" else message for message in one.said[:-1] if message[0] != "epochs"]
    return [said, [epoch for message in one.said if message[0] == "epochs" for epoch in message[1]]]


class Fills(Family):
    """Needs so much memory for a moment."""

    name = "fills"

    def __init__(self, mebibytes: int) -> None:
        self.mebibytes = mebibytes

    def fit(self, hp: Any, fold: Any, report: Any) -> ArrayModel:
        np.ones(self.mebibytes * MIB // 8)
        return constant(fold, 1.0)


def test_peak_memory_is_the_trials_own(light, data, tmp_path) -> None:
    runner = Runner(light, data("regression"), tmp_path)
    ended = [runner.run(name, Fills(size)) for name, size in (("small", 1), ("large", 400), ("last", 1))]
    assert len({one.pid for one in ended}) == 1
    small, large, last = (one.said[-1][2] / MIB for one in ended)
    assert large > small + 350  # an array of 400 MiB; the rest may vary by what else is loaded meanwhile
    assert last < large - 350


# In a process with TensorFlow that has served others


def small_net(hp: Any, data: Any) -> Any:
    """Of a user who is free to do as he likes in his process."""
    import keras

    inputs, x = data.keras_inputs()
    x = keras.layers.Dense(hp.Int("units", 4, 64), activation="relu")(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, data.keras_head(x))
    model.compile("adam", loss=data.loss, run_eagerly=False)
    return model


def careless(hp: Any, data: Any) -> Any:
    """Sets what can be set for the whole process."""
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float16")
    keras.config.set_epsilon(1e-3)
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    keras.utils.set_random_seed(1)
    tf.config.optimizer.set_jit(True)
    return small_net(hp, data)


def eager(hp: Any, data: Any) -> Any:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    return small_net(hp, data)


OTHER_NET = {"layers": 3, "units": 32, "batch_norm": True, "residual": True, "activation": "selu", "embedding": 2}


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Iterator[LocalExecutor]:
    folder = tmp_path_factory.mktemp("heavy")
    made = LocalExecutor(1, 1, folder / "executor.log", folder, jobs_per_process=50)
    yield made
    made.close()


def short(family: Any) -> Any:
    """With few epochs."""
    family.epochs = 3
    return family


SMALL_NET = {"layers": 2, "units": 32, "embedding": 4}


@pytest.mark.slow  # TensorFlow, and a dozen nets
def test_a_net_in_a_process_that_served_others_is_what_it_is_in_a_fresh_one(heavy, tmp_path) -> None:
    prepared("regression").write(tmp_path / "data")  # one fold: more are more of the same
    runner = Runner(heavy, tmp_path / "data", tmp_path)
    nets = {net.name: short(net) for net in (MLP(), WideDeep(), Keras(small_net))}
    alone = {}
    for name, net in nets.items():
        runner.new_process()
        alone[name] = runner.run(f"{name}_alone", net, Conductor(SMALL_NET))
    runner.new_process()
    pids = set()

    def check(after: str, *names: str) -> None:
        for name in names:
            again = runner.run(f"{name}_after_{after}", nets[name], Conductor(SMALL_NET))
            pids.add(again.pid)
            assert without_costs(again) == without_costs(alone[name]), after
            assert_same(left(tmp_path / f"{name}_after_{after}"), left(tmp_path / f"{name}_alone"))

    for name, net in nets.items():
        pids.add(runner.run(f"{name}_other", net, Conductor(OTHER_NET), seed=77).pid)
    check("others", "mlp")
    for factory in (careless, eager):
        pids.add(runner.run(factory.__name__, short(Keras(factory))).pid)
    check("all", *nets)
    assert len(pids) == 1


def test_how_long_to_train_is_decided_on_other_rows() -> None:
    """Turning the targets of one half of the judging rows changes what is predicted for the other half alone."""
    ready = prepared("regression")
    one = fold_of(ready)
    halves = np.arange(0, len(one.valid), 2), np.arange(1, len(one.valid), 2)
    turned = one.valid.target.copy()
    turned[halves[0]] = turned[halves[0]].mean() - 3 * (turned[halves[0]] - turned[halves[0]].mean())
    found = []
    for target in (one.valid.target, turned):
        rows = replace(one, halves=halves, valid=replace(one.valid, target=target), memo={})
        fitted = XGBoost().fit(HyperParameters(lambda dimension: dimension.default), rows, lambda *_: False)
        assert fitted.out_of_fold is not None
        found.append(fitted.out_of_fold)
    np.testing.assert_array_equal(found[0][halves[0]], found[1][halves[0]])
    assert (found[0][halves[1]] != found[1][halves[1]]).any()


def test_a_half_without_weight_decides_nothing() -> None:
    one = fold_of(prepared("regression"))
    halves = np.arange(0, len(one.valid), 2), np.arange(1, len(one.valid), 2)
    weight = np.ones(len(one.valid))
    assert len(replace(one, halves=halves, valid=replace(one.valid, weight=weight)).deciding) == 2
    weight[halves[0]] = 0
    assert len(replace(one, halves=halves, valid=replace(one.valid, weight=weight)).deciding) == 1
