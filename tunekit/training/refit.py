"""One fit of a trial's values on all rows that it is given, as a job: no rows are left to judge it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tunekit.data.store import Store
from tunekit.errors import TrialError
from tunekit.executors import Place
from tunekit.families import Family, Fitted, Fold, Keras, NetFamily, Pretrained
from tunekit.families.base import Length
from tunekit.families.rounds import Boosting
from tunekit.metrics import Metric
from tunekit.space import HyperParameters, Value
from tunekit.training.fitted import check_predictions
from tunekit.training.lift import lift_by
from tunekit.training.trial import fitter_of, load_fold, make_new


@dataclass(frozen=True)
class RefitTask:
    """What the process is told.

    Args:
        family: fitted.
        metric: of the study.
        values: the trial's.
        length: of the training; None for families without epochs or rounds.
        lift: of the logarithm that is learnt, if one is: see `tunekit.training.lift`.
        seed: of the fit.
        threads: that it may use.
    """

    family: Family
    metric: Metric
    values: dict[str, Value]
    length: Length | None
    lift: float
    seed: int
    threads: int


def refusal(family: Family) -> str | None:
    """Why a family's models can't be fitted for a given number of epochs; None if they can."""
    if isinstance(family, Pretrained):
        return "its training has two phases, each of which ends by rows that judge it"
    if isinstance(family, Keras) and family.own_fit is not None:
        return "its author's own fit decides how long it takes"
    return None


def run_refit(place: Place, task: RefitTask) -> bool:
    """Fit on all rows of the store; leaves the model and its predictions in `fold0`. Sends None, or why it failed."""
    try:
        if task.family.needs_tensorflow:
            make_new(task.threads)
        store = Store(place.data)
        fold = load_fold(store, 0, task.metric, task.seed, task.threads)
        if task.length is None and isinstance(task.family, (NetFamily, Boosting)):
            raise TrialError("it is not known how many epochs or rounds its best ones took; search again")
        fold = replace(fold, halves=None, length=task.length)
        hp = HyperParameters(lambda dimension: task.values.get(dimension.name, dimension.default))
        fitter = fitter_of(task.family, several=bool(store.facts["targets"]))
        fitted = fitter.fit(hp, task.family.learnt(hp, fold), lambda *_: False)
        lift_by(fitted, task.lift)
        leave(place.folder, fitted, store, fold)
        place.channel.send(None)
    except Exception as error:
        place.channel.send(told_of(error))
    return False


def leave(trial_folder: Path, fitted: Fitted, store: Store, fold: Fold) -> None:
    """Write a model that no rows judged, and what it predicts of the unlabelled rows, as the trial's `fold0`."""
    folder = trial_folder / "fold0"
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled = check_predictions(fitted.predict(store.unlabelled), fold)
    fitted.save(folder)
    np.savez(folder / "predictions.npz", unlabelled=unlabelled)


def told_of(error: Exception) -> str:
    """Why a fit failed, in words; the log gets the rest."""
    traceback.print_exception(error)
    return str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
