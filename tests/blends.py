"""A small table of every kind of column, and models fitted on it in the files that a search leaves: for tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from tunekit.bundle import Bundle
from tunekit.data.preparation import Preparation
from tunekit.data.schema import Column, Encoded, Schema
from tunekit.export import BlendPlan, Member, write_bundle
from tunekit.families.base import link, link_for
from tunekit.families.tree_arrays import from_forest, from_xgboost

Predictor = Callable[[Encoded], np.ndarray]

CLASSES: dict[str, tuple[Any, ...]] = {"binary": ("no", "yes"), "multiclass": ("low", "mid", "top"), "regression": ()}

KINDS = {
    "size": "number",
    "price per m²": "number",  # missing values
    "rooms": "number",
    "garden": "boolean",
    "built": "date",
    "prediction": "date",  # also the name of the graph's output
    "street": "category",
    "owner": "category",
    "constant.1": "category",  # a name that the graph would give
}


def frame(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """A table with every kind of column, gaps, rare levels and awkward names."""
    rng = np.random.default_rng(seed)
    days = rng.integers(-4000, 20000, rows)
    made = pd.DataFrame(
        {
            "size": rng.lognormal(4, 1, rows),
            "price per m²": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(3000, 400, rows)),
            "rooms": rng.integers(1, 9, rows),
            "garden": rng.choice(np.array([True, False, None], dtype=object), rows),
            "built": pd.Timestamp("1990-01-01")
            + pd.to_timedelta(np.where(rng.random(rows) < 0.1, np.nan, days), unit="D"),
            "prediction": pd.Timestamp("2020-02-28 22:15:10") + pd.to_timedelta(rng.integers(0, 9999, rows), unit="h"),
            "street": rng.choice(
                np.array(["Hauptstraße", "rue de l'Église", "Main St", "  padded ", None], dtype=object), rows
            ),
            "owner": [f"owner {number}" for number in rng.integers(0, 70, rows)],
            "constant.1": rng.choice(["3", "4", "10"], rows),
        }
    )
    made["garden"] = made["garden"].astype("boolean")
    return made


def hard_frame() -> pd.DataFrame:
    """Rows as a server may meet them: nothing known, unseen categories, blank texts, far dates, huge numbers."""
    hard = frame(40, seed=3).astype({"rooms": float, "garden": object})
    hard.loc[0, :] = None
    hard.loc[1, ["street", "owner", "constant.1"]] = ["nowhere", "nobody", "99"]
    hard.loc[2, ["street", "owner", "constant.1"]] = ["", "   ", ""]
    hard.loc[3, ["size", "price per m²", "rooms"]] = [1e12, -1e12, 0]
    hard.loc[4, "built"] = pd.Timestamp("1900-03-01")
    hard.loc[5, "built"] = pd.Timestamp("2196-02-29 23:59:59")
    hard.loc[6:9, "built"] = pd.NaT
    return hard


def target(table: pd.DataFrame, task: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    signal = np.log(table["size"]) + (table["street"] == "Main St") + table["price per m²"].fillna(0) / 3000
    signal = np.asarray(signal + table["garden"].fillna(False).astype(float) + rng.normal(0, 0.3, len(table)))
    if task == "regression":
        return signal * 50_000 + 200_000
    count = len(CLASSES[task])
    return np.searchsorted(np.quantile(signal, np.arange(1, count) / count), signal).astype(np.float64)


@dataclass
class House:
    """The table, encoded and divided into folds; `fit` leaves a member's files."""

    task: str
    folder: Path
    table: pd.DataFrame
    kinds: dict[str, str]
    folds: int = 2

    def __post_init__(self) -> None:
        columns = tuple(Column(name, kind) for name, kind in self.kinds.items())
        typed = Schema(columns).typed(self.table)
        self.schema = Schema(columns).with_levels(typed)
        self.rows = self.schema.encode(typed)
        self.y = target(frame(len(self.table)), self.task)
        self.outputs = 3 if self.task == "multiclass" else 1
        self.preparations = [
            Preparation.fit(
                self.rows.take(self.train(fold)),
                self.schema.cardinalities,
                self.y[self.train(fold)] if self.task == "regression" else None,
            )
            for fold in range(self.folds)
        ]
        self.predictors: dict[str, list[Predictor]] = {}

    def train(self, fold: int) -> np.ndarray:
        return np.flatnonzero(np.arange(len(self.table)) % self.folds != fold)

    def fit(self, kind: str, weight: float, label: str | None = None) -> Member:
        """Fit a member on every fold; its files are there and its predictions known afterwards."""
        member = Member(label or kind, weight, self.folder / (label or kind), self.folds)
        predictors: list[Predictor] = []
        for fold in range(self.folds):
            features = partial_features(self.preparations[fold], LAYOUTS[kind])
            arrays, facts, predict = FITS[kind](self, features(self.rows)[self.train(fold)], self.y[self.train(fold)])
            save(member.fold(fold), LAYOUTS[kind], facts, arrays, self.preparations[fold])
            predictors.append(chained(features, predict))
        self.predictors[member.label] = predictors
        return member

    def predict(self, member: Member, rows: Encoded) -> np.ndarray:
        return np.asarray(np.mean([predict(rows) for predict in self.predictors[member.label]], axis=0))

    def check_typed(self) -> dict[str, np.ndarray]:
        given = pd.concat([self.table.head(60).astype(object), hard_frame().astype(object)])
        return self.schema.typed(given)

    def plan(self, *members: Member, **changes) -> BlendPlan:
        typed = self.check_typed()
        encoded = self.schema.encode(typed)
        plan = BlendPlan(
            name="houses",
            task=self.task,
            outputs=self.outputs,
            classes=CLASSES[self.task],
            schema=self.schema,
            members=members,
            facts={"metric": "rmse", "score": np.float64(1.5), "interval": (float("nan"), 2.0)},
            check_columns=typed,
            check_predictions=np.stack([self.predict(member, encoded) for member in members]),
        )
        return replace(plan, **changes)


