"""Several targets by families that predict one: a model for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tunekit.data.schema import Encoded
from tunekit.families.base import EpochReport, Family, Fitted, Fold, Predictions, save_facts
from tunekit.families.baseline import constant, shares_of
from tunekit.metrics import has_two
from tunekit.space import HyperParameters

KIND = "several"
"""What `model.json` says of such models; each is in a folder of its own."""


def target_folder(folder: Path, column: int) -> Path:
    """Where the model of a target is."""
    return folder / f"target{column}"


@dataclass
class FittedEach(Fitted):
    """One model for each target; their predictions side by side.

    Args:
        models: by target.
    """

    models: Sequence[Fitted]

    def predict(self, rows: Encoded) -> Predictions:
        """See `Fitted.predict`."""
        return np.concatenate([model.predict(rows) for model in self.models], axis=1)

    def save(self, folder: Path) -> None:
        """Write each model into its folder."""
        save_facts(folder, KIND, "", {"targets": len(self.models)})
        for column, model in enumerate(self.models):
            target_folder(folder, column).mkdir(exist_ok=True)
            model.save(target_folder(folder, column))


class OneByOne:
    """Fits a family to each target in turn, with the same hyperparameters and an equal share of the time.

    A label that all training rows have, or none, is predicted by that constant: many a model can't be fitted to it.

    Args:
        family: predicts one target.
    """

    def __init__(self, family: Family) -> None:
        self._family = family

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> FittedEach:
        """See `Family.fit`."""
        deadline = time.monotonic() + fold.seconds
        models: list[Fitted] = []
        for column in range(len(fold.targets)):
            seconds = max(0.0, deadline - time.monotonic()) / (len(fold.targets) - column)
            models.append(self._fit(hp, replace(fold.of_target(column), seconds=seconds), report))
        fitted = FittedEach(models)
        if any(model.out_of_fold is not None for model in models):
            rows = fold.valid.rows
            each = [model.predict(rows) if model.out_of_fold is None else model.out_of_fold for model in models]
            fitted.out_of_fold = np.concatenate(each, axis=1)
        return fitted

    def _fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        if fold.task == "binary" and not has_two(fold.train.target, fold.train.weight):
            return constant(fold, shares_of(fold))
        return self._family.fit(hp, fold, report)
