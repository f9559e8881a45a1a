"""The k nearest neighbours, whose rows are the model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.families.bags import with_bag
from tunekit.families.base import ArrayModel, EpochReport, Family, Fitted, Fold, Part, Predictions
from tunekit.families.baseline import shares_of
from tunekit.space import HyperParameters

KIND = "neighbors"
"""What `model.json` says of such models."""

MOST_ROWS = 20_000
"""Training rows that a model holds: each prediction is compared with all of them, and a bundle has them for each fold.
More of them make neighbours nearer by little: in d dimensions, twice as near by 2^d times as many rows."""

MOST_VALUES = 4 * 2**20
"""Values of these rows, 8 MB of a bundle for each fold: where there are many features, fewer rows are held."""

STEPS = 4096
"""Steps of the grid on which distances are measured, to a scaled number's unit."""

FURTHEST = 2**15 - 1
"""Steps from the middle, at which what is further out stands."""

ALIKE = 1e-6
"""Steps that are added to differences of distances, so that neighbours that are all as far count alike."""

AT_ONCE = 100
"""Rows that are compared with all of the model's at once: 16 MB of distances to `MOST_ROWS`."""

Floats = npt.NDArray[np.float64]


class Neighbors(Family):
    """The k nearest neighbours, by the Euclidean distance of scaled numbers and 0/1 columns of categories.

    Their mean, or the shares of their classes (Cover & Hart 1967), each of them counting alike, or from 1 for the
    nearest down to 0 for the last one (Dudani 1976): by 1 / distance, a row that is the same would outvote all others.
    AutoGluon can have such models in its ensembles: alone they are rarely good, but unlike trees and nets. How many
    neighbours, how they count, and how far apart two categories are is searched. Neighbours count by their rows'
    weights, too. A further vote goes by the shares of all training rows' classes, so that no class is impossible.

    No data is searched by it unless `families=` names it. A model is at most 20,000 training rows, drawn at random, as
    many of each class, or of high and low targets, as there are; fewer where a row has more than 209 features. It takes
    two bytes a feature and 16 to 24 a row, for each fold. **A bundle with it holds these training rows, scaled but
    legible, with their targets**: hand it on only to those who may see them.
    """

    name = "neighbors"
    chooses_target = True

    def portfolio(self, task: str, *, rows: int, temporal: bool) -> list[dict[str, Any]]:
        """Few that count alike."""
        del task, rows, temporal
        return [{"weights": "uniform", "neighbors": 5}]

    def fit(self, hp: HyperParameters, fold: Fold, report: EpochReport) -> Fitted:
        """See `Family.fit`."""
        del report
        count = hp.Int("neighbors", 3, 100, sampling="log", default=20)
        by_distance = hp.Choice("weights", ["distance", "uniform"]) == "distance"
        apart = hp.Float("categories", 0.1, 3.0, sampling="log", default=0.5) if fold.cardinalities else 1.0
        layout = with_bag("flat", hp, fold, ["tfidf", "binary"], [1_000, 300, 3_000])
        hp.settle()
        prepared, part = fold.preparation, fold.train
        width = prepared.apply(part.rows.take(np.arange(1)).read(), layout)["features"].shape[1]
        scale = np.full(width, STEPS, dtype=np.float32)
        numbers = len(prepared.center) + len(prepared.gaps)
        scale[numbers : numbers + len(prepared.hot)] *= apart
        prior = np.empty(0)
        if fold.task != "regression":  # as classes weigh in training, not as often as they are
            prior = shares_of(replace(fold, train=replace(part, by_class=None)))
        random = np.random.default_rng(fold.seed)
        held = part.take(np.sort(_drawn(part, width, random)))
        held = replace(held, rows=held.rows.read())
        order = random.permutation(len(held))  # of rows that are as far the first count, not those of the first days
        model = Neighborhood(
            rows=on_grid(prepared.apply(held.rows, layout)["features"], scale).astype(np.int16)[order],
            scale=scale,
            target=fold.target(held)[order],
            weight=np.empty(0) if held.weight is None else held.weight[order],
            prior=prior,
            count=min(count, len(held)),
            by_distance=by_distance,
        )
        facts = {"standardised": fold.relative}
        return ArrayModel(KIND, layout, prepared, model.to_arrays(), model.predict, facts)


