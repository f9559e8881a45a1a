"""One trial in its own process: fits the family fold by fold, and leaves predictions and models on disk.

It decides nothing. Values, and whether another epoch or fold is worth it, come from the conductor over the channel:

=====================================================  ========================
message to the conductor                               answer
=====================================================  ========================
("suggest", Dimension)                                 the value
("epoch", fold, epoch, best score so far, logs)        True to stop; none after fold 0
("fold", fold, score, best epoch, seconds so far)      True to go on
("done", seconds, peak memory in bytes)
("stopped", seconds, peak memory)                      (after an answer that said so)
("failed", reason)
=====================================================  ========================
"""

from __future__ import annotations

import math
import resource
import sys
import time
import traceback
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tunekit.data.store import Store
from tunekit.errors import TunekitError
from tunekit.families import Family, Fitted, Fold, NetFamily, Part
from tunekit.metrics import Metric
from tunekit.space import Dimension, HyperParameters, Value
from tunekit.training.nets import NetFitter, check_predictions
from tunekit.trial import derive_seed

SHARE_TO_FIT = 0.8
"""Of a trial's time limit: a net that is still learning then ends with its best epoch instead of being killed."""


@dataclass(frozen=True)
class TrialTask:
    """What a trial's process is told.

    Args:
        store: the study's rows.
        family: fitted.
        metric: judged by.
        seed: of the trial; each fold's is derived from it.
        threads: to be used by the fit.
        folder: of the trial; gets a folder "fold<k>" each.
        seconds: its limit; each fold's fit is asked to end in its share of it.
    """

    store: Store
    family: Family
    metric: Metric
    seed: int
    threads: int
    folder: Path
    seconds: float | None = None

    @property
    def fold_seconds(self) -> float:
        """A fold's share of the limit, with some left over for building, predicting and saving."""
        return math.inf if self.seconds is None else SHARE_TO_FIT * self.seconds / self.store.facts["folds"]


class _Stopped(Exception):
    """Leaves the loop over folds; caught in this file."""


def run_trial(channel: Connection, task: TrialTask) -> None:
    """Run one trial to its end, and say how it ended."""
    try:
        if task.family.needs_tensorflow:
            _limit_tensorflow(task.threads)
        seconds = _run_folds(channel, task)
        channel.send(("done", seconds, _peak_memory()))
    except _Stopped as stopped:
        channel.send(("stopped", stopped.args[0], _peak_memory()))
    except MemoryError:
        channel.send(("failed", f"out of memory at {_peak_memory() / 2**30:.1f} GiB: {_where()}"))
        traceback.print_exc()
    except TunekitError as error:
        channel.send(("failed", str(error)))
        traceback.print_exc()
    except Exception as error:
        channel.send(("failed", f"{type(error).__name__}: {_first_lines(error)}{_where()}"))
        traceback.print_exc()


def load_fold(store: Store, number: int, metric: Metric, seed: int, threads: int) -> Fold:
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
        train=part(train),
        valid=part(valid),
        seed=seed,
        threads=threads,
        last=None if moments is None else int(np.argmax(moments[train])),
    )


def _run_folds(channel: Connection, task: TrialTask) -> float:
    seconds = 0.0
    values: dict[str, Value] = {}
    fitter = NetFitter(task.family) if isinstance(task.family, NetFamily) else task.family
    for number in range(task.store.facts["folds"]):
        begun = time.monotonic()
        fold = load_fold(task.store, number, task.metric, derive_seed(task.seed, number), task.threads)
        fold = replace(fold, seconds=task.fold_seconds)
        hp = HyperParameters(partial(_ask, channel) if number == 0 else partial(_again, values))
        fitted = _fit(channel, fitter, hp, fold)
        values = hp.values
        if fitted.stopped:
            raise _Stopped(seconds + time.monotonic() - begun)
        score = _judge_and_save(fitted, fold, task)
        seconds += time.monotonic() - begun
        channel.send(("fold", number, score, fitted.best_epoch, seconds))
        if not channel.recv():
            raise _Stopped(seconds)
    return seconds


def _ask(channel: Connection, dimension: Dimension) -> Value:
    channel.send(("suggest", dimension))
    value: Value = channel.recv()
    return value


def _again(values: dict[str, Value], dimension: Dimension) -> Value:
    return values[dimension.name]


def _fit(channel: Connection, fitter: Family | NetFitter, hp: HyperParameters, fold: Fold) -> Fitted:
    def report(epoch: int, best: float, logs: dict[str, float]) -> bool:
        channel.send(("epoch", fold.number, epoch, best, logs))
        return bool(channel.recv()) if fold.number == 0 else False

    return fitter.fit(hp, fold, report)


def _judge_and_save(fitted: Fitted, fold: Fold, task: TrialTask) -> float:
    predictions = check_predictions(fitted.predict(fold.valid.rows), fold.task)
    unlabelled = check_predictions(fitted.predict(task.store.unlabelled), fold.task)
    folder = task.folder / f"fold{fold.number}"
    folder.mkdir(parents=True, exist_ok=True)
    fitted.save(folder)
    np.savez(folder / "predictions.npz", valid=predictions, unlabelled=unlabelled)
    return fold.metric.score(fold.valid.target, predictions, fold.valid.weight)


def _limit_tensorflow(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _first_lines(error: Exception, most: int = 400) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[:most] + "..."


def _where() -> str:
    """The line of the user's code, or of the last frame, that raised the current exception."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "site-packages" not in frame.filename and "tunekit" not in frame.filename]
    frame = (own or list(frames))[-1]
    return f" (in {frame.name}, {Path(frame.filename).name} line {frame.lineno})"
