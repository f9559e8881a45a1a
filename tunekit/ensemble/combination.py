"""A combination of candidates as plain data: applied by numpy here, and as nodes of a graph by the export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.bundle.tasks import EVEN
from tunekit.ensemble.calibration import CLIP, Calibration, log_odds
from tunekit.families.base import link, link_for
from tunekit.families.tree_arrays import TreeArrays

Predictions = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float64]

KINDS = ("mean", "linear", "logits", "boosted")


@dataclass(frozen=True)
class Combination:
    """How the members' predictions become one.

    Of members' predictions p, weights w and a bias b:

    - "mean": the sum of w p;
    - "linear": the sum of w p, and b;
    - "logits": link(b + the sum of w log odds(p)), a pool of opinions by their logarithms;
    - "boosted": the mean, corrected by trees that read p: added to a number, or to the log odds of a probability.

    Args:
        kind: one of these.
        task: of the data.
        weights: (members,), none below 0.
        bias: (outputs,).
        importance: (members,) shares by which people read who matters; they sum to 1.
        trees: of "boosted": they read (n, members * outputs).
        calibration: of the combined probabilities, or None.
        threshold: the probability from which on the second of two classes is predicted.
        least: (outputs,) what is predicted where it would be less; None for no bound.
    """

    kind: str
    task: str
    weights: Weights
    bias: Weights
    importance: Weights
    trees: TreeArrays | None = None
    calibration: Calibration | None = None
    threshold: float = EVEN
    least: Weights | None = None

    @classmethod
    def weighted(cls, task: str, weights: Weights, outputs: int) -> Combination:
        """A weighted mean; the weights sum to 1."""
        return cls("mean", task, weights, np.zeros(outputs), weights)

    def apply(self, members: Predictions) -> Predictions:
        """Combine predictions.

        Args:
            members: (members, n, outputs).

        Returns:
            (n, outputs).
        """
        combined = self.uncalibrated(members)
        combined = combined if self.calibration is None else self.calibration.apply(combined)
        return combined if self.least is None else np.maximum(combined, self.least)

    def uncalibrated(self, members: Predictions) -> Predictions:
        """The same before calibration."""
        if self.kind == "logits":
            weighed = np.tensordot(self.weights, log_odds(members), axes=1)
            return link(weighed + self.bias, link_for(self.task))
        combined = np.asarray(np.tensordot(self.weights, members, axes=1) + self.bias)
        if self.trees is None:
            return combined
        correction = self.trees.predict(features_of(members))
        if self.task == "regression":
            return np.asarray(combined + correction)
        return link(log_odds(combined) + correction, link_for(self.task))

    def decisive(self, predictions: Predictions) -> Predictions:
        """Probabilities moved so that a metric, which decides at a half, decides at the threshold."""
        if self.threshold == EVEN:
            return predictions
        below = EVEN * predictions / self.threshold
        above = EVEN + EVEN * (predictions - self.threshold) / (1.0 - self.threshold)
        return np.where(predictions < self.threshold, np.minimum(below, np.nextafter(EVEN, 0.0)), above)

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """Positions of the candidates that have a part in it."""
        return np.flatnonzero((self.weights > 0) | (self.importance > 0))

    def of(self, places: npt.NDArray[np.int64]) -> Combination:
        """The same of these candidates, in this order; all that are used must be among them."""
        trees = self.trees
        if trees is not None:
            outputs = len(self.bias)
            column = np.full(len(self.weights) * outputs, -1, dtype=np.int64)
            for new, old in enumerate(places):
                column[old * outputs : (old + 1) * outputs] = np.arange(new * outputs, (new + 1) * outputs)
            trees = replace(trees, feature=np.where(trees.feature < 0, trees.feature, column[trees.feature]))
        return replace(self, weights=self.weights[places], importance=self.importance[places], trees=trees)

    @property
    def told(self) -> str:
        """What it does, in words."""
        words = {
            "mean": "a mean, by the members' weights",
            "linear": "a linear model of the members' values",
            "logits": "a linear model of the members' log odds",
            "boosted": "a mean, corrected by boosted trees that read the members",
        }[self.kind]
        return words if self.calibration is None else f"{words}, calibrated by {self.calibration.told}"

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        trees = None if self.trees is None else {name: one.tolist() for name, one in self.trees.to_arrays().items()}
        return {
            "kind": self.kind,
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
            "trees": trees,
            "calibration": None if self.calibration is None else self.calibration.plain,
            "threshold": self.threshold,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], task: str, importance: Weights) -> Combination:
        """The inverse of `plain`."""
        trees = plain["trees"]
        return cls(
            plain["kind"],
            task,
            np.asarray(plain["weights"], dtype=np.float64),
            np.asarray(plain["bias"], dtype=np.float64),
            importance,
            None if trees is None else TreeArrays.from_arrays(_typed(trees)),
            None if plain["calibration"] is None else Calibration.from_plain(plain["calibration"]),
            float(plain["threshold"]),
        )


def features_of(members: Predictions) -> npt.NDArray[np.float32]:
    """(n, members * outputs): what trees read of (members, n, outputs)."""
    wide: npt.NDArray[np.float32] = np.moveaxis(members, 0, 1).reshape(members.shape[1], -1).astype(np.float32)
    return wide


def _typed(trees: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    kinds = {"missing_left": bool, "threshold": float, "value": float, "base": float, "scale": float}
    plain = ("inclusive", "link")
    return {
        name: np.asarray(value) if name in plain else np.asarray(value, dtype=kinds.get(name, np.int64))
        for name, value in trees.items()
    }


__all__ = ["CLIP", "EVEN", "KINDS", "Combination", "features_of"]