@dataclass(frozen=True)
class Neighborhood:
    """N rows on a grid: `predict` is the reference for what they mean.

    Coordinates are whole numbers, so that squared distances are whole numbers, too, and exact in float64 in whatever
    order they are added. Which rows are nearest is then the same wherever it is computed; of rows that are as far, the
    first ones are.

    Args:
        rows: int16 (N, F) coordinates.
        scale: float32 (F,) steps of the grid to a feature's unit.
        target: (N,) value, or position of the class.
        weight: (N,) what rows count; (0,) for all the same.
        prior: (outputs,) shares of all training rows' classes; (0,) of values.
        count: of neighbours, at most N.
        by_distance: whether the nearest of them count most.
    """

    rows: npt.NDArray[np.int16]
    scale: npt.NDArray[np.float32]
    target: Floats
    weight: Floats
    prior: Floats
    count: int
    by_distance: bool

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Positions of the classes that have an output; of two classes only the second one has."""
        outputs = len(self.prior)
        return np.ones(1, dtype=np.int64) if outputs == 1 else np.arange(outputs)

    @property
    def squares(self) -> Floats:
        """(N,) squared lengths of the rows."""
        return np.asarray(np.einsum("nf,nf->n", self.rows, self.rows, dtype=np.float64))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for `numpy.savez`; none needs pickle."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Any) -> Neighborhood:
        """The inverse of `to_arrays`; also reads what `numpy.load` returns."""
        values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**values | {"count": int(values["count"]), "by_distance": bool(values["by_distance"])})

    def predict(self, features: Any) -> Predictions:
        """Predictions (n, outputs) of features (n, F), float32 or sparse."""
        points = on_grid(features, self.scale)
        rows, squares = self.rows.T.astype(np.float64), self.squares
        found = [np.empty((0, max(len(self.prior), 1)))]
        for start in range(0, len(points), AT_ONCE):
            some = points[start : start + AT_ONCE]
            squared = squares - 2.0 * some @ rows + np.square(some).sum(axis=1, keepdims=True)
            order = squared.astype(np.int64) * len(self.rows) + np.arange(len(self.rows))
            places = np.argpartition(order, self.count - 1, axis=1)[:, : self.count]
            found.append(self._mean(places, np.take_along_axis(squared, places, axis=1)))
        return np.concatenate(found)

    def _mean(self, places: npt.NDArray[np.int64], squared: Floats) -> Floats:
        """(n, outputs) of the neighbours' positions and squared distances, both (n, count)."""
        weight = self.weight[places] if len(self.weight) else np.ones(places.shape)
        if self.by_distance:
            apart = np.sqrt(squared)
            nearest, last = (end(axis=1, keepdims=True) for end in (apart.min, apart.max))
            weight = weight * ((last - apart + ALIKE) / (last - nearest + ALIKE))
        target = self.target[places]
        votes = _votes(target, self.classes) if len(self.prior) else target[:, :, None]
        mean: Floats = (weight[:, :, None] * votes).sum(axis=1) / weight.sum(axis=1, keepdims=True)
        return (self.count * mean + self.prior) / (self.count + 1.0) if len(self.prior) else mean


def on_grid(features: Any, scale: npt.NDArray[np.float32]) -> Floats:
    """Whole numbers (n, F), of features (n, F), float32 or sparse, with so many steps to the unit."""
    dense = np.asarray(features.toarray() if hasattr(features, "toarray") else features, dtype=np.float32)
    with np.errstate(over="ignore"):  # what is too far for float32 stands at the end of the grid
        return np.asarray(np.clip(np.rint(dense * scale), -FURTHEST, FURTHEST), dtype=np.float64)


def _votes(classes: Floats, among: npt.NDArray[np.int64]) -> Floats:
    """1.0 where a class is this one, else 0.0, in a new last axis."""
    return np.asarray(classes[..., None] == among, dtype=np.float64)


def _drawn(part: Part, width: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Positions of the rows to hold: at even steps through those that weigh, in random order but by target."""
    order = random.permutation(np.arange(len(part)) if part.weight is None else np.flatnonzero(part.weight))
    most = min(MOST_ROWS, max(MOST_VALUES // max(width, 1), 1))
    if len(order) <= most:
        return order
    ranked = order[np.argsort(part.target[order], kind="stable")]
    return ranked[np.linspace(0, len(ranked) - 1, most).astype(np.int64)]
