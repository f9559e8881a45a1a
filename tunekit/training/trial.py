"""One trial as a job: fits the family fold by fold, and leaves predictions and models on disk.

It decides nothing. Values, and whether more is worth it, come from the conductor over the channel:

=====================================================  ========================
message to the conductor                               answer
=====================================================  ========================
("suggest", Dimension)                                 the value
("settled",)                                           True to go on: all values are known, the work begins
("epochs", [(fold, epoch, best score, logs)], asks)    True to stop, if it asks
("costs", {name: cost})                                (where the study asks for costs, after the first and last fold)
("fold", fold, score, best epoch, seconds so far,
pace: seconds of an epoch, where they are counted)     True to go on
("done", seconds, peak memory in bytes)
("stopped", seconds, peak memory)                      (after an answer that said so)
("failed", reason)
("no room", reason)                                    (files can't be written: no fault of the trial)
=====================================================  ========================

Epochs are told about once a second, and where the answer is needed: asking after each one would cost more than many an
epoch takes.
"""

from __future__ import annotations

import contextlib
import errno
import math
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tunekit.data.store import Store
from tunekit.data.targets import Target
from tunekit.data.terms import TextColumn
from tunekit.errors import TunekitError
from tunekit.executors import Place
from tunekit.families import Family, Fitted, Fold, NetFamily, Part
from tunekit.families.one_by_one import OneByOne
from tunekit.metrics import Metric
from tunekit.space import Dimension, HyperParameters, Value
from tunekit.training.fitted import FittedNet, check_predictions
from tunekit.training.lift import lifted
from tunekit.training.nets import NetFitter
from tunekit.trial import MODEL_SUMMARY, derive_seed

HOME = str(Path(__file__).parents[1])
"""The folder of this package."""

SHARE_TO_FIT = 0.8
"""Of a trial's time limit: a net that is still learning then ends with its best epoch instead of being killed."""

SHARE_TO_BEGIN = 0.5
"""Of the time for the other folds, what may be taken by what is done once for all of them, such as tracing a net."""

SAY_EVERY = 1.0
"""Seconds between words about epochs that need no answer."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a system on which no trial can write its files."""

MOST_REMEMBERED = 256 * 2**20
"""Bytes of rows, over all folds, up to which what is made of them is kept for the next trial in the same process."""


MeasureCosts = Callable[[Family, dict[str, Value], Path, int], dict[str, float]]
"""What it takes to serve a trial, by name: from its family, its values, its folder, and how many folds are in there."""


@dataclass(frozen=True)
class TrialTask:
    """What a trial's process is told.

    Args:
        family: fitted.
        metric: judged by.
        seed: of the trial; each fold's is derived from it.
        threads: to be used by the fit.
        seconds: its limit; each fold's fit is asked to end in its share of it.
        rungs: epochs of the first fold after which to ask whether to go on.
        costs: measures what it takes to serve the trial.
        board: whether a net's training is written down for TensorBoard.
    """

    family: Family
    metric: Metric
    seed: int
    threads: int
    seconds: float | None = None
    rungs: frozenset[int] = frozenset()
    costs: MeasureCosts | None = None
    board: bool = False


class _Stopped(Exception):
    """Leaves the trial where the conductor said so; caught in this file."""


@dataclass
class _Line:
    """The line to the conductor; it knows how long the trial waited for answers.

    Args:
        channel: to the conductor.
        rungs: epochs of the first fold that need an answer.
        waited: seconds so far.
    """

    channel: Connection
    rungs: frozenset[int]
    waited: float = 0.0
    _epochs: list[tuple[int, int, float, dict[str, float]]] = field(default_factory=list)
    _told: float = field(default_factory=time.monotonic)

    def tell(self, *message: Any) -> None:
        """Say something, after what is still to be said about epochs."""
        self._tell_epochs()
        self.channel.send(message)

    def ask(self, *message: Any) -> Any:
        """Say something and wait for the answer."""
        self.tell(*message)
        return self._answer()

    def epoch(self, fold: int, epoch: int, best: float, logs: dict[str, float]) -> bool:
        """Report an epoch; whether to stop."""
        self._epochs.append((fold, epoch, best, logs))
        asks = fold == 0 and epoch in self.rungs
        if asks or time.monotonic() - self._told > SAY_EVERY:
            self._tell_epochs(asks=asks)
        return bool(self._answer()) if asks else False

    def _tell_epochs(self, *, asks: bool = False) -> None:
        if self._epochs:
            self.channel.send(("epochs", self._epochs, asks))
        self._epochs, self._told = [], time.monotonic()

    def _answer(self) -> Any:
        begun = time.monotonic()
        answer = self.channel.recv()
        self.waited += time.monotonic() - begun
        return answer


