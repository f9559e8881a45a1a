"""What a report is made of: plain data that whoever knows the study gathers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import EVEN
from tunekit.data import Dataset
from tunekit.data.targets import Target, places
from tunekit.metrics import Metric
from tunekit.trial import Trial

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class Finding(Protocol):
    """What a coach says of a study."""

    @property
    def title(self) -> str:
        """In a few words."""

    @property
    def text(self) -> str:
        """The evidence, in words."""

    @property
    def change(self) -> str:
        """The line of the study to change."""

    @property
    def level(self) -> str:
        """One of "problem", "hint" and "good"."""


@dataclass(frozen=True)
class Shown:
    """Rows with their targets and predictions.

    Args:
        data: all rows of the study.
        metric: of the study.
        who: predicts, in words: "the blend" or "trial 017 xgboost".
        rows: (n,) positions in `data`.
        predictions: (n, outputs).
        untouched: whether these are test rows; else the predictions are out of fold.
        threshold: the probability from which on the second of two classes is predicted.
    """

    data: Dataset
    metric: Metric
    who: str
    rows: Rows
    predictions: Floats
    untouched: bool
    threshold: float = EVEN

    @property
    def where(self) -> str:
        """The rows in words."""
        kind = "untouched test rows" if self.untouched else "rows, predicted out of fold (there are no test rows)"
        return f"{len(self.rows):,} {kind}"

    @property
    def parts(self) -> list[Part]:
        """The target, or each of several."""
        data, target = self.data, self.data.target[self.rows]
        if not data.targets:
            one = Target("", data.task, data.classes)
            return [Part(one, target, self.predictions, self.threshold)]
        return [
            Part(one, target[:, column], self.predictions[:, outputs], EVEN)
            for column, one, outputs in places(data.targets)
        ]


@dataclass(frozen=True)
class Part:
    """One target with its predictions.

    Args:
        target: what it is; its name is "" where it is the only one.
        truth: (n,) values, or positions of classes.
        predictions: (n, outputs of the target).
        threshold: see `Shown`.
    """

    target: Target
    truth: Floats
    predictions: Floats
    threshold: float

    @property
    def label(self) -> str:
        """What its figures' names end with."""
        return f"_{self.target.name}" if self.target.name else ""

    @property
    def shares(self) -> Floats:
        """(n, classes) probabilities; of a number there are none."""
        return np.concatenate([1.0 - self.predictions, self.predictions], axis=1) if self.binary else self.predictions

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return self.target.task == "binary"

    @property
    def losses(self) -> Floats:
        """(n,): the absolute error of a number, else minus the logarithm of the true class's probability."""
        if self.target.task == "regression":
            return np.asarray(np.abs(self.truth - self.predictions[:, 0]))
        right = np.take_along_axis(self.shares, self.truth.astype(int)[:, None], axis=1)[:, 0]
        return np.asarray(-np.log(np.clip(right, 1e-6, 1.0)))


@dataclass(frozen=True)
class Members:
    """The blend's members on the rows that have out-of-fold predictions.

    Args:
        names: of the trials, such as "017 xgboost".
        families: of each.
        weights: shares of the blend.
        errors: (members, n): what each gets wrong, with its sign: see `errors_of`.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    weights: tuple[float, ...]
    errors: Floats


@dataclass(frozen=True)
class ColumnImportance:
    """By how much the score gets worse when a raw column is shuffled.

    Args:
        names: of the columns.
        losses: (columns, draws): how much worse, in the metric's unit; one per shuffling and bootstrap of the rows.
        rows: how many rows were predicted.
        rounds: how often each column was shuffled.
    """

    names: tuple[str, ...]
    losses: Floats
    rows: int
    rounds: int


@dataclass(frozen=True)
class Absent:
    """Something that can't be shown, and why."""

    why: str


@dataclass(frozen=True)
class Material:
    """All that a report shows.

    Args:
        summary: what `tunekit show --json` prints.
        trials: every trial of the ledger, running ones too.
        families: names, in the order of the study.
        facts: for the section on reproducing it, by what they are called.
        commands: the same.
        shown: the predictions to look at.
        members: of the blend.
        columns: importance of the raw columns.
        lookup: how a window's moments and series are read: names of the time and series columns, of forecasts.
    """

    summary: Mapping[str, Any]
    trials: Sequence[Trial]
    families: Sequence[str]
    facts: Mapping[str, str]
    commands: Sequence[str]
    shown: Shown | Absent
    members: Members | Absent
    columns: ColumnImportance | Absent
    lookup: Mapping[str, str] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """Name of the score."""
        return str(self.summary["metric"])

    @property
    def smaller(self) -> bool:
        """Whether smaller scores are better."""
        return bool(self.summary["direction"] == "minimize")

    @property
    def all_families(self) -> list[str]:
        """Those of the study, then those that only older trials have."""
        return list(dict.fromkeys([*self.families, *(trial.family for trial in self.trials)]))


def errors_of(parts: Sequence[Part]) -> Floats:
    """(k,): what predictions get wrong: a number's residual, or what is missing to the certainty of the true class.

    Of several targets, one after the other, each divided by its deviation.
    """
    found = []
    for part in parts:
        regression = part.target.task == "regression"
        errors = part.truth - part.predictions[:, 0] if regression else 1.0 - np.exp(-part.losses)
        scale = float(errors.std()) if len(parts) > 1 else 1.0
        found.append(errors / scale if scale > 0 else errors)
    return np.concatenate(found)
