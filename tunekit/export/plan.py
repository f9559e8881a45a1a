"""What is to be exported: the blend's members, the columns they read, and rows to be compared on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import MANY_CLASSES, SEVERAL, TASKS
from tunekit.data.schema import Schema
from tunekit.data.targets import Target
from tunekit.ensemble.combination import Combination
from tunekit.errors import ExportError


@dataclass(frozen=True)
class Member:
    """One trial of the blend.

    Args:
        label: names it in messages and in the manifest.
        weight: its share of the blend, above 0: where the members aren't averaged, of what moves the prediction.
        folder: holds the fitted models, `fold0`, `fold1`, and so on.
        folds: how many; the member predicts their mean.
    """

    label: str
    weight: float
    folder: Path
    folds: int

    def fold(self, number: int) -> Path:
        """The folder of one fold's model."""
        return self.folder / f"fold{number}"


@dataclass(frozen=True)
class BlendPlan:
    """A blend, and what the Python models predict on rows to compare with.

    Args:
        name: of the study.
        task: "binary", "multiclass", "ordinal", "regression" or "several".
        outputs: columns of a prediction: 1, or the number of classes for multiclass.
        classes: in order, empty for regression.
        schema: of the columns that the models read, with the levels of each category.
        members: their weights add up to 1.
        facts: anything JSON can hold, for the manifest: metric, scores, verdict, versions.
        check_columns: typed columns of n rows, as `Dataset.columns`: real ones, and hard ones with missing values,
            unseen categories and empty texts.
        check_predictions: float64 (members, n, outputs): what each member predicts on them, the mean over its folds.
        targets: what they are, if there are several.
        combination: of the members; a mean by their weights if left out.
        least: (outputs,) what is predicted where it would be less; None for no bound.

    Raises:
        ExportError: the parts don't fit each other.
    """

    name: str
    task: str
    outputs: int
    classes: tuple[Any, ...]
    schema: Schema
    members: tuple[Member, ...]
    facts: dict[str, Any]
    check_columns: dict[str, npt.NDArray[Any]]
    check_predictions: npt.NDArray[np.float64]
    targets: tuple[Target, ...] = ()
    combination: Combination | None = None
    least: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        several = sum(target.outputs for target in self.targets)
        many = dict.fromkeys(MANY_CLASSES, self.outputs)
        classes = {"binary": 2, "regression": 0, SEVERAL: 0, **many}.get(self.task)
        outputs = {SEVERAL: several, **many}.get(self.task, 1)
        if classes is None or classes != len(self.classes) or outputs != self.outputs:
            raise ExportError(
                f"a blend for task {self.task!r} came with {self.outputs} output(s) and {len(self.classes)} class(es); "
                f"expected one of {', '.join(TASKS)}, one output, and for multiclass one per class"
            )
        total = sum(member.weight for member in self.members)
        if not self.members or abs(total - 1.0) > 1e-6 or min(member.weight for member in self.members) < 0:
            raise ExportError(
                f"a blend of {len(self.members)} member(s) came with weights that add up to {total:g}; expected "
                "at least one member, and weights of 0 or more that add up to 1"
            )
        absent = [column.name for column in self.schema.columns if column.name not in self.check_columns]
        if absent:
            raise ExportError(f"the rows to compare on lack {', '.join(absent)}; expected all columns that models read")
        if len(self.combined.weights) != len(self.members):
            raise ExportError(
                f"a combination of {len(self.combined.weights)} member(s) came with {len(self.members)}; expected one "
                "of these members"
            )
        expected = (len(self.members), self.rows, self.outputs)
        if self.check_predictions.shape != expected or not self.rows:
            raise ExportError(
                f"predictions to compare with came in shape {self.check_predictions.shape}; expected {expected}, "
                "(members, rows, outputs), with at least one row"
            )
        unfit = np.argwhere(~np.isfinite(self.check_predictions))
        if len(unfit):
            member, row, _ = unfit[0]
            raise ExportError(
                f"member {self.members[member].label!r} predicts {self.check_predictions[tuple(unfit[0])]} for "
                f"row {row} in Python; expected a finite number: leave it out of the blend"
            )

    @property
    def rows(self) -> int:
        """How many rows there are to compare on."""
        return len(self.check_columns[self.schema.columns[0].name])

    @property
    def combined(self) -> Combination:
        """How the members are combined."""
        combination = self.combination or Combination.weighted(self.task, self.weights, self.outputs)
        return replace(combination, least=self.least)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The members' shares of the blend, in order."""
        return np.array([member.weight for member in self.members])