def run_trial(place: Place, task: TrialTask) -> bool:
    """Run one trial to its end, and say how it ended; whether the process may run another."""
    line = _Line(place.channel, task.rungs)
    _forget_peak()
    begun = time.monotonic()

    def used() -> tuple[float, int]:
        return time.monotonic() - begun - line.waited, _peak_memory()

    try:
        if task.family.needs_tensorflow:
            make_new(task.threads)
        _run_folds(line, place, task, begun)
        line.tell("done", *used())
        return True
    except _Stopped:
        line.tell("stopped", *used())
        return True
    except Exception as error:
        line.tell("no room" if isinstance(error, OSError) and error.errno in NO_ROOM else "failed", _reason(error))
        with contextlib.suppress(OSError):  # the log is a file, too
            traceback.print_exc()
        return False


def load_fold(store: Store, number: int, metric: Metric, seed: int, threads: int, seconds: float = math.inf) -> Fold:
    """A fold's rows from the store."""
    facts = store.facts
    target, weight, moments = store.array("target"), store.optional("weight"), store.optional("time")
    train, valid = store.array(f"train_{number}"), store.array(f"valid_{number}")

    def part(rows: np.ndarray) -> Part:
        return Part(store.rows.take(rows), target[rows], None if weight is None else weight[rows])

    return Fold(
        number=number,
        task=facts["task"],
        outputs=facts["outputs"],
        cardinalities=tuple(facts["cardinalities"]),
        metric=metric,
        train=_class_weighted(part(train), facts["class_weight"]),
        valid=part(valid),
        seed=seed,
        threads=threads,
        seconds=seconds,
        last=None if moments is None else int(np.argmax(moments[train])),
        memo=_memo(store, number),
        array_names=tuple(facts["array_names"]),
        text_columns=tuple(TextColumn(**column) for column in facts["text_columns"]),
        words=store.words,
        targets=tuple(Target.of(plain) for plain in facts["targets"]),
        scaled_by=tuple(facts["scaled_by"]),
        naive=facts["naive"],
        anchor=facts["anchor"],
        store=store.folder,
        halves=store.halves(number),
        logarithm=facts["logarithm"],
    )


def _class_weighted(part: Part, weights: list[Any] | None) -> Part:
    """Rows that weigh what their class does, of several targets for each of them; those that judge don't."""
    if weights is None:
        return part
    if part.target.ndim > 1:
        ones = np.ones(len(part))
        each = [ones if own is None else _of_classes(own, part.target[:, at]) for at, own in enumerate(weights)]
        by_class, own = np.stack(each, axis=1), None if part.weight is None else part.weight[:, None]
    else:
        by_class, own = _of_classes(weights, part.target), part.weight
    return replace(part, weight=by_class if own is None else by_class * own, by_class=by_class)


def _of_classes(weights: list[float], target: np.ndarray) -> np.ndarray:
    return np.asarray(np.array(weights)[target.astype(int)])


_memos: dict[tuple[Path, int], dict[str, Any]] = {}


def _memo(store: Store, number: int) -> dict[str, Any]:
    """What earlier trials in this process have made of the fold's rows; nothing where that would fill the memory."""
    if store.rows.nbytes * store.facts["folds"] > MOST_REMEMBERED:
        return {}
    return _memos.setdefault((store.folder, number), {})


