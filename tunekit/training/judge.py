"""The callback that scores the validation rows after each epoch. It imports Keras: import it late."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tunekit.data.lazy import LazyRows, Places
from tunekit.errors import TrialError
from tunekit.families import Fold
from tunekit.families.base import EpochReport, Predictions
from tunekit.families.deadline import Deadline
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
        score: the metric at the last epoch.
        stopped: whether the report said that more is not worth it.
        out_of_fold: see `Fitted.out_of_fold`.
        deadline: of the training, by the fold.
    """

    def __init__(self, fitted: FittedNet, fold: Fold, report: EpochReport) -> None:
        super().__init__()
        self.epochs = 0
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_score = math.nan
        self.score = math.nan
        self.stopped = False
        self.out_of_fold: Predictions | None = None
        self._fold = fold
        self._parts = fold.deciding
        self._best_losses = [math.inf] * len(self._parts)
        self._report = report
        self._targets: dict[bool, Any] = {}
        self._weight = None if fold.valid.weight is None else fold.valid.weight.astype(np.float32)
        self.turn_to(fitted)
        self.deadline = Deadline(fold.seconds, fold.more_seconds)

    def turn_to(self, fitted: FittedNet) -> None:
        """Judge another net from here on, counting on: the next phase of the same training."""
        self._fitted = fitted
        x = fitted.inputs(self._fold, "valid")
        self._x = [_rows_of(x, part) for part in self._parts] if len(self._parts) > 1 else [x]

    @property
    def metric(self) -> str:
        """The name of the study's metric."""
        return self._fold.metric.name

    @property
    def late(self) -> bool:
        """Whether the time for the fit is over."""
        return self.deadline.left < 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Judge, report, and end the training if it is not worth more or out of time."""
        del epoch  # a fit in several phases starts again at 0
        self.epochs += 1
        self.deadline.epoch_ended()
        logs = {} if logs is None else logs
        loss, score = self.judge(logs.get("loss"))
        self.score = score
        judged = {"val_loss": loss, self.metric: score}
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
        outputs, losses = self._outputs()
        loss = (
            None if losses is None else float(np.average(np.array(losses), weights=[len(part) for part in self._parts]))
        )
        _check_finite(train_loss, loss, self.epochs)
        predictions = check_predictions(self._fitted.finish(outputs, fold.valid.rows), fold)
        score = fold.metric.score(fold.valid.target, predictions, fold.valid.weight)
        if loss is None:
            loss = fold.metric.sign * score
        self._choose(losses or [loss] * len(self._parts), predictions)
        return loss, score

    def forget(self) -> None:
        """Choose the epochs for `out_of_fold` anew: from here on the loss is another one."""
        self._best_losses = [math.inf] * len(self._parts)

    def _choose(self, losses: list[float], predictions: Predictions) -> None:
        """Each half is predicted by the epoch with the smallest loss on the other."""
        if len(self._parts) == 1:
            return
        if self.out_of_fold is None:
            self.out_of_fold = predictions.copy()
        for this, other in ((0, 1), (1, 0)):
            if losses[this] < self._best_losses[this]:
                self._best_losses[this] = losses[this]
                self.out_of_fold[self._parts[other]] = predictions[self._parts[other]]

    def _outputs(self) -> tuple[Any, list[float] | None]:
        """The outputs for all validation rows, and the loss on each part; None for a net without a loss."""
        traced = self._fitted.traced
        if getattr(traced.model, "loss", None) is None:
            made = [traced.predict(x, len(part)) for x, part in zip(self._x, self._parts, strict=True)]
            return self._in_order(made), None
        target, losses, made = self._target(), [], []
        for x, part in zip(self._x, self._parts, strict=True):
            weight = None if self._weight is None else self._weight[part]
            outputs, loss = traced.validate(x, _rows_of(target, part), weight)
            made.append(outputs)
            losses.append(loss)
        return self._in_order(made), losses

    def _in_order(self, made: list[Any]) -> Any:
        """Outputs for the parts as those for all validation rows."""
        if len(self._parts) == 1:
            return made[0]
        order = np.argsort(np.concatenate(self._parts))
        return keras.tree.map_structure(lambda *some: np.concatenate(some)[order], *made)

    def _target(self) -> Any:
        one_hot = wants_one_hot(self._fitted.model)
        if one_hot not in self._targets:
            self._targets[one_hot] = target_of(self._fitted, self._fold, self._fold.valid)
        return self._targets[one_hot]

    def _rate(self) -> dict[str, float]:
        optimizer = getattr(self._fitted.model, "optimizer", None)
        return {} if optimizer is None else {"learning_rate": float(np.asarray(optimizer.learning_rate))}


def _rows_of(arrays: Any, rows: Places) -> Any:
    """Some rows of arrays in any structure; lazy ones stay lazy."""
    return keras.tree.map_structure(
        lambda array: array.take(rows) if isinstance(array, LazyRows) else array[rows], arrays
    )


def _check_finite(loss: float | None, val_loss: float | None, epoch: int) -> None:
    if not all(math.isfinite(one) for one in (loss, val_loss) if one is not None):
        raise TrialError(
            f"the loss became {loss} (validation: {val_loss}) in epoch {epoch}; expected a finite number: lower the "
            "learning rate's bounds, clip gradients (clipnorm=1), or check a custom loss for log(0) and division by 0"
        )
