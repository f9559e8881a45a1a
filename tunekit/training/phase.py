"""One phase of a net's training: its rows in an order by seed, its judge and its callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunekit.families import Fold
from tunekit.training.fitted import FittedNet, target_of
from tunekit.training.judge import Judge
from tunekit.training.loop import fit


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
    random = np.random.default_rng(fold.seed)
    fit(
        fitted.traced,
        fitted.inputs(fold, "train"),
        target_of(fitted, fold, fold.train),
        batch_size=batch_size,
        epochs=epochs,
        callbacks=[judge, *steering, *callbacks],
        sample_weight=fold.train.weight,
        order=lambda epoch: random.permutation(len(fold.train)),
    )
