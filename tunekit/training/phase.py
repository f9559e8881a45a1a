"""One phase of a net's training: its rows in an order by seed, its judge and its callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunekit.families import Fold, NetFamily
from tunekit.training.fitted import FittedNet, target_of, weight_of
from tunekit.training.judge import Judge
from tunekit.training.loop import fit
from tunekit.training.watched import unjudged, validation_for, watched


def train(
    fitted: FittedNet,
    fold: Fold,
    judge: Judge,
    batch_size: int,
    *,
    epochs: int,
    steering: Sequence[Any],
    callbacks: Sequence[Any] = (),
) -> None:
    """Train a net until it no longer gets better; it ends with the weights of this phase's best epoch.

    Args:
        fitted: the net; its model is compiled.
        fold: its rows.
        judge: of that net.
        batch_size: rows per step.
        epochs: at most this many.
        steering: callbacks that move the rate, end the training and keep the best epoch's weights.
        callbacks: of the user's own.
    """
    validation = validation_for(callbacks, fitted, fold)
    _fit(fitted, fold, batch_size, epochs, [judge, *steering, *watched(callbacks, judge)], validation)


def train_unjudged(fitted: FittedNet, fold: Fold, family: NetFamily, batch_size: int) -> None:
    """Train a net for as many epochs as its fold says; no rows are left to judge it.

    Args:
        fitted: the net; its model is compiled.
        fold: its rows, and how long to train.
        family: of the net.
        batch_size: rows per step.
    """
    import keras

    assert fold.length is not None
    length = fold.length

    class EndAfter(keras.callbacks.Callback):  # type: ignore[misc]
        """Ends it there: schedules go by the epochs that the family has."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            del logs
            if epoch + 1 >= length.steps:
                self.model.stop_training = True

    steering = [*family.retracing(length.rates), EndAfter()]
    _fit(fitted, fold, batch_size, family.epochs, [*steering, *unjudged(family.callbacks())])
    fitted.best_epoch = length.steps


def _fit(
    fitted: FittedNet, fold: Fold, batch_size: int, epochs: int, callbacks: list[Any], validation: Any = None
) -> None:
    if fold.board is not None:
        from tunekit.training.board import Board

        callbacks = [*callbacks, Board(fold.board, fitted, fold)]
    random = np.random.default_rng(fold.seed)
    fit(
        fitted.traced,
        fitted.inputs(fold, "train"),
        target_of(fitted, fold, fold.train),
        batch_size=batch_size,
        epochs=epochs,
        callbacks=callbacks,
        sample_weight=weight_of(fold, fold.train),
        validation_data=validation,
        order=lambda epoch: random.permutation(len(fold.train)),
    )
