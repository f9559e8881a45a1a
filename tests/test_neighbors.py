"""Neighbours: as scikit-learn finds them, the same ones in the graph, and never without its owner's word."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from folds import fold, hard_rows  # type: ignore[import-not-found]
from searches import Listener, attrition, houses, penguins  # type: ignore[import-not-found]
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors

import tunekit as tk
from tunekit.families import Fold, neighbors
from tunekit.families.base import ArrayModel
from tunekit.families.neighbors import Neighborhood, on_grid
from tunekit.space import HyperParameters, Value

pytestmark = pytest.mark.usefixtures("kept_servers")

INT16 = onnx.TensorProto.INT16
TASKS = ["binary", "multiclass", "regression"]


def fitted(one: Fold, **values: Value) -> tuple[ArrayModel, Neighborhood]:
    hp = HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))
    model = tk.Neighbors().fit(hp, one, lambda *_: False)
    assert isinstance(model, ArrayModel)
    return model, Neighborhood.from_arrays(model.arrays)


def points(one: Fold, model: ArrayModel, rows: Any) -> np.ndarray:
    return on_grid(one.preparation.apply(rows, model.layout)["features"], model.arrays["scale"])


def dudani(apart: np.ndarray) -> np.ndarray:
    """Equation 1 of "The Distance-Weighted k-Nearest-Neighbor Rule"; distances in order."""
    return np.asarray((apart[:, -1:] - apart) / (apart[:, -1:] - apart[:, :1]))


def without_ties(held: Neighborhood, given: np.ndarray) -> np.ndarray:
    """Rows whose last neighbour is nearer than the next one: which of those that are as far is a matter of taste."""
    apart = NearestNeighbors(n_neighbors=held.count + 1).fit(held.rows).kneighbors(given)[0]
    chosen: np.ndarray = apart[:, -1] > apart[:, -2]
    assert chosen.mean() > 0.7, "of penguins some are alike"
    return chosen


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("weights", "theirs"), [("uniform", "uniform"), ("distance", dudani)])
def test_they_predict_what_scikit_learn_does(task: str, weights: str, theirs: Any) -> None:
    one = fold(task)
    model, held = fitted(one, weights=weights, neighbors=12)
    kind = KNeighborsRegressor if task == "regression" else KNeighborsClassifier
    library = kind(12, weights=theirs).fit(held.rows, held.target)
    given = points(one, model, one.valid.rows)
    chosen = without_ties(held, given)
    if task == "regression":
        expected = library.predict(given)[:, None]
    else:
        shares = (12 * library.predict_proba(given) + np.bincount(one.train.target.astype(int)) / len(one.train)) / 13
        expected = shares[:, 1:] if task == "binary" else shares
    # Another order of the same additions, and a millionth of a step between distances.
    np.testing.assert_allclose(model.predict(one.valid.rows)[chosen], expected[chosen], rtol=1e-7)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_neighbours_count_by_the_weight_of_their_rows(task: str) -> None:
    one = fold(task, weighted=True)
    model, held = fitted(one, weights="uniform", neighbors=12)
    given = points(one, model, one.valid.rows)
    chosen = without_ties(held, given)
    places = NearestNeighbors(n_neighbors=12).fit(held.rows).kneighbors(given, return_distance=False)
    expected = np.average(held.target[places], axis=1, weights=held.weight[places])
    if task == "binary":
        expected = (12 * expected + np.average(one.train.target, weights=one.train.weight)) / 13
    np.testing.assert_allclose(model.predict(one.valid.rows)[chosen, 0], expected[chosen])


def test_the_grid_is_finer_than_what_it_holds() -> None:
    one = fold("regression")
    model, held = fitted(one, categories=2.0)
    features = one.preparation.apply(one.train.rows, "flat")["features"]
    numbers = len(one.preparation.center) + len(one.preparation.gaps)
    restored = points(one, model, one.train.rows) / 4096
    np.testing.assert_allclose(restored[:, :numbers], features[:, :numbers], atol=0.5 / 4096)
    np.testing.assert_array_equal(restored[:, numbers:], 2 * features[:, numbers:])
    assert sorted(map(tuple, held.rows / 4096)) == sorted(map(tuple, restored))


@pytest.mark.parametrize("weights", ["distance", "uniform"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_no_class_is_impossible(task: str, weights: str) -> None:
    one = fold(task)
    model, held = fitted(one, weights=weights, neighbors=3)
    shares = model.predict(one.valid.rows)
    assert held.prior.min() / 5 < shares.min(), "one vote of four is the prior's"
    assert shares.max() < 1
    if task == "multiclass":
        np.testing.assert_allclose(shares.sum(axis=1), 1)
    worst = 1 - one.valid.target if task == "binary" else (one.valid.target + 1) % 3
    assert np.isfinite(one.metric.score(worst, shares))


@pytest.mark.parametrize("task", TASKS)
def test_so_many_rows_are_held(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fold(task)
    monkeypatch.setattr(neighbors, "MOST_ROWS", 60)
    model, held = fitted(one, neighbors=100)
    width = held.rows.shape[1]
    assert (len(held.rows), held.count) == (60, 60)
    assert np.isfinite(model.predict(hard_rows(one))).all()
    if task == "regression":
        shares = np.quantile(held.target, [0.1, 0.5, 0.9]), np.quantile(one.train.target, [0.1, 0.5, 0.9])
        np.testing.assert_allclose(*shares, rtol=0.02)  # each sixtieth of the targets has a row
    else:
        counts = [np.bincount(target.astype(int)) for target in (held.target, one.train.target)]
        assert np.abs(counts[0] - counts[1] * 60 / len(one.train)).max() <= 1
    again, other = fitted(fold(task))[1], fitted(fold(task, seed=4))[1]
    np.testing.assert_array_equal(again.rows, held.rows)
    assert (other.rows != held.rows).any(), "the seed decides"
    monkeypatch.setattr(neighbors, "MOST_VALUES", 50 * width)
    assert len(fitted(one)[1].rows) == 50


# Whole searches.


def searched(
    root: Path, data: Any, metric: str | None = None, families: Any = None, trials: int = 3
) -> tuple[Any, list[str]]:
    """A search, and its bundle's folder and what was told of it."""
    study = tk.Study(
        "near", data=data, metric=metric, families=families or [tk.Neighbors()], split=tk.KFold(2, test=0.3), seed=2
    )
    result = study.run(root=root / "mlruns", trials=trials, workers=1, observers=[Listener()])
    assert [trial["state"] for trial in result.summary["trials"]] == ["complete"] * trials, result.summary["trials"]
    told: list[str] = []
    result.export(root / "model", tell=told.append)
    return result, told