def _run_folds(line: _Line, place: Place, task: TrialTask, begun: float) -> None:
    store = Store(place.data)
    folds = store.facts["folds"]
    deadline = math.inf if task.seconds is None else begun + SHARE_TO_FIT * task.seconds
    fitter = fitter_of(task.family, several=bool(store.facts["targets"]))
    values: dict[str, Value] = {}
    for number in range(folds):
        left = max(0.0, deadline - time.monotonic())
        seconds = left / (folds - number)
        fold = load_fold(store, number, task.metric, derive_seed(task.seed, number), task.threads, seconds)
        if number == 0 and folds > 1:
            fold = replace(fold, more_seconds=SHARE_TO_BEGIN * (left - seconds))
        hp = _asking(line) if number == 0 else HyperParameters(partial(_again, values))
        if task.board:
            fold = replace(fold, board=place.folder / "tensorboard" / f"fold{number}")
        fitted = _fit(line, fitter, hp, task.family.learnt(hp, fold))
        values = hp.values
        if fitted.stopped:
            raise _Stopped
        score = _judge_and_save(fitted, fold, place.folder, store)
        if number == 0 and isinstance(fitted, FittedNet):  # the same in every fold
            (place.folder / MODEL_SUMMARY).write_text(fitted.layers(), encoding="utf-8")
        if fold.board is not None and isinstance(fitted, FittedNet):
            from tunekit.training.board import Labels, write_embeddings

            write_embeddings(fold.board, fitted.saved, Labels(store.levels(), store.words()))
        # Nets have the same size on every fold; trees are as many as each fold's early stopping lets grow.
        if task.costs is not None and (number == 0 or (number == folds - 1 and not isinstance(fitter, NetFitter))):
            line.tell("costs", task.costs(task.family, values, place.folder, number + 1))
        seconds = time.monotonic() - begun - line.waited
        pace = fitted.pace if isinstance(fitted, FittedNet) else None
        if not line.ask("fold", number, score, fitted.best_epoch, seconds, pace):
            raise _Stopped


def fitter_of(family: Family, *, several: bool) -> Family | NetFitter | OneByOne:
    """What fits a family's models: to several targets, too."""
    if isinstance(family, NetFamily):
        return NetFitter(family)
    return OneByOne(family) if several else family


def _asking(line: _Line) -> HyperParameters:
    """Hyperparameters that the conductor answers for."""

    def settled() -> None:
        if not line.ask("settled"):
            raise _Stopped

    def suggest(dimension: Dimension) -> Value:
        value: Value = line.ask("suggest", dimension)
        return value

    return HyperParameters(suggest, settled)


def _again(values: dict[str, Value], dimension: Dimension) -> Value:
    return values[dimension.name]


def _fit(line: _Line, fitter: Family | NetFitter | OneByOne, hp: HyperParameters, fold: Fold) -> Fitted:
    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        return line.epoch(fold.number, epoch, best, logs)

    return fitter.fit(hp, fold, report)


def _judge_and_save(fitted: Fitted, fold: Fold, trial_folder: Path, store: Store) -> float:
    honest = fitted.out_of_fold
    predictions = check_predictions(fitted.predict(fold.valid.rows) if honest is None else honest, fold)
    predictions = lifted(fitted, fold, predictions)
    unlabelled = check_predictions(fitted.predict(store.unlabelled), fold)
    folder = trial_folder / f"fold{fold.number}"
    folder.mkdir(parents=True, exist_ok=True)
    fitted.save(folder)
    np.savez(folder / "predictions.npz", valid=predictions, unlabelled=unlabelled)
    return fold.metric.score(fold.valid.target, predictions, fold.valid.weight)


_usual: dict[str, Any] = {}
"""Keras's settings in this process before the first trial; empty until then."""


def make_new(threads: int) -> None:
    """Give TensorFlow its threads, and undo what an earlier trial's factory may have set for the whole process."""
    import keras
    import tensorflow as tf

    names = ("floatx", "epsilon", "image_data_format", "dtype_policy")
    if not _usual:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        _usual.update({name: getattr(keras.config, name)() for name in names})
        return
    keras.utils.clear_session(free_memory=True)
    for name in names:
        getattr(keras.config, f"set_{name}")(_usual[name])
    tf.config.run_functions_eagerly(False)


def _forget_peak() -> None:
    """Count peak memory from here on; where the system can't, it is counted from the process's start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reason(error: Exception) -> str:
    """Why a trial failed, in words."""
    if isinstance(error, TunekitError):
        return str(error)
    told = _first_lines(error)
    if isinstance(error, MemoryError):
        return f"out of memory at {_peak_memory() / 2**30:.1f} GiB{': ' if told else ''}{told}{_where(error)}"
    return f"{type(error).__name__}: {told}{_where(error)}"


def _first_lines(error: Exception, most: int = 400) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[:most] + "..."


def _where(error: Exception) -> str:
    """The line of the user's code, or of the last frame, that raised an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "site-packages" not in one.filename and not one.filename.startswith(HOME)]
    frame = (own or list(frames))[-1]
    return f" (in {frame.name}, {Path(frame.filename).name} line {frame.lineno})"
