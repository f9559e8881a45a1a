"""The callback that scores the validation rows after each epoch. It imports Keras: import it late."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tunekit.errors import TrialError
from tunekit.families import Fold
from tunekit.families.base import EpochReport
from tunekit.training.fitted import FittedNet, check_predictions, target_of, wants_one_hot


class Judge(keras.callbacks.Callback):  # type: ignore[misc]
    """Scores the validation rows with the study's metric and asks whether to go on; stands before other callbacks.

    Args:
        fitted: the net in training.
        fold: its rows.
        report: asked after each epoch.

    Attributes:
        epochs: judged so far.
        best_epoch: the one with the smallest loss, from 1; 0 before the first.
        best_loss: the validation loss at that epoch.
        best_score: the metric at that epoch.
        stopped: whether the report said that more is not worth it.
    """

    def __init__(self, fitted: FittedNet, fold: Fold, report: EpochReport) -> None:
        super().__init__()
        self.epochs = 0
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_score = math.nan
        self.stopped = False
        self._fitted = fitted
        self._x = fitted.inputs(fold, "valid")
        self._fold = fold
        self._report = report
        self._targets: dict[bool, Any] = {}
        self._weight = None if fold.valid.weight is None else fold.valid.weight.astype(np.float32)
        self._deadline = time.monotonic() + fold.seconds

    def turn_to(self, fitted: FittedNet) -> None:
        """Judge another net from here on, counting on: the next phase of the same training."""
        self._fitted = fitted
        self._x = fitted.inputs(self._fold, "valid")

    @property
    def late(self) -> bool:
        """Whether the time for the fit is over."""
        return time.monotonic() > self._deadline

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Judge, report, and end the training if it is not worth more or out of time."""
        del epoch  # a fit in several phases starts again at 0
        self.epochs += 1
        logs = {} if logs is None else logs
        loss, score = self.judge(logs.get("loss"))
        judged = {"val_loss": loss, self._fold.metric.name: score}
        logs |= judged | logs  # what callbacks after this one see; a training metric may have the same name
        if loss < self.best_loss:
            self.best_loss, self.best_score, self.best_epoch = loss, score, self.epochs
        facts = {name: float(value) for name, value in logs.items()} | judged | self._rate()
        if self._report(self.epochs, self.best_score, facts):
            self.stopped = True
        if self.stopped or self.late:
            self._fitted.model.stop_training = True

    def judge(self, train_loss: float | None = None) -> tuple[float, float]:
        """The net's loss and score on the validation rows, now. A net without a loss is judged by its score.

        Raises:
            TrialError: a loss, the given one included, or a prediction is not finite.
        """
        fold = self._fold
        outputs, loss = self._outputs()
        _check_finite(train_loss, loss, self.epochs)
        predictions = check_predictions(self._fitted.finish(outputs, fold.valid.rows), fold)
        score = fold.metric.score(fold.valid.target, predictions, fold.valid.weight)
        if loss is None:
            loss = score if fold.metric.direction == "minimize" else -score
        return loss, score

    def _outputs(self) -> tuple[npt.NDArray[Any], float | None]:
        traced = self._fitted.traced
        if getattr(traced.model, "loss", None) is None:
            return traced.predict(self._x, len(self._fold.valid)), None
        target = self._target()
        outputs, loss = traced.validate(self._x, target, self._weight)
        return outputs, loss

    def _target(self) -> Any:
        one_hot = wants_one_hot(self._fitted.model)
        if one_hot not in self._targets:
            self._targets[one_hot] = target_of(self._fitted, self._fold, self._fold.valid)
        return self._targets[one_hot]

    def _rate(self) -> dict[str, float]:
        optimizer = getattr(self._fitted.model, "optimizer", None)
        return {} if optimizer is None else {"learning_rate": float(np.asarray(optimizer.learning_rate))}


def _check_finite(loss: float | None, val_loss: float | None, epoch: int) -> None:
    if not all(math.isfinite(one) for one in (loss, val_loss) if one is not None):
        raise TrialError(
            f"the loss became {loss} (validation: {val_loss}) in epoch {epoch}; expected a finite number: lower the "
            "learning rate's bounds, clip gradients (clipnorm=1), or check a custom loss for log(0) and division by 0"
        )