DATA: dict[str, Any] = {
    "binary": (attrition, "Attrition", "logloss"),
    "multiclass": (penguins, "species", "logloss"),
    "regression": (houses, "Sale_Price", "rmse"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_search_is_exported_and_refitted(task: str, tmp_path: Path) -> None:
    make, target, metric = DATA[task]
    frame = make()
    result, told = searched(tmp_path, tk.Table(frame, target=target), metric)
    bundle = tk.Bundle.load(tmp_path / "model")
    parity = bundle.manifest["parity"]["difference"]
    assert parity < 1e-12 * (1.0 if task != "regression" else 1e6), "the same rows, in float64"
    assert len(told) == 1
    assert "holds training rows" in told[0]
    assert f"{bundle.manifest['members'][0]['label']}" in told[0]
    hard = pd.concat([frame.head(3).astype(object)] * 3, ignore_index=True)
    hard.iloc[3:6] = None
    hard.iloc[6:9, :] = [
        [1e12 if isinstance(value, (int, float)) else "unseen" for value in row] for row in hard.iloc[:3].to_numpy()
    ]
    rows = pd.concat([frame.astype(object), hard], ignore_index=True)
    assert len(rows) % neighbors.AT_ONCE, "the last part is filled up"
    together = bundle.predict_members(rows)
    assert np.isfinite(together).all()
    alone = np.concatenate([bundle.predict_members(rows.iloc[[row]]) for row in range(len(rows) - 9, len(rows))])
    np.testing.assert_allclose(alone, together[-9:], rtol=1e-12)
    once = tk.Bundle.load(result.export(tmp_path / "once", refit=True))
    held = [one.dims for one in onnx.load(tmp_path / "once" / "model.onnx").graph.initializer if one.data_type == INT16]
    assert {rows for _, rows in held} == {len(frame)}, "all rows, each once a member"
    facts = once.manifest["facts"]["ensemble"]
    assert facts["refit"]["test_score"] < 1.3 * result.summary["ensemble"]["test_score"]


def test_of_rows_that_are_as_far_the_graph_takes_the_same(tmp_path: Path) -> None:
    """Categories and small numbers only: nearly each neighbourhood ends among rows that are the same."""
    frame = attrition(600)[["OverTime", "JobRole", "StockOptionLevel", "Attrition"]]
    _, _ = searched(tmp_path, tk.Table(frame, target="Attrition"), "logloss", trials=4)
    manifest = tk.Bundle.load(tmp_path / "model").manifest
    assert manifest["parity"]["rows"] > 150
    assert manifest["parity"]["difference"] < 1e-12
    assert len(frame.drop(columns="Attrition").drop_duplicates()) < 80


def test_beside_others_the_blend_is_theirs(tmp_path: Path) -> None:
    frame = houses()
    families = [tk.Linear(), tk.Neighbors(), tk.Forest()]
    result, told = searched(tmp_path, tk.Table(frame, target="Sale_Price"), "rmse", families, 4)
    trials = {trial["family"]: trial for trial in result.summary["trials"]}
    assert trials["neighbors"]["score"] < 60_000, "of prices that are 80,000 from their mean"
    folder = result.export(tmp_path / "one", trial=trials["linear"]["number"], tell=told.append)
    assert sum("training rows" in line for line in told) <= 1, "a linear model holds none"
    assert np.isfinite(tk.Bundle.load(folder).predict(frame)).all()
    summary = {**result.summary["ensemble"]}
    summary["members"] = [
        {"trial": trials[name]["number"], "family": name, "weight": 1 / 3, "score": trials[name]["score"]}
        for name in trials
    ]
    del summary["combination"]
    result.summary["ensemble"] = summary
    bundle = tk.Bundle.load(result.export(tmp_path / "three"))
    members = bundle.predict_members(frame)
    np.testing.assert_allclose(bundle.predict(frame), members.mean(axis=1)[:, 0], rtol=1e-9)


def test_a_classifier_of_scikit_learns_kind(tmp_path: Path) -> None:
    digits = load_digits()
    model = tk.TunekitClassifier(families=[tk.Neighbors()], trials=2, workers=1, random_state=0, root=tmp_path)
    model.fit(digits.data[:900], digits.target[:900])
    assert (model.predict(digits.data[900:]) == digits.target[900:]).mean() > 0.9


def test_pictures_have_neighbours(tmp_path: Path) -> None:
    digits = load_digits()
    images = (digits.images[:600, :, :, None] * 15).astype(np.uint8)
    result, _ = searched(tmp_path, tk.Images(images, digits.target[:600]), "accuracy", trials=2)
    assert result.summary["ensemble"]["test_score"] > 0.85
    bundle = tk.Bundle.load(tmp_path / "model")
    found = bundle.predict({name: images[:250] for name, _ in bundle.columns})
    assert (found == digits.target[:250]).mean() > 0.85


def test_several_targets_each_have_their_neighbours(tmp_path: Path) -> None:
    frame = penguins().dropna()
    _, told = searched(tmp_path, tk.Table(frame, target=["body_mass_g", "species"]), trials=2)
    assert "training rows" in told[0]
    bundle = tk.Bundle.load(tmp_path / "model")
    found = bundle.predict(frame)
    assert (found["species"] == frame["species"]).mean() > 0.95
    assert np.corrcoef(found["body_mass_g"], frame["body_mass_g"])[0, 1] > 0.8


@pytest.mark.slow
def test_a_student_holds_no_rows(tmp_path: Path) -> None:
    result, _ = searched(tmp_path, tk.Table(houses(400), target="Sale_Price"), "rmse")
    told: list[str] = []
    bundle = tk.Bundle.load(result.export(tmp_path / "student", distill=True, tell=told.append))
    assert [member["label"] for member in bundle.manifest["members"]] == ["student"]
    assert not any("training rows, scaled" in line for line in told)
