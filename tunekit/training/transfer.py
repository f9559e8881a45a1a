"""Trains a pretrained net in its phases: the head on what the frozen base makes, then head and top blocks together.

It imports Keras: import it late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tunekit.data.schema import Encoded
from tunekit.data.store import Store
from tunekit.errors import FactoryError
from tunekit.families import Fold, NetData, Pretrained
from tunekit.families.base import EpochReport
from tunekit.families.nets import plateau
from tunekit.space import HyperParameters
from tunekit.training.fitted import FittedNet
from tunekit.training.frozen import Frozen
from tunekit.training.judge import Judge
from tunekit.training.nets import untrained
from tunekit.training.phase import train
from tunekit.training.traced import TracedModel


@dataclass(frozen=True)
class FrozenBase:
    """A net's base while it is frozen: what is trained is the head alone, which reads what the base made.

    Args:
        whole: the net from pixels to predictions.
        frozen: its base.
        position: of its array column in the rows' arrays.
    """

    whole: keras.Model
    frozen: Frozen
    position: int

    def inputs(self, fold: Fold, part: str) -> npt.NDArray[np.float32]:
        """Features of a fold's "train" or "valid" rows."""
        if fold.store is not None:
            return self.frozen.at(Store(fold.store).array(f"{part}_{fold.number}"))
        return self.of(getattr(fold, part).rows)

    def of(self, rows: Encoded) -> npt.NDArray[np.float32]:
        """Features of any rows."""
        return self.frozen.of(rows.arrays[self.position])


class Phases:
    """Fits the nets of one trial of a pretrained family; what was traced for one fold serves the next.

    Args:
        family: of the trial.
    """

    def __init__(self, family: Pretrained) -> None:
        self._family = family
        self._head: TracedModel | None = None
        self._whole: TracedModel | None = None
        self._digest: str | None = None

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport, whole: keras.Model, columns: int) -> FittedNet:
        """Train on a fold: first the head, then, if the trial says so, the base's top blocks along with it.

        Args:
            hp: what the family's `build` was given; all of it is known by now but the batch size.
            fold: the rows.
            report: as in `Family.fit`; epochs of both phases are counted together.
            whole: the net, untrained.
            columns: of its output.

        Raises:
            FactoryError: the base has other weights each time that it is made.
            TrialError: the loss became NaN.
        """
        family, data = self._family, NetData.of(fold)
        head, layout = family.head(hp, data, whole), family.layout(data)
        batch_size = family.batch_size(hp, data)
        hp.settle()
        base = self._base_of(whole, data, fold)
        self._head = _taken_over(self._head, head)
        fitted = untrained(self._head, fold, layout, columns)
        fitted.front = base
        judge = Judge(fitted, fold, report)
        told: dict[str, Any] = {"epochs": family.epochs, "steering": plateau(family.patience)}
        train(fitted, fold, judge, batch_size, **told, callbacks=family.callbacks())
        head.set_weights(self._head.model.get_weights())  # the net's own, where another fold's was trained
        if not (judge.stopped or judge.late) and family.unfreeze(hp, data, whole):
            self._whole = _taken_over(self._whole, whole)
            joint = untrained(self._whole, fold, layout, columns)
            fitted = self._fine_tuned(fitted, joint, fold, judge, batch_size)
        fitted.best_epoch, fitted.stopped, fitted.out_of_fold = judge.best_epoch, judge.stopped, judge.out_of_fold
        return fitted

    def _fine_tuned(self, fitted: FittedNet, joint: FittedNet, fold: Fold, judge: Judge, batch_size: int) -> FittedNet:
        """The better net of both phases, by its best epoch."""
        family, epochs, before = self._family, judge.epochs, joint.model.get_weights()
        judge.turn_to(joint)
        steering = plateau(max(2, family.patience // 2))
        told: dict[str, Any] = {"epochs": family.fine_tuning_epochs, "steering": steering}
        train(joint, fold, judge, batch_size, **told, callbacks=family.callbacks())
        if judge.best_epoch > epochs:
            return joint
        joint.model.set_weights(before)  # whose head is the one that was trained alone
        return fitted

    def _base_of(self, whole: keras.Model, data: NetData, fold: Fold) -> FrozenBase:
        """The base of a fold's net."""
        position = fold.array_names.index(data.array_name(self._family.image))
        frozen = Frozen(self._family.frozen(whole), position, fold.store)
        self._digest = self._digest or frozen.digest
        if frozen.digest != self._digest:
            raise FactoryError(
                f"the base of family {self._family.name!r} has other weights each time that it is made; expected "
                "trained ones: give the file that holds them as weights='base.weights.h5'"
            )
        return FrozenBase(whole, frozen, position)


def _taken_over(traced: TracedModel | None, fresh: keras.Model) -> TracedModel:
    """What is traced already, with the values of a fresh model of the same build; else the fresh one to be traced."""
    return traced if traced is not None and traced.take_over(fresh) else TracedModel(fresh)
