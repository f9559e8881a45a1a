"""One fit of a student as a job: a net that learns a teacher's predictions, with the targets as they are beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tunekit.data.store import Store
from tunekit.executors import Place
from tunekit.families import Fold, NetFamily
from tunekit.families.base import Length
from tunekit.metrics import Metric
from tunekit.space import HyperParameters
from tunekit.training.nets import NetFitter
from tunekit.training.refit import leave, told_of
from tunekit.training.trial import load_fold, make_new

SOFT = "soft"
"""Name of the array in the store that holds what the student learns of each row: (n, outputs)."""


@dataclass(frozen=True)
class StudentTask:
    """What the process is told.

    Args:
        family: of the student; its defaults are what is fitted.
        metric: of the study.
        store: name of the store among the data of the process.
        length: of the training; None to end it by the validation rows.
        seed: of the fit.
        threads: that it may use.
    """

    family: NetFamily
    metric: Metric
    store: str
    length: Length | None
    seed: int
    threads: int


def run_student(place: Place, task: StudentTask) -> bool:
    """Fit the student on the only fold of the store; sends a text if it failed.

    Without a length it sends the `Length` at which it predicted the targets of the validation rows best. With one it
    leaves the model and its predictions in `fold0`, and sends None.
    """
    try:
        make_new(task.threads)
        store = Store(place.data / task.store)
        fold = task.family.learnt(_defaults(), taught(store, task))
        rates: list[float] = []

        def note(epoch: int, best: float, logs: dict[str, float]) -> bool:
            del epoch, best
            rates.append(logs["learning_rate"])
            return False

        fitted = NetFitter(task.family).fit(_defaults(), fold, note)
        if task.length is None:
            assert fitted.best_epoch is not None, "validation rows judged each epoch"
            place.channel.send(Length(fitted.best_epoch, tuple(rates[: fitted.best_epoch])))
            return False
        leave(place.folder, fitted, store, fold)
        place.channel.send(None)
    except Exception as error:
        place.channel.send(told_of(error))
    return False


def taught(store: Store, task: StudentTask) -> Fold:
    """The store's fold; its training rows have what the teacher says of them in place of their targets."""
    fold = load_fold(store, 0, task.metric, task.seed, task.threads)
    soft = np.asarray(store.array(SOFT))[store.array("train_0")]
    target = soft if soft.shape[1] > 1 else soft[:, 0]
    return replace(fold, train=replace(fold.train, target=target), halves=None, length=task.length)


def _defaults() -> HyperParameters:
    return HyperParameters(lambda dimension: dimension.default)