def house(task: str, folder: Path, kinds: dict[str, str] | None = None) -> House:
    return House(task, folder / "trials", frame(), kinds or KINDS)


def small_bundle(
    task: str, folder: Path, *, kinds: dict[str, str] | None = None, **changes
) -> tuple[Bundle, Path, House]:
    """A written and loaded bundle of two members."""
    made = house(task, folder, kinds)
    plan = made.plan(made.fit("linear", 0.25), made.fit("boosted", 0.75), **changes)
    write_bundle(plan, folder / "model", no_nets)
    return Bundle.load(folder / "model"), folder / "model", made


def no_nets(position: int) -> list[Any]:
    raise AssertionError(f"member {position} is no net")


def save(folder: Path, layout: str, facts: dict[str, Any], arrays: dict[str, Any], preparation: Preparation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps({"layout": layout, **facts}))
    prepared: dict[str, Any] = preparation.to_arrays()
    np.savez(folder / "preparation.npz", **prepared)
    np.savez(folder / "model.npz", **arrays)


def partial_features(preparation: Preparation, layout: str) -> Predictor:
    return lambda rows: preparation.apply(rows, layout)["features"]


def chained(first: Predictor, then: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    return lambda rows: then(first(rows))


Fit = tuple[dict[str, Any], dict[str, Any], Callable[[np.ndarray], np.ndarray]]


def fit_constant(made: House, x: np.ndarray, y: np.ndarray) -> Fit:
    value = np.bincount(y.astype(int)) / len(y) if made.task == "multiclass" else np.array([y.mean()])
    return {"value": value}, {"kind": "constant"}, lambda x: np.repeat(value[None, :], len(x), axis=0)


def fit_linear(made: House, x: np.ndarray, y: np.ndarray) -> Fit:
    model: Any = Ridge() if made.task == "regression" else LogisticRegression(max_iter=500)
    model.fit(x.astype(np.float64), y)
    name = link_for(made.task)
    arrays = {"weights": np.atleast_2d(model.coef_).T, "bias": np.atleast_1d(model.intercept_)}

    def predict(x: np.ndarray) -> np.ndarray:  # by the library, not by the arrays
        if made.task == "regression":
            return np.asarray(model.predict(x.astype(np.float64)))[:, None]
        return np.asarray(model.predict_proba(x.astype(np.float64)))[:, 1 if made.task == "binary" else 0 :]

    return arrays, {"kind": "linear", "link": name}, predict


def fit_boosted(made: House, x: np.ndarray, y: np.ndarray) -> Fit:
    types = ["q"] * len(made.schema.number_features) + ["c"] * len(made.schema.categorical)
    objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[
        made.task
    ]
    settings = {"objective": objective, "max_depth": 4, "nthread": 1, "max_cat_to_onehot": 3}
    if made.task == "multiclass":
        settings["num_class"] = 3

    def matrix(x: np.ndarray, y: np.ndarray | None = None) -> xgboost.DMatrix:
        return xgboost.DMatrix(x, y, feature_types=types, enable_categorical=True)

    booster = xgboost.train(settings, matrix(x, y), 15)
    arrays = from_xgboost(booster, made.outputs, link_for(made.task)).to_arrays()
    return arrays, {"kind": "trees"}, lambda x: np.asarray(booster.predict(matrix(x))).reshape(len(x), -1)


def fit_forest(made: House, x: np.ndarray, y: np.ndarray) -> Fit:
    kind = RandomForestRegressor if made.task == "regression" else RandomForestClassifier
    forest: Any = kind(8, min_samples_leaf=3, random_state=0).fit(x, y)

    def predict(x: np.ndarray) -> np.ndarray:
        if made.task == "regression":
            return np.asarray(forest.predict(x))[:, None]
        return np.asarray(forest.predict_proba(x))[:, 1 if made.task == "binary" else 0 :]

    return from_forest(forest, made.task).to_arrays(), {"kind": "trees"}, predict


FITS: dict[str, Callable[[House, np.ndarray, np.ndarray], Fit]] = {
    "constant": fit_constant,
    "linear": fit_linear,
    "boosted": fit_boosted,
    "forest": fit_forest,
}
LAYOUTS = {"constant": "flat", "linear": "flat", "boosted": "native", "forest": "ordinal"}

__all__ = ["CLASSES", "KINDS", "House", "frame", "hard_frame", "house", "link", "no_nets", "save", "small_bundle"]
